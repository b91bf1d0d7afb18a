"""Looks for dead, flat, stuck and saturated channels, and for values that are not finite."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.diagnosis import symptoms
from replay.diagnosis.beginnings import Beginnings
from replay.diagnosis.intact_frames import IntactFrames
from replay.diagnosis.report import (
    Finding,
    LayerHealth,
    finding_to_the_end,
    format_batches,
    format_place,
)
from replay.formatting import format_count, format_number, format_numbers
from replay.maps.axes import spread
from replay.recording import Recording
from replay.schema import Cell, Float32Array

_HISTORY = 240  # frames of which the share of zero maps is kept
_FEWEST_VALUES = 100  # of a map, so that it can be called saturated
_FIRST_READ = 24  # frames that are read, from the first one with a value that is not finite
_LATER_READ = 8  # frames that are read of those behind them
_NOT_FINITE = ("nan", "inf")


def look_for_constants(found: LayerHealth, intact: IntactFrames) -> None:
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
            kind, sign, start, value = "dead", "zero", int(dead[channel]), 0.0
        elif stuck[channel] < len(frames):
            # The frame before the first that is like the one before it.
            start = max(0, int(stuck[channel]) - 1)
            start += int(not same[start, channel])
            kind, sign = "stuck", f"everywhere {format_number(value)}"
        elif flat[channel] < len(frames):
            kind, sign, start = "flat", "each map of one value", int(flat[channel])
        else:
            continue
        found.findings.append(finding_to_the_end(found, kind, sign, channel, start, frames, value))
    silent = int((zero.all(axis=0) & (dead == len(frames))).sum())
    if silent and len(frames) >= symptoms.SHORTEST:
        found.remarks.append(
            f"{format_count(silent, 'channel')} zero in all {format_batches(len(frames))}: too few "
            "to tell, since others are often"
        )


def bounds_of(ranges: Float32Array) -> Float32Array:
    """Returns smallest and largest value of each channel over all frames, float32 (C, 2)."""
    with np.errstate(all="ignore"):
        lowest, highest = ranges[..., 0], ranges[..., 1]
        return np.stack([np.fmin.reduce(lowest, axis=0), np.fmax.reduce(highest, axis=0)], axis=1)


def look_for_saturated(
    found: LayerHealth,
    shares: npt.NDArray[np.float64],
    bounds: Float32Array,
    healthy: npt.NDArray[np.bool_],
    intact: IntactFrames,
) -> None:
    """Adds the findings, and the share of channels that are saturated over time.

    Args:
        found: What is known of the layer so far, the frames that were sampled among it.
        shares: Of values at the bounds, (frames, C, 2), in those frames.
        bounds: Smallest and largest value of each channel in the run, float32 (C, 2).
        healthy: Channels of which nothing else explains it, bool (C,).
        intact: The layer's frames.
    """

    def at_bound(cell: Cell) -> object | None:
        maps = intact.maps(cell)
        return None if maps is None else symptoms.at_bound(maps, bounds)

    read, beginnings = found.sampled, Beginnings(intact.frames, at_bound)
    beyond = shares > symptoms.SATURATED  # (frames, C, 2)
    # Of fewer values all would have to be at a bound, and a small map is zero by chance often.
    large = math.prod(found.shape) // found.channels >= _FEWEST_VALUES
    several = (bounds[:, 0] < bounds[:, 1]) & large
    share = (beyond.any(axis=2) & several).mean(axis=1)
    found.saturated = dict(zip(read, share.tolist(), strict=True))
    for end, word in enumerate(("smallest", "largest")):
        since = symptoms.since(beyond[:, :, end])
        for channel in np.flatnonzero((since < len(read)) & healthy & several).tolist():
            start = int(since[channel])
            mean = 100 * float(shares[start:, channel, end].mean())
            value = float(bounds[channel, end])
            sign = f"{mean:.1f} % of the values at its {word} one, {format_number(value)},"

            def has(one: Any, channel: int = channel, end: int = end) -> bool:
                return bool(one[channel, end] > symptoms.SATURATED)

            begins = beginnings.find(read, start, has)
            found.findings.append(
                finding_to_the_end(found, "saturated", sign, channel, start, read, value, begins)
            )


def not_finite_in_all(run: Recording) -> list[Finding]:
    """Returns what the file's own counts say, for all layers together."""
    found = []
    for kind in ("nan", "inf"):
        counts = run.batches.get(kind)
        cells = [] if counts is None else [cell for cell in run.frames if counts[cell] > 0]
        if not cells or counts is None:
            continue
        values = int(sum(int(counts[cell]) for cell in cells))
        text = (
            f"{format_count(values, 'value')} in {len(cells)} of "
            f"{format_batches(len(run.frames))}, {format_place(cells[0], 'first in')}"
        )
        found.append(Finding(kind, text, "", None, *cells[0], len(cells), values))
    return found


