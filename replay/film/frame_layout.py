"""Everything around the maps: where it stands in a frame, and what it says.

    heading ........................ epoch, batch, loss
    input picture    mosaic of the first layer
    label            (several layers: each under a line of its own, with its colour bar)
    (several recordings: a picture of each)
    loss curve
    colour bar
    progress line ..................................

It is drawn once; `update` writes what changes from frame to frame, each into a slot of its own, so
that nothing jitters.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from replay.film.section_grid import SectionGrid, width_of_heads
from replay.formatting import clean, format_loss
from replay.maps.runs import Count, FilmFacts, Headings, InputCaption, LayerPanel
from replay.options import FilmOptions
from replay.raster.arrangement import BARE, GUTTER, MARGIN, SIDE
from replay.raster.histogram import Histogram
from replay.raster.loss_curve import LossCurve
from replay.raster.mosaic import Box
from replay.raster.names import lines_at
from replay.raster.palette import Palette, Range
from replay.raster.text import ascent_of, fit, height_of, width_of, wrap
from replay.raster.tile_captions import Gains, TileCaptions
from replay.raster.widgets import SMALL, ColorBar, Pen, ProgressLine, Slot, fit_reason, fit_unfinite
from replay.schema import OptionError

_TITLE, _SUBTITLE, _STATUS = 20, 14, 16  # pixels of the fonts in the heading
_NARROWEST, _NARROWEST_SECTION = 472, 1000
_TIGHTEST_SECTION = 660  # of layers whose names and maps need no more
_APART_ROWS = 14  # above a histogram
_APART = "   "  # between a module and its maps


class BaseLayout:
    """A plane of palette indices, and what is written on it in the same way in every film.

    Args:
        panels: The layers, from top to bottom.
        palette: The colours.
        inputs: What the network saw, for each recording whose input is shown.

    Attributes:
        plane: uint8 (H, W), both even.
        input_corners: Row and column of each input picture.
    """

    plane: npt.NDArray[np.uint8]

    def __init__(
        self, panels: Sequence[LayerPanel], palette: Palette, inputs: Sequence[InputCaption]
    ) -> None:
        self._panels, self._palette, self._inputs = panels, palette, inputs
        self.input_corners: list[tuple[int, int]] = []
        self._input_slots: list[tuple[Slot, str]] = []  # and what is usually written there
        self._class_slots: list[tuple[Slot, InputCaption, npt.NDArray[np.int64]]] = []

    @property
    def pen(self) -> Pen:
        """What writes on the plane."""
        return self._pen

    @property
    def boxes(self) -> list[Box]:
        """(top, left, bottom, right) of every text."""
        return self._pen.boxes

    @property
    def texts(self) -> set[str]:
        """All that is written in one frame or another, but for numbers."""
        return self._pen.texts.union(*(caption.classes for _, caption, _ in self._class_slots))

    def take_touched(self) -> list[Box]:
        """Returns (top, left, bottom, right) of what has changed since the last call."""
        touched, self._pen.touched = self._pen.touched, []
        return touched

    def _start(self, height: int, width: int) -> None:
        """Makes the empty plane, padded to even sizes: 4:2:0 colour needs them."""
        height, width = max(height, _LEAST), max(width, _LEAST)
        if max(height, width) > _LARGEST:
            raise OptionError(
                f"frames of {width}×{height} pixels are too large; choose fewer "
                "channels, a smaller zoom or another number of columns"
            )
        self.plane = np.full(
            (height + height % 2, width + width % 2), self._palette.paper, np.uint8
        )
        self._pen = Pen(self.plane, self._palette)

    def _write_inputs(self, top: int) -> int:
        """Writes the captions of the input pictures, and returns the row below the last one."""
        for caption in self._inputs:
            self.input_corners.append((top, MARGIN))
            self._write_input(caption, top)
            top += input_height(caption)
        return top

    def _write_input(self, caption: InputCaption, row: int) -> None:
        pen = self._pen
        if caption.size:
            row += caption.size[0] + 6
            for place, line in enumerate(wrap(caption.text, SMALL, SIDE)):
                if place:
                    pen.write(line, row, MARGIN, SMALL, "muted")
                else:
                    self._input_slots.append((pen.reserve(row, MARGIN, SIDE, SMALL), line))
                row += height_of(SMALL)
            row += 4
        indent = max((width_of(f"{word}  ", LABEL_SIZE) for word, _ in caption.fields), default=0)
        for word, numbers in caption.fields:
            pen.write(word, row + 2, MARGIN, LABEL_SIZE, "muted")
            slot = pen.reserve(row + 2, MARGIN + indent, SIDE - indent, LABEL_SIZE)
            self._class_slots.append((slot, caption, numbers))
            row += height_of(LABEL_SIZE) + 2

    def _update_inputs(self, place: int, problems: Sequence[str]) -> None:
        """Writes the label and the prediction of a frame, and why a picture is not there."""
        for (slot, usual), problem in zip(self._input_slots, problems, strict=False):
            self._pen.refill(slot, (problem, "warning") if problem else (usual, "muted"))
        for slot, caption, numbers in self._class_slots:
            name = caption.class_name(int(numbers[place]))
            self._pen.refill(slot, (clean(name), "ink"))

    def _write_count(self, slot: Slot, count: Count, alarming: bool) -> None:
        """Writes how many values are NaN and infinite, or why there is no frame.

        Args:
            slot: Where.
            count: The two numbers, or the reason.
            alarming: Whether the reason is something to be warned of.
        """
        if isinstance(count, str):
            text = fit_reason(count, slot.width)
            self._pen.refill(slot, (text, "warning" if alarming else "muted"))
            return
        self._pen.refill(slot, *fit_unfinite(*count, slot.width))

    def _caption_tiles(self, panel: LayerPanel, top: int, left: int) -> TileCaptions:
        """Writes the numbers of the channels below or beside the tiles of a mosaic."""
        return TileCaptions(self._pen, panel.mosaic, panel.labels, top, left, panel.gains)


def input_height(caption: InputCaption) -> int:
    """Returns the rows of an input picture, of its caption, and of a distance below."""
    rows = 0
    if caption.size:
        rows += caption.size[0] + 6 + 4
        rows += len(wrap(caption.text, SMALL, SIDE)) * height_of(SMALL)
    rows += len(caption.fields) * (height_of(LABEL_SIZE) + 2)
    return rows + (14 if rows else 0)


class FrameLayout(BaseLayout):
    """A frame's plane of palette indices with all that surrounds the maps.

    Args:
        panels: The layers, from top to bottom.
        palette: The colours.
        facts: What is known of the run.
        inputs: What the network saw, for each recording.
        headings: What is written in every frame alike.
        options: How it looks: with or without captions, and how wide it may be.
        histograms: What each is of, its range where no colour bar says it, and its highest share.
        across: Layers side by side.
        column_width: Least width of a column of them, in pixels; 0 for the usual one.

    Raises:
        OptionError: The frame would be larger than video formats allow.

    Attributes:
        plane: uint8 (H, W), both even.
        input_corners: Row and column of each input picture.
        mosaic_corners: Row and column of each mosaic.
        histograms: The histograms, which their owner updates.
        boxes: (top, left, bottom, right) of every text.
    """

    def __init__(
        self,
        panels: Sequence[LayerPanel],
        palette: Palette,
        facts: FilmFacts,
        inputs: Sequence[InputCaption],
        headings: Headings,
        options: FilmOptions,
        histograms: Sequence[tuple[str, str, float]] = (),
        across: int = 1,
        column_width: int = 0,
    ) -> None:
        super().__init__(panels, palette, inputs)
        self._facts, self._histogram_peaks, self._captions = facts, histograms, options.captions
        self.histograms: list[Histogram] = []
        narrowest = min(_NARROWEST_SECTION, max(_TIGHTEST_SECTION, width_of_heads(panels)))
        if options.bounds is not None:
            space = options.bounds[0] - 2 * MARGIN - SIDE - GUTTER
            narrowest = min(narrowest, max(_TIGHTEST_SECTION, space))
        self._scale_lines = wrap(headings.scales[0], SMALL, SIDE)
        least = column_width or (narrowest if len(panels) > 1 else 0)
        least = least if self._captions else 0
        self._grid = SectionGrid(panels, across, least, self._captions)
        if self._captions:
            self._status_columns = self._measure_status()
            self._lay_out(headings.title, headings.subtitle)
        else:
            self._lay_out_bare()
        self.mosaic_corners = self._grid.corners

    def update(
        self,
        epoch: int,
        batch: int,
        ranges: Sequence[Range | None],
        counts: Sequence[Count],
        problems: Sequence[str] = (),
        gains: Sequence[Gains | None] = (),
    ) -> None:
        """Writes what belongs to one frame.

        Args:
            epoch: Its epoch.
            batch: Its batch.
            ranges: The range under which each panel is shown; None if each channel has its own.
            counts: Values that are NaN, and that are infinite, in each panel; in words where it
                has no frame to show.
            problems: Why each input picture is not there; empty where it is.
            gains: How strong the channels of each panel are; None where that is not shown.
        """
        if not self._captions:
            return
        facts = self._facts
        place = bisect.bisect_left(facts.cells, (epoch, batch))
        self._pen.refill(self._status[0], (str(epoch), "ink"))
        self._pen.refill(self._status[1], (str(batch), "ink"))
        if facts.loss is not None:
            loss, logged = float(facts.loss[place]), facts.logged is None or facts.logged[place]
            for slot in self._status[2:]:
                self._pen.refill(slot, loss_in_words(loss, bool(logged)))
            self._curve.update(epoch, batch)
        self._update_inputs(place, problems)
        if self._legend is not None:
            self._legend.update(ranges[0] if len(self._panels) == 1 else None)
        for bar, shown in zip(self._grid.bars, ranges, strict=False):
            if bar is not None:
                bar.update(shown)
        for slot, count in zip(self._counts or self._grid.counts, counts, strict=True):
            self._write_count(slot, count, count == "damaged")
        for captions, shown_gains in zip(self._grid.captions, gains, strict=False):
            captions.update(shown_gains)
        self._progress.update(epoch, batch)

    def _measure_status(self) -> list[tuple[str, int, str]]:
        """Returns (word, width of the number, what follows) for epoch, batch and loss."""
        numbers = np.array(self._facts.cells)
        columns = []
        for name, column in (("epoch ", numbers[:, 0]), ("batch ", numbers[:, 1])):
            low, high = int(column.min()), int(column.max())
            span = f"{low}–{high}" if high > low else f"{high}"
            columns.append((name, width_of("0" * len(str(high)), _STATUS), f" of {span}"))
        if self._facts.loss is not None and not self._facts.loss_of:
            extremes = [*np.nan_to_num(self._facts.loss, nan=0.0, posinf=0.0, neginf=0.0), np.nan]
            longest = max((format_loss(value) for value in {*extremes}), key=len)
            width = max(width_of(longest, _STATUS), width_of("nan", _STATUS))
            columns.append(("loss ", width, ""))
        return columns

    @property
    def _status_width(self) -> int:
        columns = self._status_columns
        widths = sum(width_of(a + b, _STATUS) + 1 + number for a, number, b in columns)
        return widths + GUTTER * (len(columns) - 1)

    def _lay_out(self, title: str, subtitle: str) -> None:
        content = max(SIDE + GUTTER + self._grid.width, self._status_width, _NARROWEST)

        # The heading: in one line where it fits, else in up to four.
        titles = lines_at(title, _TITLE, content, bold=True)
        title_width = max((width_of(each, _TITLE, bold=True) for each in titles), default=0)
        together = title_width + 12 + width_of(subtitle, _SUBTITLE)
        lines = [subtitle] if subtitle else []
        beside = bool(subtitle) and len(titles) == 1 and together <= content
        if subtitle and not beside and width_of(subtitle, _SUBTITLE) > content:
            lines = subtitle.split(_APART)
        status_below = len(lines) > 1 or together + 2 * GUTTER + self._status_width > content
        line = height_of(_TITLE) + 4
        top = 20 + line * (max(1, len(titles)) + len(lines) - beside + status_below) + 12

        side = sum(map(input_height, self._inputs)) + self._scale_height()
        side += LossCurve.HEIGHT * (self._facts.loss is not None)
        side += (Histogram.HEIGHT + _APART_ROWS) * len(self._histogram_peaks)
        bottom = top + max(side, self._grid.height)
        self._start(bottom + 20 + ProgressLine.HEIGHT + 20, content + 2 * MARGIN)

        pen = self._pen
        foot = 20 + ascent_of(_TITLE, bold=True) + line * (max(1, len(titles)) - 1)
        for place, text in enumerate(titles):
            pen.write(text, 20 + line * place, MARGIN, _TITLE, bold=True)
        for text in lines:
            foot += 0 if beside else line
            left = MARGIN + (title_width + 12 if beside else 0)
            fitted = fit(text, _SUBTITLE, MARGIN + content - left)
            pen.write(fitted, foot - ascent_of(_SUBTITLE), left, _SUBTITLE, "muted")
        if status_below:
            foot += line
        left = MARGIN if status_below else MARGIN + content - self._status_width
        self._write_status(foot - ascent_of(_STATUS), left)

        self._write_side(top, bottom - self._scale_height())
        self._grid.write(pen, top, MARGIN + SIDE + GUTTER, self._caption_tiles)
        self._progress = ProgressLine(pen, bottom + 20, MARGIN, content, self._facts.cells)

    def _lay_out_bare(self) -> None:
        sizes = [caption.size or (0, 0) for caption in self._inputs]
        widest = max((size[1] for size in sizes), default=0)
        left = BARE + (widest + BARE if widest else 0)
        pictures = sum(size[0] + BARE for size in sizes if size[0]) - BARE
        grid = self._grid
        self._start(max(grid.height, pictures) + 2 * BARE, left + grid.width + BARE)
        top = BARE
        for height, _ in sizes:
            self.input_corners.append((top, BARE))
            top += height + BARE
        grid.write(None, BARE, left)

    def _write_status(self, top: int, left: int) -> None:
        self._status: list[Slot] = []
        for word, width, after in self._status_columns:
            left += self._pen.write(word, top, left, _STATUS, "muted")
            self._status.append(self._pen.reserve(top, left, width + 1, _STATUS, "right"))
            left += width + 1
            left += self._pen.write(after, top, left, _STATUS, "muted") + GUTTER

    def _scale_height(self) -> int:
        """Returns the rows of the colour bar, of what is written about it, and of a distance."""
        if self._grid.has_bars:
            return 16 + len(self._scale_lines) * height_of(SMALL)
        return 16 + (len(self._scale_lines) + 1) * height_of(SMALL) + 8 + ColorBar.HEIGHT

    def _write_side(self, top: int, scale_top: int) -> None:
        pen, facts = self._pen, self._facts
        top = self._write_inputs(top)
        if facts.loss is not None:
            name = f"loss of {facts.loss_of}" if facts.loss_of else "loss"
            self._curve = LossCurve(pen, top, MARGIN, SIDE, facts.cells, facts.loss, name)
            top += LossCurve.HEIGHT
        for about in self._histogram_peaks:
            top += _APART_ROWS
            self.histograms.append(Histogram(pen, top, MARGIN, SIDE, *about))
            top += Histogram.HEIGHT

        self._legend: ColorBar | None = None
        self._counts: list[Slot] = []
        row = scale_top + 16
        if len(self._panels) == 1:
            self._counts.append(pen.reserve(row, MARGIN, SIDE, SMALL))
            row += height_of(SMALL) + 4
        for line in self._scale_lines:
            pen.write(line, row, MARGIN, SMALL, "muted")
            row += height_of(SMALL)
        if not self._grid.has_bars:
            self._legend = ColorBar(pen, row + 4, MARGIN, SIDE)


LABEL_SIZE = 13  # pixels: the font of labels and predictions
_LEAST = 64  # pixels: encoders want no less
_LARGEST = 16_000  # what H.264 and WebP take, rounded down


def loss_in_words(loss: float, logged: bool) -> tuple[str, str]:
    """Returns a loss as a caption has it, and its tone.

    Args:
        loss: The loss.
        logged: Whether it was logged: of a batch without one nothing is said.
    """
    if not logged:
        return "–", "muted"
    return format_loss(loss), "ink" if np.isfinite(loss) else "warning"
