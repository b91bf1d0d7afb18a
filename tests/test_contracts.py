"""The contracts between the packages hold, and each is broken in a copy to see that it bites."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONTRACTS = re.findall(
    r'^\[\[tool\.importlinter\.contracts\]\]\nname = "(.+)"$',
    (ROOT / "pyproject.toml").read_text(encoding="utf-8"),
    re.MULTILINE,
)

REPLAY, RECORD = "replay: one direction", "record: one direction"
CIRCLES = "no circles inside the packages"
ALONE = "replay knows neither record nor torch"
SCHEMA = "record knows only the schema of replay"
WRITER = "the writer process needs no torch"
FILES = "h5py stays in its rooms"
CODECS = "codecs stay in their room"

# The contract, the module that is added to the copy, and its text.
BREAKS = [
    (REPLAY, "replay/schema/added.py", "import replay.cli"),
    (REPLAY, "replay/raster/added.py", "from replay import film"),
    (REPLAY, "replay/maps/added.py", "def inside():\n    import replay.encoding"),
    (REPLAY, "replay/figures/added.py", "import replay.webpage"),
    (REPLAY, "replay/added.py", "'''In no layer.'''"),
    (RECORD, "record/protocol/added.py", "import record.recorder"),
    (RECORD, "record/capture/added.py", "from record import transport"),
    (RECORD, "record/added.py", "'''In no layer.'''"),
    (CIRCLES, "replay/film/added/__init__.py", "import replay.film.added.one"),
    (CIRCLES, "record/session/added/__init__.py", "import record.session.added.one"),
    (ALONE, "replay/schema/added.py", "import torch"),
    (ALONE, "replay/maps/added.py", "import record.protocol"),
    (ALONE, "replay/raster/added.py", "from torchvision import io"),
    (SCHEMA, "record/training/added.py", "import replay.maps"),
    (SCHEMA, "record/writer/added.py", "from replay import recording"),
    (WRITER, "record/writer/added.py", "import torch"),
    (WRITER, "record/protocol/added.py", "import record.capture.tensors"),
    (FILES, "replay/film/added.py", "import h5py"),
    (FILES, "record/capture/added.py", "def inside():\n    from h5py import File"),
    (CODECS, "replay/raster/added.py", "import imageio_ffmpeg"),
    (CODECS, "replay/rendering/added.py", "import imageio"),
]
CIRCLE = {"one": "import {package}.two", "two": "import {package}.one"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sources of both packages and the contracts."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("replay", "record"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def lint(checkout: Path) -> tuple[dict[str, bool], str]:
    """Whether each contract is kept, and all that import-linter says."""
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=checkout,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    kept = {name: how == "KEPT" for name, how in re.findall(r"^(.+) (KEPT|BROKEN)", said, re.M)}
    assert list(kept) == CONTRACTS, said
    assert done.returncode == (0 if all(kept.values()) else 1)
    return kept, said


def test_every_contract_is_kept(checkout: Path) -> None:
    kept, said = lint(checkout)
    assert all(kept.values()), said


@pytest.mark.parametrize(("contract", "path", "text"), BREAKS)
def test_a_contract_that_is_broken_is_named(
    checkout: Path, contract: str, path: str, text: str
) -> None:
    added = checkout / path
    package = path.removesuffix("/__init__.py").replace("/", ".")
    try:
        added.parent.mkdir(exist_ok=True)
        added.write_text(text + "\n", encoding="utf-8")
        if contract == CIRCLES:
            for name, imports in CIRCLE.items():
                line = imports.format(package=package)
                added.with_name(f"{name}.py").write_text(line + "\n", encoding="utf-8")
        kept, said = lint(checkout)
    finally:
        if contract == CIRCLES:
            shutil.rmtree(added.parent)
        else:
            added.unlink()
    assert not kept[contract]
    report = said.split("Broken contracts")[1].split(f"\n{contract}\n---")[1].split("\n---")[0]
    assert "added" in report


def test_each_contract_is_broken_once() -> None:
    assert {contract for contract, _, _ in BREAKS} == set(CONTRACTS)
