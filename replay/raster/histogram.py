"""A histogram of the maps of a frame, over the range of their color bar."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from replay.raster.palette import Range
from replay.raster.text import fit, height_of, width_of
from replay.raster.widgets import SMALL, Pen

BINS = 64

Shares = npt.NDArray[np.float64]


class Histogram:
    """Bars of equal width over one range, as high as the share of the values in them.

    Args:
        pen: Draws it.
        top: First row.
        left: First column.
        width: Columns.
        label: What the values are of.
        between: Its range in words, to stand below it; empty where a colour bar says it.
        peak: The share of the highest bar that fits; higher ones are cut off.
    """

    PLOT = 64
    HEIGHT = 2 * height_of(SMALL) + 6 + PLOT + 4

    def __init__(
        self, pen: Pen, top: int, left: int, width: int, label: str, between: str, peak: float
    ) -> None:
        up_to = f"up to {_percent(peak)}"
        fitted = fit(label, SMALL, max(label_width(width), width - width_of(up_to, SMALL) - 12))
        pen.write(fitted, top, left, SMALL, "muted")
        pen.write(up_to, top, left + width - width_of(up_to, SMALL), SMALL, "muted")
        self._pen, self._peak = pen, peak
        self._top, self._left, self._width = top + height_of(SMALL) + 6, left, width
        below, free = self._top + self.PLOT + 4, width - width_of(between, SMALL)
        pen.write(between, below, left + free, SMALL, "muted")
        self._outside = pen.reserve(below, left, free - 8 * bool(between), SMALL)
        pen.fill(self._top + self.PLOT, left, 1, width, "faint")
        self._edges = np.rint(np.linspace(1, width - 1, BINS + 1)).astype(int)

    def update(self, shares: Shares | None) -> None:
        """Shows the shares of a frame; nothing where it has none."""
        box = self._pen.plane[self._top : self._top + self.PLOT, self._left :][:, : self._width]
        box[...] = self._pen.palette.paper
        bottom, right = self._top + self.PLOT, self._left + self._width
        self._pen.touched.append((self._top, self._left, bottom, right))
        if shares is None:
            self._pen.refill(self._outside)
            return
        accent = self._pen.palette.solid("accent")
        heights = np.ceil(np.minimum(shares[1:-1] / self._peak, 1.0) * self.PLOT).astype(int)
        for height, start, stop in zip(heights, self._edges[:-1], self._edges[1:], strict=True):
            box[self.PLOT - height :, start : max(start + 1, stop - 1)] = accent
        below, above = float(shares[0]), float(shares[-1])
        parts = [
            f"{_percent(share)} {side}"
            for share, side in ((below, "below"), (above, "above"))
            if share > 0
        ]
        self._pen.refill(self._outside, (", ".join(parts), "muted"))


class Counter:
    """Counts float16 values by their bits."""

    def __init__(self) -> None:
        self._tables: dict[Range, npt.NDArray[np.uint8]] = {}

    def shares(self, maps: npt.NDArray[np.float16], shown: Range) -> Shares:
        """Returns which share of the finite values lies where, float64 (1 + BINS + 1,)."""
        if len(self._tables) > 8:  # each frame has its own range
            self._tables.clear()
        if shown not in self._tables:
            self._tables[shown] = _places(shown)
        places = self._tables[shown].take(np.ascontiguousarray(maps).view(np.uint16))
        counts = np.bincount(places.ravel(), minlength=BINS + 3)[: BINS + 2]
        return counts / max(1, int(counts.sum()))


def label_width(width: int) -> int:
    """Returns the pixels for the label of a histogram of some width, whatever its highest bar."""
    return width - width_of("up to 100 %", SMALL) - 12


def peak_of(sampled: Iterable[Shares]) -> float:
    """Returns a height that three quarters of some frames stay below; 1 without any values."""
    highest = [float(shares[1:-1].max()) for shares in sampled]
    return (float(np.quantile(highest, 0.75)) if highest else 0.0) or 1.0


def _places(shown: Range) -> npt.NDArray[np.uint8]:
    """Returns the part of the range in which each float16 lies, by its bits: uint8 (65536,)."""
    values = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64)
    with np.errstate(invalid="ignore"):
        place = np.floor((values - shown.low) / (shown.high - shown.low) * BINS)
        place[values == shown.high] = BINS - 1
        inside = np.clip(place, -1, BINS) + 1
    return np.where(np.isfinite(values), inside, BINS + 2).astype(np.uint8)


def _percent(share: float) -> str:
    value = 100 * share
    return f"{value:.0f} %" if value >= 9.95 else f"{value:.1f} %" if value >= 0.05 else "<0.1 %"
