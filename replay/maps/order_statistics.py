"""Keys of float16 values that ascend as the values do, and what stands where in rows of them."""

from __future__ import annotations

import functools
import itertools
import timeit
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Keys: TypeAlias = npt.NDArray[np.int16]
"""The bits of float16, made to ascend as the values do."""

ALL_BUT_SIGN = np.int16(0x7FFF)
"""The bits of a float16 that are its size."""

_MANY = 512  # values from which sorting by digits pays
_NEAR = 0.02  # how near to the ends of a row, as a share of it, places have to be
_WIDE = 96  # keys of a row that are compared at a time
_FEW_OUTER = 0.25  # the share of values beyond which sorting all of them is quicker


def keys_of(bits: npt.NDArray[np.int16]) -> Keys:
    """Returns keys that ascend as the values of these bits do, -0 before 0."""
    keys: Keys = bits >> 15
    keys &= ALL_BUT_SIGN
    keys ^= bits
    return keys


def order_statistics(keys: Keys, places: npt.NDArray[np.intp]) -> Keys:
    """Returns what stands at some places of each row, were it sorted.

    Args:
        keys: int16 (rows, columns).
        places: Two near the beginning and two near the end, ascending.

    Returns:
        int16 (rows, 4).
    """
    columns = keys.shape[1]
    least, most = int(places[1]) + 1, columns - int(places[2])  # how many at either end
    if columns < _MANY or max(least, most) > columns * _NEAR or _sorts_quickly():
        return _sorted(keys)[:, places]
    return _outermost(keys, places)


def _outermost(keys: Keys, places: npt.NDArray[np.intp]) -> Keys:
    """Returns what `order_statistics` does, without sorting the rows.

    Of the least keys of `n` disjoint parts of a row the greatest has at least n keys up to it, so
    that only these few are sorted. Where it is the least of all, as the zeros behind a ReLU are,
    all of the n are equal.
    """
    rows, columns = keys.shape
    least, most = int(places[1]) + 1, columns - int(places[2])
    lows = _of_parts(np.minimum, keys, least).max(axis=1)
    highs = _of_parts(np.maximum, keys, most).min(axis=1)
    low, high = keys.min(axis=1), keys.max(axis=1)
    all_low, all_high = lows == low, highs == high
    is_outer = keys <= (lows - all_low)[:, None]
    is_outer |= keys >= (highs + all_high)[:, None]
    outer = np.flatnonzero(is_outer)
    if len(outer) > keys.size * _FEW_OUTER:  # many are equal
        return _sorted(keys)[:, places]
    edges = np.searchsorted(outer, np.arange(rows + 1) * columns)
    ends = keys.reshape(-1).take(outer)
    for start, stop in itertools.pairwise(edges.tolist()):
        ends[start:stop].sort(kind="stable")
    found = np.empty((rows, 4), np.int16)
    for at, of_all, value, first in (
        (slice(2), all_low, low, edges[:-1, None]),
        (slice(2, 4), all_high, high, edges[1:, None] - columns),
    ):
        found[:, at] = value[:, None]
        found[~of_all, at] = ends.take((first + places[at])[~of_all])
    return found


def _of_parts(extreme: np.ufunc, keys: Keys, parts: int) -> Keys:
    """Returns the least or the greatest key of each of so many disjoint parts of each row, or more.

    Neighbours belong to different parts, and so do pixels of one column, as the number is odd.
    """
    rows, columns = keys.shape
    parts |= 1
    wide = parts * -(-_WIDE // parts)  # numpy is quicker where what it goes along is longer
    some: Keys = extreme.reduce(keys[:, : columns // wide * wide].reshape(rows, -1, wide), axis=1)
    found: Keys = extreme.reduce(some.reshape(rows, -1, parts), axis=1)
    return found


def _sorted(keys: Keys) -> Keys:
    # Of 16 bits that are sorted "stable" by their digits, numpy needs less than half of the time
    # that it takes to partition them at four places; of a few any other way is quicker.
    by_digits = keys.shape[1] > _MANY and not _sorts_quickly()
    return np.sort(keys, axis=1, kind="stable" if by_digits else None)


@functools.cache
def _sorts_quickly() -> bool:
    """Returns whether numpy sorts 16 bits in less time here than any other way to places takes.

    With AVX-512 (Ice Lake and later) it needs a third of it, else several times as much. No public
    name of numpy tells, so that both are tried once, which takes less than a millisecond.
    """
    keys = np.random.default_rng(0).integers(-20_000, 20_000, (16, 2_048), np.int16)
    places = np.array([20, 21, 2_026, 2_027])
    ways = (lambda: np.sort(keys, axis=1)), (lambda: _outermost(keys, places))
    taken = [min(timeit.repeat(way, number=1, repeat=4)) for way in ways]
    return taken[0] < taken[1]
