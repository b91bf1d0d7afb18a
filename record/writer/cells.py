"""Gives each frame a cell of its own: what was recorded is never written over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from record.protocol.messages import FrameHeader, Moved

_BLOCK = 1 << 12  # batches


Say: TypeAlias = Callable[[int, int, int, str], None]
"""Called with the epoch and the batch of a frame, its epoch in the file, and one of `Moved`.

It is called whenever frames begin to be written further on, and for each that has no place at all.
"""


class Cells:
    """The cells (epoch, batch) of a file that hold a frame.

    A training may count its epochs from 0 again: for each fold, or in a loop within a loop. Or it
    counts them by the clock, and a file has room for all epochs up to the last. A frame whose cell
    is taken, or too far off, gets one behind all epochs so far, and so do those that follow it.

    Args:
        recorded: As for `take`.
        say: As above.
        fits: Whether a file can have so many epochs and batches.
    """

    def __init__(
        self, recorded: npt.NDArray[np.int64], say: Say, fits: Callable[[int, int], bool]
    ) -> None:
        self._shift = 0  # epochs by which frames are written further behind
        self._say, self._fits = say, fits
        self.refused = 0  # frames without a place
        self.take(recorded)

    def take(self, recorded: npt.NDArray[np.int64]) -> None:
        """Takes the cells that hold a frame, and no others.

        Args:
            recorded: Numbers (epoch, batch), above 0 where the file holds a frame.
        """
        self._blocks: dict[tuple[int, int], bytearray] = {}  # a byte a batch, of some of an epoch
        self._rows = 0  # epochs, up to the last one with a frame
        for row, start in np.ndindex(len(recorded), -(-recorded.shape[1] // _BLOCK)):
            part = recorded[row, start * _BLOCK : (start + 1) * _BLOCK] > 0
            if part.any():
                self._blocks[row, start] = bytearray(part.tobytes().ljust(_BLOCK, b"\0"))
                self._rows = row + 1

    def place_all(
        self, headers: Sequence[FrameHeader], frames: npt.NDArray[np.float16]
    ) -> tuple[list[FrameHeader], npt.NDArray[np.float16]]:
        """Takes the cells of some frames.

        Args:
            headers: Of the frames, with their epochs as the training counts.
            frames: Their values, float16 (len(headers), size).

        Returns:
            Headers and values of the frames that have a place in the file.
        """
        placed = [self.place(header) for header in headers]
        kept = [number for number, header in enumerate(placed) if header is not None]
        if len(kept) < len(placed):
            self.refused += len(placed) - len(kept)
            frames = frames[kept]
        return [header for header in placed if header is not None], frames

    def place(self, header: FrameHeader) -> FrameHeader | None:
        """Takes a frame's cell.

        Args:
            header: Of the frame, with its epoch as the training counts.

        Returns:
            The header, with the epoch in which the frame is to be written; None where the file
            has no place for it.
        """
        epoch, (block, place) = header.epoch, divmod(header.batch, _BLOCK)
        if header.batch < 0:
            self._say(epoch, header.batch, self._rows, Moved.FULL)
            return None
        row = epoch + self._shift
        taken = self._blocks.get((row, block))
        is_taken = taken is not None and bool(taken[place])
        if is_taken or row < 0 or not self._fits(row + 1, header.batch + 1):
            row, taken = self._rows, None  # behind all
            if not self._fits(row + 1, header.batch + 1):
                self._say(epoch, header.batch, row, Moved.FULL)
                return None
            self._shift = row - epoch
            self._say(epoch, header.batch, row, Moved.AGAIN if is_taken else Moved.FAR)
        if taken is None:
            taken = self._blocks[row, block] = bytearray(_BLOCK)
        taken[place] = 1
        self._rows = max(self._rows, row + 1)
        return header if row == epoch else header._replace(epoch=row)
