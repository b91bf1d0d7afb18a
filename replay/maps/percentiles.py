"""Percentiles of float16 values, of one map each or of many together, and ranges from them."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from replay.maps.order_statistics import ALL_BUT_SIGN, Keys, keys_of, order_statistics
from replay.raster.palette import Range

PERCENTILES = (1.0, 99.0)
"""What a map's own range leaves out at each end, in percent of its finite values."""

ROBUST = (0.5, 99.5)
"""What a range of many maps leaves out at each end, in percent of their finite values."""

Bounds = npt.NDArray[np.float64]
"""The low and the high end of the range of each channel, float64 (C, 2)."""

Values: TypeAlias = "npt.NDArray[np.floating[Any]]"

FEW = 100
"""Of fewer values the 1st and the 99th percentile are little else than the two extremes."""

_MOST_WIDENED = 1.5  # so that maps of four values stay legible, too
_AT_ONCE = 1 << 17  # values counted at a time: what numpy makes of them stays in the caches
_FLOAT32 = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
_SIGN_AND_REST = np.int32(-0x70002000)  # of float32, the bits that a float16 fills
_BIAS = np.float32(2.0**112)  # between the exponents of float16 and of float32
_LEAST, _LEAST_BITS = np.float32(2.0**-24), np.array([1 << 13], np.int32)  # of float16
_KEY_OF_INFINITY = np.int16(0x7C00)  # keys of finite values lie between these two
_KEY_OF_MINUS_INFINITY = np.int16(-0x7C01)


def percentiles_of(
    maps: npt.NDArray[np.float16], percents: tuple[float, float] = PERCENTILES
) -> Bounds:
    """Returns two percentiles, the 1st and the 99th, of the finite values of each map.

    The percentiles are those of `numpy.percentile` (linear between two values). They are found by
    sorting the bits of float16, in an order in which they ascend as the values do.

    Args:
        maps: float16 (C, ...).
        percents: Which ones, 0 to 100.

    Returns:
        float64 (C, 2); NaN for a map without a finite value.
    """
    size = math.prod(maps.shape[1:])
    bits = np.ascontiguousarray(maps).view(np.int16).reshape(len(maps), size)
    keys = keys_of(bits)
    found = np.full((len(maps), 2), np.nan)
    if not keys.size:
        return found
    if keys.max() < _KEY_OF_INFINITY and keys.min() > _KEY_OF_MINUS_INFINITY:
        return _percentiles(keys, percents)
    for channel, row in enumerate(keys):
        finite = row[(row < _KEY_OF_INFINITY) & (row > _KEY_OF_MINUS_INFINITY)]
        if finite.size:
            found[channel] = _percentiles(finite[None], percents)[0]
    return found


def _percentiles(keys: Keys, percents: tuple[float, float]) -> Bounds:
    """Returns the percentiles of each row of keys, float64 (rows, 2)."""
    last = keys.shape[1] - 1
    places = [last * percent / 100 for percent in percents]
    below = [int(place) for place in places]
    above = [min(place + 1, last) for place in below]
    at = order_statistics(keys, np.array([below, above]).T.ravel())
    low, next_low, high, next_high = _values(at).T
    ends = [
        one * (1 - (place - first)) + other * (place - first)
        for one, other, place, first in zip(
            (low, high), (next_low, next_high), places, below, strict=True
        )
    ]
    return np.stack(ends, axis=1)


def _values(keys: Keys) -> npt.NDArray[np.float64]:
    """Returns the values that have these keys, float64 of their shape."""
    bits: Keys = keys ^ ((keys >> 15) & ALL_BUT_SIGN)
    return bits.view(np.float16).astype(np.float64)


def as_float32(values: npt.NDArray[np.float16]) -> tuple[npt.NDArray[np.float32], bool]:
    """Returns float16 values as a new array of float32, and whether all are finite.

    Finite ones are made by moving their bits and multiplying, others looked up: a fifth of the
    time of numpy's conversion, and less than half of it.
    """
    bits = np.ascontiguousarray(values).view(np.int16)
    finite = bool((bits & ALL_BUT_SIGN).max(initial=0) < _KEY_OF_INFINITY)
    # Where a library has the processor take small numbers for 0, the product is wrong.
    if not finite or _LEAST_BITS.view(np.float32)[0] * _BIAS != _LEAST:
        found = _FLOAT32.take(bits.view(np.uint16), mode="wrap")  # no index can be too large
        return found, finite
    wide = bits.astype(np.int32)
    wide <<= 13  # the sign now fills four bits
    wide &= _SIGN_AND_REST
    found = wide.view(np.float32)
    found *= _BIAS
    return found, finite


