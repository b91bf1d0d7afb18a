"""Gives each frame a cell of its own: what was recorded is never written over."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from record.protocol.messages import FrameHeader

_BLOCK = 1 << 12  # batches


class Cells:
    """The cells (epoch, batch) of a file that hold a frame.

    A training may count its epochs from 0 again: for each fold, or in a loop within a loop. A
    frame whose cell is taken gets one behind all epochs so far, and so do those that follow it.

    Args:
        recorded: As for `take`.
        say: Called with the epoch, the batch and the epoch that it becomes in the file, whenever
            frames begin to be written further behind.
    """

    def __init__(
        self, recorded: npt.NDArray[np.int64], say: Callable[[int, int, int], None]
    ) -> None:
        self._shift = 0  # epochs by which frames are written further behind
        self._say = say
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

    def place(self, header: FrameHeader) -> FrameHeader:
        """Takes a frame's cell.

        Args:
            header: Of the frame, with its epoch as the training counts.

        Returns:
            The header, with the epoch in which the frame is to be written.
        """
        epoch, (block, place) = header.epoch, divmod(header.batch, _BLOCK)
        row = epoch + self._shift
        taken = self._blocks.get((row, block))
        if taken is not None and taken[place]:
            row, taken = self._rows, None  # behind all
            self._shift = row - epoch
            self._say(epoch, header.batch, row)
        if taken is None:
            taken = self._blocks[row, block] = bytearray(_BLOCK)
        taken[place] = 1
        self._rows = max(self._rows, row + 1)
        return header if row == epoch else header._replace(epoch=row)
