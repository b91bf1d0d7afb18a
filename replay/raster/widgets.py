"""What stands around the maps and moves: color bar, loss curve, progress line.

Each is drawn once and brought up to date for every frame by writing into its own box only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from replay.formatting import format_loss, format_number
from replay.raster.palette import Range
from replay.raster.pen import Pen
from replay.raster.text import fit, height_of, width_of

SMALL = 12  # pixels: the smallest text

Numbers = npt.NDArray[np.float64]


class ColorBar:
    """The colormap as a strip, with the values of its ends beneath it (and 0), or beside it.

    Args:
        pen: Draws it.
        top: First row.
        left: First column.
        width: Columns; `WIDTH_BESIDE` where the values stand beside.
        beside: Puts the values beside the strip: one line of text in all.
        entries: The palette's entries to show; those of its colormap by default.
    """

    STRIP = 12
    HEIGHT = STRIP + 4 + height_of(SMALL)
    _STRIP_BESIDE = 120
    WIDTH_BESIDE = _STRIP_BESIDE + 8 + width_of("−1.23e−05 – 1.23e−05", SMALL)

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
            strip, strip_top = self._STRIP_BESIDE, top + 1
            strip_left = left + width - strip
            self._both = pen.reserve(top, left, width - strip - 8, SMALL, "right")
        else:
            below, third = top + self.STRIP + 4, width // 3
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
        low, high = (
            ("low", "high")
            if shown is None
            else (format_number(shown.low), format_number(shown.high))
        )
        if self._beside:
            self._pen.refill(self._both, (f"{low} – {high}", "muted"))
            return
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


class LossCurve:
    """The loss over the whole run, faint, and in the accent color as far as the run has come.

    Args:
        pen: Draws it.
        top: First row.
        left: First column.
        width: Columns.
        cells: (epoch, batch) of every frame of the run, in order.
        loss: The loss at each of them; NaN leaves a gap.
        label: What it is called.
        other: The loss of another run at the same frames, in the same plot: dashed, in the
            palette's second accent.
    """

    PLOT = 120
    HEIGHT = height_of(SMALL) + 6 + PLOT + 6 + height_of(SMALL)

    def __init__(
        self,
        pen: Pen,
        top: int,
        left: int,
        width: int,
        cells: Sequence[tuple[int, int]],
        loss: Numbers,
        label: str = "loss",
        other: Numbers | None = None,
    ) -> None:
        low, high = plain_range(loss if other is None else np.concatenate([loss, other]))
        between = f"{format_loss(low)} – {format_loss(high)}"
        fitted = fit(label, SMALL, width - width_of(between, SMALL) - 12)
        pen.write(fitted, top, left, SMALL, "muted")
        pen.write(between, top, left + width - width_of(between, SMALL), SMALL, "muted")

        self._pen = pen
        self._top, self._left, self._width = top + height_of(SMALL) + 6, left, width
        self._x = 4 + np.arange(len(loss)) * ((width - 9) / max(len(loss) - 1, 1))
        self._places = {cell: place for place, cell in enumerate(cells)}
        box = np.full((self.PLOT, width), pen.palette.paper, np.uint8)
        self._faint, self._accent = box, box.copy()
        self._heights: list[tuple[Numbers, str]] = []
        for curve, tone in ((loss, "accent"), (other, "second")):
            if curve is None:
                continue
            y = 4 + (high - np.clip(curve, low, high)) / max(high - low, 1e-300) * (self.PLOT - 9)
            self._heights.append((y, tone))
            for plane, thick, ink in ((self._faint, 1.25, "faint"), (self._accent, 1.75, tone)):
                coverage = self._curve(y, thick)
                if tone == "second":
                    coverage[:, np.arange(width) % 7 >= 4] = 0
                inked = coverage > 0
                plane[inked] = pen.palette.ink(coverage, ink)[inked]
        y, x = np.mgrid[-4:5, -4:5]
        self._dot = np.hypot(y, x) <= 3.6
        self._now: int | None = None
        self._axis(cells)

    def update(self, epoch: int, batch: int) -> None:
        """Moves the curve's present to a frame."""
        place = self._places[epoch, batch]
        box = self._pen.plane[self._top :, self._left :][: self.PLOT, : self._width]
        box[...] = self._faint
        now = round(self._x[place])
        box[:, : now + 1] = self._accent[:, : now + 1]
        ends = (0, self._width) if self._now is None else sorted((self._now, now))
        first, last = self._left + max(0, ends[0] - 4), self._left + min(self._width, ends[1] + 5)
        self._pen.touched.append((self._top, first, self._top + self.PLOT, last))
        self._now = now
        for heights, tone in self._heights:
            if np.isfinite(heights[place]):
                y = round(float(heights[place]))
                box[y - 4 : y + 5, now - 4 : now + 5][self._dot] = self._pen.palette.solid(tone)

    def _curve(self, y: Numbers, thickness: float, finer: int = 4) -> npt.NDArray[np.uint8]:
        """Returns the whole curve as a plane of coverage."""
        image = Image.new("L", (self._width * finer, self.PLOT * finer), 0)
        draw = ImageDraw.Draw(image)
        finite = np.isfinite(y)
        points = (np.stack([self._x, y], axis=1) + 0.5) * finer
        breaks = np.flatnonzero(np.diff(np.concatenate([[False], finite, [False]]).astype(int)))
        for start, stop in zip(breaks[::2], breaks[1::2], strict=True):
            line = [(float(x), float(y)) for x, y in thinned(points[start:stop])]
            if len(line) == 1:
                line.append((line[0][0] + finer, line[0][1]))
            draw.line(line, fill=255, width=round(thickness * finer), joint="curve")
        return np.array(image.resize((self._width, self.PLOT), Image.Resampling.BOX))

    def _axis(self, cells: Sequence[tuple[int, int]]) -> None:
        """Draws a line with a tick where each epoch (or the run, if it is one) begins."""
        pen, top = self._pen, self._top + self.PLOT
        epochs = [epoch for epoch, _ in cells]
        starts = [i for i, epoch in enumerate(epochs) if i == 0 or epoch != epochs[i - 1]]
        pen.fill(top, self._left, 1, self._width, "faint")
        if len(starts) <= self._width // 8:
            for start in starts:
                pen.fill(top, self._left + round(self._x[start]), 4, 1, "faint")
        several = len(starts) > 1
        ends = (epochs[0], epochs[-1]) if several else (cells[0][1], cells[-1][1])
        first, what, last = str(ends[0]), "epoch" if several else "batch", str(ends[1])
        row = top + 6
        pen.write(first, row, self._left, SMALL, "muted")
        middle = self._left + (self._width - width_of(what, SMALL)) // 2
        pen.write(what, row, middle, SMALL, "muted")
        if len(cells) > 1:
            right = self._left + self._width - width_of(last, SMALL)
            pen.write(last, row, right, SMALL, "muted")


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
        self._places = {cell: place + 1 for place, cell in enumerate(cells)}
        starts = [i for i in range(1, len(cells)) if cells[i][0] != cells[i - 1][0]]
        self._breaks = [round(start * width / len(cells)) for start in starts]
        if len(starts) > width // 8:
            self._breaks = []
        self._paper = pen.palette.paper
        self._end: int | None = None

    def update(self, epoch: int, batch: int) -> None:
        """Moves the line's end to a frame."""
        line = self._pen.plane[self._box]
        done = round(self._places[epoch, batch] * line.shape[1] / len(self._places))
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


