"""The input pictures of a page: a block of each is its three colors as planes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from replay.maps.axes import spread
from replay.maps.input_picture import InputPicture
from replay.recording import Recording
from replay.schema import Cell
from replay.webpage.eight_bit import pack
from replay.webpage.size_budget import MARKUP_BYTES, SAMPLED_FRAMES, PageItem

INPUT_SIDE = 256


class InputData:
    """The input pictures of a page.

    Attributes:
        item: What one costs a frame.
    """

    def __init__(self, recording: Recording, cells: Sequence[Cell]) -> None:
        self._recording, self._asked = recording, list(cells)
        self._cells = self._asked
        shape = recording.inputs.shape
        assert shape is not None
        self._full = shape
        self._pictures: dict[int, InputPicture] = {}
        self._pool = 1
        self._costs: dict[int, float] = {}
        self.item = PageItem(max(self._picture(1).shape), self._cost)

    def prepare(self, cells: Sequence[Cell], pool: int) -> None:
        """Sets the frames and the size that `blocks` and `describe` speak of."""
        self._cells, self._pool = list(cells), pool

    def blocks(self) -> Iterator[bytes]:
        """Yields the block of each frame in turn."""
        for cell in self._cells:
            yield self.block(cell, self._pool)

    def describe(self) -> dict[str, Any]:
        """Returns the picture's part of the manifest."""
        channels = self._full[0]
        text = "input: first image of the batch"
        if channels not in (1, 3):
            text += ", channel 0 of 2" if channels == 2 else f", channels 0–2 of {channels}"
        shape = self._picture(self._pool).shape
        if shape != self._full[1:]:
            text += f", {self._full[1]}×{self._full[2]} shown as {shape[0]}×{shape[1]}"
        return {"shape": shape, "words": text}

    def _picture(self, pool: int) -> InputPicture:
        if pool not in self._pictures:
            side = max(1, min(self._full[2], INPUT_SIDE) // pool)
            self._pictures[pool] = InputPicture(self._recording, self._asked, side)
        return self._pictures[pool]

    def block(self, cell: Cell, pool: int = 1) -> bytes:
        """Returns the block of one frame."""
        return pack(np.ascontiguousarray(self._picture(pool).show(*cell).transpose(2, 0, 1)))

    def _cost(self, pool: int) -> float:
        if pool not in self._costs:
            sizes = [len(self.block(cell, pool)) for cell in spread(self._asked, SAMPLED_FRAMES)]
            self._costs[pool] = float(np.mean(sizes)) * 4 / 3 + MARKUP_BYTES
        return self._costs[pool]
