"""Everything around the maps: where it stands in a frame, and what it says.

    heading ........................ epoch, batch, loss
    input picture    mosaic of the first layer
    label            (several layers: each under a line of its own, with its colour bar)
    (several recordings: a picture of each)
    loss curve
    colour bar
    progress line ..................................

The stage is drawn once; `update` writes what changes from frame to frame, each into a slot of
its own, so that nothing jitters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from replay.captions import (
    ascent_of,
    clean,
    fit,
    height_of,
    loss_in_words,
    width_of,
    wrap,
)
from replay.colours import Palette
from replay.histogram import Histogram
from replay.panels import SMALL, ColourBar, LossCurve, ProgressLine
from replay.pen import Pen, Slot
from replay.scaling import Range
from replay.schema import OptionError
from replay.tiles import NUMBER_SIZE, Box, Mosaic, Room

SIDE = 256  # width of the column with the input picture
_WIDEST = 1400
_USUAL = 860  # height of the mosaics of a usual frame
_MARGIN, _GUTTER = 24, 24
_BARE = 12  # margin and gutter of a frame without captions
_TITLE, _WORDS, _STATUS = 20, 14, 16  # pixels of the fonts in the heading
_SECTION = 14
_SECTION_HEAD = 38
_NARROWEST, _NARROWEST_SECTION = 472, 1000
_TIGHTEST_SECTION = 660  # where the width of the frame is bounded
_HEAD_AND_FOOT = 132  # of a frame with captions, as a rule
_APART_ROWS = 14  # above a histogram
_APART = "   "  # between a module and its maps
_LEAST = 64  # pixels: encoders want no less
_LARGEST = 16_000  # what H.264 and WebP take, rounded down
_COUNTS, _COUNTS_TIGHT = 190, 120  # width of the counts of NaN and infinity


@dataclass(frozen=True)
class Facts:
    """What the captions tell of the run; arrays have one entry for every frame of the run.

    Attributes:
        cells: (epoch, batch) of every frame, in order.
        loss: float64, or None where none was logged.
        whose: Which of several recordings the loss is of; empty where there is but one.
    """

    cells: list[tuple[int, int]]
    loss: npt.NDArray[np.float64] | None = None
    whose: str = ""


@dataclass(frozen=True)
class Seen:
    """What the network of a recording saw, and answered; an entry for every frame of the run.

    Attributes:
        size: Height and width of the input picture in the frame; None without one.
        words: What the picture is.
        label: int64, -1 where none was logged; None where there is none at all.
        prediction: As `label`.
        classes: Names of the classes, as far as they are known.
    """

    size: tuple[int, int] | None = None
    words: str = ""
    label: npt.NDArray[np.int64] | None = None
    prediction: npt.NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()

    @property
    def fields(self) -> list[tuple[str, npt.NDArray[np.int64]]]:
        """What there is of label and prediction, each with its word."""
        both = (("label", self.label), ("predicted", self.prediction))
        return [(word, field) for word, field in both if field is not None]

    @property
    def height(self) -> int:
        """Rows of the picture and what is said of it, and a distance below."""
        rows = 0
        if self.size:
            rows += self.size[0] + 6 + 4
            rows += len(wrap(self.words, SMALL, SIDE)) * height_of(SMALL)
        rows += len(self.fields) * (height_of(13) + 2)
        return rows + (14 if rows else 0)

    def name(self, number: int) -> str:
        """A class by its name, or by its number where it has none."""
        if number < 0:
            return "–"
        return self.classes[number] if number < len(self.classes) else str(number)


@dataclass(frozen=True)
class Part:
    """One layer in the frame: its mosaic and the words about it.

    Attributes:
        mosaic: Where its tiles go.
        labels: What each tile is called.
        name: What it is.
        words: What is said of it.
        entries: The palette's entries in its colour bar; those of the colormap by default.
        bar: Whether it has a colour bar.
    """

    mosaic: Mosaic
    labels: list[str]
    name: str
    words: str
    entries: range | None = None
    bar: bool = True


def around(parts: int, captions: bool, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Pixels that a frame has beside its mosaics, and above and below them.

    Args:
        parts: Number of mosaics.
        captions: Whether there is more than mosaics and input pictures.
        sizes: Height and width of each input picture.
    """
    if not captions:
        beside = 2 * _BARE + (max(size[1] for size in sizes) + _BARE if sizes else 0)
        return beside, (parts + 1) * _BARE
    above = _HEAD_AND_FOOT + (parts * _SECTION_HEAD if parts > 1 else 0)
    return 2 * _MARGIN + SIDE + _GUTTER, above


