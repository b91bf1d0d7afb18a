"""The programs as a user starts them: console scripts in a folder, and `python -m`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from warm import WarmPython

ROOT = Path(__file__).parents[1]
PROGRAMS = {"mapreel": "mapreel", "mapreel-record": "record", "mapreel-replay": "replay"}


def install_programs(folder: Path) -> Path:
    """Writes the console scripts as an installer does, and returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, package in PROGRAMS.items():
        path = folder / name
        path.write_text(
            f"#!{sys.executable}\nimport sys\nfrom {package}.__main__ import entry\n"
            "if __name__ == '__main__':\n    sys.exit(entry())\n"
        )
        path.chmod(0o755)
    return folder


def run(
    *words: str | Path, cwd: Path, path: Path | None = None, warm: WarmPython | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a command line.

    Args:
        *words: The program and what follows it.
        cwd: Where the user stands.
        path: A folder in which the shell looks for programs first.
        warm: What forks a process for a program of ours, or for Python, instead of starting one.
    """
    paths = [*([] if path is None else [str(path)]), os.environ["PATH"]]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": os.pathsep.join(paths)}
    if warm is not None:
        if words[0] == sys.executable:
            return warm.run(words[1:], cwd, env)
        assert path is not None
        assert words[0] in PROGRAMS
        return warm.run([path / words[0], *words[1:]], cwd, env)
    return subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def without_next(said: str) -> str:
    """What a command wrote to stderr, without the next command that it offers."""
    return "".join(line for line in said.splitlines(True) if not line.startswith("next: "))
