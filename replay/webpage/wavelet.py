"""Planes of whole numbers to wavelet coefficients and back, in a way that a browser repeats.

It is the reversible 5/3 transform of JPEG 2000 (LeGall and Tabatabai, ICASSP 1988; ISO/IEC 15444-1,
annex F): of two neighbours one becomes what it differs from the mean of those beside it, the other
a smoothed value. Smooth planes thus become small numbers, and rounding a coefficient costs the eye
little where there is much to see. `page/codec.js` is its counterpart.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Planes = npt.NDArray[np.int32]
"""Whole numbers, int32 (C, H, W)."""

Details = tuple[Planes, Planes, Planes]
"""What one level takes out of the planes: details down, across, and of both."""

SMALLEST = 4
"""Planes are halved as long as both sides are longer than this."""


def analyse(planes: Planes) -> tuple[Planes, list[Details]]:
    """Returns the smoothed planes, and the details of each level, the finest first.

    Args:
        planes: int32 (C, H, W).
    """
    details = []
    while min(planes.shape[1:]) > SMALLEST:
        # Both halves of the columns lie side by side, so that their rows are split at once.
        low, high = _split(planes, 2)
        across = low.shape[2]
        above, below = _split(np.concatenate([low, high], axis=2), 1)
        details.append((below[..., :across], above[..., across:], below[..., across:]))
        planes = above[..., :across]
    return planes, details


def synthesise(smooth: Planes, details: list[Details]) -> Planes:
    """Returns the planes of which `analyse` gives these, int32 (C, H, W)."""
    for down, across, both in reversed(details):
        columns = smooth.shape[2]
        above = np.concatenate([smooth, across], axis=2)
        joined = _join(above, np.concatenate([down, both], axis=2), 1)
        smooth = _join(joined[..., :columns], joined[..., columns:], 2)
    return smooth


def level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Returns height and width of the planes at each level, from those given to the smallest."""
    sizes = [(height, width)]
    while min(sizes[-1]) > SMALLEST:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


def _split(planes: Planes, axis: int) -> tuple[Planes, Planes]:
    """Returns the smoothed half and the details along an axis, 1 or 2."""
    even, odd = planes[_along(axis, 0, None, 2)].copy(), planes[_along(axis, 1, None, 2)].copy()
    odd -= _beside_odd(even, odd.shape[axis], axis)
    even += _beside_even(odd, even.shape[axis], axis)
    return even, odd


def _join(even: Planes, odd: Planes, axis: int) -> Planes:
    """Returns the planes that `_split` splits so."""
    shape = list(even.shape)
    shape[axis] += odd.shape[axis]
    joined = np.empty(shape, np.int32)
    smooth = even - _beside_even(odd, even.shape[axis], axis)
    joined[_along(axis, 0, None, 2)] = smooth
    beside = _beside_odd(smooth, odd.shape[axis], axis)
    np.add(odd, beside, out=joined[_along(axis, 1, None, 2)])
    return joined


def _beside_odd(even: Planes, count: int, axis: int) -> Planes:
    """Returns the mean of the even numbers beside each odd one; behind the last is none."""
    total: Planes = even[_along(axis, 0, count)].copy()
    behind = even[_along(axis, 1, count + 1)]
    total[_along(axis, 0, behind.shape[axis])] += behind
    if behind.shape[axis] < count:
        total[_along(axis, count - 1, count)] += even[_along(axis, -1, None)]
    total >>= 1
    return total


def _beside_even(odd: Planes, count: int, axis: int) -> Planes:
    """Returns half the mean of the odd numbers beside each even one; at both ends are none."""
    shape = list(odd.shape)
    shape[axis] = count
    total = np.empty(shape, np.int32)
    total[_along(axis, 0, 1)] = odd[_along(axis, 0, 1)]
    total[_along(axis, 1, None)] = odd[_along(axis, 0, count - 1)]
    total[_along(axis, 0, odd.shape[axis])] += odd
    total[_along(axis, odd.shape[axis], None)] += odd[_along(axis, -1, None)]
    total += 2
    total >>= 2
    return total


def _along(axis: int, start: int, stop: int | None, step: int = 1) -> tuple[slice, ...]:
    """Returns what selects a part of planes along an axis; rows are taken whole, which is quick."""
    part = slice(start, stop, step)
    return (slice(None), part) if axis == 1 else (slice(None), slice(None), part)
