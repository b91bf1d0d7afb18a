"""Percentiles of float16 values, of one map each or of many together, and ranges from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

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
_MANY = 512  # values from which sorting by digits pays
_SIGN = np.uint16(0x8000)
_KEY_OF_INFINITY = np.uint16(0xFC00)  # keys of finite values lie between these two
_KEY_OF_MINUS_INFINITY = np.uint16(0x03FF)


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
    bits = np.ascontiguousarray(maps).view(np.uint16).reshape(len(maps), math.prod(maps.shape[1:]))
    keys = np.where(bits & _SIGN, ~bits, bits | _SIGN)
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


def _percentiles(keys: npt.NDArray[np.uint16], percents: tuple[float, float]) -> Bounds:
    """Returns the percentiles of each row of keys, float64 (rows, 2)."""
    last = keys.shape[1] - 1
    places = [last * percent / 100 for percent in percents]
    below = [int(place) for place in places]
    above = [min(place + 1, last) for place in below]
    # Of 16 bits that are sorted "stable" by their digits, numpy needs less than half of the time
    # that it takes to partition them at four places; of a few any other way is quicker.
    ascending = np.sort(keys, axis=1, kind="stable" if last >= _MANY else None)
    ends = [
        _values(ascending[:, low]) * (1 - (place - low))
        + _values(ascending[:, high]) * (place - low)
        for place, low, high in zip(places, below, above, strict=True)
    ]
    return np.stack(ends, axis=1)


def _values(keys: npt.NDArray[np.uint16]) -> npt.NDArray[np.float64]:
    """Returns the values that have these keys, float64 of their shape."""
    bits = np.where(keys & _SIGN, keys ^ _SIGN, ~keys)
    return bits.astype(np.uint16).view(np.float16).astype(np.float64)


def as_float32(values: npt.NDArray[np.float16]) -> npt.NDArray[np.float32]:
    """Returns float16 values as float32, looked up, which takes less than half of a conversion."""
    bits = np.ascontiguousarray(values).view(np.uint16)
    return _FLOAT32.take(bits, mode="wrap")  # which looks for no index that is too large


def moments_of(maps: npt.NDArray[np.float16]) -> npt.NDArray[np.float64]:
    """Returns mean and standard deviation of the finite values of each map.

    Args:
        maps: float16 (C, ...).

    Returns:
        float64 (C, 2); 0 and 0 for a map without a finite value.
    """
    values = as_float32(maps.reshape(len(maps), math.prod(maps.shape[1:])))
    finite = np.isfinite(values)
    if finite.all() and values.shape[1]:
        mean = values.mean(axis=1)
        values -= mean[:, None]
        deviation = np.sqrt(np.square(values, out=values).mean(axis=1))
    else:
        count = np.maximum(finite.sum(axis=1), 1)
        mean = np.where(finite, values, 0).sum(axis=1) / count
        apart = np.where(finite, np.where(finite, values, 0) - mean[:, None], 0)
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
    """Returns `numpy.percentile` of the finite values, by counting: far faster than by sorting.

    Returns:
        The percentiles, none of no values; the least and the greatest value, or NaN.
    """
    bits = np.ascontiguousarray(values).view(np.uint16).ravel()
    if len(bits) < _FEW:  # so few are sorted sooner
        ascending = np.sort(values[np.isfinite(values)], axis=None) + np.float16(0)
        count = len(ascending)
    else:
        counts = np.zeros(1 << 16, np.intp)
        for start in range(0, len(bits), _AT_ONCE):
            counts += np.bincount(bits[start : start + _AT_ONCE], minlength=1 << 16)
        upto = counts[_ASCENDING].cumsum()
        count = int(upto[-1])
    if not count:
        return [], math.nan, math.nan

    def at(place: int) -> float:
        if len(bits) < _FEW:
            return float(ascending[place])
        return float(_FINITE[np.searchsorted(upto, place, side="right")])

    found = []
    for percent in ROBUST:
        place = (count - 1) * (percent / 100)
        low, high = at(math.floor(place)), at(min(math.floor(place) + 1, count - 1))
        part = place - math.floor(place)
        found.append(low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part))
    return found, at(0), at(count - 1)


_FEW = 4096  # values

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
    mean, deviation = (
        np.stack([each.moments[:, place, None] for each in measured]) for place in (0, 1)
    )  # (frames, C, 1)
    there = deviation > 0
    relative = np.stack([widened(each.percentiles, each.values) for each in measured]) - mean
    relative = np.where(there, relative / np.where(there, deviation, 1.0), 0.0)
    average = relative.sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    found = mean[own] + deviation[own] * average
    return np.where(there[own], found, shown.percentiles)
