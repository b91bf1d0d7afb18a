"""Waits for the epochs of a recording that is still being written."""

from __future__ import annotations

import time
from collections.abc import Iterator

from replay.recording import Recording
from replay.schema import Cell

_EVERY = 0.5  # seconds between two looks


def ended_epochs(recording: Recording) -> Iterator[tuple[list[Cell], int]]:
    """Yields the new frames of a recording whenever an epoch has ended, until it is closed.

    An epoch has ended when a frame of a later one is there. Of several that ended in the meantime
    the frames come together. The last frames come when the recording is closed.

    Args:
        recording: An open recording, which is refreshed.

    Yields:
        (epoch, batch) of frames that were not there before, at least one, and the last epoch that
        has ended.
    """
    known: set[Cell] = set()
    while True:
        recording.refresh()
        closed, frames = recording.closed, recording.frames
        last = max((epoch for epoch, _ in frames), default=0) - (not closed)
        new = [cell for cell in frames if cell not in known and cell[0] <= last]
        if new:
            yield new, last
            known.update(new)
        if closed:
            if not known:
                recording.require_frames()  # which says what is not there
            return
        if not new:
            time.sleep(_EVERY)
