"""What stands at the tiles of a mosaic: the channel's number, how strong it is, an outline.

The gain of a channel is the range on which its map is shown, as a share of the largest of its
layer. It is a small bar, on a logarithmic scale from 1/1000 to 1, and a number where there is
space for it. Where tiles are too small for numbers of their own, the bar is a thin line below.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

from replay.formatting import format_number
from replay.raster.mosaic import NUMBER_ROW, NUMBER_SIZE, Box, Mosaic
from replay.raster.text import height_of, width_of
from replay.raster.widgets import Pen, Slot

LEAST_GAIN = 1e-3
"""The gain at which a bar is empty."""

_USUAL = 16  # pixels: the width of the bar of a small tile, where there is space for it
_BAR, _BAR_WIDTH = 6, 60  # pixels: height and greatest width of a bar beside a number
_NARROWEST = 8  # pixels: a narrower bar tells nothing
_BESIDE_TEXT = 32  # pixels: the least width of a bar beside a written gain
_APART = 4  # pixels between a number, a gain and its bar


@dataclass(frozen=True)
class Gain:
    """How strong a channel is, or why there is nothing to see of it.

    Attributes:
        share: The range of its map as a share, 0 to 1, of the largest of the layer.
        mark: `constant` or `faint` where the tile is flat for that reason; else empty.
    """

    share: float
    mark: str = ""

    @property
    def length(self) -> float:
        """How much of its bar is filled, 0 to 1."""
        return float(_lengths(np.array([self.share]))[0])

    @property
    def text(self) -> str:
        """The mark, or the share as a factor, such as `×0.12`; empty for nothing at all."""
        if self.mark or self.share <= 0:
            return self.mark
        digits = 1 - math.floor(math.log10(self.share))
        return f"×{format_number(round(self.share, digits))}"


class Gains(Sequence[Gain]):
    """The gains of the channels of a frame, each made when it is asked for.

    Args:
        shares: float64 (C,), see `Gain`.
        constant: bool (C,), which are flat since their map holds one value.
        faint: bool (C,), which are flat since they are faint.

    Attributes:
        lengths: float64 (C,), how much of the bar of each is filled.
    """

    def __init__(
        self,
        shares: npt.NDArray[np.float64],
        constant: npt.NDArray[np.bool_],
        faint: npt.NDArray[np.bool_],
    ) -> None:
        self._shares, self._constant, self._faint = shares, constant, faint
        self.lengths = _lengths(shares)

    def __len__(self) -> int:
        return len(self._shares)

    @overload
    def __getitem__(self, place: int, /) -> Gain: ...

    @overload
    def __getitem__(self, place: slice, /) -> Sequence[Gain]: ...

    def __getitem__(self, place: int | slice, /) -> Gain | Sequence[Gain]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        mark = "constant" if self._constant[place] else "faint" if self._faint[place] else ""
        return Gain(float(self._shares[place]), mark)


def _lengths(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns how much of its bar each share fills, 0 to 1."""
    logs = np.log(np.maximum(shares, LEAST_GAIN))
    lengths: npt.NDArray[np.float64] = np.minimum(1.0, 1.0 - logs / math.log(LEAST_GAIN))
    return np.where(shares <= LEAST_GAIN, 0.0, lengths)