def moments_of(maps: npt.NDArray[np.float16]) -> npt.NDArray[np.float64]:
    """Returns mean and standard deviation of the finite values of each map.

    Args:
        maps: float16 (C, ...).

    Returns:
        float64 (C, 2); 0 and 0 for a map without a finite value.
    """
    values, finite = as_float32(maps.reshape(len(maps), math.prod(maps.shape[1:])))
    if finite and values.shape[1]:
        mean = values.mean(axis=1)
        values -= mean[:, None]
        deviation = np.sqrt(np.square(values, out=values).mean(axis=1))
    else:
        known = np.isfinite(values)
        count = np.maximum(known.sum(axis=1), 1)
        mean = np.where(known, values, 0).sum(axis=1) / count
        apart = np.where(known, np.where(known, values, 0) - mean[:, None], 0)
        deviation = np.sqrt(np.square(apart).sum(axis=1) / count)
    return np.stack([mean, deviation], axis=1).astype(np.float64)


def robust_range(values: Values) -> Range:
    """Returns the range of the middle 99 % of the finite values; of all if that were one value.

    Both ends are that value where there is but one, and NaN where there is none.
    """
    if values.dtype == np.float16:
        finite, least, most = _counted_percentiles(values.view(np.float16))
    else:
        some = values[np.isfinite(values)]
        finite = np.percentile(some, ROBUST).tolist() if some.size else []
        least, most = (float(some.min()), float(some.max())) if some.size else (math.nan, math.nan)
    if not finite or finite[0] == finite[1]:
        return Range(least, most)
    return Range(finite[0], finite[1])


def _counted_percentiles(values: npt.NDArray[np.float16]) -> tuple[list[float], float, float]:
    """Returns `numpy.percentile` of the finite values, by their bits: far faster than by sorting.

    Returns:
        The percentiles, none of no values; the least and the greatest value, or NaN.
    """
    bits = np.ascontiguousarray(values).view(np.uint16).reshape(-1)
    if len(bits) < _FEW:
        return _ranked_percentiles(keys_of(bits.view(np.int16)))
    counts = np.zeros(1 << 16, np.intp)
    for start in range(0, len(bits), _AT_ONCE):
        counts += np.bincount(bits[start : start + _AT_ONCE], minlength=1 << 16)
    upto = counts[_ASCENDING].cumsum()
    count = int(upto[-1])
    if not count:
        return [], math.nan, math.nan
    places, parts = _ranks(count)
    at = _FINITE[np.searchsorted(upto, [0, *places, count - 1], side="right")].tolist()
    return _between(at[1:5], parts), at[0], at[5]


def _ranked_percentiles(keys: Keys) -> tuple[list[float], float, float]:
    """Returns what `_counted_percentiles` does, of keys that are few enough to be ranked sooner."""
    low, high = (keys.min(), keys.max()) if keys.size else (np.int16(0), np.int16(0))
    if high >= _KEY_OF_INFINITY or low <= _KEY_OF_MINUS_INFINITY:
        keys = keys[(keys < _KEY_OF_INFINITY) & (keys > _KEY_OF_MINUS_INFINITY)]
    if not keys.size:
        return [], math.nan, math.nan
    places, parts = _ranks(keys.size)
    ranked = order_statistics(keys[None], np.array(places))[0]
    ends = np.array([keys.min(), keys.max()])
    at = (_values(np.concatenate([ranked, ends])) + 0.0).tolist()  # of both zeros the usual one
    return _between(at[:4], parts), at[4], at[5]


def _ranks(count: int) -> tuple[list[int], list[float]]:
    """Returns the ranks around each end of a range of so many values, and the parts between."""
    exact = [(count - 1) * (percent / 100) for percent in ROBUST]
    below = [math.floor(place) for place in exact]
    places = [rank for low in below for rank in (low, min(low + 1, count - 1))]
    return places, [place - low for place, low in zip(exact, below, strict=True)]


