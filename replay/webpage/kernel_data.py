"""The kernels of a layer as pictures behind its maps in the blocks of a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.raster.palette import is_blank, kernel_levels, kernel_reach
from replay.recording import Series
from replay.schema import Cell, DamagedError
from replay.webpage.eight_bit import COUNT


class KernelData:
    """The kernels of a layer, if it has any that a page can show.

    Args:
        series: The layer.
        channels: The channels that are shown.
        count: How many maps the layer has.

    Attributes:
        damaged: Frames whose kernels were asked for and are damaged.
    """

    def __init__(self, series: Series, channels: Sequence[int], count: int) -> None:
        self._series, self._channels = series, list(channels)
        kernel = series.layer.kernel
        self._there = kernel is not None and len(kernel) > 2 and kernel[0] == count
        self._reach = 1.0
        self._first: Cell | None = None
        self.damaged: set[Cell] = set()

    def prepare(self, cells: Sequence[Cell]) -> None:
        """Measures the scale of these frames' kernels, of those that there are."""
        self._first = cells[0]
        if self._there:
            known = (kernels for kernels in map(self._read, cells) if not is_blank(kernels))
            self._reach = max(map(kernel_reach, known), default=1.0)

    def lacks(self, cell: Cell) -> bool:
        """Returns whether the layer has kernels, but none were recorded with this frame."""
        return self._there and is_blank(self._read(cell))

    def reach_of(self, cell: Cell) -> float:
        """Returns the absolute value at the ends of the scale of one frame's kernels."""
        return kernel_reach(self._read(cell)) if self._there else 1.0

    def pictures(self, cell: Cell, reach: float | None = None) -> bytes:
        """Returns the kernels of a frame as levels or colours, one after the other."""
        if not self._there:
            return b""
        shown, _ = kernel_levels(self._read(cell), self._reach if reach is None else reach)
        last = 255 if shown.ndim == 4 else COUNT - 1
        return np.rint(shown * last).astype(np.uint8).tobytes()

    def describe(self) -> dict[str, Any] | None:
        """Returns what the manifest says of them; None where there are none."""
        if not self._there:
            return None
        kernel = self._series.layer.kernel
        assert kernel is not None
        blank = np.zeros((len(self._channels), *kernel[1:]), np.float16)
        first = blank if self._first is None else self._read(self._first)
        shown, kind = kernel_levels(first, self._reach)
        return {
            "shape": shown.shape[1:3],
            "rgb": shown.ndim == 4,
            "words": kind.replace("kernels", "kernel", 1),
            "reach": self._reach,
        }

    def _read(self, cell: Cell) -> npt.NDArray[np.float16]:
        """Returns a frame's kernels, float16 (C, ...); NaN where they are damaged."""
        try:
            return self._series.kernels(*cell)[self._channels]
        except DamagedError:
            self.damaged.add(cell)
            assert self._series.layer.kernel is not None
            return np.full(
                (len(self._channels), *self._series.layer.kernel[1:]), np.nan, np.float16
            )
