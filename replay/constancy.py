"""Looks for channels whose maps have one value each: dead, flat and stuck ones."""

from __future__ import annotations

import math

from replay import symptoms
from replay.extent import lasting
from replay.findings import LayerHealth
from replay.intact import Intact
from replay.selection import spread
from replay.words import number

_HISTORY = 240  # frames of which the share of zero maps is kept


def look_for_constants(found: LayerHealth, intact: Intact) -> None:
    """Adds the findings, and the share of channels that are zero over time.

    Args:
        found: What is known of the layer so far.
        intact: Its frames.
    """
    frames, ranges = intact.frames, intact.ranges
    zero = symptoms.zero(ranges)
    shares = dict(zip(frames, zero.mean(axis=1).tolist(), strict=True))
    found.zero = {cell: shares[cell] for cell in spread(frames, _HISTORY)}
    dead = symptoms.since(zero)
    same = symptoms.flat(ranges) & ~zero
    stuck = symptoms.since(same & symptoms.repeated(ranges))
    several = math.prod(found.shape) > found.channels
    flat = symptoms.since(symptoms.flat(ranges) & several)
    for channel in range(found.channels):
        value = float(ranges[-1, channel, 0])
        if dead[channel] < len(frames):
            kind, words, start, value = "dead", "zero", int(dead[channel]), 0.0
        elif stuck[channel] < len(frames):
            # The frame before the first that is like the one before it.
            start = max(0, int(stuck[channel]) - 1)
            start += int(not same[start, channel])
            kind, words = "stuck", f"everywhere {number(value)}"
        elif flat[channel] < len(frames):
            kind, words, start = "flat", "each map of one value", int(flat[channel])
        else:
            continue
        found.findings.append(lasting(found, kind, words, channel, start, frames, value))
