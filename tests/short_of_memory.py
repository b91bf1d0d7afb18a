"""Commands of `replay` in a process of their own, with 1 GiB of memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]

_READER = """
import contextlib, importlib, io, json, resource, sys, time
from replay.__main__ import main
commands, modules = json.load(sys.stdin)
for name in modules:
    importlib.import_module(name)
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
for words in commands:
    said, before = io.StringIO(), time.process_time()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(words)
    print(json.dumps([code, time.process_time() - before, said.getvalue()]))
"""


class Done(NamedTuple):
    """What one command came to: exit code, seconds of the processor's time, all that it said."""

    code: int
    seconds: float
    said: str


def run_commands(
    commands: Sequence[Sequence[str]],
    modules: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> list[Done]:
    """Runs commands one after the other, in one process.

    Args:
        commands: The words of each.
        modules: Are imported before memory is short.
        environment: Variables in addition to this process's.
    """
    done = subprocess.run(
        [sys.executable, "-c", _READER],
        input=json.dumps([commands, modules]),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            **(environment or {}),
        },
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Done(*json.loads(line)) for line in done.stdout.splitlines()]
