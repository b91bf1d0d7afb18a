"""Gives each frame a cell of its own: what was recorded is never written over."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from record.protocol.messages import FrameHeader


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
        self._taken = [bytearray((row > 0).tobytes()) for row in recorded]  # a byte a batch
        while self._taken and not any(self._taken[-1]):
            self._taken.pop()

    def place(self, header: FrameHeader) -> FrameHeader:
        """Takes a frame's cell.

        Args:
            header: Of the frame, with its epoch as the training counts.

        Returns:
            The header, with the epoch in which the frame is to be written.
        """
        epoch, batch = header.epoch, header.batch
        row = epoch + self._shift
        taken = self._taken
        if row < len(taken) and batch < len(taken[row]) and taken[row][batch]:
            row = len(taken)  # behind all
            self._shift = row - epoch
            self._say(epoch, batch, row)
        while len(taken) <= row:
            taken.append(bytearray())
        cells = taken[row]
        if len(cells) <= batch:
            cells.extend(bytes(max(64, batch + 1 - len(cells))))
        cells[batch] = 1
        return header if row == epoch else header._replace(epoch=row)
