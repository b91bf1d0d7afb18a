"""Frames that are read to be measured before it is their turn to be shown."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from replay.schema import Cell

_MOST_BYTES = 8 << 20  # of a layer; what has no room is read again


class ReadAhead:
    """Keeps frames until they are asked for once, as many as there is room for."""

    def __init__(self) -> None:
        self._frames: dict[Cell, npt.NDArray[np.float16]] = {}

    def keep(self, cell: Cell, maps: npt.NDArray[np.float16]) -> None:
        """Keeps a frame, if there is room.

        Args:
            cell: Its (epoch, batch).
            maps: float16 (C, ...); whoever takes them may change them.
        """
        if maps.nbytes + sum(each.nbytes for each in self._frames.values()) <= _MOST_BYTES:
            self._frames[cell] = maps

    def take(self, cell: Cell) -> npt.NDArray[np.float16] | None:
        """Returns a frame and keeps it no longer; None where it is not kept."""
        return self._frames.pop(cell, None)

    def clear(self) -> None:
        """Forgets all frames: others than those that follow are shown."""
        self._frames.clear()
