"""Knows whose writers have been started and may not have opened their file yet."""

from __future__ import annotations

import multiprocessing
import os
import weakref
from pathlib import Path
from typing import Protocol


class StartedWriter(Protocol):
    """What has started a writer."""

    @property
    def path(self) -> Path:
        """The recording."""

    def await_opened(self) -> None:
        """Waits until the writer has opened the file, or has failed."""


_started: weakref.WeakSet[StartedWriter] = weakref.WeakSet()


def note_started(writer: StartedWriter) -> None:
    """Notes that a writer has been started."""
    _started.add(writer)


def await_own_writer(path: Path) -> None:
    """Waits until a writer that this process has started holds its file, if there is one.

    Only then can one see by the file that it is being recorded into.

    Args:
        path: The recording, by any of its names.
    """
    real = os.path.realpath(path)
    for writer in list(_started):
        if os.path.realpath(writer.path) == real:
            writer.await_opened()


def may_be_held(path: Path) -> bool:
    """Returns whether somebody may be recording into a file.

    That is where it has a lock file, or where this process has siblings: processes that one
    program has started at once may all be about to record into one file.
    """
    has_siblings = multiprocessing.parent_process() is not None
    return has_siblings or os.path.exists(f"{os.path.realpath(path)}.lock")
