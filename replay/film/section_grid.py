"""The layers of a film under one another, in one column or several, each with a line about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from replay.film.section_heads import HEAD_GAP, SECTION_SIZE, bar_width, fit_heads
from replay.maps.runs import LayerPanel
from replay.raster.arrangement import BARE, GUTTER, SECTION_HEAD
from replay.raster.text import ascent_of, width_of
from replay.raster.tile_captions import TileCaptions
from replay.raster.widgets import SMALL, ColorBar, Pen, Slot

_COUNTS, _COUNTS_TIGHT, _COUNTS_LEAST = 190, 120, 64  # width of the counts of NaN and infinity
_ROOMY = 1000  # pixels: a line of that width has space for all
_NARROW = 640  # in a narrower one the colour bar would leave no space for names
_APART = 14  # rows between two layers


class SectionGrid:
    """Where the layers stand, and what is written about them.

    Args:
        panels: The layers, from top to bottom, column by column.
        across: Number of columns.
        width: Least width of a column, in pixels.
        captions: Whether there is a line about each, where there are several.

    Attributes:
        width: Pixels of all columns.
        height: Pixels of the highest column.
        corners: Row and column of each mosaic; these are known once it is written.
        captions: What stands at the tiles of each.
        counts: The slot for the values of each that are not finite; empty for a single layer.
        bars: The colour bar of each; None where it has none.
    """

    def __init__(
        self, panels: Sequence[LayerPanel], across: int, width: int, captions: bool = True
    ) -> None:
        self._headed = captions and len(panels) > 1
        self._head = SECTION_HEAD if self._headed else _APART if captions else BARE
        self._apart = _APART if captions else BARE
        rows = -(-len(panels) // across)
        self._columns = [panels[at : at + rows] for at in range(0, len(panels), rows)]
        self._width = max(width, *(panel.mosaic.width for panel in panels))
        self.width = len(self._columns) * (self._width + GUTTER) - GUTTER
        self.height = max(
            sum(panel.mosaic.height + self._head for panel in column) - self._apart
            for column in self._columns
        )
        self.corners: list[tuple[int, int]] = []
        self.captions: list[TileCaptions] = []
        self.counts: list[Slot] = []
        self.bars: list[ColorBar | None] = []

    @property
    def has_bars(self) -> bool:
        """Whether each layer has a colour bar beside its name."""
        return self._headed and (len(self._columns) == 1 or self._width >= _NARROW)

    def write(
        self,
        pen: Pen | None,
        top: int,
        left: int,
        caption_tiles: Callable[[LayerPanel, int, int], TileCaptions] | None = None,
    ) -> None:
        """Writes what stays from frame to frame.

        Args:
            pen: Writes; None where there are no captions.
            top: Row of the corner of it all.
            left: Column of that corner.
            caption_tiles: Writes the numbers of a mosaic whose corner is at a row and column.
        """
        panels = [panel for column in self._columns for panel in column]
        counts = _COUNTS if self._width >= _ROOMY else _COUNTS_TIGHT
        counts = counts if self.has_bars else _COUNTS_LEAST
        bar = bar_width(panels) if self.has_bars else 0
        space = self._width - counts - 12 - (bar + 12) * self.has_bars
        heads = iter(fit_heads(panels, space, names_first=not self.has_bars))
        for place, column in enumerate(self._columns):
            x, y = left + place * (self._width + GUTTER), top
            for panel in column:
                if self._headed and pen is not None:
                    self._write_head(pen, panel, next(heads), (y, x), (space, counts, bar))
                    y += SECTION_HEAD - _APART
                self.corners.append((y, x))
                if caption_tiles is not None:
                    self.captions.append(caption_tiles(panel, y, x))
                y += panel.mosaic.height + self._apart

    def _write_head(
        self,
        pen: Pen,
        panel: LayerPanel,
        head: tuple[str, str],
        corner: tuple[int, int],
        widths: tuple[int, int, int],
    ) -> None:
        (top, left), (space, counts, bar) = corner, widths
        after = pen.write(head[0], top, left, SECTION_SIZE, bold=True) + HEAD_GAP
        drop = ascent_of(SECTION_SIZE, bold=True) - ascent_of(SMALL)
        after += pen.write(head[1], top + drop, left + after, SMALL, "muted")
        left += space + 12
        more = max(0, min(space - after, _COUNTS - counts))  # what a short head leaves
        self.counts.append(pen.reserve(top + drop, left - more, counts + more, SMALL, "right"))
        at = (top + drop, left + counts + 12, bar)
        shown = panel.color_bar and self.has_bars
        self.bars.append(ColorBar(pen, *at, True, panel.entries) if shown else None)


def width_of_heads(panels: Sequence[LayerPanel]) -> int:
    """Returns the pixels that the longest line about a layer needs, with all that stands in it."""
    longest = max(
        width_of(panel.name, SECTION_SIZE, bold=True) + width_of(panel.details, SMALL)
        for panel in panels
    )
    return longest + HEAD_GAP + 12 + _COUNTS_TIGHT + 12 + bar_width(panels)
