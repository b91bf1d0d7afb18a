"""The curve of the loss over a run."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from replay.formatting import format_loss
from replay.raster.text import fit, height_of, width_of
from replay.raster.time_axis import TimeAxis
from replay.raster.widgets import SMALL, Pen

Numbers = npt.NDArray[np.float64]


class LossCurve:
    """The loss over the whole run, faint, and in the accent color as far as the run has come.

    Where epochs or batches are missing, and where the loss is not finite, the curve has a gap.

    Args:
        pen: Draws it.
        top: First row.
        left: First column.
        width: Columns.
        cells: (epoch, batch) of every frame of the run, in order.
        loss: The loss at each of them.
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
        every = loss if other is None else np.concatenate([loss, other])
        low, high = plain_range(every)
        between = ends_in_words(every)
        fitted = fit(label, SMALL, width - width_of(between, SMALL) - 12)
        pen.write(fitted, top, left, SMALL, "muted")
        pen.write(between, top, left + width - width_of(between, SMALL), SMALL, "muted")

        self._pen = pen
        self._top, self._left, self._width = top + height_of(SMALL) + 6, left, width
        axis = TimeAxis(cells)
        self._x, self._gaps = 4 + axis.places * (width - 9), axis.gaps
        self._cells = cells
        box = np.full((self.PLOT, width), pen.palette.paper, np.uint8)
        self._faint, self._accent = box, box.copy()
        self._heights: list[tuple[Numbers, str]] = []
        for curve, tone in ((loss, "accent"), (other, "second")):
            if curve is None:
                continue
            within = np.where(np.isfinite(curve), np.clip(curve, low, high), np.nan)
            y = 4 + (high - within) / max(high - low, 1e-300) * (self.PLOT - 9)
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
        place = bisect.bisect_left(self._cells, (epoch, batch))
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
        points = (np.stack([self._x, y], axis=1) + 0.5) * finer
        for start, stop in stretches(np.isfinite(y), self._gaps):
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
        for after in np.flatnonzero(self._gaps):
            left, right = round(self._x[after - 1]) + 1, round(self._x[after])
            pen.plane[top, self._left + left : self._left + right] = pen.palette.paper
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


def stretches(finite: npt.NDArray[np.bool_], gaps: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Returns the first place of each line that a curve consists of, and that behind its last.

    Args:
        finite: Whether there is a value, bool (frames,).
        gaps: Whether frames are missing before each one, bool (frames,).
    """
    begins = finite & (gaps | ~np.append(False, finite[:-1]))
    ends = finite & (np.append(gaps[1:], True) | ~np.append(finite[1:], False))
    first, last = np.flatnonzero(begins).tolist(), np.flatnonzero(ends).tolist()
    return [(start, stop + 1) for start, stop in zip(first, last, strict=True)]


def ends_in_words(loss: Numbers) -> str:
    """Returns what the least and the greatest loss are, or the one that there is."""
    finite = loss[np.isfinite(loss)]
    if not finite.size:
        return "not finite"
    if finite.min() == finite.max():
        return format_loss(float(finite[0]))
    low, high = plain_range(loss)
    return f"{format_loss(low)} – {format_loss(high)}"


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
