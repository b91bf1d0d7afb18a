"""A wheel without one of the packages' files is refused before it is installed anywhere."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "scripts" / "release_tools" / "wheel_files.py"
# As `git ls-files` would say it: what lies in the two packages.
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for package in ("record", "replay")
    for path in (ROOT / package).rglob("*")
    if path.suffix in (".py", ".html", ".typed")
)


def check(wheel: Path, expected: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, PROGRAM, wheel], input="\n".join(expected), capture_output=True, text=True
    )


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "mapreel-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in FILES:
            archive.write(ROOT / name, name)
    return path


def without(wheel: Path, lost: str) -> Path:
    path = wheel.with_name("smaller.whl")
    with zipfile.ZipFile(wheel) as full, zipfile.ZipFile(path, "w") as smaller:
        for name in full.namelist():
            if name != lost:
                smaller.writestr(name, full.read(name))
    return path


def test_a_whole_wheel_is_taken(wheel: Path) -> None:
    done = check(wheel, FILES)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "lost", [name for name in FILES if not name.endswith(".py")] + [FILES[0], FILES[-1]]
)
def test_a_wheel_that_lacks_a_file_is_refused_and_the_file_named(wheel: Path, lost: str) -> None:
    done = check(without(wheel, lost), FILES)
    assert done.returncode == 1
    assert done.stderr == f"error: {lost} is not in the wheel: name it in pyproject.toml\n"


def test_the_page_is_among_what_is_looked_for() -> None:
    assert [name for name in FILES if name.endswith("page.html")]


def test_nothing_to_look_for_is_an_error(wheel: Path) -> None:
    assert check(wheel, []).returncode == 2
