"""Looks for channels nearly all of whose values are at the smallest or the largest one."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from replay import symptoms
from replay.extent import lasting
from replay.findings import LayerHealth
from replay.schema import Float32Array
from replay.words import number

_FEWEST = 100  # values of a map that can be called saturated


def bounds_of(ranges: Float32Array) -> Float32Array:
    """Smallest and largest value of each channel over all frames, float32 (C, 2)."""
    with np.errstate(all="ignore"):
        lowest, highest = ranges[..., 0], ranges[..., 1]
        return np.stack([np.fmin.reduce(lowest, axis=0), np.fmax.reduce(highest, axis=0)], axis=1)


def look_for_saturated(
    found: LayerHealth,
    shares: npt.NDArray[np.float64],
    bounds: Float32Array,
    healthy: npt.NDArray[np.bool_],
) -> None:
    """Adds the findings, and the share of channels that are saturated over time.

    Args:
        found: What is known of the layer so far, the frames that were sampled among it.
        shares: Of values at the bounds, (frames, C, 2), in those frames.
        bounds: Smallest and largest value of each channel in the run, float32 (C, 2).
        healthy: Channels of which nothing else explains it, bool (C,).
    """
    read = found.sampled
    beyond = shares > symptoms.SATURATED  # (frames, C, 2)
    # Of fewer values all would have to be at a bound, and a small map is zero by chance often.
    large = math.prod(found.shape) // found.channels >= _FEWEST
    several = (bounds[:, 0] < bounds[:, 1]) & large
    share = (beyond.any(axis=2) & several).mean(axis=1)
    found.saturated = dict(zip(read, share.tolist(), strict=True))
    for end, word in enumerate(("smallest", "largest")):
        since = symptoms.since(beyond[:, :, end])
        for channel in np.flatnonzero((since < len(read)) & healthy & several).tolist():
            start = int(since[channel])
            mean = 100 * float(shares[start:, channel, end].mean())
            value = float(bounds[channel, end])
            words = f"{mean:.1f} % of the values at its {word} one, {number(value)},"
            found.findings.append(lasting(found, "saturated", words, channel, start, read, value))