def room_for(
    parts: int, captions: bool, seen: Sequence[Seen], bounds: tuple[int, int] | None = None
) -> Room:
    """The space for each of some mosaics in a frame about 1,000 to 1,400 pixels wide.

    Args:
        parts: Number of mosaics.
        captions: Whether there is more than mosaics and input pictures.
        seen: What stands beside them.
        bounds: Greatest width and height of the frame, instead of the usual ones.
    """
    sizes = [one.size for one in seen if one.size]
    if bounds is not None:
        beside, above = around(parts, captions, sizes)
        width, height = max(1, bounds[0] - beside), max(1, (bounds[1] - above) // parts)
        return Room(width, height, beside, bounds[1] - height, bounds[1] - above, 1.0)
    if not captions:
        beside = 2 * _BARE + (max(size[1] for size in sizes) + _BARE if sizes else 0)
        least = sum(size[0] + _BARE for size in sizes)
        return Room(_WIDEST - beside, _USUAL // parts, beside, 2 * _BARE, least)
    beside = 2 * _MARGIN + SIDE + _GUTTER
    if parts == 1:
        least = sum(size[0] for size in sizes) + 320
        return Room(_WIDEST - beside, _USUAL, beside, 120, least)
    height = max(60, (_USUAL + 140 - parts * _SECTION_HEAD) // parts)
    return Room(_WIDEST - beside, height, beside, _USUAL + 140 - height)


class Stage:
    """A frame's plane of palette indices with all that surrounds the maps.

    Args:
        parts: The layers, from top to bottom.
        palette: The colours.
        facts: What is known of the run.
        seen: What the network saw, for each recording.
        scale_words: What the colour bar's range is.
        heading: What is set bold at the top, and what follows it.
        captions: Without them there is nothing but maps and input picture.
        widest: Width that the frame should not exceed.
        histograms: What each histogram is of, and the share of its highest bar.

    Raises:
        OptionError: The frame would be larger than video formats allow.

    Attributes:
        plane: uint8 (H, W), both even.
        pictures_at: Row and column of each input picture.
        mosaics_at: Row and column of each mosaic.
        histograms: The histograms, which are brought up to date by themselves.
        boxes: (top, left, bottom, right) of every text.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        palette: Palette,
        facts: Facts,
        seen: Sequence[Seen] = (),
        scale_words: str = "",
        heading: tuple[str, str] = ("", ""),
        captions: bool = True,
        widest: int | None = None,
        histograms: Sequence[tuple[str, float]] = (),
    ) -> None:
        self._parts, self._palette, self._facts = parts, palette, facts
        self._to_count = histograms
        self.histograms: list[Histogram] = []
        self._narrowest_section = _NARROWEST_SECTION
        if widest is not None:
            room = widest - 2 * _MARGIN - SIDE - _GUTTER
            self._narrowest_section = min(_NARROWEST_SECTION, max(_TIGHTEST_SECTION, room))
        self._seen = seen
        self._captions = captions
        self._places = {cell: place for place, cell in enumerate(facts.cells)}
        self._scale_lines = wrap(f"activation, {scale_words}", SMALL, SIDE)
        mosaics_width = max(part.mosaic.width for part in parts)
        if captions:
            self._status_parts = self._measure_status()
            self._lay_out(mosaics_width, *heading)
        else:
            self._lay_out_bare(mosaics_width)

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
        ranges: Sequence[Range | None],
        counts: Sequence[tuple[int, int] | str],
    ) -> None:
        """Writes what belongs to one frame.

        Args:
            epoch: Its epoch.
            batch: Its batch.
            ranges: The range under which each part is shown; None if each channel has its own.
            counts: Values that are NaN, and that are infinite, in each part; in words where it
                has no frame to show.
        """
        if not self._captions:
            return
        facts, place = self._facts, self._places[epoch, batch]
        self._pen.refill(self._status[0], (str(epoch), "ink"))
        self._pen.refill(self._status[1], (str(batch), "ink"))
        if facts.loss is not None:
            lost = facts.loss[place]
            for slot in self._status[2:]:
                tone = "ink" if np.isfinite(lost) else "warning"
                self._pen.refill(slot, (loss_in_words(lost), tone))
            self._curve.update(epoch, batch)
        for slot, one, field in self._names:
            self._pen.refill(slot, (clean(one.name(int(field[place]))), "ink"))
        for bar, shown in zip(self._bars, ranges, strict=True):
            if bar is not None:
                bar.update(shown)
        for slot, count in zip(self._counts, counts, strict=True):
            if isinstance(count, str):
                self._pen.refill(slot, (count, "warning" if count == "damaged" else "muted"))
                continue
            nan, inf = count
            self._pen.refill(
                slot,
                *([("■ ", "nan"), (f"{nan:,} NaN   ", "warning")] if nan else []),
                *([("■ ", "inf"), (f"{inf:,} inf", "warning")] if inf else []),
            )
        self._progress.update(epoch, batch)

    def _measure_status(self) -> list[tuple[str, int, str]]:
        """(word, width of the number, what follows) for epoch, batch and loss."""
        numbers = np.array(self._facts.cells)
        parts = []
        for name, column in (("epoch ", numbers[:, 0]), ("batch ", numbers[:, 1])):
            low, high = int(column.min()), int(column.max())
            span = f"{low}–{high}" if high > low else f"{high}"
            parts.append((name, width_of("0" * len(str(high)), _STATUS), f" of {span}"))
        if self._facts.loss is not None and not self._facts.whose:
            extremes = [*np.nan_to_num(self._facts.loss, nan=0.0, posinf=0.0, neginf=0.0), np.nan]
            longest = max((loss_in_words(value) for value in {*extremes}), key=len)
            parts.append(("loss ", max(width_of(longest, _STATUS), width_of("nan", _STATUS)), ""))
        return parts

    @property
    def _status_width(self) -> int:
        words = sum(width_of(a + b, _STATUS) + 1 + n for a, n, b in self._status_parts)
        return words + _GUTTER * (len(self._status_parts) - 1)

    def _lay_out(self, mosaics_width: int, heading: str, words: str) -> None:
        several = len(self._parts) > 1
        right_width = max(mosaics_width, self._narrowest_section if several else 0)
        content = max(SIDE + _GUTTER + right_width, self._status_width, _NARROWEST)

        # The heading: in one line where it fits, else in up to four.
        heading = fit(heading, _TITLE, content, bold=True, middle=True)
        heading_width = width_of(heading, _TITLE, bold=True)
        together = heading_width + 12 + width_of(words, _WORDS)
        lines = [words] if words else []
        beside = bool(words) and together <= content
        if words and not beside and width_of(words, _WORDS) > content:
            lines = words.split(_APART)
        status_below = len(lines) > 1 or together + 2 * _GUTTER + self._status_width > content
        line = height_of(_TITLE) + 4
        top = 20 + line * (1 + len(lines) - beside + status_below) + 12

        below = sum(one.height for one in self._seen)
        side = below + LossCurve.HEIGHT * (self._facts.loss is not None) + self._scale_height()
        side += (Histogram.HEIGHT + _APART_ROWS) * len(self._to_count)
        right = sum(part.mosaic.height + _SECTION_HEAD * several for part in self._parts)
        right -= 14 * several
        bottom = top + max(side, right)
        width = content + 2 * _MARGIN
        self._start(bottom + 20 + ProgressLine.HEIGHT + 20, width)

        pen = self._pen
        foot = 20 + ascent_of(_TITLE, bold=True)
        pen.write(heading, 20, _MARGIN, _TITLE, bold=True)
        for text in lines:
            foot += 0 if beside else line
            left = _MARGIN + (heading_width + 12 if beside else 0)
            fitted = fit(text, _WORDS, _MARGIN + content - left)
            pen.write(fitted, foot - ascent_of(_WORDS), left, _WORDS, "muted")
        if status_below:
            foot += line
        left = _MARGIN if status_below else _MARGIN + content - self._status_width
        self._write_status(foot - ascent_of(_STATUS), left)

        self._write_side(top, top + below, bottom - self._scale_height())
        self._write_parts(top, _MARGIN + SIDE + _GUTTER, right_width)
        self._progress = ProgressLine(pen, bottom + 20, _MARGIN, content, self._facts.cells)

    def _lay_out_bare(self, mosaics_width: int) -> None:
        sizes = [one.size or (0, 0) for one in self._seen]
        widest = max((size[1] for size in sizes), default=0)
        left = _BARE + (widest + _BARE if widest else 0)
        right = sum(part.mosaic.height + _BARE for part in self._parts) - _BARE
        pictures = sum(size[0] + _BARE for size in sizes if size[0]) - _BARE
        self._start(max(right, pictures) + 2 * _BARE, left + mosaics_width + _BARE)
        self.pictures_at, top = [], _BARE
        for height, _ in sizes:
            self.pictures_at.append((top, _BARE))
            top += height + _BARE
        top = _BARE
        self.mosaics_at = []
        for part in self._parts:
            self.mosaics_at.append((top, left))
            top += part.mosaic.height + _BARE

    def _start(self, height: int, width: int) -> None:
        """The empty plane, padded to even sizes: 4:2:0 colour needs them."""
        height, width = max(height, _LEAST), max(width, _LEAST)
        if max(height, width) > _LARGEST:
            raise OptionError(
                f"frames of {width}×{height} pixels are too large for a video; choose fewer "
                "channels, a smaller zoom or another number of columns"
            )
        self.plane = np.full(
            (height + height % 2, width + width % 2), self._palette.paper, np.uint8
        )
        self._pen = Pen(self.plane, self._palette)

    def _write_status(self, top: int, left: int) -> None:
        self._status: list[Slot] = []
        for word, room, after in self._status_parts:
            left += self._pen.write(word, top, left, _STATUS, "muted")
            self._status.append(self._pen.reserve(top, left, room + 1, _STATUS, "right"))
            left += room + 1
            left += self._pen.write(after, top, left, _STATUS, "muted") + _GUTTER

    def _scale_height(self) -> int:
        """Rows of the colour bar and what is said of it, and a distance above."""
        if len(self._parts) > 1:
            return 16 + len(self._scale_lines) * height_of(SMALL)
        return 16 + (len(self._scale_lines) + 1) * height_of(SMALL) + 8 + ColourBar.HEIGHT

    def _write_side(self, top: int, curve_top: int, scale_top: int) -> None:
        pen, facts = self._pen, self._facts
        self.pictures_at = []
        self._names: list[tuple[Slot, Seen, npt.NDArray[np.int64]]] = []
        for one in self._seen:
            self.pictures_at.append((top, _MARGIN))
            self._write_seen(one, top)
            top += one.height
        if facts.loss is not None:
            words = f"loss of {facts.whose}" if facts.whose else "loss"
            self._curve = LossCurve(pen, curve_top, _MARGIN, SIDE, facts.cells, facts.loss, words)

            curve_top += LossCurve.HEIGHT
        for words, peak in self._to_count:
            curve_top += _APART_ROWS
            self.histograms.append(Histogram(pen, curve_top, _MARGIN, SIDE, words, peak))
            curve_top += Histogram.HEIGHT

        self._bars: list[ColourBar | None] = []
        self._counts: list[Slot] = []
        row = scale_top + 16
        if len(self._parts) == 1:
            self._counts.append(pen.reserve(row, _MARGIN, SIDE, SMALL))
            row += height_of(SMALL) + 4
        for text in self._scale_lines:
            pen.write(text, row, _MARGIN, SMALL, "muted")
            row += height_of(SMALL)
        if len(self._parts) == 1:
            self._bars.append(ColourBar(pen, row + 4, _MARGIN, SIDE))

    def _write_seen(self, one: Seen, row: int) -> None:
        pen = self._pen
        if one.size:
            row += one.size[0] + 6
            for text in wrap(one.words, SMALL, SIDE):
                pen.write(text, row, _MARGIN, SMALL, "muted")
                row += height_of(SMALL)
            row += 4
        indent = max((width_of(f"{word}  ", 13) for word, _ in one.fields), default=0)
        for word, field in one.fields:
            pen.write(word, row + 2, _MARGIN, 13, "muted")
            slot = pen.reserve(row + 2, _MARGIN + indent, SIDE - indent, 13)
            self._names.append((slot, one, field))
            row += height_of(13) + 2

    def _write_parts(self, top: int, left: int, width: int) -> None:
        self.mosaics_at = []
        for part in self._parts:
            if len(self._parts) > 1:
                self._write_section_head(part, top, left, width)
                top += _SECTION_HEAD - 14
            self.mosaics_at.append((top, left))
            self._write_numbers(part, top, left)
            top += part.mosaic.height + 14

    def _write_section_head(self, part: Part, top: int, left: int, width: int) -> None:
        pen = self._pen
        bar = ColourBar.WIDTH_BESIDE
        counts = _COUNTS if width >= _NARROWEST_SECTION else _COUNTS_TIGHT
        room = width - bar - counts - 2 * 12
        name = fit(part.name, _SECTION, room // 2, bold=True, middle=True)
        after = pen.write(name, top, left, _SECTION, bold=True) + 10
        drop = ascent_of(_SECTION, bold=True) - ascent_of(SMALL)
        last, smaller = part.words.split(_APART)[-1], part.mosaic.in_words()
        versions = [part.words, last, *([smaller] if smaller else [])]
        fitting = [words for words in versions if width_of(words, SMALL) <= room - after]
        words = fitting[0] if fitting else fit(last, SMALL, room - after)
        pen.write(words, top + drop, left + after, SMALL, "muted")
        counts_left = left + width - bar - 12 - counts
        self._counts.append(pen.reserve(top + drop, counts_left, counts, SMALL, "right"))
        at = (top + drop, left + width - bar, bar)
        self._bars.append(ColourBar(pen, *at, True, part.entries) if part.bar else None)

    def _write_numbers(self, part: Part, top: int, left: int) -> None:
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
