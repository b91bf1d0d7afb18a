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

import numpy as np
import numpy.typing as npt

from replay.film.facts import FilmFacts, InputCaption, LayerPanel
from replay.film.geometry import BARE, GUTTER, MARGIN, SECTION_HEAD, SIDE
from replay.formatting import clean, format_loss
from replay.raster.histogram import Histogram
from replay.raster.mosaic import NUMBER_SIZE, Box
from replay.raster.palette import Palette, Range
from replay.raster.pen import Pen, Slot
from replay.raster.text import ascent_of, fit, height_of, width_of, wrap
from replay.raster.widgets import SMALL, ColourBar, LossCurve, ProgressLine
from replay.schema import OptionError

_TITLE, _WORDS, _STATUS = 20, 14, 16  # pixels of the fonts in the heading
_SECTION = 14
_NARROWEST, _NARROWEST_SECTION = 472, 1000
_TIGHTEST_SECTION = 660  # where the width of the frame is bounded
_APART_ROWS = 14  # above a histogram
_APART = "   "  # between a module and its maps
_LEAST = 64  # pixels: encoders want no less
_LARGEST = 16_000  # what H.264 and WebP take, rounded down
_COUNTS, _COUNTS_TIGHT = 190, 120  # width of the counts of NaN and infinity


