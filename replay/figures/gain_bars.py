"""Gain bars in figures: how strong a channel is whose map has a range of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from replay.figures.canvas import SMALL, Canvas
from replay.raster.tile_captions import Gain

LINE_INCHES = 0.025  # height of a bar that is a line below its tile
_BAR_INCHES = 0.05  # height of a bar beside a number
_LONGEST_INCHES, _SHORTEST_INCHES = 0.4, 0.1
_APART_INCHES = 0.04


@dataclass(frozen=True)
class BarsBeside:
    """Bars at the right of lines with a number, all of one length so that they compare.

    Attributes:
        length: The length of a bar in pixels; 0 where there is no space for one.
        words: Whether the gain is written beside it.
    """

    length: int
    words: bool

    @classmethod
    def fit(
        cls, canvas: Canvas, labels: Sequence[str], gains: Sequence[Gain], width: int
    ) -> BarsBeside:
        """Returns the bars for tiles of a width.

        Args:
            canvas: What is drawn on.
            labels: The numbers of the tiles.
            gains: All gains that are shown.
            width: The width of a tile in pixels.
        """
        apart, least = round(_APART_INCHES * canvas.dpi), round(_SHORTEST_INCHES * canvas.dpi)
        number = max(canvas.width(label, SMALL) for label in labels)
        text = max((canvas.width(gain.text, SMALL) for gain in gains), default=0)
        free = width - number - apart
        words = free - text - apart >= least
        if words:
            free -= text + apart
        length = min(round(_LONGEST_INCHES * canvas.dpi), free)
        return cls(length if length >= least else 0, words)

    def draw(self, canvas: Canvas, gain: Gain, right: int, y: int) -> None:
        """Draws a bar.

        Args:
            canvas: What to draw on.
            gain: The gain.
            right: Where the bar ends, in pixels.
            y: Upper edge of the line of text.
        """
        if not self.length:
            return
        left, height = right - self.length, max(2, round(_BAR_INCHES * canvas.dpi))
        middle = round(0.53 * canvas.line(SMALL))
        _draw(canvas, gain, left, y + middle - height // 2, self.length, height)
        if self.words:
            at = left - round(_APART_INCHES * canvas.dpi)
            canvas.text(at, y, gain.text, SMALL, muted=True, align="right")


def draw_below(canvas: Canvas, gain: Gain, x: int, y: int, width: int) -> None:
    """Draws a bar as a line below a tile.

    Args:
        canvas: What to draw on.
        gain: The gain.
        x: Left edge in pixels.
        y: Upper edge in pixels.
        width: Its width, that of the tile, in pixels.
    """
    _draw(canvas, gain, x, y, width, max(2, round(LINE_INCHES * canvas.dpi)))


def _draw(canvas: Canvas, gain: Gain, x: int, y: int, width: int, height: int) -> None:
    """Draws a bar; an open one where the tile is flat."""
    theme = canvas.theme
    if gain.mark:
        canvas.rectangle(x, y, width, height, edge=theme.muted)
        return
    canvas.rectangle(x, y, width, height, theme.faint)
    if gain.length > 0:
        canvas.rectangle(x, y, gain.length * width, height, theme.accent)
