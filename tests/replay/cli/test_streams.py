"""A command whose standard streams are closed, or full, says so or goes on: never a traceback."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from command_lines import ROOT
from samples import drifting_maps, write_recording

import replay

COMMANDS = ["info run.h5", "health run.h5", "verify run.h5", "grid run.h5 -o a.png"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_recording(tmp_path / "run.h5", {"conv1": drifting_maps(4, 8, 8)})
    return tmp_path


def run(folder: Path, words: str, program: str = "replay") -> subprocess.CompletedProcess[str]:
    python = shlex.join([sys.executable, "-m", *program.split()])
    return subprocess.run(
        ["bash", "-c", f"{python} {words}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_stop_nothing(folder: Path, command: str, closed: str) -> None:
    before = (folder / "run.h5").read_bytes()
    done = run(folder, f"{command} {closed}")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert (folder / "run.h5").read_bytes() == before
    if command.startswith("grid"):
        assert replay.grid(folder / "run.h5", folder / "b.png").bytes == (
            (folder / "a.png").stat().st_size
        )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("program", ["replay", "mapreel replay"])
def test_a_full_disk_behind_stdout_is_a_line(folder: Path, command: str, program: str) -> None:
    done = run(folder, f"{command} >/dev/full", program)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if not line.startswith("next: ")]
    assert lines == ["error: cannot write what there is to say: No space left on device"]


SPOKEN = {
    "mapreel": ["", "--help", "--version", "help grid", "completion bash"],
    "record": ["--help", "--version", "help run", "run --help", "plan"],
    "mapreel record": ["--version", "completion zsh", "plan --json"],
    "replay": ["--version", "--help", "help", "grid --help", "completion bash"],
}


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("program", "command"), [(program, each) for program, all_ in SPOKEN.items() for each in all_]
)
def test_what_nobody_can_read_is_no_traceback(
    folder: Path, program: str, command: str, unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    done = run(folder, f"{command} | true; exit ${{PIPESTATUS[0]}}", program)
    assert done.stderr == ""
    assert done.returncode in (0, 1, 2)
    if Path("/dev/full").exists():
        done = run(folder, f"{command} >/dev/full", program)
        full = "error: cannot write what there is to say: No space left on device\n"
        assert done.stderr in ("", full)
        assert done.returncode in (0, 1)
