"""Has a finished recording packed by a process of its own, which nobody waits for."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path


def pack_in_background(path: Path, wanted: bool) -> None:
    """Starts to pack a closed recording in its place; nothing is raised.

    The process has no part of the training's: no terminal, no pipe, no session, and the lowest
    priority. Until it is done, and wherever it is stopped, the recording is as it was.

    Args:
        path: The recording.
        wanted: Whether to do so at all.
    """
    if not wanted:
        return
    root = Path(__file__).resolve().parents[2]
    with contextlib.suppress(OSError, ValueError):
        process = subprocess.Popen(
            [sys.executable, "-m", "replay.files.in_place", os.fspath(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HDF5_USE_FILE_LOCKING": "FALSE"},
            cwd=root,  # `-m` looks there first: nothing of the user's comes in between
            start_new_session=True,  # a terminal's Ctrl-C and hang-up are not for it
        )
        process.returncode = 0  # nobody waits for it, or asks how it ended
