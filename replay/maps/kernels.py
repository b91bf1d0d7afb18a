"""The kernels that made the maps: which layers have them, on which scale, and in what colours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from replay.maps.axes import spread
from replay.maps.runs import Row
from replay.raster.palette import is_blank, kernel_levels, kernel_reach
from replay.recording.series import Series
from replay.schema import Cell, DamagedError, OptionError, SelectionError

_SAMPLED = 32  # frames from which the range of the kernels is measured


def kernel_series(row: Row) -> Series:
    """Returns the layer with the kernels: of a fixed image that of the run, before the update."""
    return row.maps.series.run_series


class Kernels:
    """A layer's kernels as pictures: red, green and blue of three inputs, else their mean.

    Args:
        row: The layer, and the recording.
        channels: Of which maps, in their order.
        frames: The frames that will be shown; the range is that of their kernels.

    Raises:
        SelectionError: The layer has none in this recording.
        OptionError: They do not belong to one map each.

    Attributes:
        size: Height and width of one.
        colored: Whether they are in red, green and blue.
        words: What they are.
        reach: The absolute value at the ends of the range.
    """

    def __init__(self, row: Row, channels: list[int], frames: Sequence[Cell]) -> None:
        series = kernel_series(row)
        shape = series.layer.kernel
        if shape is None:
            series.kernels(*frames[0])  # which raises, and says why
            raise SelectionError(f"no kernels of {series.name!r}")
        if shape[0] != row.maps.channels:
            raise OptionError(f"the kernels of {series.name!r} do not belong to one map each")
        self._series, self._channels = series, channels
        found = [self._read(cell) for cell in spread(frames, _SAMPLED)]
        stacks = [stack for stack in found if not isinstance(stack, str)]
        self.reach = max(map(kernel_reach, stacks), default=1.0)
        empty = np.zeros((1, *shape[1:]), np.float16)
        shown, self.words = kernel_levels(stacks[0] if stacks else empty, self.reach)
        self.colored = shown.ndim == 4
        self.size = shown.shape[1], shown.shape[2]

    def show(self, cell: Cell) -> npt.NDArray[np.float32] | str:
        """Returns the kernels of a frame, or why there are none.

        Returns:
            float32 in 0..1, where 0.5 is zero: (C, kH, kW), or (C, kH, kW, 3) in colour.
        """
        stack = self._read(cell)
        return stack if isinstance(stack, str) else kernel_levels(stack, self.reach)[0]

    def _read(self, cell: Cell) -> npt.NDArray[np.float16] | str:
        try:
            stack = self._series.kernels(*cell)[self._channels]
        except DamagedError:
            return "damaged"
        return NO_KERNELS if is_blank(stack) else stack


def are_colored(shape: tuple[int, ...]) -> bool:
    """Returns whether kernels (C_out, C_in/groups, ...) are shown in red, green and blue."""
    return kernel_levels(np.zeros((1, *shape[1:]), np.float16), 1.0)[0].ndim == 4


NO_KERNELS = "NaN, or not recorded"  # the file has NaN for both
