"""What stands around the maps and moves: color bar, progress line.

Each is drawn once and brought up to date for every frame by writing into its own box only.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from replay.raster.mosaic import Box
from replay.raster.palette import Palette, Range
from replay.raster.text import cover, fit, height_of, width_of

SMALL = 12  # pixels: the smallest text
_SHORT = ("no frame", "damaged")  # of a longer reason why there is nothing to see


class ColorBar:
    """The colormap as a strip, with the values of its ends beneath it (and 0), or beside it.

    Args:
        pen: Draws it.
        top: First row.
        left: First column.
        width: Columns; where the values stand beside `WIDTH_BESIDE`, `WITHOUT_NUMBERS` or, with a
            shorter strip, `NARROWEST_BESIDE`.
        beside: Puts the values beside the strip: one line of text in all.
        entries: The palette's entries to show; those of its colormap by default.
    """

    STRIP = 12
    HEIGHT = STRIP + 4 + height_of(SMALL)
    _STRIP_BESIDE = 120
    WIDTH_BESIDE = _STRIP_BESIDE + 8 + width_of("−1.23e−05 – 1.23e−05", SMALL)
    WITHOUT_NUMBERS = _STRIP_BESIDE + 8 + width_of("low – high", SMALL)
    NARROWEST_BESIDE = WIDTH_BESIDE - _STRIP_BESIDE + 24

    def __init__(
        self,
        pen: Pen,
        top: int,
        left: int,
        width: int,
        beside: bool = False,
        entries: range | None = None,
    ) -> None:
        self._pen = pen
        self._beside = beside
        strip, strip_left, strip_top = width, left, top
        if beside:
            strip = self._STRIP_BESIDE
            if width < self.WIDTH_BESIDE and width != self.WITHOUT_NUMBERS:
                strip -= self.WIDTH_BESIDE - width
            strip_top = top + 1
            strip_left = left + width - strip
            self._both = pen.reserve(top, left, width - strip - 8, SMALL, "right")
        else:
            below, third = top + self.STRIP + 4, width // 3
            self._whole = Slot(below, left, width, SMALL)
            self._low = pen.reserve(below, left, third, SMALL)
            self._zero = pen.reserve(below, left + third, width - 2 * third, SMALL)
            self._high = pen.reserve(below, left + width - third, third, SMALL, "right")
        entries = range(pen.palette.levels) if entries is None else entries
        levels = entries.start + np.arange(strip - 2) * len(entries) // (strip - 2)
        pen.fill(strip_top, strip_left, self.STRIP, strip, "faint")
        rows = slice(strip_top + 1, strip_top + self.STRIP - 1)
        pen.plane[rows, strip_left + 1 : strip_left + strip - 1] = levels
        self._left, self._width = left, width
        self._shown: object = self

    def update(self, shown: Range | None) -> None:
        """Shows the range of a frame, or that each channel has its own (None)."""
        if shown == self._shown:
            return
        self._shown = shown
        text = "low – high" if shown is None else shown.in_words()
        if self._beside:
            self._pen.refill(self._both, (text, "muted"))
            return
        if shown is not None and shown.word:
            for slot in (self._low, self._zero, self._high):
                self._pen.refill(slot)
            self._pen.refill(self._whole, (text, "muted"))
            return
        self._pen.refill(self._whole)
        low, _, high = text.partition(" – ")
        self._pen.refill(self._low, (low, "muted"))
        self._pen.refill(self._high, (high, "muted"))
        self._update_zero(shown)

    def _update_zero(self, shown: Range | None) -> None:
        """Writes 0 where it belongs, if that is well between the ends."""
        slot = self._zero
        if shown is not None and shown.low < 0 < shown.high:
            middle = self._left + round(self._width * -shown.low / (shown.high - shown.low))
            indent = middle - width_of("0", SMALL) // 2 - slot.left
            if 0 <= indent <= slot.width - width_of("0", SMALL):
                self._pen.refill(slot, ("0", "muted"), indent=indent)
                return
        self._pen.refill(slot)


class ProgressLine:
    """How far the run is: a thin line with a segment for each epoch.

    Args:
        pen: Draws it.
        top: First row.
        left: First column.
        width: Columns.
        cells: (epoch, batch) of every frame of the run, in order.
    """

    HEIGHT = 4

    def __init__(
        self, pen: Pen, top: int, left: int, width: int, cells: Sequence[tuple[int, int]]
    ) -> None:
        self._pen = pen
        self._box = (slice(top, top + self.HEIGHT), slice(left, left + width))
        self._done, self._ahead = pen.palette.solid("accent"), pen.palette.solid("faint")
        self._cells = cells
        starts = [i for i in range(1, len(cells)) if cells[i][0] != cells[i - 1][0]]
        self._breaks = [round(start * width / len(cells)) for start in starts]
        if len(starts) > width // 8:
            self._breaks = []
        self._paper = pen.palette.paper
        self._end: int | None = None

    def update(self, epoch: int, batch: int) -> None:
        """Moves the line's end to a frame."""
        line = self._pen.plane[self._box]
        place = bisect.bisect_left(self._cells, (epoch, batch))
        done = round((place + 1) * line.shape[1] / len(self._cells))
        line[:, :done] = self._done
        line[:, done:] = self._ahead
        for at in self._breaks:
            line[:, at - 1 : at + 1] = self._paper
        rows, columns = self._box
        first, last = (0, line.shape[1]) if self._end is None else sorted((self._end, done))
        if first < last:
            left = columns.start
            self._pen.touched.append((rows.start, left + first, rows.stop, left + last))
        self._end = done


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
        texts: All that was written and stays.
        touched: Boxes that have changed since this list was last emptied; what is written only
            once, before the first frame, is not in it.
    """

    def __init__(self, plane: Plane, palette: Palette) -> None:
        self.plane = plane
        self.palette = palette
        self.boxes: list[Box] = []
        self.texts: set[str] = set()
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
        self.texts.add(text)
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


def fit_reason(reason: str, width: int) -> str:
    """Returns why there is no frame, or as much of it as fits a width and is true by itself."""
    whole = width_of(reason, SMALL) <= width
    return reason if whole else next((short for short in _SHORT if short in reason), reason)


def fit_unfinite(nan: int, inf: int, width: int) -> list[Text]:
    """Returns how many values are NaN and infinite, beside the colours that these have.

    Where the numbers do not fit they are left out: a part of a number would be another number.

    Args:
        nan: Values that are NaN.
        inf: Values that are infinite.
        width: Pixels for all of it.
    """
    found = [(name, count) for name, count in (("NaN", nan), ("inf", inf)) if count]
    versions: list[list[Text]] = []
    for gap in ("   ", " "):
        numbers = [(name, f"{count:,} {name}") for name, count in found]
        versions.append(_beside_squares(numbers, gap))
    versions.append(_beside_squares([(name, name) for name, _ in found], " "))
    for texts in versions:
        if sum(width_of(text, SMALL) for text, _ in texts) <= width:
            return texts
    return [(f"{name} ", name.lower()) for name, _ in found]


def _beside_squares(words: Sequence[tuple[str, str]], gap: str) -> list[Text]:
    """Returns a square in the colour of NaN or inf and the words on it, one after the other."""
    texts: list[Text] = []
    for name, word in words:
        texts += [("■ ", name.lower()), (word + gap if name == "NaN" else word, "warning")]
    return texts