class FrameLayout:
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
        parts: Sequence[LayerPanel],
        palette: Palette,
        facts: FilmFacts,
        seen: Sequence[InputCaption] = (),
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
            room = widest - 2 * MARGIN - SIDE - GUTTER
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
        troubles: Sequence[str] = (),
    ) -> None:
        """Writes what belongs to one frame.

        Args:
            epoch: Its epoch.
            batch: Its batch.
            ranges: The range under which each part is shown; None if each channel has its own.
            counts: Values that are NaN, and that are infinite, in each part; in words where it
                has no frame to show.
            troubles: Why each input picture is not there; empty where it is.
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
                self._pen.refill(slot, (format_loss(lost), tone))
            self._curve.update(epoch, batch)
        for (slot, usual), trouble in zip(self._pictures, troubles, strict=False):
            self._pen.refill(slot, (trouble, "warning") if trouble else (usual, "muted"))
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
            longest = max((format_loss(value) for value in {*extremes}), key=len)
            parts.append(("loss ", max(width_of(longest, _STATUS), width_of("nan", _STATUS)), ""))
        return parts

    @property
    def _status_width(self) -> int:
        words = sum(width_of(a + b, _STATUS) + 1 + n for a, n, b in self._status_parts)
        return words + GUTTER * (len(self._status_parts) - 1)

    def _lay_out(self, mosaics_width: int, heading: str, words: str) -> None:
        several = len(self._parts) > 1
        right_width = max(mosaics_width, self._narrowest_section if several else 0)
        content = max(SIDE + GUTTER + right_width, self._status_width, _NARROWEST)

        # The heading: in one line where it fits, else in up to four.
        heading = fit(heading, _TITLE, content, bold=True, middle=True)
        heading_width = width_of(heading, _TITLE, bold=True)
        together = heading_width + 12 + width_of(words, _WORDS)
        lines = [words] if words else []
        beside = bool(words) and together <= content
        if words and not beside and width_of(words, _WORDS) > content:
            lines = words.split(_APART)
        status_below = len(lines) > 1 or together + 2 * GUTTER + self._status_width > content
        line = height_of(_TITLE) + 4
        top = 20 + line * (1 + len(lines) - beside + status_below) + 12

        below = sum(one.height for one in self._seen)
        side = below + LossCurve.HEIGHT * (self._facts.loss is not None) + self._scale_height()
        side += (Histogram.HEIGHT + _APART_ROWS) * len(self._to_count)
        right = sum(part.mosaic.height + SECTION_HEAD * several for part in self._parts)
        right -= 14 * several
        bottom = top + max(side, right)
        width = content + 2 * MARGIN
        self._start(bottom + 20 + ProgressLine.HEIGHT + 20, width)

        pen = self._pen
        foot = 20 + ascent_of(_TITLE, bold=True)
        pen.write(heading, 20, MARGIN, _TITLE, bold=True)
        for text in lines:
            foot += 0 if beside else line
            left = MARGIN + (heading_width + 12 if beside else 0)
            fitted = fit(text, _WORDS, MARGIN + content - left)
            pen.write(fitted, foot - ascent_of(_WORDS), left, _WORDS, "muted")
        if status_below:
            foot += line
        left = MARGIN if status_below else MARGIN + content - self._status_width
        self._write_status(foot - ascent_of(_STATUS), left)

        self._write_side(top, top + below, bottom - self._scale_height())
        self._write_parts(top, MARGIN + SIDE + GUTTER, right_width)
        self._progress = ProgressLine(pen, bottom + 20, MARGIN, content, self._facts.cells)

    def _lay_out_bare(self, mosaics_width: int) -> None:
        sizes = [one.size or (0, 0) for one in self._seen]
        widest = max((size[1] for size in sizes), default=0)
        left = BARE + (widest + BARE if widest else 0)
        right = sum(part.mosaic.height + BARE for part in self._parts) - BARE
        pictures = sum(size[0] + BARE for size in sizes if size[0]) - BARE
        self._start(max(right, pictures) + 2 * BARE, left + mosaics_width + BARE)
        self.pictures_at, top = [], BARE
        for height, _ in sizes:
            self.pictures_at.append((top, BARE))
            top += height + BARE
        top = BARE
        self.mosaics_at = []
        for part in self._parts:
            self.mosaics_at.append((top, left))
            top += part.mosaic.height + BARE

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
            left += self._pen.write(after, top, left, _STATUS, "muted") + GUTTER

    def _scale_height(self) -> int:
        """Rows of the colour bar and what is said of it, and a distance above."""
        if len(self._parts) > 1:
            return 16 + len(self._scale_lines) * height_of(SMALL)
        return 16 + (len(self._scale_lines) + 1) * height_of(SMALL) + 8 + ColourBar.HEIGHT

    def _write_side(self, top: int, curve_top: int, scale_top: int) -> None:
        pen, facts = self._pen, self._facts
        self.pictures_at = []
        self._names: list[tuple[Slot, InputCaption, npt.NDArray[np.int64]]] = []
        self._pictures: list[tuple[Slot, str]] = []  # and what is usually said of each
        for one in self._seen:
            self.pictures_at.append((top, MARGIN))
            self._write_seen(one, top)
            top += one.height
        if facts.loss is not None:
            words = f"loss of {facts.whose}" if facts.whose else "loss"
            self._curve = LossCurve(pen, curve_top, MARGIN, SIDE, facts.cells, facts.loss, words)

            curve_top += LossCurve.HEIGHT
        for words, peak in self._to_count:
            curve_top += _APART_ROWS
            self.histograms.append(Histogram(pen, curve_top, MARGIN, SIDE, words, peak))
            curve_top += Histogram.HEIGHT

        self._bars: list[ColourBar | None] = []
        self._counts: list[Slot] = []
        row = scale_top + 16
        if len(self._parts) == 1:
            self._counts.append(pen.reserve(row, MARGIN, SIDE, SMALL))
            row += height_of(SMALL) + 4
        for text in self._scale_lines:
            pen.write(text, row, MARGIN, SMALL, "muted")
            row += height_of(SMALL)
        if len(self._parts) == 1:
            self._bars.append(ColourBar(pen, row + 4, MARGIN, SIDE))

    def _write_seen(self, one: InputCaption, row: int) -> None:
        pen = self._pen
        if one.size:
            row += one.size[0] + 6
            for place, text in enumerate(wrap(one.words, SMALL, SIDE)):
                if place:
                    pen.write(text, row, MARGIN, SMALL, "muted")
                else:
                    self._pictures.append((pen.reserve(row, MARGIN, SIDE, SMALL), text))
                row += height_of(SMALL)
            row += 4
        indent = max((width_of(f"{word}  ", 13) for word, _ in one.fields), default=0)
        for word, field in one.fields:
            pen.write(word, row + 2, MARGIN, 13, "muted")
            slot = pen.reserve(row + 2, MARGIN + indent, SIDE - indent, 13)
            self._names.append((slot, one, field))
            row += height_of(13) + 2

    def _write_parts(self, top: int, left: int, width: int) -> None:
        self.mosaics_at = []
        for part in self._parts:
            if len(self._parts) > 1:
                self._write_section_head(part, top, left, width)
                top += SECTION_HEAD - 14
            self.mosaics_at.append((top, left))
            self._write_numbers(part, top, left)
            top += part.mosaic.height + 14

    def _write_section_head(self, part: LayerPanel, top: int, left: int, width: int) -> None:
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
