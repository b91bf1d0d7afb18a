"""Knows which recordings the writers of this process hold.

Two recorders on one file are mostly one notebook cell that was run twice. Then it is no other
process that is in the way, and whoever reads so would look for it in vain.
"""

from __future__ import annotations

import os
from pathlib import Path

from replay.schema import OutputError
from replay.schema.holders import holder_of

_writers: set[tuple[int, int]] = set()  # this process and its writer: a fork has none of these


def add_writer(pid: int) -> None:
    """Notes that a writer process has been started.

    Args:
        pid: The writer's process number.
    """
    _writers.add((os.getpid(), pid))


def remove_writer(pid: int) -> None:
    """Notes that a writer process has ended."""
    _writers.discard((os.getpid(), pid))


def is_own(path: Path) -> bool:
    """Returns whether a writer of this process holds a recording, by whatever name it is called."""
    holder = holder_of(path)
    if holder is None or not holder.is_local or (os.getpid(), holder.pid) not in _writers:
        return False
    return holder.is_alive  # else the number is that of a later writer, of another recording


def check_own(path: Path) -> None:
    """Refuses a recording that this process writes already.

    Raises:
        OutputError: This process writes it.
    """
    if is_own(path):
        raise OutputError(
            f"{path}: this process records into it already (was a notebook's cell run twice, or "
            "interrupted?); call close() of the first Recorder, or make it in a with statement; "
            "where it is out of reach, choose another name or restart the kernel"
        )
