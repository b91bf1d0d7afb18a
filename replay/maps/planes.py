"""A layer's frames as they stand in the image: `planes[epoch, batch]` -> float16 (C, H, W)."""

from __future__ import annotations

import numpy as np

from replay.maps.axes import Maps
from replay.recording import Series
from replay.recording.class_activation import place_tokens
from replay.schema import Cell, DamagedError, Float16Array
from replay.schema.token_grid import find_grid

_PLACED = ("CHW", "HWC", "TC", "CDHW", "DHWC")  # axes of what has places in an image


class Planes:
    """What a layer put out, each channel as one plane: of a volume its middle slice.

    Args:
        series: The layer's frames.
        tokens: As in `FilmOptions`.

    Attributes:
        series: As given.
        size: Height and width; less than 2 of one where frames have no places in an image.
        damaged: By (epoch, batch), what is wrong with a frame that was asked for; it comes as NaN.
    """

    def __init__(self, series: Series, tokens: str = "auto") -> None:
        self.series = series
        self.damaged: dict[Cell, str] = {}
        self._grid: tuple[int, int] | None = None
        self._maps: Maps | None = None
        shape = series.inputs.shape if series.layer.axes == "TC" else None
        if shape is not None and len(shape) == 3 and tokens == "auto":
            grid = find_grid(series.layer.shape[0], series.layer.grid, (shape[1], shape[2]))
            self._grid = None if grid is None else (grid.rows, grid.columns)
        if self._grid is None:
            self._maps = Maps(series, None, tokens)
            self.damaged = self._maps.damaged
        self.size: tuple[int, int] = self._grid or (1, 1)
        if self._maps is not None and series.layer.axes in _PLACED:
            self.size = self._maps.size

    @property
    def channels(self) -> int:
        """Number of planes."""
        return self.series.layer.channels

    @property
    def placed(self) -> bool:
        """Whether frames have places in an image."""
        return min(self.size) >= 2

    def has_frame(self, cell: Cell) -> bool:
        """Returns whether there is a frame."""
        present = self.series.present
        return bool(np.all(np.less(cell, present.shape))) and bool(present[cell])

    def __getitem__(self, cell: Cell) -> Float16Array:
        if self._maps is not None:
            frame = self._maps[cell]  # (C, S, H, W)
            return frame[:, frame.shape[1] // 2]
        assert self._grid is not None
        try:
            return place_tokens(self.series[cell], *self._grid)
        except DamagedError as error:
            self.damaged[cell] = str(error)
            return np.full((self.channels, *self.size), np.nan, np.float16)
