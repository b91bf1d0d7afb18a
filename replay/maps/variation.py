"""How much each channel of a layer varies, by which those are chosen that are worth a look."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


def measure_variation(
    channels: int, frames: Iterable[npt.NDArray[np.float16]]
) -> npt.NDArray[np.float64]:
    """Returns the variance of each channel's values over pixels and time, shape (C,).

    Args:
        channels: How many there are, C.
        frames: float16 (C, ...); NaN and infinite values are left out.
    """
    totals = np.zeros((3, channels))  # values, their sum, the sum of their squares
    for frame in frames:
        maps = frame.reshape(channels, -1).astype(np.float64)
        finite = np.isfinite(maps)
        maps = np.where(finite, maps, 0.0)
        totals += finite.sum(axis=1), maps.sum(axis=1), np.square(maps).sum(axis=1)
    number = np.maximum(totals[0], 1.0)
    variance: npt.NDArray[np.float64] = totals[2] / number - np.square(totals[1] / number)
    return np.maximum(variance, 0.0)
