"""What stands at the tiles of a mosaic: the channel's number, and how strong it is.

The gain of a channel is the range on which its map is shown, as a share of the largest of its
layer. It is a small bar, on a logarithmic scale from 1/1000 to 1, and a number where there is
space for it. Where tiles are too small for numbers of their own, the bar is a thin line below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from replay.formatting import format_number
from replay.raster.mosaic import NUMBER_ROW, NUMBER_SIZE, Mosaic
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
        if self.share <= LEAST_GAIN:
            return 0.0
        return min(1.0, 1.0 - math.log(self.share) / math.log(LEAST_GAIN))

    @property
    def text(self) -> str:
        """The mark, or the share as a factor, such as `×0.12`; empty for nothing at all."""
        if self.mark or self.share <= 0:
            return self.mark
        digits = 1 - math.floor(math.log10(self.share))
        return f"×{format_number(round(self.share, digits))}"


def gains_of(
    shares: npt.NDArray[np.float64],
    constant: npt.NDArray[np.bool_],
    faint: npt.NDArray[np.bool_],
) -> list[Gain]:
    """Returns the gain of each channel from arrays (C,) of shares and of what is flat."""
    marks = np.where(constant, "constant", np.where(faint, "faint", ""))
    return [Gain(*each) for each in zip(shares.tolist(), marks.tolist(), strict=True)]


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
        self._texts: list[Slot | None] = []
        self._bars: list[tuple[int, int, int, int]] = []  # top, left, height, width
        self._shown: list[tuple[int, str] | None] = [None] * mosaic.count
        for place in mosaic.numbered():
            self._write_number(place, labels[place])
        if gains and mosaic.numbers == "tile":
            number = max(width_of(label, NUMBER_SIZE) for label in labels)
            self._place_beside(number)
        elif gains and mosaic.numbers == "row" and mosaic.gain_line:
            self._place_below()

    def update(self, gains: Sequence[Gain] | None) -> None:
        """Shows the gain of each channel; those of the last frame stay where there are none.

        Args:
            gains: Of each channel; a channel of several slices has as many tiles.
        """
        if gains is None or not self._bars:
            return
        each = self._mosaic.count // len(gains)
        for place, (top, left, height, width) in enumerate(self._bars):
            gain = gains[place // each]
            filled = round(gain.length * width)
            if (filled, gain.text) == self._shown[place]:
                continue
            self._shown[place] = filled, gain.text
            self._pen.fill(top, left, height, filled, "accent")
            self._pen.fill(top, left + filled, height, width - filled, "faint")
            self._pen.touched.append((top, left, top + height, left + width))
            slot = self._texts[place]
            if slot is not None:
                fits = width_of(gain.text, NUMBER_SIZE) <= slot.width
                self._pen.refill(slot, (gain.text if fits else "–", "muted"))

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
            self._bars.append((top + (NUMBER_ROW - _BAR) // 2 + 1, right - width, _BAR, width))
            at = right - width - _APART - written
            slot = None
            if written:
                slot = self._pen.reserve(top + 2, at, written, NUMBER_SIZE, "right")
            self._texts.append(slot)

    def _place_below(self) -> None:
        """Chooses where bars go that are lines below tiles without numbers of their own."""
        tile_height, tile_width = self._mosaic.tile
        for place in range(self._mosaic.count):
            y, x = self._mosaic.corner(place)
            top, left = self._corner[0] + y + tile_height + 1, self._corner[1] + x
            self._bars.append((top, left, self._mosaic.gain_line, tile_width))
            self._texts.append(None)
