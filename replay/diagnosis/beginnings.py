"""Finds the frame in which something begins, of frames of which only some were read."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from typing import Any

from replay.schema import Cell

_MOST = 64  # frames that are read for a layer, beside those that were


class Beginnings:
    """Looks between a frame that does not show a sign and a later one that does.

    By halves, so that what lasts once it has begun is dated to the frame, and few are read.

    Args:
        frames: (epoch, batch) of all frames, in the order of time.
        shows: Returns what a frame shows, anything that `find` then asks about; None where it
            cannot be read. Each frame is asked once.
    """

    def __init__(self, frames: Sequence[Cell], shows: Callable[[Cell], object | None]) -> None:
        self._frames, self._shows = frames, shows
        self._known: dict[Cell, object | None] = {}

    def find(self, read: Sequence[Cell], start: int, has: Callable[[Any], bool]) -> Cell:
        """Returns the frame in which a sign begins, as nearly as reading a few more tells.

        Args:
            read: Frames that were read, in the order of time.
            start: Which of them is the first that has it; the one before does not.
            has: Whether what a frame shows is the sign.
        """
        if not start:
            return read[0]
        low, high = (bisect.bisect_left(self._frames, read[each]) for each in (start - 1, start))
        while high - low > 1:
            middle = self._frames[(low + high) // 2]
            if middle not in self._known:
                if len(self._known) >= _MOST:
                    break
                self._known[middle] = self._shows(middle)
            found = self._known[middle]
            if found is not None and has(found):
                high = (low + high) // 2
            else:
                low = (low + high) // 2
        return self._frames[high]
