"""Draws text and bars into a plane of palette indices, and remembers where text was written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from replay.raster.mosaic import Box
from replay.raster.palette import Palette
from replay.raster.text import cover, fit, height_of, width_of

Plane = npt.NDArray[np.uint8]
Text = tuple[str, str]
"""A text and its tone."""


@dataclass(frozen=True)
class Slot:
    """A box for one line of text that changes: nothing else moves when it does.

    Attributes:
        top: First row.
        left: First column.
        width: Columns.
        size: Size of the font in pixels.
        align: Where the text stands in the box: `left` or `right`.
    """

    top: int
    left: int
    width: int
    size: int
    align: str = "left"


class Pen:
    """Writes into one plane, whose background is the palette's paper.

    A slot whose text stays the same is left alone: nothing else may write there.

    Attributes:
        plane: uint8 (H, W), indices into the palette.
        boxes: (top, left, bottom, right) of all text and slots so far.
        touched: Boxes that have changed since this list was last emptied; what is written only
            once, before the first frame, is not in it.
    """

    def __init__(self, plane: Plane, palette: Palette) -> None:
        self.plane = plane
        self.palette = palette
        self.boxes: list[Box] = []
        self.touched: list[Box] = []
        self._held: dict[Slot, tuple[int | None, tuple[Text, ...]]] = {}

    def write(
        self,
        text: str,
        top: int,
        left: int,
        size: int,
        tone: str = "ink",
        bold: bool = False,
    ) -> int:
        """Writes one line that stays.

        Args:
            text: The text.
            top: Its first row.
            left: Its first column.
            size: Size of the font in pixels.
            tone: Its tone, see `Palette.ink`.
            bold: Whether it is in the bold face.

        Returns:
            The text's width in pixels.
        """
        if not text:
            return 0
        coverage = cover(text, size, bold)
        height, width = coverage.shape
        self.boxes.append((top, left, top + height, left + width))
        self.plane[top : top + height, left : left + width] = self.palette.ink(coverage, tone)
        return int(width)

    def reserve(self, top: int, left: int, width: int, size: int, align: str = "left") -> Slot:
        """Returns a box that is kept free for a text that changes; see `Slot`."""
        self.boxes.append((top, left, top + height_of(size), left + width))
        return Slot(top, left, width, size, align)

    def refill(self, slot: Slot, *parts: Text, indent: int | None = None) -> None:
        """Writes texts, one after the other, into a slot instead of what it held.

        Args:
            slot: The box.
            parts: The texts.
            indent: Columns before the first; else it stands where the slot says.
        """
        if self._held.get(slot) == (indent, parts):
            return
        self._held[slot] = indent, parts
        height = height_of(slot.size)
        self.touched.append((slot.top, slot.left, slot.top + height, slot.left + slot.width))
        box = self.plane[slot.top : slot.top + height, slot.left : slot.left + slot.width]
        box[...] = self.palette.paper
        left = indent or 0
        if indent is None and slot.align == "right":
            left = max(0, slot.width - sum(width_of(text, slot.size) for text, _ in parts))
        for text, tone in parts:
            text = fit(text, slot.size, slot.width - left)
            if text:
                coverage = cover(text, slot.size)
                width = coverage.shape[1]
                box[:, left : left + width] = self.palette.ink(coverage, tone)
                left += width

    def fill(self, top: int, left: int, height: int, width: int, tone: str) -> None:
        """Fills a rectangle with a tone."""
        self.plane[top : top + height, left : left + width] = self.palette.solid(tone)
