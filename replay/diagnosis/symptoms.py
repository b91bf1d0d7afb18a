"""What is wrong with channels, told from numbers: arrays in, arrays out.

Frames are in the order of time, and a sign that holds "since" a frame holds in every later one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SHORTEST = 3  # frames, at least, in which a sign must hold
CHANCE = 1e-4  # a sign that comes and goes must last longer than this probability allows
_MANY = 64  # channels; of more, one or another shows it by chance the more often
_KNOWN = 10  # frames: as much as so many counts what those beside a channel show
_OFTEN = 0.9  # of channels that come and go: so many show a sign at most as often as is counted on
SATURATED = 0.99  # share of a map's values at one bound, above which it is saturated
ALIKE = 0.99  # correlation above which two channels are near-duplicates
_MOST_CHANNELS = 2048  # that are compared with one another
_FEWEST_VALUES = 64  # of a channel; a correlation of fewer happens by chance
_WORK = 1_000_000_000  # multiplications for a frame's correlations

Flags = npt.NDArray[np.bool_]


def since(signs: Flags) -> npt.NDArray[np.int64]:
    """Returns from which frame on a sign holds to the end, for each channel, int64 (C,).

    A sign counts if it lasts: for `SHORTEST` frames, and for longer than a channel would show it
    by chance that shows it as often as this one did before. A channel that is silent in half of
    the frames is not dead because it is silent in the last four. The fewer frames there were
    before, the more it is measured by those beside it that come and go, as a neuron behind a ReLU
    does, which is silent for half of the images and for the first three by chance; of a channel
    that always shows the sign there is nothing before.

    Args:
        signs: bool (frames, C).

    Returns:
        The number of the first frame; the number of frames where the sign does not last.
    """
    frames = len(signs)
    lasts = np.cumprod(signs[::-1], axis=0, dtype=np.int64).sum(axis=0)  # (C,)
    start = frames - lasts
    before = signs.sum(axis=0) - lasts
    often = np.where(start > 0, (before + 1) / (start + 2), 0.0)  # Laplace's rule of succession
    chance = CHANCE / max(1.0, signs.shape[1] / _MANY)
    lasting = (lasts >= SHORTEST) & (often**lasts <= chance)
    others = signs.mean(axis=0)[(lasts < frames) & ~lasting] if frames else np.zeros(0)
    if len(others):
        usual = np.quantile(others, _OFTEN)
        often = np.maximum(often, (before + _KNOWN * usual) / (start + _KNOWN))
        lasting &= often**lasts <= chance
    return np.where(lasting, start, frames)


def zero(ranges: npt.NDArray[np.float32]) -> Flags:
    """Returns where a map is zero everywhere; ranges are (..., 2)."""
    return np.asarray((ranges[..., 0] == 0) & (ranges[..., 1] == 0))


def flat(ranges: npt.NDArray[np.float32]) -> Flags:
    """Returns where a map has one value; ranges are (..., 2)."""
    return np.asarray(ranges[..., 0] == ranges[..., 1])


def repeated(ranges: npt.NDArray[np.float32]) -> Flags:
    """Returns where a frame's ranges are those of the frame before, bool (frames, C).

    The first frame has none before it, and gets what the second one has.
    """
    same = (ranges[1:] == ranges[:-1]).all(axis=-1)
    return np.concatenate([same[:1], same]) if len(same) else np.zeros(ranges.shape[:2], bool)


def at_bound(
    maps: npt.NDArray[np.float16], bounds: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Returns the shares of a frame's values that are exactly at a channel's bounds, (C, 2).

    Args:
        maps: float16 (C, values).
        bounds: Smallest and largest value of each channel in the run, float32 (C, 2).
    """
    ends = bounds.astype(np.float16)
    return np.stack([(maps == ends[:, end, None]).mean(axis=1) for end in (0, 1)], axis=1)


class Correlations:
    """Correlations of channels over values that come frame by frame.

    Args:
        channels: How many there are.
    """

    def __init__(self, channels: int) -> None:
        self.possible = 1 < channels <= _MOST_CHANNELS
        self._channels = channels
        self._values = 0
        if self.possible:
            self._known = np.ones(channels, bool)
            self._sum = np.zeros(channels)
            self._products = np.zeros((channels, channels))
            self._shift: npt.NDArray[np.float32] | None = None

    def add(self, maps: npt.NDArray[np.float16]) -> None:
        """Takes in some pixels of a frame, float16 (C, values); those not finite are left out.

        So is a channel that has no other.
        """
        if not self.possible:
            return
        most = max(16, min(4096, _WORK // self._channels**2))
        values = maps[:, :: -(-maps.shape[1] // most)].astype(np.float32)
        finite = np.isfinite(values)
        without = ~finite.any(axis=1)
        self._known &= ~without
        values[without] = 0.0  # or nothing would be left of the others
        values = values[:, finite[~without].all(axis=0)]
        if not values.size:
            return
        if self._shift is None:  # close to the mean, so that little is lost where it is large
            self._shift = values.mean(axis=1, keepdims=True)
        values -= self._shift
        self._values += values.shape[1]
        self._sum += values.sum(axis=1, dtype=np.float64)
        self._products += values @ values.T

    def alike(self) -> list[tuple[int, int, float]]:
        """Returns (channel, the lower one that it is like, their correlation) of duplicates."""
        if not self.possible or self._values < _FEWEST_VALUES:
            return []
        mean = self._sum / self._values
        covariance = self._products / self._values - np.outer(mean, mean)
        variance = np.diag(covariance)
        known = self._known & (variance > 1e-9 * np.square(mean))  # else rounding
        variance = np.where(known, variance, 0.0)
        spread = np.sqrt(variance)
        with np.errstate(all="ignore"):
            correlation = covariance / np.outer(spread, spread)
        found = []
        for channel in range(1, self._channels):
            lower = np.nan_to_num(correlation[channel, :channel], nan=-1.0, posinf=-1.0)
            other = int(lower.argmax())
            if lower[other] > ALIKE:
                found.append((channel, other, min(1.0, float(lower[other]))))
        return found


def relative_change(old: npt.NDArray[np.floating], new: npt.NDArray[np.floating]) -> float:
    """Returns how far values moved, as a share of how large they were: |new - old| / |old|, in L2.

    Values that are not finite in either are left out; NaN where nothing is left, or all was zero.
    """
    old, new = old.astype(np.float64), new.astype(np.float64)
    finite = np.isfinite(old) & np.isfinite(new)
    size = float(np.linalg.norm(old[finite]))
    moved = float(np.linalg.norm(new[finite] - old[finite]))
    if not finite.any() or (size == 0 and moved > 0):
        return float("nan")
    return moved / size if size else 0.0
