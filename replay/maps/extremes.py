"""The least and the greatest value of every map of a layer, frame by frame."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from replay.maps.axes import Maps
from replay.maps.percentiles import percentiles_of
from replay.schema import Cell, DamagedError


class Extremes(Protocol):
    """The least and the greatest finite value of every map, frame by frame."""

    def __len__(self) -> int:
        """Returns the number of frames."""

    def __getitem__(self, frames: slice, /) -> npt.NDArray[np.floating[Any]]:
        """Returns those of consecutive frames, (frames, C, 2); NaN where a map has none."""


class RecordedExtremes:
    """The ends of every map of a recorded layer, read from the file's `/ranges` in pieces.

    Of a file without them they are measured, which reads its frames.

    Args:
        maps: The layer.
        frames: (epoch, batch) of each of its frames, in order.
    """

    def __init__(self, maps: Maps, frames: Sequence[Cell]) -> None:
        self._maps, self._frames = maps, list(frames)

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, frames: slice, /) -> npt.NDArray[np.float32]:
        cells = self._frames[frames]
        series, channels = self._maps.series, self._maps.channels
        if not cells:
            return np.empty((0, channels, 2), np.float32)
        if not series.has_ranges:
            each = [percentiles_of(read_frame(self._maps, cell), (0, 100)) for cell in cells]
            return np.array(each, np.float32)
        # Of the first and the last epoch only the batches that are asked for, or a long one would
        # be read again and again.
        at = np.array(cells)
        changes = (np.flatnonzero(np.diff(at[:, 0])) + 1).tolist()
        borders = sorted({0, *changes[:1], *changes[-1:], len(at)})
        parts = [self._recorded(at[start:end]) for start, end in itertools.pairwise(borders)]
        ends = np.concatenate(parts)
        if ends.shape[1] != channels:  # shown as one map
            lows, highs = np.fmin.reduce(ends[..., 0], axis=1), np.fmax.reduce(ends[..., 1], axis=1)
            ends = np.stack([lows, highs], axis=1)[:, None]
        return ends

    def _recorded(self, at: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Returns the ends of frames of one epoch, or of all frames of some, (frames, C, 2).

        Args:
            at: (epoch, batch) of each, int64 (frames, 2).
        """
        epochs, batches = at.T
        rows = range(int(epochs[0]), int(epochs[-1]) + 1)
        columns = range(int(batches[0]), int(batches[-1]) + 1) if len(rows) == 1 else None
        first = columns.start if columns else 0
        ends: npt.NDArray[np.float32] = self._maps.series.ranges(rows, columns)[
            epochs - rows.start, batches - first
        ]
        return ends


def read_frame(maps: Maps, cell: Cell, keep: bool = False) -> npt.NDArray[np.float16]:
    """Returns the maps of a frame, NaN where it is damaged, which is noted when it is shown.

    They may be kept until that is.
    """
    try:
        found = maps.layout.apply(maps.series[cell])
        if keep:
            maps.keep(cell, found)
        return found
    except DamagedError:
        return np.full(maps.layout.shape, np.nan, np.float16)


def greatest_around(values: npt.NDArray[np.float64], reach: int) -> npt.NDArray[np.float64]:
    """Returns the maximum of each column within `reach` rows, float64 (rows, columns).

    It is found in two passes over blocks of 2 `reach` + 1 rows, whatever the reach is
    (van Herk, Pattern Recognition Letters 13, 1992; Gil and Werman, IEEE PAMI 15, 1993).
    """
    rows, columns = values.shape
    size = 2 * reach + 1
    padded = np.full((-(-(rows + 2 * reach) // size) * size, columns), -np.inf)
    padded[reach : reach + rows] = values
    blocks = padded.reshape(-1, size, columns)
    ahead = np.maximum.accumulate(blocks, axis=1).reshape(padded.shape)
    back = np.maximum.accumulate(blocks[:, ::-1], axis=1)[:, ::-1].reshape(padded.shape)
    greatest: npt.NDArray[np.float64] = np.maximum(back[:rows], ahead[size - 1 : size - 1 + rows])
    return greatest
