"""Completion in a real shell, and help that fits a terminal."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
COMMANDS = {
    "replay": "info verify repair health animate compare grid sheet export page watch completion",
    "record": "train run plan completion",
}


def call(package: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", package, *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80"},
        check=True,
    )
    return done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("package", "words", "found"),
    [
        ("replay", ["an"], {"animate"}),
        ("replay", ["animate", "--pre"], {"--preset"}),
        ("replay", ["animate", "--preset", "s"], {"slack", "slides"}),
        ("record", ["pl"], {"plan"}),
        ("record", ["train", "--dow"], {"--download"}),
        ("mapreel", ["rec"], {"record"}),
        ("mapreel", ["replay", "comple"], {"completion"}),
        ("mapreel", ["record", "train", "--dow"], {"--download"}),
    ],
)
def test_bash_completes(tmp_path: Path, package: str, words: list[str], found: set[str]) -> None:
    script = tmp_path / "completion"
    script.write_text(call(package, "completion", "bash"))
    program = "mapreel" if package == "mapreel" else f"mapreel-{package}"
    typed = " ".join([program, *words])
    ask = (
        f"source {script}; COMP_WORDS=({typed}); COMP_CWORD={len(words)}; "
        f"COMP_LINE='{typed}'; COMP_POINT=${{#COMP_LINE}}; "
        f"$(complete -p {program} | sed 's/.*-F \\([^ ]*\\).*/\\1/'); "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
    assert {word.strip() for word in done.stdout.split("\n") if word.strip()} == found


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_something_that_names_the_commands(shell: str) -> None:
    text = call("replay", "completion", shell)
    assert "mapreel-replay" in text
    assert "animate" in text


@pytest.mark.parametrize(
    ("package", "command"),
    [(package, command) for package, all_ in COMMANDS.items() for command in all_.split()],
)
def test_help_fits_a_terminal_and_has_examples(package: str, command: str) -> None:
    text = call(package, command, "--help")
    assert max(map(len, text.splitlines())) <= 80
    assert "examples:" in text
