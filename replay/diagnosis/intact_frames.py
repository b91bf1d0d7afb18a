"""Reads the frames of a layer that are whole; damaged ones are passed over and noted."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from replay import schema
from replay.raster.palette import is_blank
from replay.recording import Recording
from replay.schema import Cell, DamagedError, FileError, Float16Array, Float32Array


class IntactFrames:
    """The frames of a layer, or of its maps of a fixed image, as far as they can be read.

    Args:
        run: The recording, or the frames of a fixed image.
        name: The layer's name.
        damaged: To which the name of the array and the (epoch, batch) of what cannot be read are
            added.

    Attributes:
        run: As given.
        series: The layer's frames.
        layer: The layer.
    """

    def __init__(self, run: Recording, name: str, damaged: set[tuple[str, Cell]]) -> None:
        self.run, self.series = run, run[name]
        self.layer = self.series.layer
        self._damaged = damaged

    @cached_property
    def frames(self) -> list[Cell]:
        """(epoch, batch) of every frame, in the order of time, damaged ones among them."""
        return self.series.frames

    @cached_property
    def ranges(self) -> Float32Array:
        """float32 (frames, C, 2), as the file has them; measured where it has none."""
        at = tuple(np.array(self.frames).T)
        try:
            ranges: Float32Array = self.series.ranges()[at]
            if not np.isnan(ranges).all():
                return ranges
        except FileError:
            pass
        measured = np.full((len(self.frames), self.layer.channels, 2), np.nan, np.float32)
        for place, cell in enumerate(self.frames):
            maps = self.maps(cell)
            if maps is not None:
                measured[place] = schema.summarize(maps).ranges
        return measured

    def maps(self, cell: Cell) -> Float16Array | None:
        """Returns a frame as float16 (C, values); None where it is damaged."""
        try:
            frame = self.series[cell]
        except DamagedError:
            self._damaged.add((f"{self.layer.group}{self.layer.name}", cell))
            return None
        return np.ascontiguousarray(
            self.layer.channels_first(frame).reshape(self.layer.channels, -1)
        )

    def kernels(self, cell: Cell) -> Float16Array | None:
        """Returns the kernels of a batch; None where they are damaged or were not recorded."""
        try:
            kernels = self.series.kernels(*cell)
            return None if is_blank(kernels) else kernels
        except DamagedError:
            self._damaged.add((f"kernels/{self.layer.name}", cell))
            return None
