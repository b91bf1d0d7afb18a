"""The writer as a process of its own: how it is started, and what it leaves behind."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from replay.schema import OutputError, RecordingError


def start_writer(memory: Sequence[int], errors: IO[bytes]) -> subprocess.Popen[bytes]:
    """Starts it, with a pipe to it and one from it.

    Args:
        memory: Descriptors of what it shares with the training; none without such memory.
        errors: Takes what Python says when it fails.

    Raises:
        RecordingError: The system starts no process.
    """
    root = Path(__file__).resolve().parent.parent
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "record.writer", *map(str, memory)],
            pass_fds=memory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=root,  # `-m` looks there first: no record.py of the user's comes in between
            bufsize=0,
            start_new_session=True,  # a terminal's Ctrl-C and hang-up are for the training
        )
    except OSError as error:
        raise RecordingError(f"cannot start the writer process: {error}") from error


def widen(descriptor: int, size: int) -> int:
    """Has a pipe take so many bytes, where it can; returns how many it takes, 0 if unknown."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import fcntl

        with contextlib.suppress(OSError):  # a user may have only so much of it
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, size)
        return fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ)
    return 0


def refusal(path: Path, reason: str) -> OutputError:
    """Why there is no recording, in words that say what to do."""
    if reason == "the file exists":
        return OutputError(f"{path} exists; choose another name or allow overwriting")
    if reason.startswith("another process"):
        return OutputError(f"{path}: {reason}; choose another name, or end the other")
    if reason.startswith("cannot resume"):
        return OutputError(f"{path}: {reason}")
    return OutputError(f"cannot create {path}: {reason}")


def last_words(process: subprocess.Popen[bytes], errors: IO[bytes]) -> str:
    """Why it ended, in one line, as far as that is known."""
    with contextlib.suppress(OSError, ValueError, subprocess.TimeoutExpired):
        code = process.wait(timeout=1.0)
        errors.seek(0)
        lines = errors.read().decode("utf-8", "replace").strip().splitlines()
        if lines:
            return lines[-1]
        return f"the writer process ended (exit code {code})"
    return "the writer process ended"
