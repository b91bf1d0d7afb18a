"""Looks for channels that are dead, saturated, alike or not finite, and for how fast layers change.

Reads the ranges that lie beside the maps, and of the maps a bounded number of frames.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from replay import schema, symptoms
from replay.probe import Probe
from replay.recording import Recording, Series, open_recording
from replay.schema import DamagedError, FileError, Float16Array, Float32Array, in_words
from replay.selection import spread
from replay.words import count, number

Cell: TypeAlias = "tuple[int, int]"

KINDS = ("nan", "inf", "dead", "flat", "stuck", "saturated", "unchanging", "duplicate")

_SAMPLED = 32  # frames of a layer that are read
_SUSPECTS = 8  # frames more, where channels seem to stop changing
_NOT_FINITE = 24  # frames that are read for NaN and infinity, from the first on
_POINTS = 65  # between which change is measured
_POINTS_OF_EPOCH = 17  # likewise where there is but one epoch
_FEWEST_SATURATED = 100  # values of a map that can be called saturated
_HISTORY = 240  # frames of which the share of zero maps is kept


@dataclass(frozen=True)
class Finding:
    """One thing that may be wrong.

    Attributes:
        kind: One of `KINDS`: `nan`, `inf`, `dead` (zero in every batch since), `flat` (every map
            of one value, another one from batch to batch), `stuck` (one value that is not zero),
            `saturated` (nearly all values at the channel's smallest or largest one), `unchanging`
            (the same map though the input, or the network, changes) or `duplicate`.
        text: What was found, without the layer and channel.
        layer: The layer's name; empty for the whole run.
        channel: The channel; None for the whole layer.
        epoch: Since when, or where first; None where it is a matter of the whole run.
        batch: Likewise.
        frames: Batches in which it was found, of those that were looked at.
        value: The value at which it is stuck or saturated, the correlation, or the number of
            values that are not finite.
        like: Of a duplicate, the channel that it is like.
    """

    kind: str
    text: str
    layer: str = ""
    channel: int | None = None
    epoch: int | None = None
    batch: int | None = None
    frames: int | None = None
    value: float | None = None
    like: int | None = None


@dataclass(frozen=True)
class Change:
    """How far a layer moved from one recorded batch to a later one, relative to what it was."""

    start: Cell
    end: Cell
    value: float


@dataclass
class LayerHealth:
    """What was found in one layer.

    Attributes:
        name: The layer's name.
        module: The module in words.
        shape: Shape of a frame.
        channels: Number of channels.
        frames: Frames in the recording.
        sampled: (epoch, batch) of the frames whose maps were read.
        findings: What may be wrong, in the order of `KINDS`.
        zero: By (epoch, batch), at most 240 evenly spaced, the share of channels that are zero.
        saturated: By (epoch, batch) sampled, the share of channels at a bound of theirs.
        measure: What `changes` are of: `probe maps`, `kernels` or `ranges`.
        changes: From each epoch's last recorded batch to the next one's; within the only epoch.
        remarks: What could not be looked for.
    """

    name: str
    module: str
    shape: tuple[int, ...]
    channels: int
    frames: int
    sampled: list[Cell] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    zero: dict[Cell, float] = field(default_factory=dict)
    saturated: dict[Cell, float] = field(default_factory=dict)
    measure: str = "ranges"
    changes: list[Change] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


@dataclass
class Health:
    """What `health` found; false where there is a finding.

    Attributes:
        path: The recording.
        frames: (epoch, batch) of all frames, in the order of time.
        layers: Each layer, in the order of the recording.
        findings: What concerns no single layer.
        damaged: Frames that were passed over because they are damaged.
    """

    path: Path
    frames: list[Cell]
    layers: list[LayerHealth] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    damaged: int = 0

    def __bool__(self) -> bool:
        return not self.all_findings

    @property
    def all_findings(self) -> list[Finding]:
        """Those of the run, then those of each layer."""
        return self.findings + [found for layer in self.layers for found in layer.findings]

    def to_json(self) -> str:
        """One JSON document."""
        from replay.healthwords import to_json

        return to_json(self)

    def to_csv(self) -> str:
        """A table in CSV, a row for each finding."""
        from replay.healthwords import to_csv

        return to_csv(self)

    def __str__(self) -> str:
        from replay.healthwords import as_text

        return as_text(self)


def health(
    recording: str | os.PathLike[str] | Recording,
    progress: Callable[[int, int], None] | None = None,
) -> Health:
    """Looks for what is wrong with a network's layers and channels.

    Args:
        recording: The file, or an open recording.
        progress: Called with (layers done, layers in all).

    Returns:
        The findings of each layer, and how fast it changed.

    Raises:
        FileError: The file is unusable or empty.
    """
    if not isinstance(recording, Recording):
        with open_recording(recording) as run:
            return health(run, progress)
    recording.require_frames()
    damaged: set[tuple[str, Cell]] = set()
    found = Health(recording.path, recording.frames, findings=_not_finite_in_all(recording))
    probe = recording.probe(0) if recording.probes and recording.probe_number is None else None
    for place, name in enumerate(recording.layers):
        found.layers.append(_Examination(recording[name], probe, damaged).result())
        if progress is not None:
            progress(place + 1, len(recording.layers))
    found.damaged = len(damaged)
    return found


def _not_finite_in_all(run: Recording) -> list[Finding]:
    """What the file's own counts say, for all layers together."""
    found = []
    for kind in ("nan", "inf"):
        counts = run.batches.get(kind)
        cells = [] if counts is None else [cell for cell in run.frames if counts[cell] > 0]
        if not cells or counts is None:
            continue
        values = int(sum(int(counts[cell]) for cell in cells))
        text = (
            f"{count(values, 'value')} in {len(cells)} of {_batches(len(run.frames))}, "
            f"{_where(cells[0], 'first in')}"
        )
        found.append(Finding(kind, text, "", None, *cells[0], len(cells), values))
    return found


class _Examination:
    """Of one layer."""

    def __init__(self, series: Series, probe: Probe | None, damaged: set[tuple[str, Cell]]) -> None:
        self.series, self.layer, self.damaged = series, series.layer, damaged
        self.run, self.frames = series.recording, series.frames
        self.probe = probe[series.name] if probe is not None and series.name in probe else None
        self.found = LayerHealth(
            self.layer.name,
            self.layer.module,
            self.layer.shape,
            self.layer.channels,
            len(self.frames),
        )

    def result(self) -> LayerHealth:
        """Looks for everything."""
        if not self.frames:
            self.found.remarks.append("no frame was recorded")
            return self.found
        if len(self.frames) < symptoms.SHORTEST:
            self.found.remarks.append("too few frames to tell what lasts")
        self.ranges = self._ranges(self.series, self.frames)
        self._look_for_not_finite()
        healthy = self._look_for_constants()
        self._look_into_maps(healthy)
        self._measure_change()
        if self.probe is not None:
            self._look_for_unchanging_in_probe(self.probe)
        self.found.findings.sort(key=lambda one: (KINDS.index(one.kind), one.channel or 0))
        return self.found

    def _ranges(self, series: Series, frames: Sequence[Cell]) -> Float32Array:
        """float32 (frames, C, 2), as the file has them; measured where it has none."""
        at = tuple(np.array(frames).T)
        try:
            ranges: Float32Array = series.ranges()[at]
            if not np.isnan(ranges).all():
                return ranges
        except FileError:
            pass
        measured = np.full((len(frames), series.layer.channels, 2), np.nan, np.float32)
        for place, cell in enumerate(frames):
            maps = self._read(series, cell)
            if maps is not None:
                measured[place] = schema.summarize(maps).ranges
        return measured

    def _read(self, series: Series, cell: Cell) -> Float16Array | None:
        """A frame as float16 (C, values); None where it is damaged."""
        try:
            frame = series[cell]
        except DamagedError:
            self.damaged.add((f"{series.layer.group}{series.name}", cell))
            return None
        return np.ascontiguousarray(
            self.layer.channels_first(frame).reshape(self.layer.channels, -1)
        )

    def _add(self, kind: str, text: str, **more: float | None) -> None:
        self.found.findings.append(Finding(kind, text, self.layer.name, **more))  # type: ignore[arg-type]

    def _look_for_not_finite(self) -> None:
        """NaN and infinity: the first frames of those that the file says have some."""
        fields = {kind: self.run.batches.get(kind) for kind in ("nan", "inf")}
        known = [counts for counts in fields.values() if counts is not None]
        suspects = [cell for cell in self.frames if any(counts[cell] > 0 for counts in known)]
        if not known:
            suspects = spread(self.frames, _NOT_FINITE)
        read = suspects[:_NOT_FINITE]
        read += spread(suspects[_NOT_FINITE:], 8)
        counted: dict[str, list[tuple[Cell, npt.NDArray[np.int64]]]] = {"nan": [], "inf": []}
        for cell in read:
            maps = self._read(self.series, cell)
            if maps is None:
                continue
            for kind, is_one in (("nan", np.isnan), ("inf", np.isinf)):
                each = is_one(maps).sum(axis=1)
                if each.any():
                    counted[kind].append((cell, each))
        for kind, cells in counted.items():
            if not cells:
                continue
            per_channel = np.sum([each for _, each in cells], axis=0)
            values = int(per_channel.sum())
            channels = np.flatnonzero(per_channel).tolist()
            of = "" if len(read) == len(suspects) and known else "at least "
            text = (
                f"{of}{count(values, 'value')} in {of}{_batches(len(cells))} and "
                f"{_channels(channels)}, {_where(cells[0][0], 'first in')}"
            )
            (epoch, batch), _ = cells[0]
            self._add(kind, text, epoch=epoch, batch=batch, frames=len(cells), value=values)

    def _look_for_constants(self) -> npt.NDArray[np.bool_]:
        """Channels whose maps have one value; returns which of the others there are."""
        ranges, frames = self.ranges, self.frames
        zero = symptoms.zero(ranges)
        shares = dict(zip(frames, zero.mean(axis=1).tolist(), strict=True))
        self.found.zero = {cell: shares[cell] for cell in spread(frames, _HISTORY)}
        dead = symptoms.since(zero)
        same = symptoms.flat(ranges) & ~zero
        same_as_before = same & symptoms.repeated(ranges)
        stuck = symptoms.since(same_as_before)
        several = math.prod(self.layer.shape) > self.layer.channels
        flat = symptoms.since(symptoms.flat(ranges) & several)
        healthy = np.ones(self.layer.channels, bool)
        for channel in range(self.layer.channels):
            start = len(frames)
            if dead[channel] < len(frames):
                kind, words, start, value = "dead", "zero", int(dead[channel]), 0.0
            elif stuck[channel] < len(frames):
                # The frame before the first that is like the one before it.
                start = max(0, int(stuck[channel]) - 1)
                start += int(not same[start, channel])
                value = float(ranges[-1, channel, 0])
                kind, words = "stuck", f"everywhere {number(value)}"
            elif flat[channel] < len(frames):
                kind, words, start = "flat", "each map of one value", int(flat[channel])
                value = float(ranges[-1, channel, 0])
            if start < len(frames):
                healthy[channel] = False
                self._add_since(kind, words, channel, start, frames, value)
        return healthy

    def _add_since(
        self,
        kind: str,
        words: str,
        channel: int,
        start: int,
        frames: Sequence[Cell],
        value: float | None = None,
    ) -> None:
        (epoch, batch), lasts = frames[start], len(frames) - start
        all_of_them = _batches(len(frames))
        if len(frames) < len(self.frames):
            all_of_them += " that were read"
        if start == 0:
            text = f"{words} in all {all_of_them}"
        else:
            text = f"{words} {_where(frames[start], 'since')}, "
            text += f"the last {lasts} of {all_of_them}"
        self._add(kind, text, channel=channel, epoch=epoch, batch=batch, frames=lasts, value=value)

    def _look_into_maps(self, healthy: npt.NDArray[np.bool_]) -> None:
        """Saturated, unchanging and duplicate channels, from some of the maps."""
        frames, ranges = self.frames, self.ranges
        same = symptoms.since(symptoms.repeated(ranges) & ~symptoms.flat(ranges))
        suspects = {int(c): max(0, int(same[c]) - 1) for c in np.flatnonzero(same < len(frames))}
        cells = set(spread(frames, _SAMPLED))
        cells |= {frames[start] for start in sorted(set(suspects.values()))[:_SUSPECTS]}
        with np.errstate(all="ignore"):
            lowest, highest = ranges[..., 0], ranges[..., 1]
            bounds = np.stack(
                [np.fmin.reduce(lowest, axis=0), np.fmax.reduce(highest, axis=0)], axis=1
            )
        correlations = symptoms.Correlations(self.layer.channels)
        shares: list[npt.NDArray[np.float64]] = []
        prints: list[dict[int, int]] = []
        read: list[Cell] = []
        middle = len(cells) // 2
        for place, cell in enumerate(sorted(cells)):
            maps = self._read(self.series, cell)
            if maps is None:
                continue
            read.append(cell)
            shares.append(symptoms.at_bound(maps, bounds))
            prints.append({c: zlib.crc32(maps[c].tobytes()) for c in suspects})
            if place >= middle:
                correlations.add(maps)
        self.found.sampled = read
        if not read:
            self.found.remarks.append("every frame that was looked at is damaged")
            return
        self._find_saturated(np.stack(shares), bounds, healthy)
        unchanging = {
            channel: start
            for channel, start in suspects.items()
            if _is_unchanging(channel, frames[start], read, prints) and self._input_changes(start)
        }
        self._add_unchanging("the same map though the input changes", unchanging, frames)
        if not correlations.possible and self.layer.channels > 1:
            self.found.remarks.append("too many channels to look for duplicates")
        for channel, other, value in correlations.alike():
            if healthy[channel] and healthy[other]:
                text = f"like channel {other}, correlation {value:.3f}"
                self._add("duplicate", text, channel=channel, value=value, like=other)

    def _find_saturated(
        self,
        shares: npt.NDArray[np.float64],
        bounds: Float32Array,
        healthy: npt.NDArray[np.bool_],
    ) -> None:
        """From the shares of values at the bounds, (frames, C, 2), in the frames that were read."""
        read = self.found.sampled
        beyond = shares > symptoms.SATURATED  # (frames, C, 2)
        # Of fewer values all would have to be at a bound, and a small map is zero by chance often.
        large = math.prod(self.layer.shape) // self.layer.channels >= _FEWEST_SATURATED
        several = (bounds[:, 0] < bounds[:, 1]) & large
        share = (beyond.any(axis=2) & several).mean(axis=1)
        self.found.saturated = dict(zip(read, share.tolist(), strict=True))
        for end, word in enumerate(("smallest", "largest")):
            since = symptoms.since(beyond[:, :, end])
            for channel in np.flatnonzero((since < len(read)) & healthy & several).tolist():
                start = int(since[channel])
                mean = 100 * float(shares[start:, channel, end].mean())
                value = float(bounds[channel, end])
                words = f"{mean:.1f} % of the values at its {word} one, {number(value)},"
                self._add_since("saturated", words, channel, start, read, value)

    def _input_changes(self, start: int) -> bool:
        """Whether the input pictures differ from that frame on; taken to be so where unknown."""
        cells = self.frames[start:]
        if self.run.probe_number is not None:
            return True
        sums = self.run.batches.get("input_checksum")
        if sums is not None and all(sums[cell] for cell in cells):
            return len({int(sums[cell]) for cell in cells}) > 1
        inputs = self.run.inputs
        if not inputs:
            return True
        try:
            images = [inputs[cell] for cell in spread(cells, 4)]
        except DamagedError:
            return True
        return any(not np.array_equal(images[0], image) for image in images[1:])

    def _add_unchanging(self, words: str, channels: dict[int, int], frames: Sequence[Cell]) -> None:
        if len(channels) < self.layer.channels or self.layer.channels == 1:
            for channel, start in channels.items():
                self._add_since("unchanging", words, channel, start, frames)
            return
        start = max(channels.values())
        epoch, batch = frames[start]
        text = f"every channel: {words}, {_where(frames[start], 'since')}"
        lasts = len(frames) - start
        self._add("unchanging", text, epoch=epoch, batch=batch, frames=lasts)

    def _look_for_unchanging_in_probe(self, series: Series) -> None:
        """Channels that put out the same for the fixed image however long training goes on."""
        frames = series.frames
        if len(frames) < symptoms.SHORTEST or series.layer.shape != self.layer.shape:
            return
        known = {found.channel for found in self.found.findings if found.kind != "duplicate"}
        if None in known and any(f.kind == "unchanging" for f in self.found.findings):
            return
        ranges = self._ranges(series, frames)
        since = symptoms.since(symptoms.repeated(ranges) & ~symptoms.flat(ranges))
        suspects = {
            int(channel): max(0, int(since[channel]) - 1)
            for channel in np.flatnonzero(since < len(frames))
            if channel not in known
        }
        starts = sorted({frames[start] for start in suspects.values()})[:_SUSPECTS]
        read: list[Cell] = []
        prints: list[dict[int, int]] = []
        for cell in sorted({*spread(frames, 8), *starts}) if suspects else []:
            maps = self._read(series, cell)
            if maps is not None:
                read.append(cell)
                prints.append({c: zlib.crc32(maps[c].tobytes()) for c in suspects})
        unchanging = {
            channel: start
            for channel, start in suspects.items()
            if _is_unchanging(channel, frames[start], read, prints)
        }
        words = f"the same map of probe image {series.layer.probe} while the network trains"
        self._add_unchanging(words, unchanging, frames)

    def _measure_change(self) -> None:
        """How far the layer moved between the last batches of the epochs."""
        series, frames = self.series, self.frames
        if self.probe is not None and self.probe.layer.shape == self.layer.shape:
            self.found.measure, frames = "probe maps", self.probe.frames
        elif self.layer.kernel is not None:
            self.found.measure = "kernels"
        last = {epoch: place for place, (epoch, _) in enumerate(frames)}
        ends = [(place, 0) for place in last.values()]
        if len(ends) < 2:
            ends = spread([(place, 0) for place in range(len(frames))], _POINTS_OF_EPOCH)
        places = [place for place, _ in spread(ends, _POINTS)]
        previous: tuple[Cell, npt.NDArray[np.floating]] | None = None
        before = -1
        for place in places:
            values: npt.NDArray[np.floating] | None
            if self.found.measure == "probe maps":
                assert self.probe is not None
                values = self._read(self.probe, frames[place])
            elif self.found.measure == "kernels":
                values = self._kernels(series, frames[place])
            else:  # the mean of what lies in between, since each batch has another picture
                values = _mean(self.ranges[before + 1 : place + 1])
                before = place
            if values is None:
                continue
            if previous is not None:
                value = symptoms.relative_change(previous[1], values)
                self.found.changes.append(Change(previous[0], frames[place], value))
            previous = frames[place], values
        changes = self.found.changes
        if self.found.measure == "kernels" and changes and not any(one.value for one in changes):
            first, end = changes[0].start, changes[-1].end
            self._add(
                "unchanging",
                f"the kernels are the same {_where(end, 'in')} as {_where(first, 'in')}",
                epoch=first[0],
                batch=first[1],
            )

    def _kernels(self, series: Series, cell: Cell) -> Float16Array | None:
        try:
            return series.kernels(*cell)
        except DamagedError:
            self.damaged.add((f"kernels/{series.name}", cell))
            return None


def _is_unchanging(
    channel: int, start: Cell, read: Sequence[Cell], prints: Sequence[dict[int, int]]
) -> bool:
    """Whether all maps of the channel that were read since then have one checksum."""
    later = [each[channel] for cell, each in zip(read, prints, strict=True) if cell >= start]
    return len(later) > 1 and len(set(later)) == 1


def _mean(ranges: Float32Array) -> npt.NDArray[np.float64]:
    """The mean over frames of float32 (frames, C, 2), without those that are NaN."""
    known = ~np.isnan(ranges)
    total = np.where(known, ranges, 0).sum(axis=0, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        mean: npt.NDArray[np.float64] = total / known.sum(axis=0)
    return mean


def _where(cell: Cell, word: str) -> str:
    return f"{word} epoch {cell[0]} batch {cell[1]}"


def _batches(number: int) -> str:
    return f"{number:,} batch{'' if number == 1 else 'es'}"


def _channels(numbers: Sequence[int]) -> str:
    return f"channel{'' if len(numbers) == 1 else 's'} {in_words(numbers)}"
