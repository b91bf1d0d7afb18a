"""Runs Python, and `record run`, on a script in a folder."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]


SCRIPTS = ROOT / "tests" / "scripts"


Record = Callable[..., subprocess.CompletedProcess[str]]


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def python(*words: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**ENVIRONMENT, **environment},
        check=False,
        timeout=300,
    )


def record(*words: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "record", "run", *words, cwd=cwd, **environment)


def spoken(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What mapreel said."""
    return [line[9:] for line in done.stderr.splitlines() if line.startswith("mapreel: ")]


def write(folder: Path, text: str, name: str = "script.py") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path
