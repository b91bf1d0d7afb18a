"""Percentiles of float16 values, of one map each or of many together, and ranges from them."""

from __future__ import annotations

import math
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

_AT_ONCE = 1 << 17  # values counted at a time: what numpy makes of them stays in the caches
_SIGN = np.uint16(0x8000)
_KEY_OF_INFINITY = np.uint16(0xFC00)  # keys of finite values lie between these two
_KEY_OF_MINUS_INFINITY = np.uint16(0x03FF)


def percentiles_of(
    maps: npt.NDArray[np.float16], percents: tuple[float, float] = PERCENTILES
) -> Bounds:
    """Returns two percentiles, the 1st and the 99th, of the finite values of each map.

    The percentiles are those of `numpy.percentile` (linear between two values). They are found by
    partitioning the bits of float16, in an order in which they ascend as the values do.

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
    parted = np.partition(keys, sorted({*below, *above}), axis=1)
    ends = [
        _values(parted[:, low]) * (1 - (place - low)) + _values(parted[:, high]) * (place - low)
        for place, low, high in zip(places, below, above, strict=True)
    ]
    return np.stack(ends, axis=1)


def _values(keys: npt.NDArray[np.uint16]) -> npt.NDArray[np.float64]:
    """Returns the values that have these keys, float64 of their shape."""
    bits = np.where(keys & _SIGN, keys ^ _SIGN, ~keys)
    return bits.astype(np.uint16).view(np.float16).astype(np.float64)


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
    counts = np.zeros(1 << 16, np.intp)
    for start in range(0, len(bits), _AT_ONCE):
        counts += np.bincount(bits[start : start + _AT_ONCE], minlength=1 << 16)
    upto = counts[_ASCENDING].cumsum()
    count = int(upto[-1])
    if not count:
        return [], math.nan, math.nan

    def at(place: int) -> float:
        return float(_FINITE[np.searchsorted(upto, place, side="right")])

    found = []
    for percent in ROBUST:
        place = (count - 1) * (percent / 100)
        low, high = at(math.floor(place)), at(min(math.floor(place) + 1, count - 1))
        part = place - math.floor(place)
        found.append(low + (high - low) * part if part < 0.5 else high - (high - low) * (1 - part))
    return found, at(0), at(count - 1)


# The bits of all finite float16 from the lowest up, and their values; of both zeros the usual one.
_INFINITE = 0x7C00
_ASCENDING = np.concatenate(
    [np.arange(_INFINITE - 1, -1, -1) | 0x8000, np.arange(_INFINITE)]
).astype(np.uint16)
_FINITE = _ASCENDING.view(np.float16) + np.float16(0)
