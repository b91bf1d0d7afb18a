"""Everything around the maps of a comparison: two runs side by side, and what is b - a.

    heading ................................................. epoch, batch
    input picture    run a, loss       run b, loss       difference
    label            layer, colour bar                   colour bar
    loss curves      mosaic            mosaic            mosaic
    scale in words   NaN, inf          NaN, inf          NaN, inf
    progress line .......................................................

As in `frame_layout`, it is drawn once, and `update` writes what changes into slots of its own.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from replay.film.comparison_facts import RunFacts
from replay.film.frame_layout import LABEL_SIZE, BaseLayout, input_height, loss_in_words
from replay.film.section_heads import HEAD_GAP, SECTION_SIZE, bar_width, fit_heads
from replay.formatting import clean, format_loss
from replay.maps.runs import Count, Headings, InputCaption, LayerPanel
from replay.raster.arrangement import GUTTER, MARGIN, SIDE
from replay.raster.loss_curve import LossCurve
from replay.raster.names import lines_at, tell_apart_at
from replay.raster.palette import Range, TwoMapPalette
from replay.raster.text import ascent_of, fit, height_of, width_of, wrap
from replay.raster.tile_captions import Gains, TileCaptions
from replay.raster.widgets import SMALL, ColorBar, ProgressLine, Slot
from replay.schema import Cell

_TITLE, _SUBTITLE, _STATUS, _HEAD = 20, 14, 16, 15  # pixels of the fonts
_TONES = ("accent", "second")  # of run a, and of run b
_SWATCH = 26  # width of the piece of curve before a run's name
_BETWEEN = 14  # rows between two layers
_APART = 40  # columns between layers that stand side by side
HEAD_AND_FOOT = 200  # rows above and below all layers, as a rule
AROUND = 2 * height_of(SMALL) + 14 + _BETWEEN  # rows of a layer beside its mosaic


def column_width(width: int, columns: int, across: int = 1) -> int:
    """Returns the pixels that a mosaic may have.

    Args:
        width: Of the frame.
        columns: Two, or three with the difference.
        across: Layers side by side.
    """
    block = (width - 2 * MARGIN - (SIDE + GUTTER) + _APART) // across - _APART
    return (block - (columns - 1) * GUTTER) // columns


class ComparisonLayout(BaseLayout):
    """A frame's plane of palette indices with all that surrounds the maps.

    Args:
        panels: The layers, from top to bottom; their mosaics stand beside each other, in a column
            for each run and one for the difference.
        palette: The colours; with a difference, there are three columns.
        runs: The two runs.
        cells: (epoch, batch) of every frame that both have, in order.
        inputs: The input picture of both, or of each.
        headings: What is written in every frame alike.
        least_width: Pixels that a column has at least.
        across: Layers side by side, each with its columns.

    Raises:
        OptionError: The frame would be larger than video formats allow.

    Attributes:
        plane: uint8 (H, W), both even.
        input_corners: Row and column of each input picture.
        mosaic_corners: For each layer, row and column of the mosaic in each column.
        boxes: (top, left, bottom, right) of every text.
    """

    def __init__(
        self,
        panels: Sequence[LayerPanel],
        palette: TwoMapPalette,
        runs: Sequence[RunFacts],
        cells: Sequence[Cell],
        inputs: Sequence[InputCaption],
        headings: Headings,
        least_width: int = ColorBar.WIDTH_BESIDE,
        across: int = 1,
    ) -> None:
        super().__init__(panels, palette, inputs)
        self._runs, self._differences = runs, palette.differences
        self._cells = list(cells)
        self._columns, self._across = 3 if palette.differences else 2, across
        self._column_width = max(least_width, *(panel.mosaic.width for panel in panels))
        self.mosaic_corners: list[list[Cell]] = []
        self._tile_captions: list[list[TileCaptions]] = []
        self._lay_out(headings)

    def update(
        self,
        epoch: int,
        batch: int,
        ranges: Sequence[tuple[Range | None, Range | None]],
        counts: Sequence[Sequence[Count]],
        problems: Sequence[str] = (),
        gains: Sequence[Sequence[Gains | None]] = (),
    ) -> None:
        """Writes what belongs to one frame.

        Args:
            epoch: Its epoch.
            batch: Its batch.
            ranges: For each layer, the range of its maps and that of their difference; None
                where each channel has its own.
            counts: For each layer and column, the values that are NaN, and that are infinite; in
                words where there is nothing to show.
            problems: Why each input picture is not there; empty where it is.
            gains: For each layer and run, how strong its channels are; None where the scale does
                not tell, or where there is no frame.
        """
        pen, place = self._pen, bisect.bisect_left(self._cells, (epoch, batch))
        for slot, value in zip(self._status, (epoch, batch), strict=True):
            pen.refill(slot, (str(value), "ink"))
        for heads in self._heads:
            for run, slot in zip(self._runs, heads, strict=False):
                pen.refill(slot, *loss_and_prediction(run, place))
            if self._columns == 3:
                pen.refill(heads[2], *_loss_difference(self._runs, place))
        self._update_inputs(place, problems)
        if self._curve is not None:
            self._curve.update(epoch, batch)
        for bars, shown in zip(self._bars, ranges, strict=True):
            for bar, each in zip(bars, shown, strict=False):
                bar.update(each)
        for slots, found in zip(self._counts, counts, strict=True):
            for slot, count in zip(slots, found, strict=True):
                self._write_count(slot, count, isinstance(count, str) and "damaged" in count)
        for columns, shown_gains in zip(self._tile_captions, gains, strict=False):
            for captions, run_gains in zip(columns, shown_gains, strict=False):
                captions.update(run_gains)
        self._progress.update(epoch, batch)

    @property
    def texts(self) -> set[str]:
        """All that is written in one frame or another, but for numbers."""
        return super().texts.union(*(run.prediction or () for run in self._runs))

    @property
    def _has_loss(self) -> bool:
        return any(run.loss is not None for run in self._runs)

    def _lay_out(self, headings: Headings) -> None:
        block = self._columns * (self._column_width + GUTTER) - GUTTER
        content = SIDE + GUTTER + self._across * (block + _APART) - _APART
        head = 20 + height_of(_TITLE, bold=True) + 4 + height_of(_SUBTITLE) + 16
        top = head + height_of(_HEAD, bold=True) + 4 + height_of(LABEL_SIZE) + 14
        scales = [line for text in headings.scales for line in [*wrap(text, SMALL, SIDE), ""]][:-1]
        side = sum(map(input_height, self._inputs)) + len(scales) * height_of(SMALL)
        side += (LossCurve.HEIGHT + 16) * self._has_loss
        around = height_of(SMALL) + 10 + 4 + height_of(SMALL)  # above and below a mosaic
        rows = -(-len(self._panels) // self._across)
        parts = [self._panels[at : at + rows] for at in range(0, len(self._panels), rows)]
        heights = [sum(each.mosaic.height + around + _BETWEEN for each in part) for part in parts]
        bottom = max(head + side, top + max(heights) - _BETWEEN)
        self._start(bottom + 20 + ProgressLine.HEIGHT + 20, content + 2 * MARGIN)

        self._write_heading(headings, content)
        self._write_side(head, scales)
        self._heads: list[list[Slot]] = []
        self._bars: list[list[ColorBar]] = []
        self._counts: list[list[Slot]] = []
        for place, part in enumerate(parts):
            left = MARGIN + SIDE + GUTTER + place * (block + _APART)
            lefts = [left + k * (self._column_width + GUTTER) for k in range(self._columns)]
            self._write_heads(head, lefts)
            self._write_panels(part, top, lefts)
        self._progress = ProgressLine(self._pen, bottom + 20, MARGIN, content, self._cells)

    def _write_heading(self, headings: Headings, content: int) -> None:
        pen, numbers = self._pen, np.array(self._cells)
        foot = 20 + ascent_of(_TITLE, bold=True)
        right = MARGIN + content
        self._status: list[Slot] = []
        for name, column in (("batch ", numbers[:, 1]), ("epoch ", numbers[:, 0])):
            low, high = int(column.min()), int(column.max())
            after = f" of {low}–{high}" if high > low else f" of {high}"
            width = width_of("0" * len(str(high)), _STATUS) + 1
            top, right = foot - ascent_of(_STATUS), right - width_of(after, _STATUS)
            pen.write(after, top, right, _STATUS, "muted")
            right -= width
            self._status.insert(0, pen.reserve(top, right, width, _STATUS, "right"))
            right -= width_of(name, _STATUS)
            pen.write(name, top, right, _STATUS, "muted")
            right -= GUTTER
        for title in lines_at(headings.title, _TITLE, right - MARGIN, bold=True, most=1):
            pen.write(title, 20, MARGIN, _TITLE, bold=True)
        top = 20 + height_of(_TITLE, bold=True) + 4
        pen.write(fit(headings.subtitle, _SUBTITLE, content), top, MARGIN, _SUBTITLE, "muted")

    def _write_side(self, top: int, scales: Sequence[str]) -> None:
        pen = self._pen
        top = self._write_inputs(top)
        self._curve: LossCurve | None = None
        if self._has_loss:
            nothing = np.full(len(self._cells), np.nan)
            a, b = (nothing if run.loss is None else run.loss for run in self._runs)
            self._curve = LossCurve(pen, top, MARGIN, SIDE, self._cells, a, other=b)
            top += LossCurve.HEIGHT + 16
        for line in scales:
            pen.write(line, top, MARGIN, SMALL, "muted")
            top += height_of(SMALL)

    def _write_heads(self, top: int, lefts: Sequence[int]) -> None:
        """Writes each run's name over its column, with a piece of its loss curve before it."""
        pen, width = self._pen, self._column_width
        below = top + height_of(_HEAD, bold=True) + 4
        self._heads.append([pen.reserve(below, left, width, LABEL_SIZE) for left in lefts])
        runs = [clean(run.name) for run in self._runs]
        names = tell_apart_at(runs, _HEAD, width - (_SWATCH + 8) * self._has_loss, bold=True)
        for name, tone, left in zip(names, _TONES, lefts, strict=False):
            indent = 0
            if self._has_loss:
                row, indent = top + height_of(_HEAD, bold=True) // 2 - 1, _SWATCH + 8
                dashes = ((0, _SWATCH),) if tone == "accent" else ((0, 7), (10, 7), (20, 6))
                for start, length in dashes:
                    pen.fill(row, left + start, 3, length, tone)
            pen.write(name, top, left + indent, _HEAD, bold=True)
        if self._columns == 3:
            half = (width - width_of(" − ", _HEAD, bold=True) - 1) // 2
            whole = width_of(" − ".join(runs), _HEAD, bold=True) <= width
            a, b = runs if whole else tell_apart_at(runs, _HEAD, half, bold=True)
            pen.write(f"{b} − {a}", top, lefts[2], _HEAD, bold=True)

    def _write_panels(self, panels: Sequence[LayerPanel], top: int, lefts: Sequence[int]) -> None:
        pen, width = self._pen, self._column_width
        captions = self._tile_captions
        crowded = self._across > 1  # names have the space first
        bar = min(bar_width(panels) if crowded else ColorBar.WIDTH_BESIDE, width)
        edge = lefts[1] + width
        space = edge - bar - 12 - lefts[0]
        first = len(self._bars)
        heads = fit_heads(self._panels, space, crowded)[first : first + len(panels)]
        for panel, (name, details) in zip(panels, heads, strict=True):
            self._bars.append([ColorBar(pen, top, edge - bar, bar, beside=True)])
            if self._differences:
                numbered = min(ColorBar.WIDTH_BESIDE, width)
                at, entries = lefts[2] + width - numbered, self._differences
                self._bars[-1].append(ColorBar(pen, top, at, numbered, True, entries))
            if len(self._panels) > 1:
                after = pen.write(name, top - 2, lefts[0], SECTION_SIZE, bold=True) + HEAD_GAP
                pen.write(details, top, lefts[0] + after, SMALL, "muted")
            top += height_of(SMALL) + 10
            self.mosaic_corners.append([(top, left) for left in lefts])
            plain = replace(panel, gains=False)  # a difference has no gain
            captions.append([])
            for left in lefts:
                own = panel if left != lefts[-1] or not self._differences else plain
                captions[-1].append(self._caption_tiles(own, top, left))
            top += panel.mosaic.height + 4
            self._counts.append([pen.reserve(top, left, width, SMALL) for left in lefts])
            top += height_of(SMALL) + _BETWEEN


def loss_and_prediction(run: RunFacts, place: int) -> list[tuple[str, str]]:
    """Returns what a run says in one frame, each piece with its tone."""
    pieces: list[tuple[str, str]] = []
    if run.loss is not None:
        logged = run.logged is None or bool(run.logged[place])
        text, tone = loss_in_words(float(run.loss[place]), logged)
        pieces += [("loss ", "muted"), (f"{text}   ", tone)]
    if run.prediction is not None:
        pieces += [("predicted ", "muted"), (run.prediction[place], "ink")]
    return pieces


def _loss_difference(runs: Sequence[RunFacts], place: int) -> list[tuple[str, str]]:
    """Returns how much b's loss is above or below a's, each piece with its tone."""
    a, b = (run.loss for run in runs)
    if a is None or b is None or not np.isfinite(change := float(b[place]) - float(a[place])):
        return []
    sign = "+" if change > 0 else ""
    return [("loss ", "muted"), (f"{sign}{format_loss(change)}", "ink")]
