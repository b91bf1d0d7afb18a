"""Ranges that are as steady as the image is: each map legible, and its strength still told.

A range for the whole run hides the maps of a layer that grows, or whose
channels differ in strength; a range for each map of each frame shows noise as if it were a
feature, and flickers. In between lies what is measured here: each map on its own 1st to 99th
percentile, smooth in time where frame after frame shows the same image, and never magnified more
than `MAGNIFIED` times against what its channel has about that time. What such a range hides, how
strong a channel is, is its gain: the range against the largest of the layer in the whole run.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from replay.maps import percentiles as of_maps
from replay.maps.axes import Maps, select_channels
from replay.maps.extremes import Extremes, RecordedExtremes, greatest_around, read_frame
from replay.maps.percentiles import PERCENTILES, Bounds, Measured, steady, widening
from replay.schema import Cell

MAGNIFIED = 8.0
"""How many times a map is magnified at most against the widest range of its channel nearby."""

AROUND = 4
"""Frames before and behind, over which the percentiles of an image that stays are averaged."""

FAINT = 1e-3
"""Up to this share of the layer's largest range a channel is faint, and shown as flat."""

_Ends: TypeAlias = "npt.NDArray[np.floating[Any]]"
_Channels: TypeAlias = "npt.NDArray[np.float64]"

_REMEMBERED = 16 * (2 * AROUND + 1)  # frames of which percentiles are kept
_FARTHEST = 1024  # frames before and behind at most, so that memory stays flat in a long epoch
_AT_ONCE = 256  # frames whose ends are read at a time, at least,
_VALUES_AT_ONCE = 1 << 17  # and as many more as have so few ends


@dataclass(frozen=True)
class Shown:
    """How the channels of one frame are shown.

    Attributes:
        bounds: float64 (C, 2), the range of each channel.
        gain: float64 (C,), the width of that range as a share, 0 to 1, of the layer's largest.
        constant: bool (C,), maps that hold one value only.
        faint: bool (C,), channels whose range is at most `FAINT` of the layer's, about that time.
    """

    bounds: Bounds
    gain: npt.NDArray[np.float64]
    constant: npt.NDArray[np.bool_]
    faint: npt.NDArray[np.bool_]

    @property
    def flat(self) -> npt.NDArray[np.bool_]:
        """The channels of which there is nothing to see, bool (C,)."""
        return self.constant | self.faint


@dataclass(frozen=True)
class _Block:
    """What is known of some consecutive frames, each (frames, C).

    Attributes:
        first: The place of the first.
        own: The width of each map; 0 where it has no value.
        widest: The greatest width nearby.
        lowest: The least value nearby; infinite where there is none.
        highest: The greatest value nearby; minus infinity where there is none.
        known: Whether the map has a finite value.
    """

    first: int
    own: _Channels
    widest: _Channels
    lowest: _Channels
    highest: _Channels
    known: npt.NDArray[np.bool_]


