"""The command `mapreel`: it finds the packages' commands, and leaves torch alone."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from command_lines import PROGRAMS, ROOT, install_programs, run
from samples import drifting_maps, write_recording

from record.__main__ import build_parser as record_parser
from replay.cli.parser import build_parser as replay_parser


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_programs(tmp_path_factory.mktemp("venv") / "bin")


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "run.h5", {"conv1": drifting_maps(4, 8, 8)}, epochs=2)


@pytest.mark.parametrize(("name", "package"), PROGRAMS.items())
def test_the_installed_scripts_are_these(name: str, package: str) -> None:
    scripts = (ROOT / "pyproject.toml").read_text().split("[project.scripts]")[1].split("\n[")[0]
    assert re.search(rf'^{name} = "{package}\.__main__:entry"$', scripts, re.MULTILINE)


@pytest.mark.parametrize(
    "program",
    [
        *(["mapreel"], ["mapreel", "record"], ["mapreel", "replay"]),
        *(["mapreel-record"], ["mapreel-replay"]),
        *([sys.executable, "-m", name] for name in ("mapreel", "record", "replay")),
    ],
    ids=" ".join,
)
def test_each_tells_its_version_and_has_help(
    program: list[str], programs: Path, tmp_path: Path
) -> None:
    version = run(*program, "--version", cwd=tmp_path, path=programs)
    assert re.fullmatch(r"mapreel \d+(\.\d+)+.*|mapreel 0\+unknown", version.stdout.strip())
    told = [run(*program, word, cwd=tmp_path, path=programs) for word in ("help", "--help")]
    assert [each.returncode for each in (version, *told)] == [0, 0, 0]
    assert told[0].stdout == told[1].stdout
    name = " ".join(program).replace(sys.executable, "python")
    assert told[0].stdout.startswith(f"usage: {name} ")
    assert max(map(len, told[0].stdout.splitlines())) <= 88


@pytest.mark.parametrize(
    ("words", "alike"),
    [
        ("help animate", "replay animate --help"),
        ("help replay animate", "replay animate --help"),
        ("replay help grid", "replay grid --help"),
        ("help train", "record train --help"),
        ("help record run", "record run --help"),
        ("help run", "record run --help"),
        ("help record", "record --help"),
    ],
)
def test_help_is_that_of_the_command(
    words: str, alike: str, programs: Path, tmp_path: Path
) -> None:
    asked, known = (
        run("mapreel", *each.split(), cwd=tmp_path, path=programs) for each in (words, alike)
    )
    assert asked.returncode == 0
    assert asked.stdout == known.stdout
    assert asked.stdout.startswith("usage: mapreel ")
    assert "python -m re" not in asked.stdout


def test_the_help_names_every_command(programs: Path, tmp_path: Path) -> None:
    text = run("mapreel", "help", cwd=tmp_path, path=programs).stdout
    assert max(map(len, text.splitlines())) <= 80
    for package, parser in (("record", record_parser()), ("replay", replay_parser())):
        listed = text.split(f"commands of {package}: ")[1].split("\n\n")[0].split("\ncommands")[0]
        assert re.split(r",\s+", listed) == list(parser.commands)


def test_it_replays_as_replay_does(programs: Path, recording: Path) -> None:
    folder = recording.parent
    one = run("mapreel", "replay", "info", "run.h5", cwd=folder, path=programs)
    other = run(sys.executable, "-m", "replay", "info", "run.h5", cwd=folder)
    assert one.returncode == other.returncode == 0
    assert one.stdout == other.stdout
    missing = run("mapreel", "replay", "info", "no.h5", cwd=folder, path=programs)
    assert missing.returncode == 2


def test_replay_needs_neither_torch_nor_record(recording: Path) -> None:
    code = (
        "import sys\nfrom mapreel.__main__ import main\n"
        "assert main(['replay', 'grid', 'run.h5']) == 0\n"
        "found = {name.split('.')[0] for name in sys.modules} & {'torch', 'record'}\n"
        "assert not found, found"
    )
    done = run(sys.executable, "-c", code, cwd=recording.parent)
    assert done.returncode == 0, done.stderr


def test_an_unknown_shell_is_answered(programs: Path, tmp_path: Path) -> None:
    done = run("mapreel", "completion", "bsh", cwd=tmp_path, path=programs)
    assert done.returncode == 2
    assert "unknown shell 'bsh'; expected one of bash, zsh, fish, tcsh; did you mean" in done.stderr


def test_without_a_word_it_says_how_it_is_used(programs: Path, tmp_path: Path) -> None:
    done = run("mapreel", cwd=tmp_path, path=programs)
    assert done.returncode == 2
    assert done.stdout.startswith("usage: mapreel record COMMAND")
