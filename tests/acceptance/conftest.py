"""What runs Python, and a script under `record run`, quickly."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from script_runs import ENVIRONMENT, Record
from warm import WarmPython


@pytest.fixture
def python_warm(warm: WarmPython) -> Record:
    """As `python`, in a process that has imported torch already."""

    def run(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        return warm.run(words, cwd, ENVIRONMENT)

    return run


@pytest.fixture
def record_warm(warm: WarmPython) -> Record:
    """As `record`, in a process that has imported torch already."""

    def run(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        return warm.run(["-m", "record", "run", *words], cwd, ENVIRONMENT)

    return run
