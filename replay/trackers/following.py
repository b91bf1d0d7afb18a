"""Waits for the epochs of a recording that is still being written."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

from replay.recording import Recording
from replay.schema import Cell
from replay.schema.holders import holder_of, lock_path

_EVERY = 0.5  # seconds between two looks
_ABSENT_SECONDS = 60.0  # a writer on another machine, or without locks, shows itself more often


def ended_epochs(
    recording: Recording, say: Callable[[str], None]
) -> Iterator[tuple[list[Cell], int]]:
    """Yields the new frames of a recording whenever an epoch has ended, until no more will come.

    An epoch has ended when a frame of a later one is there. Of several that ended in the meantime
    the frames come together. The last frames come when the recording is closed, or when its writer
    is found to have ended without that: killed, or with its machine.

    Args:
        recording: An open recording, which is refreshed.
        say: Called with a remark where the writer was killed.

    Yields:
        (epoch, batch) of frames that were not there before, at least one, and the last epoch that
        has ended.
    """
    known: set[Cell] = set()
    writer = WriterWatch(recording.path)
    while True:
        gone = writer.is_gone()  # before the last look, since it may close the file meanwhile
        recording.refresh()
        closed, frames = recording.closed, recording.frames
        last = max((epoch for epoch, _ in frames), default=0) - (not closed and not gone)
        new = [cell for cell in frames if cell not in known and cell[0] <= last]
        if new:
            yield new, last
            known.update(new)
        if closed or gone:
            if not known:
                recording.require_frames()  # which says what is not there
            if not closed:
                say(
                    f"{recording.path} was not closed: its writer was killed, and nothing more "
                    f"comes; followed to epoch {last}"
                )
            return
        if not new:
            time.sleep(_EVERY)


class WriterWatch:
    """Whether the writer of a recording has ended, as far as its lock file shows.

    Args:
        path: The recording.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._shown: float | None = None  # when the lock file was last renewed, by its own clock
        self._since = time.monotonic()  # when that was first seen

    def is_gone(self) -> bool:
        """Returns whether it is known to have ended without removing its lock file.

        Without a lock file nothing is known: another program writes the recording, it is at an
        address, or its writer has just closed it.
        """
        holder = holder_of(self._path)
        if holder is None:
            return False
        if holder.is_local:
            return not holder.is_alive
        try:
            shown = os.stat(lock_path(self._path)).st_mtime
        except OSError:
            return False
        if shown != self._shown:
            self._shown, self._since = shown, time.monotonic()
        return time.monotonic() - self._since > _ABSENT_SECONDS
