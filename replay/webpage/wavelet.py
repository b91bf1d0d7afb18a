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
        low, high = _split(planes, 2)
        (smooth, down), (across, both) = _split(low, 1), _split(high, 1)
        details.append((down, across, both))
        planes = smooth
    return planes, details


def synthesise(smooth: Planes, details: list[Details]) -> Planes:
    """Returns the planes of which `analyse` gives these, int32 (C, H, W)."""
    for down, across, both in reversed(details):
        smooth = _join(_join(smooth, down, 1), _join(across, both, 1), 2)
    return smooth


def level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Returns height and width of the planes at each level, from those given to the smallest."""
    sizes = [(height, width)]
    while min(sizes[-1]) > SMALLEST:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


def _split(planes: Planes, axis: int) -> tuple[Planes, Planes]:
    """Returns the smoothed half and the details along an axis."""
    moved = planes.swapaxes(axis, 2)
    even, odd = moved[..., 0::2].copy(), moved[..., 1::2].copy()
    odd -= _beside_odd(even, odd.shape[2])
    even += _beside_even(odd, even.shape[2])
    return even.swapaxes(axis, 2), odd.swapaxes(axis, 2)


def _join(even: Planes, odd: Planes, axis: int) -> Planes:
    """Returns the planes that `_split` splits so."""
    even, odd = even.swapaxes(axis, 2), odd.swapaxes(axis, 2)
    joined = np.empty((*even.shape[:2], even.shape[2] + odd.shape[2]), np.int32)
    smooth = even - _beside_even(odd, even.shape[2])
    joined[..., 0::2] = smooth
    np.add(odd, _beside_odd(smooth, odd.shape[2]), out=joined[..., 1::2])
    found: Planes = joined.swapaxes(axis, 2)
    return found


def _beside_odd(even: Planes, count: int) -> Planes:
    """Returns the mean of the even numbers beside each odd one; behind the last is none."""
    total: Planes = even[..., :count].copy()
    behind = even[..., 1 : count + 1]
    total[..., : behind.shape[2]] += behind
    if behind.shape[2] < count:
        total[..., -1] += even[..., -1]
    total >>= 1
    return total


def _beside_even(odd: Planes, count: int) -> Planes:
    """Returns half the mean of the odd numbers beside each even one; at both ends are none."""
    total = np.empty((*odd.shape[:2], count), np.int32)
    total[..., 0] = odd[..., 0]
    total[..., 1:] = odd[..., : count - 1]
    total[..., : odd.shape[2]] += odd
    total[..., odd.shape[2] :] += odd[..., -1:]
    total += 2
    total >>= 2
    return total
