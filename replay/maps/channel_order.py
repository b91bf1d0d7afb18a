"""Similar channels side by side: one order of the channels, fixed for the whole run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from replay.maps.axes import Source, spread
from replay.options import ORDERS
from replay.schema import OptionError
from replay.schema.suggestions import unknown

_FRAMES = 12  # of the later half of the run
_VALUES = 4096  # of a channel in each
_ROUNDS = 30  # of improvements

Distances = npt.NDArray[np.float64]


def order_channels(
    source: Source, channels: Sequence[int], frames: Sequence[tuple[int, int]], order: str
) -> list[int]:
    """Returns the channels in the order in which they are shown.

    `similar` walks from each channel to one whose maps correlate with its own, by the path whose
    steps are shortest in sum, as far as a greedy walk and exchanges of its stretches find it.
    Channels without any variation stand last.

    Args:
        source: Where the maps come from.
        channels: Which are shown.
        frames: The frames of the film, perhaps none; some of the later half are looked at.
        order: `number` (as they come) or `similar`.

    Raises:
        OptionError: Another order.
    """
    if order not in ORDERS:
        raise OptionError(unknown("order", order, ORDERS))
    if order == "number" or len(channels) < 3 or not frames:
        return list(channels)
    values = _sample(source, channels, frames)
    spreads = values.std(axis=1)
    varies = spreads > 1e-6 * max(1.0, float(np.abs(values).max(initial=0.0)))
    alive, constant = np.flatnonzero(varies), np.flatnonzero(~varies).tolist()
    if len(alive) < 3:
        return [channels[place] for place in [*alive.tolist(), *constant]]
    normalised = values[alive]
    normalised = (normalised - normalised.mean(axis=1, keepdims=True)) / spreads[alive][:, None]
    distances = 1.0 - normalised @ normalised.T / normalised.shape[1]
    path = _shorten(_walk(distances), distances)
    if path[0] > path[-1]:
        path = path[::-1]
    return [channels[place] for place in [*alive[path].tolist(), *constant]]


def _sample(
    source: Source, channels: Sequence[int], frames: Sequence[tuple[int, int]]
) -> Distances:
    """Returns values of each channel at the same places, float64 (C, values); 0 if not finite."""
    parts = []
    for cell in spread(frames[len(frames) // 2 :], _FRAMES):
        maps = source[cell].reshape(source.channels, -1)[list(channels)]
        step = -(-maps.shape[1] // _VALUES)
        parts.append(maps[:, ::step].astype(np.float64))
    values = np.concatenate(parts, axis=1)
    return np.where(np.isfinite(values), values, 0.0)


def _walk(distances: Distances) -> npt.NDArray[np.intp]:
    """Returns a path from the channel least like the others, always on to the nearest one left."""
    count = len(distances)
    left = np.ones(count, bool)
    path = [int(distances.sum(axis=1).argmax())]
    left[path[0]] = False
    while len(path) < count:
        path.append(int(np.where(left, distances[path[-1]], np.inf).argmin()))
        left[path[-1]] = False
    return np.array(path)


def _shorten(path: npt.NDArray[np.intp], distances: Distances) -> npt.NDArray[np.intp]:
    """Turns stretches of the path around as long as that makes it shorter (2-opt, open ends)."""
    count = len(path)
    for _ in range(_ROUNDS):
        improved = False
        for first in range(count - 1):
            # Turning path[first..last] changes the step into it and the step out of it.
            lasts = np.arange(first + 1, count)
            inner = path[lasts]
            gain = np.zeros(len(lasts))
            if first > 0:
                before = path[first - 1]
                gain += distances[before, path[first]] - distances[before, inner]
            after = path[np.minimum(lasts + 1, count - 1)]
            out = distances[inner, after] - distances[path[first], after]
            gain += np.where(lasts + 1 < count, out, 0.0)
            best = int(gain.argmax())
            if gain[best] > 1e-9:
                last = int(lasts[best])
                path[first : last + 1] = path[first : last + 1][::-1].copy()
                improved = True
        if not improved:
            break
    return path
