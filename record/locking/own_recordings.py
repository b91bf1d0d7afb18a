"""The recordings that this process writes at the moment.

Two recorders on one file are mostly one notebook cell that was run twice. Then it is no other
process that is in the way, and whoever reads so would look for it in vain.
"""

from __future__ import annotations

import os
from pathlib import Path

from record.locking.lock import holder_of
from replay.schema import OutputError

_writers: set[tuple[int, int]] = set()  # this process and a writer of its; a fork has none


def enter(writer: int) -> None:
    """A writer process has been started.

    Args:
        writer: Its number.
    """
    _writers.add((os.getpid(), writer))


def leave(writer: int) -> None:
    """A writer process has ended."""
    _writers.discard((os.getpid(), writer))


def is_own(path: Path) -> bool:
    """Whether a writer of this process holds a recording, by whatever name it is called."""
    holder = holder_of(path)
    if holder is None or not holder.here or (os.getpid(), holder.pid) not in _writers:
        return False
    return holder.alive  # else the number is that of a later writer, of another recording


def check_own(path: Path) -> None:
    """Refuses a recording that this process writes already.

    Raises:
        OutputError: It does.
    """
    if is_own(path):
        raise OutputError(
            f"{path}: this process records into it already (was a notebook's cell run twice, or "
            "interrupted?); call close() of the first Recorder, or make it in a with statement; "
            "where it is out of reach, choose another name or restart the kernel"
        )