class _Counts:
    """Counts what is not finite in a layer's maps, a frame at a time, and keeps what it counted.

    Args:
        intact: The layer's frames.

    Attributes:
        of: By frame, the numbers of NaN and of infinite values in each channel, int64 (2, C).
        shares: By frame, the share of the channels that have any; without those of 0.
    """

    def __init__(self, intact: IntactFrames) -> None:
        self._intact = intact
        self.of: dict[Cell, npt.NDArray[np.int64]] = {}
        self.shares: dict[Cell, float] = {}

    def add(self, cell: Cell) -> npt.NDArray[np.int64] | None:
        """Counts those of a frame, and returns them; None where it is damaged."""
        maps = self._intact.maps(cell)
        if maps is None:
            return None
        self.of[cell] = np.stack([np.isnan(maps).sum(axis=1), np.isinf(maps).sum(axis=1)])
        if self.of[cell].any():
            self.shares[cell] = float(self.of[cell].any(axis=0).mean())
        return self.of[cell]


def look_for_not_finite(found: LayerHealth, intact: IntactFrames) -> None:
    """Adds what is not finite in a layer's maps, of the frames in which the file counts some.

    The file counts those of all layers together, so that the first of them may be of others.

    Args:
        found: What is known of the layer so far.
        intact: Its frames.
    """
    fields = [intact.run.batches.get(kind) for kind in _NOT_FINITE]
    known = [counts for counts in fields if counts is not None]
    suspects = [cell for cell in intact.frames if any(counts[cell] > 0 for counts in known)]
    if known:
        read = suspects[:_FIRST_READ] + spread(suspects[_FIRST_READ:], _LATER_READ)
    else:
        suspects, read = intact.frames, spread(intact.frames, _FIRST_READ)
    counts = _Counts(intact)
    for cell in read:
        counts.add(cell)
    found.not_finite = dict(counts.shares)
    at_least = "" if len(read) == len(suspects) and known else "at least "
    beginnings = Beginnings(suspects, counts.add)
    for number, kind in enumerate(_NOT_FINITE):
        whole = [cell for cell in read if cell in counts.of]
        place = next((p for p, cell in enumerate(whole) if counts.of[cell][number].any()), None)
        if place is None:
            continue

        def has(one: Any, number: int = number) -> bool:
            return bool(one[number].any())

        first = beginnings.find(whole, place, has)
        before = suspects[: suspects.index(first)]
        word = "first in" if all(cell in counts.of for cell in before) else "first found in"
        each = [counts.of[cell][number] for cell in whole]
        found.findings.append(
            _finding(intact.layer.name, kind, each, at_least, first, format_place(first, word))
        )


def _finding(
    layer: str,
    kind: str,
    counts: list[npt.NDArray[np.int64]],
    at_least: str,
    first: Cell,
    place: str,
) -> Finding:
    """Returns a finding from the number of values in each channel, int64 (C,), of some frames."""
    per_channel = np.sum(counts, axis=0)
    batches = sum(bool(each.any()) for each in counts)
    values = int(per_channel.sum())
    channels = np.flatnonzero(per_channel).tolist()
    text = (
        f"{at_least}{format_count(values, 'value')} in {at_least}{format_batches(batches)} and "
        f"{format_numbers('channel', channels)}, {place}"
    )
    return Finding(kind, text, layer, None, *first, batches, values)
