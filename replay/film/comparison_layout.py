"""Everything around the maps of a comparison: two runs side by side, and what is b - a.

    heading ................................................. epoch, batch
    input picture    run a, loss       run b, loss       difference
    label            layer, colour bar                   colour bar
    loss curves      mosaic            mosaic            mosaic
    scale in words   NaN, inf          NaN, inf          NaN, inf
    progress line .......................................................

As in `stage`, it is drawn once, and `update` writes what changes into slots of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from replay.film.facts import Headings, InputCaption, LayerPanel, RunFacts
from replay.film.geometry import PAIR_GUTTER, PAIR_MARGIN, SIDE
from replay.formatting import clean, format_loss, format_number
from replay.raster.mosaic import NUMBER_SIZE, Box
from replay.raster.palette import Range, TwoMapPalette
from replay.raster.pen import Pen, Slot
from replay.raster.text import ascent_of, fit, height_of, width_of, wrap
from replay.raster.widgets import SMALL, ColourBar, LossCurve, ProgressLine
from replay.schema import OptionError

TONES = ("accent", "second")  # of run a, and of run b
_TITLE, _WORDS, _STATUS, _HEAD, _LINE = 20, 14, 16, 15, 13  # pixels of the fonts
_NARROWEST = ColourBar.WIDTH_BESIDE  # of a panel
_SWATCH = 26  # width of the piece of curve before a run's name
_BETWEEN = 14  # rows between two layers
_LARGEST = 16_000  # what H.264 and WebP take, rounded down

Unfinite = tuple[int, int] | str


class ComparisonLayout:
    """A frame's plane of palette indices with all that surrounds the maps.

    Args:
        parts: The layers, from top to bottom; the mosaics of all panels are the same.
        palette: The colours; with a difference, there are three panels.
        runs: The two runs.
        cells: (epoch, batch) of every frame that both have, in order.
        seen: The input picture of both, or of each.
        words: What is said.

    Raises:
        OptionError: The frame would be larger than video formats allow.

    Attributes:
        plane: uint8 (H, W), both even.
        pictures_at: Row and column of each input picture.
        mosaics_at: For each layer, row and column of the mosaic in each panel.
        boxes: (top, left, bottom, right) of every text.
    """

    def __init__(
        self,
        parts: Sequence[LayerPanel],
        palette: TwoMapPalette,
        runs: Sequence[RunFacts],
        cells: Sequence[tuple[int, int]],
        seen: Sequence[InputCaption],
        words: Headings,
    ) -> None:
        self._parts, self._palette, self._runs, self._seen = parts, palette, runs, seen
        self._cells = list(cells)
        self._places = {cell: place for place, cell in enumerate(cells)}
        self._panels = 3 if palette.differences else 2
        self._several = len(parts) > 1
        self._panel = max(_NARROWEST, *(part.mosaic.width for part in parts))
        self._lay_out(words)

    @property
    def boxes(self) -> list[Box]:
        """(top, left, bottom, right) of every text."""
        return self._pen.boxes

    def touched(self) -> list[Box]:
        """(top, left, bottom, right) of what has changed since this was last asked for."""
        found, self._pen.touched = self._pen.touched, []
        return found

    def update(
        self,
        epoch: int,
        batch: int,
        ranges: Sequence[tuple[Range | None, Range | None]],
        counts: Sequence[Sequence[Unfinite]],
        troubles: Sequence[str] = (),
    ) -> None:
        """Writes what belongs to one frame.

        Args:
            epoch: Its epoch.
            batch: Its batch.
            ranges: For each layer, the range of its maps and that of their difference; None
                where each channel has its own.
            counts: For each layer and panel, the values that are NaN, and that are infinite; in
                words where there is nothing to show.
            troubles: Why each input picture is not there; empty where it is.
        """
        pen, place = self._pen, self._places[epoch, batch]
        for slot, value in zip(self._status, (epoch, batch), strict=True):
            pen.refill(slot, (str(value), "ink"))
        for run, slot in zip(self._runs, self._heads, strict=False):
            pen.refill(slot, *_facts(run, place))
        if self._panels == 3:
            pen.refill(self._heads[2], *_change(self._runs, place))
        for (slot, usual), trouble in zip(self._pictures, troubles, strict=False):
            pen.refill(slot, (trouble, "warning") if trouble else (usual, "muted"))
        for slot, one, field in self._labels:
            pen.refill(slot, (clean(one.name(int(field[place]))), "ink"))
        if self._curve is not None:
            self._curve.update(epoch, batch)
        for bars, shown in zip(self._bars, ranges, strict=True):
            for bar, each in zip(bars, shown, strict=False):
                bar.update(each)
        for slots, found in zip(self._counts, counts, strict=True):
            for slot, count in zip(slots, found, strict=True):
                _count(pen, slot, count)
        self._progress.update(epoch, batch)

    @property
    def _has_loss(self) -> bool:
        return any(run.loss is not None for run in self._runs)

    def _lay_out(self, words: Headings) -> None:
        panels = self._panels * (self._panel + PAIR_GUTTER) - PAIR_GUTTER
        content = SIDE + PAIR_GUTTER + panels
        head = 20 + height_of(_TITLE, bold=True) + 4 + height_of(_WORDS) + 16
        top = head + height_of(_HEAD, bold=True) + 4 + height_of(_LINE) + 14
        scales = [line for text in words.scales for line in [*wrap(text, SMALL, SIDE), ""]][:-1]
        side = sum(one.height for one in self._seen) + len(scales) * height_of(SMALL)
        side += (LossCurve.HEIGHT + 16) * self._has_loss
        section = self._section_height()
        right = sum(part.mosaic.height + section + _BETWEEN for part in self._parts) - _BETWEEN
        bottom = max(head + side, top + right)
        self._start(bottom + 20 + ProgressLine.HEIGHT + 20, content + 2 * PAIR_MARGIN)

        self._write_heading(words, content)
        self._write_side(head, scales)
        left = PAIR_MARGIN + SIDE + PAIR_GUTTER
        lefts = [left + k * (self._panel + PAIR_GUTTER) for k in range(self._panels)]
        self._write_heads(head, lefts)
        self._write_parts(top, lefts)
        self._progress = ProgressLine(self._pen, bottom + 20, PAIR_MARGIN, content, self._cells)

    def _start(self, height: int, width: int) -> None:
        """The empty plane, padded to even sizes: 4:2:0 colour needs them."""
        if max(height, width) > _LARGEST:
            raise OptionError(
                f"frames of {width}×{height} pixels are too large for a video; choose fewer "
                "channels, a smaller zoom or another number of columns"
            )
        self.plane = np.full(
            (height + height % 2, width + width % 2), self._palette.paper, np.uint8
        )
        self._pen = Pen(self.plane, self._palette)

    def _section_height(self) -> int:
        """Rows of what stands above and below a mosaic."""
        return height_of(SMALL) + 10 + 4 + height_of(SMALL)

    def _write_heading(self, words: Headings, content: int) -> None:
        pen, numbers = self._pen, np.array(self._cells)
        foot = 20 + ascent_of(_TITLE, bold=True)
        right = PAIR_MARGIN + content
        self._status: list[Slot] = []
        for name, column in (("batch ", numbers[:, 1]), ("epoch ", numbers[:, 0])):
            low, high = int(column.min()), int(column.max())
            after = f" of {low}–{high}" if high > low else f" of {high}"
            room = width_of("0" * len(str(high)), _STATUS) + 1
            top, right = foot - ascent_of(_STATUS), right - width_of(after, _STATUS)
            pen.write(after, top, right, _STATUS, "muted")
            right -= room
            self._status.insert(0, pen.reserve(top, right, room, _STATUS, "right"))
            right -= width_of(name, _STATUS)
            pen.write(name, top, right, _STATUS, "muted")
            right -= PAIR_GUTTER
        room = right - PAIR_MARGIN
        title = fit(words.title, _TITLE, room, bold=True, middle=True)
        pen.write(title, 20, PAIR_MARGIN, _TITLE, bold=True)
        top = 20 + height_of(_TITLE, bold=True) + 4
        pen.write(fit(words.subtitle, _WORDS, content), top, PAIR_MARGIN, _WORDS, "muted")

    def _write_side(self, top: int, scales: Sequence[str]) -> None:
        pen = self._pen
        self.pictures_at: list[tuple[int, int]] = []
        self._labels: list[tuple[Slot, InputCaption, npt.NDArray[np.int64]]] = []
        self._pictures: list[tuple[Slot, str]] = []  # and what is usually said of each
        for one in self._seen:
            self.pictures_at.append((top, PAIR_MARGIN))
            self._write_seen(one, top)
            top += one.height
        self._curve: LossCurve | None = None
        if self._has_loss:
            nothing = np.full(len(self._cells), np.nan)
            a, b = (nothing if run.loss is None else run.loss for run in self._runs)
            self._curve = LossCurve(pen, top, PAIR_MARGIN, SIDE, self._cells, a, other=b)
            top += LossCurve.HEIGHT + 16
        for text in scales:
            pen.write(text, top, PAIR_MARGIN, SMALL, "muted")
            top += height_of(SMALL)

    def _write_seen(self, one: InputCaption, row: int) -> None:
        pen = self._pen
        if one.size:
            row += one.size[0] + 6
            for place, text in enumerate(wrap(one.words, SMALL, SIDE)):
                if place:
                    pen.write(text, row, PAIR_MARGIN, SMALL, "muted")
                else:
                    self._pictures.append((pen.reserve(row, PAIR_MARGIN, SIDE, SMALL), text))
                row += height_of(SMALL)
            row += 4
        for word, field in one.fields:
            indent = width_of(f"{word}  ", _LINE)
            pen.write(word, row + 2, PAIR_MARGIN, _LINE, "muted")
            slot = pen.reserve(row + 2, PAIR_MARGIN + indent, SIDE - indent, _LINE)
            self._labels.append((slot, one, field))
            row += height_of(_LINE) + 2

    def _write_heads(self, top: int, lefts: Sequence[int]) -> None:
        """Over each panel its name, with a piece of its curve before it, and what it says."""
        pen = self._pen
        below = top + height_of(_HEAD, bold=True) + 4
        self._heads = [pen.reserve(below, left, self._panel, _LINE) for left in lefts]
        for run, tone, left in zip(self._runs, TONES, lefts, strict=False):
            indent = 0
            if self._has_loss:
                row, indent = top + height_of(_HEAD, bold=True) // 2 - 1, _SWATCH + 8
                for start, width in (
                    ((0, _SWATCH),) if tone == "accent" else ((0, 7), (10, 7), (20, 6))
                ):
                    pen.fill(row, left + start, 3, width, tone)
            name = fit(clean(run.name), _HEAD, self._panel - indent, bold=True, middle=True)
            pen.write(name, top, left + indent, _HEAD, bold=True)
        if self._panels == 3:
            a, b = (clean(run.name) for run in self._runs)
            said = fit(f"{b} − {a}", _HEAD, self._panel, bold=True)
            pen.write(said, top, lefts[2], _HEAD, bold=True)

    def _write_parts(self, top: int, lefts: Sequence[int]) -> None:
        pen, palette = self._pen, self._palette
        self.mosaics_at: list[list[tuple[int, int]]] = []
        self._bars: list[list[ColourBar]] = []
        self._counts: list[list[Slot]] = []
        bar = ColourBar.WIDTH_BESIDE
        for part in self._parts:
            edge = lefts[1] + self._panel
            self._bars.append([ColourBar(pen, top, edge - bar, bar, beside=True)])
            if palette.differences:
                at = lefts[2] + self._panel - bar
                entries = palette.differences
                self._bars[-1].append(ColourBar(pen, top, at, bar, beside=True, entries=entries))
            if self._several:
                room = edge - bar - 12 - lefts[0]
                name = fit(part.name, _WORDS, room // 2, bold=True, middle=True)
                after = pen.write(name, top - 2, lefts[0], _WORDS, bold=True) + 10
                said = fit(part.words, SMALL, room - after)
                pen.write(said, top, lefts[0] + after, SMALL, "muted")
            top += height_of(SMALL) + 10
            self.mosaics_at.append([(top, left) for left in lefts])
            for left in lefts:
                self._write_numbers(part, top, left)
            top += part.mosaic.height + 4
            self._counts.append([pen.reserve(top, left, self._panel, SMALL) for left in lefts])
            top += height_of(SMALL) + _BETWEEN

    def _write_numbers(self, part: LayerPanel, top: int, left: int) -> None:
        mosaic = part.mosaic
        for place in mosaic.numbered():
            y, x = mosaic.corner(place)
            text = part.labels[place]
            if mosaic.numbers == "tile":
                row, column = top + y + mosaic.tile[0] + 2, left + x
            else:
                row = top + y + max(0, (mosaic.tile[0] - height_of(NUMBER_SIZE)) // 2)
                column = left + mosaic.indent - 6 - width_of(text, NUMBER_SIZE)
            self._pen.write(text, row, column, NUMBER_SIZE, "muted")


def _facts(run: RunFacts, place: int) -> list[tuple[str, str]]:
    """A run's loss and answer of the moment, with their tones."""
    parts: list[tuple[str, str]] = []
    if run.loss is not None:
        lost = run.loss[place]
        tone = "ink" if np.isfinite(lost) else "warning"
        parts += [("loss ", "muted"), (f"{format_loss(lost)}   ", tone)]
    if run.prediction is not None:
        parts += [("predicted ", "muted"), (run.prediction[place], "ink")]
    return parts


def _change(runs: Sequence[RunFacts], place: int) -> list[tuple[str, str]]:
    """How much b's loss is above or below a's."""
    a, b = (run.loss for run in runs)
    if a is None or b is None or not np.isfinite(change := float(b[place] - a[place])):
        return []
    sign = "+" if change > 0 else ""
    return [("loss ", "muted"), (f"{sign}{format_number(change)}", "ink")]


def _count(pen: Pen, slot: Slot, count: Unfinite) -> None:
    if isinstance(count, str):
        pen.refill(slot, (count, "warning" if "damaged" in count else "muted"))
        return
    nan, inf = count
    pen.refill(
        slot,
        *([("■ ", "nan"), (f"{nan:,} NaN   ", "warning")] if nan else []),
        *([("■ ", "inf"), (f"{inf:,} inf", "warning")] if inf else []),
    )