def thinned(points: Numbers) -> Numbers:
    """Returns the points of a line that make a difference when it is drawn: four a column at most.

    Of those in one column of pixels the first, the lowest, the highest and the last; what lies
    between them is covered by the line through these.

    Args:
        points: float64 (N, 2), x and y in pixels, x ascending.

    Returns:
        Some or all of them, in their order.

    Source: Jugel et al., M4: A Visualization-Oriented Time Series Data Aggregation (VLDB 2014).
    """
    columns = np.floor(points[:, 0])
    if len(points) <= 4 * (columns[-1] - columns[0] + 1):
        return points
    first = np.flatnonzero(np.diff(columns, prepend=-np.inf))
    last = np.append(first[1:], len(points)) - 1
    by_height = np.lexsort((points[:, 1], columns))  # of each column from the lowest up
    chosen = np.concatenate([first, last, by_height[first], by_height[last]])
    few: Numbers = points[np.unique(chosen)]
    return few


def plain_range(loss: Numbers) -> tuple[float, float]:
    """Returns lowest and highest loss to show; a few extreme ones at the top are cut off."""
    finite = loss[np.isfinite(loss)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    usual = float(np.percentile(finite, 99))
    if high - low > 4 * (usual - low) > 0:
        high = usual
    return (low, high) if high > low else (low - 0.5, low + 0.5)