def _between(at: list[float], parts: list[float]) -> list[float]:
    """Returns the values a part of the way from one to the next, as numpy rounds them."""
    return [
        low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part)
        for low, high, part in zip(at[::2], at[1::2], parts, strict=True)
    ]


_FEW = 1 << 18  # values; of more it is quicker to count

# The bits of all finite float16 from the lowest up, and their values; of both zeros the usual one.
_INFINITE = 0x7C00
_ASCENDING = np.concatenate(
    [np.arange(_INFINITE - 1, -1, -1) | 0x8000, np.arange(_INFINITE)]
).astype(np.uint16)
_FINITE = _ASCENDING.view(np.float16) + np.float16(0)


@dataclass(frozen=True)
class Measured:
    """What is known of the maps of one frame.

    Attributes:
        percentiles: float64 (C, 2), as `percentiles_of` gives them.
        moments: float64 (C, 2), as `moments_of` gives them.
        values: How many values each map has.
    """

    percentiles: Bounds
    moments: npt.NDArray[np.float64]
    values: int

    @functools.cached_property
    def relative(self) -> Bounds:
        """The percentiles, `widened`, in units of each map's own mean and deviation; 0 of none."""
        mean, deviation = self.moments[:, 0, None], self.moments[:, 1, None]
        apart = widened(self.percentiles, self.values) - mean
        return np.where(deviation > 0, apart / np.where(deviation > 0, deviation, 1.0), 0.0)

    @classmethod
    def of(
        cls, maps: npt.NDArray[np.float16], percents: tuple[float, float], averaged: bool
    ) -> Measured:
        """Returns what is known of a frame, its moments only if it is averaged with others.

        Args:
            maps: float16 (C, ...).
            percents: Which percentiles.
            averaged: Whether moments are asked for.
        """
        moments = moments_of(maps) if averaged else np.zeros((0, 2))
        return cls(percentiles_of(maps, percents), moments, math.prod(maps.shape[1:]))


def widening(values: int) -> float:
    """Returns by how much the range of an image that stays is widened in maps of few values.

    The 1st and the 99th percentile of few values lie closer together than those of what the values
    were drawn from: of 16 normal ones by a factor of 1.37 in the mean, which 1 + 6 / 16 meets
    within 1 %, as 1 + 6 / n does for 8 to 100 values within 5 %. On so close a range each of the
    few values moves between black and white, and the picture moves more than the image does.
    """
    return min(1 + 6 / values, _MOST_WIDENED) if 1 < values < FEW else 1.0


def widened(percentiles: Bounds, values: int) -> Bounds:
    """Returns the 1st and the 99th percentile that a map of few values would have, had it many.

    The range is wider by the factor `widening`. An end that is exactly 0 is kept: what lies behind
    a ReLU has nothing below, and its zero stays dark.

    Args:
        percentiles: float64 (..., 2).
        values: How many values a map has; of `FEW` or more nothing changes.

    Returns:
        float64 (..., 2).
    """
    if (factor := widening(values)) == 1:
        return percentiles
    low, high = percentiles[..., 0], percentiles[..., 1]
    more = (high - low) * (factor - 1)
    below = np.where(low == 0, 0.0, np.where(high == 0, more, more / 2))
    return np.stack([low - below, high + more - below], axis=-1)


def steady(measured: Sequence[Measured], own: int) -> Bounds:
    """Returns the percentiles of a frame, averaged with those of frames around of the same image.

    The mean is that of percentiles in units of each map's own mean and deviation: a map that only
    grows has the same in every frame, so that its picture stays as it is however fast it grows,
    while what percentiles have of chance is averaged out. Those of maps of few values are `widened`
    before. Maps that are constant, or have no finite value, are left out.

    Args:
        measured: What was measured of the frames.
        own: The place among them of the frame that is shown.

    Returns:
        float64 (C, 2).
    """
    shown = measured[own]
    if len(measured) == 1:
        return shown.percentiles
    there = np.stack([each.moments[:, 1, None] for each in measured]) > 0  # (frames, C, 1)
    relative = np.stack([each.relative for each in measured])
    average = relative.sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    found = shown.moments[:, 0, None] + shown.moments[:, 1, None] * average
    return np.where(there[own], found, shown.percentiles)