class TileCaptions:
    """The numbers of a mosaic's tiles, and the gain bars beside them.

    Args:
        pen: Draws them.
        mosaic: Where the tiles are.
        labels: What each tile is called.
        top: Row of the mosaic's corner.
        left: Column of the mosaic's corner.
        gains: Whether there are gain bars.
    """

    def __init__(
        self,
        pen: Pen,
        mosaic: Mosaic,
        labels: Sequence[str],
        top: int,
        left: int,
        gains: bool = False,
    ) -> None:
        self._pen, self._mosaic = pen, mosaic
        self._corner = top, left
        self._texts: list[Slot] = []  # of the gains, where there is space for them
        self._bars: list[Box] = []
        self._filled = np.full(mosaic.count, -1)  # pixels of each bar
        if mosaic.outlined:
            self._outline()
        for place in mosaic.numbered():
            self._write_number(place, labels[place])
        if gains and mosaic.numbers == "tile":
            number = max(width_of(label, NUMBER_SIZE) for label in labels)
            self._place_beside(number)
        elif gains and mosaic.numbers == "row" and mosaic.gain_line:
            self._place_below()

    def update(self, gains: Gains | None) -> None:
        """Shows the gain of each channel.

        Args:
            gains: Of each channel; a channel of several slices has as many tiles. None where there
                is no frame, whose tiles are empty, too.
        """
        if not self._bars:
            return
        if gains is None:
            filled = np.zeros(self._mosaic.count, np.intp)
        else:
            each = self._mosaic.count // len(gains)
            width = self._bars[0][3] - self._bars[0][1]
            filled = np.rint(gains.lengths * width).astype(np.intp).repeat(each)
        changed = np.flatnonzero(filled != self._filled)
        self._filled = filled
        self._fill(changed, filled[changed])
        for place, slot in enumerate(self._texts):
            text = "" if gains is None else gains[place // each].text
            fits = width_of(text, NUMBER_SIZE) <= slot.width
            self._pen.refill(slot, (text if fits else "–", "muted"))

    def _fill(self, places: npt.NDArray[np.intp], filled: npt.NDArray[np.intp]) -> None:
        """Fills the bars of some tiles up to so many pixels each."""
        if not len(places):
            return
        palette, plane = self._pen.palette, self._pen.plane
        ends = np.uint8(palette.solid("accent")), np.uint8(palette.solid("faint"))
        pixels = self._pixels[places]  # (bars, height, width)
        is_filled = np.arange(pixels.shape[2]) < filled[:, None, None]
        plane.reshape(-1)[pixels] = np.where(is_filled, *ends)
        # One box for each row of tiles: what converts boxes takes its time for each of them.
        rows = places // self._mosaic.columns
        edges = np.flatnonzero(np.diff(rows, prepend=-1, append=-1))
        for first, end in itertools.pairwise(edges.tolist()):
            (top, left, bottom, _), last = self._bars[places[first]], self._bars[places[end - 1]]
            self._pen.touched.append((top, left, bottom, last[3]))

    def _outline(self) -> None:
        """Draws a line around each tile, within the gap; the maps cover what lies in it."""
        (height, width), (top, left) = self._mosaic.tile, self._corner
        for place in range(self._mosaic.count):
            y, x = self._mosaic.corner(place)
            self._pen.fill(top + y - 1, left + x - 1, height + 2, width + 2, "faint")

    def _write_number(self, place: int, text: str) -> None:
        """Writes a number below its tile, or at the left of its row of tiles."""
        mosaic, (top, left) = self._mosaic, self._corner
        y, x = mosaic.corner(place)
        if mosaic.numbers == "tile":
            row, column = top + y + mosaic.tile[0] + 2, left + x
        else:
            row = top + y + max(0, (mosaic.tile[0] - height_of(NUMBER_SIZE)) // 2)
            column = left + mosaic.indent - 6 - width_of(text, NUMBER_SIZE)
        self._pen.write(text, row, column, NUMBER_SIZE, "muted")

    @functools.cached_property
    def _pixels(self) -> npt.NDArray[np.intp]:
        """The places of the pixels of every bar in the flattened plane, (bars, height, width)."""
        top, left, bottom, right = self._bars[0]
        corners = np.array([bar[:2] for bar in self._bars]) @ (self._pen.plane.shape[1], 1)
        within = np.arange(bottom - top)[:, None] * self._pen.plane.shape[1]
        pixels: npt.NDArray[np.intp] = corners[:, None, None] + within + np.arange(right - left)
        return pixels

    def _place_beside(self, number: int) -> None:
        """Chooses where bars go that stand on the line of the numbers, at the right."""
        tile_height, tile_width = self._mosaic.tile
        space = tile_width - number - _APART
        if space < _NARROWEST:
            return
        text = width_of("constant", NUMBER_SIZE)
        shorter = width_of("×0.0088", NUMBER_SIZE)
        written = next((w for w in (text, shorter) if space - w - _APART >= _BESIDE_TEXT), 0)
        width = min(_BAR_WIDTH, space - (written + _APART if written else 0))
        width = min(width, max(tile_width // 4, _USUAL))
        for place in range(self._mosaic.count):
            y, x = self._mosaic.corner(place)
            top, left = self._corner[0] + y + tile_height, self._corner[1] + x
            right = left + tile_width
            above = top + (NUMBER_ROW - _BAR) // 2 + 1
            self._bars.append((above, right - width, above + _BAR, right))
            at = right - width - _APART - written
            if written:
                slot = self._pen.reserve(top + 2, at, written, NUMBER_SIZE, "right")
                self._texts.append(slot)

    def _place_below(self) -> None:
        """Chooses where bars go that are lines below tiles without numbers of their own."""
        tile_height, tile_width = self._mosaic.tile
        for place in range(self._mosaic.count):
            y, x = self._mosaic.corner(place)
            top, left = self._corner[0] + y + tile_height + 1, self._corner[1] + x
            self._bars.append((top, left, top + self._mosaic.gain_line, left + tile_width))
