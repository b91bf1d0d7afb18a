"""The input pictures of a page: a block of each is its three colors as planes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from replay.maps.axes import spread
from replay.maps.input_picture import InputPicture
from replay.recording import Recording
from replay.schema import Cell
from replay.webpage.frame_block import pack_picture
from replay.webpage.page_workers import even_borders
from replay.webpage.picture_filters import Picture, nearest_beyond
from replay.webpage.size_budget import MARKUP_BYTES, SAMPLED_FRAMES, Fidelity, PageItem

INPUT_SIDE = 256


class InputData:
    """The input pictures of a page; of a fixed image, the one.

    Attributes:
        item: What one costs a frame.
    """

    def __init__(self, recording: Recording, cells: Sequence[Cell], source: int = 0) -> None:
        self._recording, self._asked = recording, list(cells)
        self._fixed = recording.probe_number is not None
        self._cells = self._asked
        shape = recording.inputs.shape
        assert shape is not None
        self._full = shape
        self._pictures: dict[int, InputPicture] = {}
        self._fidelity = Fidelity()
        self._last: tuple[Cell, Picture] | None = None  # with what is worked out of it
        self._costs: dict[Fidelity, float] = {}
        self.item = PageItem(max(self._picture(1).shape), self._cost, 1.0, source)

    def prepare(self, cells: Sequence[Cell], fidelity: Fidelity) -> None:
        """Sets the frames and the fidelity that `blocks` and `describe` speak of."""
        self._cells = list(cells)
        self._fidelity = Fidelity() if self._fixed else fidelity

    @property
    def packed_frames(self) -> int:
        """How many blocks there are; of a fixed image, one."""
        return min(1, len(self._cells)) if self._fixed else len(self._cells)

    @property
    def values(self) -> int:
        """The number of values of a picture."""
        height, width = self._picture(1).shape
        return 3 * height * width

    def borders(self, count: int) -> list[int]:
        """Returns where so many shares of its blocks begin, and where the last one ends."""
        return even_borders(self.packed_frames, count)

    def pack(self, start: int, stop: int) -> Iterator[bytes]:
        """Yields some of the blocks in turn."""
        for cell in self._cells[start:stop]:
            yield pack_picture(self._show(cell, self._fidelity.pool), self._fidelity.step)

    def describe(self) -> dict[str, Any]:
        """Returns the picture's part of the manifest."""
        channels = self._full[0]
        text = "first image of the batch"
        if self._fixed:
            text = f"fixed image {self._recording.probe_number}, evaluation mode"
        if channels not in (1, 3):
            text += ", channel 0 of 2" if channels == 2 else f", channels 0–2 of {channels}"
        shape = self._picture(self._fidelity.pool).shape
        if shape != self._full[1:]:
            text += f", {self._full[1]}×{self._full[2]} shown as {shape[0]}×{shape[1]}"
        step = self._fidelity.step
        return {"shape": shape, "words": text, "step": step, "fixed": self._fixed}

    @property
    def beyond(self) -> tuple[float, ...]:
        """What lies around a picture, as in `Picture`."""
        zero = tuple(map(nearest_beyond, self._picture(1).zero))
        colours = 3 if self._full[0] >= 3 else 1
        return zero if len(zero) == colours else zero * colours

    def picture(self, cell: Cell) -> Picture:
        """Returns the picture of a frame as a page has it that keeps it as it is."""
        if self._last is None or (self._last[0] != cell and not self._fixed):
            planes = self._show(cell, 1).transpose(2, 0, 1)[: len(self.beyond)]
            self._last = cell, Picture(planes.astype(np.int32), self.beyond)
        return self._last[1]

    def keep(self) -> None:
        """Has the pictures kept as they are, as long as they are not averaged."""
        self.item = replace(self.item, exact=True)

    def block(self, cell: Cell) -> bytes:
        """Returns the block of one frame while the run grows."""
        return pack_picture(self._show(cell, 1))

    def _picture(self, pool: int) -> InputPicture:
        if pool not in self._pictures:
            side = max(1, min(self._full[2], INPUT_SIDE) // pool)
            self._pictures[pool] = InputPicture(self._recording, self._asked, side)
        return self._pictures[pool]

    def _show(self, cell: Cell, pool: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return self._picture(pool).show(*cell)

    def _cost(self, fidelity: Fidelity) -> float:
        if self._fixed:
            return 0.0
        if fidelity not in self._costs:
            cells = spread(self._asked, 2 * SAMPLED_FRAMES)
            sizes = [
                len(pack_picture(self._show(cell, fidelity.pool), fidelity.step)) for cell in cells
            ]
            self._costs[fidelity] = float(np.mean(sizes)) * 1.18 + MARKUP_BYTES
        return self._costs[fidelity]
