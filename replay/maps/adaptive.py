"""Ranges that are as steady as the image is: each map legible, and its strength still told.

Arrays in, arrays out. A range for the whole run hides the maps of a layer that grows, or whose
channels differ in strength; a range for each map of each frame shows noise as if it were a
feature, and flickers. In between lies what is measured here: each map on its own 1st to 99th
percentile, smooth in time where frame after frame shows the same image, and never magnified more
than `MAGNIFIED` times against what its channel has about that time. What such a range hides, how
strong a channel is, is its gain: the range against the largest of the layer in the whole run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

PERCENTILES = (1.0, 99.0)
"""What a map's own range leaves out at each end, in percent of its finite values."""

MAGNIFIED = 8.0
"""How many times a map is magnified at most against the widest range of its channel nearby."""

AROUND = 4
"""Frames before and behind, over which the range of an image that stays is averaged."""

FAINT = 1e-3
"""Below this share of the layer's largest range a channel is shown as flat."""

Bounds = npt.NDArray[np.float64]
"""The low and the high end of the range of each channel, float64 (C, 2)."""

_SIGN = np.uint16(0x8000)
_KEY_OF_INFINITY = np.uint16(0xFC00)  # keys of finite values lie between these two
_KEY_OF_MINUS_INFINITY = np.uint16(0x03FF)


def percentiles_of(maps: npt.NDArray[np.float16]) -> Bounds:
    """Returns the 1st and the 99th percentile of the finite values of each map.

    The percentiles are those of `numpy.percentile` (linear between two values). They are found by
    partitioning the bits of float16, in an order in which they ascend as the values do.

    Args:
        maps: float16 (C, ...).

    Returns:
        float64 (C, 2); NaN for a map without a finite value.
    """
    bits = np.ascontiguousarray(maps).view(np.uint16).reshape(len(maps), math.prod(maps.shape[1:]))
    keys = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    found = np.full((len(maps), 2), np.nan)
    if not keys.size:
        return found
    if keys.max() < _KEY_OF_INFINITY and keys.min() > _KEY_OF_MINUS_INFINITY:
        return _percentiles(keys)
    for channel, row in enumerate(keys):
        finite = row[(row < _KEY_OF_INFINITY) & (row > _KEY_OF_MINUS_INFINITY)]
        if finite.size:
            found[channel] = _percentiles(finite[None])[0]
    return found


def _percentiles(keys: npt.NDArray[np.uint16]) -> Bounds:
    """Returns the percentiles of each row of keys, float64 (rows, 2)."""
    last = keys.shape[1] - 1
    places = [last * percent / 100 for percent in PERCENTILES]
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


@dataclass(frozen=True)
class Shown:
    """How the channels of one frame are shown.

    Attributes:
        bounds: float64 (C, 2), the range of each channel.
        gain: float64 (C,), the width of that range as a share of the layer's largest, above 0.
        flat: bool (C,), channels of which there is nothing to see: constant, or too faint.
    """

    bounds: Bounds
    gain: npt.NDArray[np.float64]
    flat: npt.NDArray[np.bool_]


class AdaptiveRanges:
    """The ranges of a layer's channels, frame by frame.

    Args:
        widths: float64 (frames, C), what the file says of each map: its largest less its smallest
            finite value; NaN where there is no frame. In the order in which frames are shown.
        epochs: The epoch of each of those frames; windows of "about an epoch" are told from it.

    Attributes:
        largest: The largest range that any channel of the layer has in the run.
    """

    def __init__(self, widths: npt.NDArray[np.floating[Any]], epochs: Sequence[int]) -> None:
        known: npt.NDArray[np.float64] = np.where(np.isfinite(widths), widths, 0.0).astype(
            np.float64
        )
        self.largest = float(known.max(initial=0.0))
        per_epoch = np.unique(np.asarray(epochs), return_counts=True)[1]
        reach = int(np.ceil(np.median(per_epoch) / 2)) if len(per_epoch) else 0
        self._nearby = _greatest_around(known, max(reach, AROUND))

    def show(self, place: int, percentiles: Bounds) -> Shown:
        """Returns how a frame is shown.

        Args:
            place: The frame's place in the order in which frames are shown.
            percentiles: What `percentiles_of` gives for its maps; where the image stays, the mean
                of the frames around, as `steady` gives it.
        """
        low, high = np.where(np.isnan(percentiles), 0.0, percentiles).T
        centre, width = (low + high) / 2, high - low
        least = self._nearby[place] / MAGNIFIED
        width = np.maximum(width, least)
        flat = (self._nearby[place] <= self.largest * FAINT) | (width <= 0)
        width = np.where(flat, np.maximum(width, self.largest or 1.0), width)
        bounds = np.stack([centre - width / 2, centre + width / 2], axis=1)
        gain = width / self.largest if self.largest > 0 else np.ones_like(width)
        return Shown(bounds, np.where(flat, FAINT, np.minimum(gain, 1.0)), flat)


def steady(percentiles: Sequence[Bounds]) -> Bounds:
    """Returns the mean of the percentiles of several frames of one image, NaN left out."""
    together = np.stack(percentiles)
    there = np.isfinite(together)
    count = there.sum(axis=0)
    total = np.where(there, together, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _greatest_around(values: npt.NDArray[np.float64], reach: int) -> npt.NDArray[np.float64]:
    """Returns the maximum of each column within `reach` rows, float64 (rows, columns).

    It is found in two passes over blocks of 2 `reach` + 1 rows, whatever the reach is
    (van Herk, Pattern Recognition Letters 13, 1992; Gil and Werman, IEEE PAMI 15, 1993).
    """
    rows, columns = values.shape
    size = 2 * reach + 1
    padded = np.zeros((-(-(rows + 2 * reach) // size) * size, columns))
    padded[reach : reach + rows] = values
    blocks = padded.reshape(-1, size, columns)
    ahead = np.maximum.accumulate(blocks, axis=1).reshape(padded.shape)
    back = np.maximum.accumulate(blocks[:, ::-1], axis=1)[:, ::-1].reshape(padded.shape)
    greatest: npt.NDArray[np.float64] = np.maximum(back[:rows], ahead[size - 1 : size - 1 + rows])
    return greatest