class AdaptiveRanges:
    """The ranges of a layer's channels, frame by frame.

    Args:
        extremes: The ends of every map of the layer, for each frame in the order of epochs and
            batches. Read in pieces, so that memory does not grow with the number of frames.
        epochs: The epoch of each of those frames; "about an epoch" is told from it.
        channels: The channels that are shown; all by default.
        magnified: How many times a map is magnified at most; infinite for no limit, by which no
            map is flat for being faint.
        symmetric: Widens each range to be symmetric around zero.

    Attributes:
        largest: The largest range that any map of the layer has in the run.
    """

    def __init__(
        self,
        extremes: Extremes,
        epochs: npt.ArrayLike,
        channels: Sequence[int] | None = None,
        *,
        magnified: float = MAGNIFIED,
        symmetric: bool = False,
    ) -> None:
        self._extremes = extremes
        self._channels = slice(None) if channels is None else list(channels)
        self._magnified, self._symmetric = magnified, symmetric
        per_epoch = np.unique(np.asarray(epochs), return_counts=True)[1]
        half = math.ceil(float(np.median(per_epoch)) / 2) if len(per_epoch) else 0
        self._reach = min(max(half, AROUND), _FARTHEST)
        self._block: _Block | None = None
        self.largest, low, high = 0.0, math.inf, -math.inf
        start, count = 0, _AT_ONCE
        while start < len(extremes):
            found = extremes[start : start + count]
            start, count = start + count, max(_AT_ONCE, _VALUES_AT_ONCE // max(1, found[0].size))
            lows, highs, _ = _ends_of(found)
            self.largest = max(self.largest, float(_widths(lows, highs).max(initial=0.0)))
            low = min(low, float(lows.min(initial=math.inf)))
            high = max(high, float(highs.max(initial=-math.inf)))
        low = low if low <= high else 0.0
        self._ends = (low, high if low < high else low + 1.0)
        if symmetric:
            reach = max(map(abs, self._ends))
            self._ends = (-reach, reach)

    def show(self, place: int, percentiles: Bounds, widening: float = 1.0) -> Shown:
        """Returns how a frame is shown.

        Args:
            place: The frame's place in the order of epochs and batches.
            percentiles: float64 (C, 2), what `percentiles_of` gives for the maps that are shown;
                where the image stays, the mean of the frames around, as `steady` gives it.
            widening: By how much they lie farther apart than the map's own; its gain does not tell.
        """
        block = self._find(place)
        row = place - block.first
        widest, known = block.widest[row], block.known[row]
        low, high = np.where(np.isnan(percentiles), 0.0, percentiles).T
        least = widest / self._magnified
        narrow = high - low < least
        # What is too narrow is widened around its middle, but not beyond what the channel has:
        # a map that is zero nearly everywhere, as behind a ReLU, stays dark.
        bottom = block.lowest[row]
        top = np.where(np.isfinite(bottom), block.highest[row] - least, 0.0)
        bottom = np.where(np.isfinite(bottom), bottom, 0.0)
        low = np.where(
            narrow, np.clip((low + high - least) / 2, bottom, np.maximum(bottom, top)), low
        )
        high = np.where(narrow, low + least, high)
        if self._symmetric:
            high = np.maximum(np.abs(low), np.abs(high))
            low = -high
        constant = known & (block.own[row] <= 0)
        faint = known & ~constant & (widest <= self.largest * FAINT)
        width = high - low
        # Without a limit a faint map is shown like any other, and only said to be faint.
        hidden = faint & math.isfinite(self._magnified)
        flat = constant | hidden | (width <= 0)
        bounds = np.where(flat[:, None], self._ends, np.stack([low, high], axis=1))
        strength = width / widening
        gain = np.minimum(strength / self.largest, 1.0) if self.largest > 0 else 0.0 * width
        return Shown(bounds, np.where(constant | ~known, 0.0, gain), constant, faint)

    def _find(self, place: int) -> _Block:
        """Returns a block that has a frame, and reads it if it is not the last one."""
        size = 2 * self._reach + 1
        first = place // size * size
        if self._block is None or self._block.first != first:
            start = max(0, first - self._reach)
            found = np.asarray(self._extremes[start : first + size + self._reach])
            lows, highs, known = _ends_of(found[:, self._channels])
            widths = _widths(lows, highs)
            own = slice(first - start, first - start + size)
            self._block = _Block(
                first,
                widths[own],
                greatest_around(widths, self._reach)[own],
                -greatest_around(-lows, self._reach)[own],
                greatest_around(highs, self._reach)[own],
                known[own],
            )
        return self._block


class OwnRanges:
    """The range of each map of a recorded layer, on which it is shown by itself.

    What is shown at a frame depends on the recording alone, not on which of its frames are asked
    for, so that a film, a figure and a page agree.

    Args:
        maps: The layer.
        channels: The channels that are shown.
        mode: `adaptive`, or `map` for the least and the greatest value of each map.
        symmetric: Widens each range to be symmetric around zero.
        trailing: Whether ranges are told from the frames before only, as while a run goes on.

    Attributes:
        stays: Whether frame after frame shows the same image, nearly everywhere.
    """

    def __init__(
        self,
        maps: Maps,
        channels: Sequence[int],
        mode: str,
        symmetric: bool = False,
        trailing: bool = False,
    ) -> None:
        self._maps, self._channels, self._trailing = maps, list(channels), trailing
        frames = self._frames = maps.series.frames
        at = np.array(frames, np.int64).reshape(-1, 2)
        plain = mode == "map"
        self._percents = (0.0, 100.0) if plain else PERCENTILES
        images = maps.series.image_numbers[tuple(at.T)] if frames else np.zeros(0)
        self._images = np.zeros(len(frames)) if plain else images
        same = (self._images[1:] == self._images[:-1]) & (self._images[1:] != 0)
        self.stays = bool(same.mean() > 0.5) if same.size else False
        self._averages = bool(same.any())
        self._ranges = AdaptiveRanges(
            RecordedExtremes(maps, frames),
            at[:, 0],
            self._channels,
            magnified=math.inf if plain else getattr(maps.series, "magnified", MAGNIFIED),
            symmetric=symmetric,
        )
        self._known: dict[Cell, Measured] = {}
        self._last: tuple[Cell, Shown] | None = None  # asked for by levels, and by gain bars

    def __contains__(self, cell: Cell) -> bool:
        place = self._place(cell)
        return place < len(self._frames) and self._frames[place] == cell

    @property
    def largest(self) -> float:
        """The largest range that any map of the layer has in the run."""
        return self._ranges.largest

    def measure(self, cell: Cell, maps: npt.NDArray[np.float16]) -> None:
        """Notes a frame that was read anyway, so that it is not read again.

        Args:
            cell: Its (epoch, batch).
            maps: float16 (C, ...), the channels that are shown, in full size.
        """
        if cell not in self._known:
            while len(self._known) >= _REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[cell] = Measured.of(maps, self._percents, self._averages)

    def show(self, cell: Cell) -> Shown:
        """Returns how the maps of a frame are shown."""
        if self._last is None or self._last[0] != cell:
            place = self._place(cell)
            goes_on = self._last is not None and self._place(self._last[0]) + 1 == place
            if not goes_on:
                self._maps.forget()
            around = self._around(place)
            measured = [
                self._measured(self._frames[each], goes_on and each > place) for each in around
            ]
            percentiles = steady(measured, place - around.start)
            wider = widening(measured[0].values) if len(measured) > 1 else 1.0
            self._last = cell, self._ranges.show(place, percentiles, wider)
        return self._last[1]

    def _place(self, cell: Cell) -> int:
        return bisect.bisect_left(self._frames, cell)

    def _around(self, place: int) -> range:
        """Returns the places of the frames around that show the same image, one after the other."""
        before, behind = (2 * AROUND, 0) if self._trailing else (AROUND, AROUND)
        image = self._images[place]
        first = last = place
        while image and place - first < before and first and self._images[first - 1] == image:
            first -= 1
        end = len(self._frames) - 1
        while image and last - place < behind and last < end and self._images[last + 1] == image:
            last += 1
        return range(first, last + 1)

    def _measured(self, cell: Cell, keep: bool) -> Measured:
        """Returns what is known of a frame; if it is read for that, it may be kept for later."""
        if cell not in self._known:
            maps = read_frame(self._maps, cell, keep)
            self.measure(cell, select_channels(maps, self._channels))
        return self._known[cell]


def scale_channels(
    maps: npt.NDArray[np.float16], bounds: Bounds, count: int
) -> npt.NDArray[np.uint8]:
    """Scales each channel from its own range to levels.

    Args:
        maps: float16 (C, ...).
        bounds: float64 (C, 2), low below high.
        count: Levels of the colormap, 2 to 254.

    Returns:
        uint8 of the maps' shape, 0 to count - 1; `count` for NaN, `count + 1` for infinity.
    """
    per_channel = (-1, *[1] * (maps.ndim - 1))
    low = bounds[:, 0].astype(np.float32).reshape(per_channel)
    factor = (count - 1) / (bounds[:, 1] - bounds[:, 0])
    factor = np.minimum(factor, np.finfo(np.float32).max / 4).astype(np.float32)
    values, finite = of_maps.as_float32(maps)
    with np.errstate(invalid="ignore", over="ignore"):
        values -= low
        values *= factor.reshape(per_channel)
    np.rint(values, out=values)
    np.clip(values, 0, count - 1, out=values)
    if not finite:
        values[np.isnan(maps)] = count
        values[np.isinf(maps)] = count + 1
    return values.astype(np.uint8)


def _ends_of(extremes: _Ends) -> tuple[_Channels, _Channels, npt.NDArray[np.bool_]]:
    """Returns least and greatest values, (frames, C), and where there are any.

    Infinity and minus infinity stand where there are none.
    """
    known = np.asarray(np.isfinite(extremes).all(axis=2))
    ends = np.asarray(extremes, np.float64)
    return np.where(known, ends[..., 0], np.inf), np.where(known, ends[..., 1], -np.inf), known


def _widths(lows: _Channels, highs: _Channels) -> _Channels:
    """Returns highs less lows, 0 where there are none."""
    return np.where(highs >= lows, highs, 0.0) - np.where(highs >= lows, lows, 0.0)
