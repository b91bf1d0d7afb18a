"""float16 values to the levels of a colormap, under one explicit value range.

A float16 has 65,536 bit patterns, so a range is turned into a table with one level for each:
scaling a frame is then a single look-up, exact, and NaN and infinity get levels of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from replay.maps.axes import JointMaps, Source, as_source, select_channels
from replay.maps.selection import spread
from replay.options import SCALES
from replay.raster.palette import Range
from replay.recording.series import Series
from replay.schema import OptionError

PERCENTILES = (0.5, 99.5)  # what a robust range leaves out at each end, in percent of the values

Levels = npt.NDArray[np.uint8]
Values: TypeAlias = "npt.NDArray[np.floating[Any]]"

_SAMPLED_FRAMES = 48
_SAMPLED_VALUES = 4_000_000
_AT_ONCE = 1 << 17  # values counted at a time: what numpy makes of them stays in the caches


class Scaler:
    """Scales the frames of one layer; `levels(epoch, batch, maps)` -> uint8, of their shape.

    Level 0 stands for values up to `low`, level `count - 1` for values from `high`, and in
    between `round((value - low) / (high - low) * (count - 1))`. NaN has the level `count`,
    either infinity `count + 1`.

    Args:
        series: The layer, or what else its values come from.
        frames: The frames that will be shown; the ranges are those of their values.
        channels: The channels that will be shown.
        mode: `run` (one range for all frames and channels), `epoch` (one for each epoch), `frame`
            (each frame its own) or `channel` (each channel its own, for all frames).
        clip: An explicit (low, high) instead of a measured one.
        symmetric: Widens each range to be symmetric around zero.
        count: Levels of the colormap, 2 to 254.

    Raises:
        OptionError: An unknown mode, or a clip whose low is not below its high.

    Attributes:
        words: What the range is, in the words of a caption.
    """

    def __init__(
        self,
        series: Series | Source,
        frames: Sequence[tuple[int, int]],
        channels: Sequence[int],
        mode: str = "run",
        clip: tuple[float, float] | None = None,
        symmetric: bool = False,
        count: int = 240,
    ) -> None:
        if mode not in SCALES:
            raise OptionError(f"unknown scale {mode!r}; expected one of {', '.join(SCALES)}")
        if clip is not None and not (
            len(clip) == 2 and np.isfinite(clip).all() and clip[0] < clip[1]
        ):
            found = ",".join(f"{end:g}" for end in clip)
            raise OptionError(f"clip {found}: expected two finite values LO,HI with LO below HI")
        self.mode = "run" if clip is not None else mode
        self.count = count
        self._source = as_source(series)
        self._frames = list(frames)
        self._channels = list(channels)
        self._symmetric = symmetric
        self._clip = clip
        self._tables: dict[int, npt.NDArray[np.uint8]] = {}
        self._ranges: dict[int, Range] = {}
        self.words = _WORDS[self.mode] if clip is None else "clipped to the range asked for"
        if symmetric:
            self.words += ", symmetric around 0"
        if isinstance(self._source, JointMaps) and self._source.several:
            self.words += ", the same for all recordings"
        if clip is not None:
            self._ranges[0] = self._finish(Range(*clip))

    def __getstate__(self) -> dict[str, object]:
        """Measures what other processes need, once, before it is sent to them."""
        if self.mode == "run" and self._frames:
            self._range_of_all(0)
        elif self.mode == "channel":
            self.channel_range(0)
        return self.__dict__

    def levels(self, epoch: int, batch: int, maps: npt.NDArray[np.float16]) -> Levels:
        """Returns the levels of one frame's chosen channels.

        Args:
            epoch: The frame's epoch.
            batch: The frame's batch.
            maps: float16 (C, ...), the channels chosen.

        Returns:
            uint8 (C, ...).
        """
        bits = np.ascontiguousarray(maps).view(np.uint16)
        # All 65,536 have an entry: with `wrap` numpy need not look for one that has none.
        if self.mode != "channel":
            return self._table(epoch, batch, maps).take(bits, mode="wrap")
        levels = np.empty(bits.shape, np.uint8)
        for place in range(len(bits)):
            if place not in self._tables:
                self._tables[place] = table(self.channel_range(place), self.count)
            self._tables[place].take(bits[place], out=levels[place], mode="wrap")
        return levels

    def range_of(self, epoch: int, batch: int, maps: npt.NDArray[np.float16]) -> Range | None:
        """Returns the range under which a frame is shown; None where each channel has its own."""
        if self.mode == "channel":
            return None
        if self.mode == "frame":
            if isinstance(self._source, JointMaps) and self._source.several:
                maps = select_channels(self._source[epoch, batch], self._channels)
            return self._finish(_robust(maps))
        return self._range_of_all(epoch)

    def channel_range(self, place: int) -> Range:
        """Returns the range of a channel, by its place in the selection, in the mode `channel`."""
        if not self._ranges:
            for each, values in enumerate(self._sample(self._frames)):
                self._ranges[each] = self._finish(_robust(values))
        return self._ranges[place]

    def _table(
        self, epoch: int, batch: int, maps: npt.NDArray[np.float16]
    ) -> npt.NDArray[np.uint8]:
        chosen = self.range_of(epoch, batch, maps)
        assert chosen is not None
        if self.mode == "frame":
            return table(chosen, self.count)
        key = epoch if self.mode == "epoch" else 0
        if key not in self._tables:
            self._tables[key] = table(chosen, self.count)
        return self._tables[key]

    def _range_of_all(self, epoch: int) -> Range:
        """Returns the range of all frames, or of those of an epoch, and measures it at first."""
        key = epoch if self.mode == "epoch" else 0
        if key not in self._ranges:
            of_these = [cell for cell in self._frames if self.mode == "run" or cell[0] == epoch]
            self._ranges[key] = self._finish(_robust(self._sample(of_these)))
        return self._ranges[key]

    def _finish(self, measured: Range) -> Range:
        if self._symmetric:
            reach = max(abs(measured.low), abs(measured.high))
            measured = Range(-reach, reach) if reach > 0 else Range(-1.0, 1.0)
        if measured.high <= measured.low:  # a constant, such as a dead layer: the lowest level
            measured = Range(measured.low, measured.low + 1.0)
        return measured

    def _sample(self, frames: Sequence[tuple[int, int]]) -> Values:
        """Returns values of the chosen channels of some frames, of their type, (C, values)."""
        chosen = spread(frames, _SAMPLED_FRAMES)
        parts: list[Values] = [np.empty((len(self._channels), 0), np.float16)]
        for epoch, batch in chosen:
            maps = select_channels(self._source[epoch, batch], self._channels)
            values = maps.reshape(len(maps), -1)
            step = -(-values.size * len(chosen) // _SAMPLED_VALUES)
            while math.gcd(step, maps.shape[-1]) > 1:  # so that no column of pixels is favoured
                step += 1
            parts.append(values[:, ::step].copy())
        return np.concatenate(parts[1:] or parts, axis=1)


_WORDS = {
    "run": "one scale for the whole run",
    "epoch": "one scale for each epoch",
    "frame": "each frame on its own scale",
    "channel": "each channel on its own scale",
}


def table(chosen: Range, count: int) -> npt.NDArray[np.uint8]:
    """Returns the level of every float16, by its bit pattern: uint8 (65536,)."""
    values = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64)
    with np.errstate(invalid="ignore"):
        place = (values - chosen.low) / (chosen.high - chosen.low) * (count - 1)
        levels = np.clip(np.rint(place), 0, count - 1)
    levels[np.isnan(values)] = count
    levels[np.isinf(values)] = count + 1
    return levels.astype(np.uint8)


def _robust(values: Values) -> Range:
    """Returns the range of the middle 99 % of the finite values; of all if that were one value."""
    if values.dtype == np.float16:
        finite, least, most = _percentiles(values.view(np.float16))
    else:
        some = values[np.isfinite(values)]
        finite = np.percentile(some, PERCENTILES).tolist() if some.size else []
        least, most = (float(some.min()), float(some.max())) if some.size else (0.0, 1.0)
    if not finite or finite[0] == finite[1]:
        return Range(least, most)
    return Range(*finite)


def _percentiles(values: npt.NDArray[np.float16]) -> tuple[list[float], float, float]:
    """Returns `numpy.percentile` of the finite values, by counting: far faster than by sorting.

    Returns:
        The percentiles, none of no values; the least and the greatest value, or 0 and 1.
    """
    bits = np.ascontiguousarray(values).view(np.uint16).ravel()
    counts = np.zeros(1 << 16, np.intp)
    for start in range(0, len(bits), _AT_ONCE):
        counts += np.bincount(bits[start : start + _AT_ONCE], minlength=1 << 16)
    upto = counts[_ASCENDING].cumsum()
    count = int(upto[-1])
    if not count:
        return [], 0.0, 1.0

    def at(place: int) -> float:
        return float(_FINITE[np.searchsorted(upto, place, side="right")])

    found = []
    for percent in PERCENTILES:
        place = (count - 1) * (percent / 100)
        low, high = at(math.floor(place)), at(min(math.floor(place) + 1, count - 1))
        part = place - math.floor(place)
        found.append(low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part))
    return found, at(0), at(count - 1)


# The bits of all finite float16 from the lowest up, and their values; of both zeros the usual one.
_INFINITE, _SIGN = 0x7C00, 0x8000
_ASCENDING = np.concatenate(
    [np.arange(_INFINITE - 1, -1, -1) | _SIGN, np.arange(_INFINITE)]
).astype(np.uint16)
_FINITE = _ASCENDING.view(np.float16) + np.float16(0)
