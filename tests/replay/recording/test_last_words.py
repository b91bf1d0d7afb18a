"""A command that HDF5 takes down with it, or that waits for it: one line, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

PROGRAM = """
import os, re, signal, sys
from pathlib import Path
from replay.output import replacing
from replay.recording import last_words
from replay.recording.live_file import watched
from replay.schema.faces import own_process

own_process()
last_words._SECONDS = 0.2
where, what = sys.argv[1:]
with replacing(Path(where) / "out.h5") as unfinished:
    assert unfinished.exists()
    with watched(Path("bad\\x1b.h5")):
        pass
    if what == "outside":
        os.kill(os.getpid(), signal.SIGSEGV)
    with watched(Path("bad\\x1b.h5")):
        if what == "loop":
            re.fullmatch("(a|a)*b", "a" * 64)  # C that holds the interpreter
        os.kill(os.getpid(), getattr(signal, what))
"""


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")
@pytest.mark.parametrize("what", ["SIGSEGV", "SIGFPE", "loop", "outside"])
def test_one_line_and_nothing_left(tmp_path: Path, what: str) -> None:
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), what],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert time.monotonic() - started < 30
    if what == "outside":  # what is not HDF5's is not said to be
        assert done.returncode == -11
        return
    assert done.returncode == 2, done.stderr
    why = "did not come back" if what == "loop" else f"crashed in it ({what})"
    assert done.stderr.startswith("error: damaged HDF5 file: bad?.h5: HDF5 ")
    assert why in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
