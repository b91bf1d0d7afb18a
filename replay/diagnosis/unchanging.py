"""Looks for channels that put out the same map though the input, or the network, changes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from replay.diagnosis import symptoms
from replay.diagnosis.intact_frames import IntactFrames
from replay.diagnosis.report import Finding, LayerHealth, finding_to_the_end, format_place
from replay.maps.axes import spread
from replay.recording import Recording
from replay.schema import Cell, DamagedError, Float16Array, Float32Array
from replay.schema.crc32 import crc32

_STARTS = 8  # frames that are read because a channel seems to stop changing there
_INPUTS = 4  # input pictures that are compared with each other
_OF_PROBE = 8  # frames of a fixed image that are read


class Suspects:
    """Channels whose ranges stay the same to the end; checksums tell whether the maps do, too.

    Args:
        frames: (epoch, batch) in the order of time.
        ranges: Of these frames, float32 (frames, C, 2).
        known: Channels that are not suspected, whatever their ranges are.

    Attributes:
        frames: As given.
    """

    def __init__(
        self, frames: Sequence[Cell], ranges: Float32Array, known: Collection[int | None] = ()
    ) -> None:
        self.frames = frames
        since = symptoms.since(symptoms.repeated(ranges) & ~symptoms.flat(ranges))
        self._starts = {
            channel: max(0, int(since[channel]) - 1)
            for channel in np.flatnonzero(since < len(frames)).tolist()
            if channel not in known
        }
        self._read: list[tuple[Cell, dict[int, int]]] = []  # with a checksum of each channel

    def __bool__(self) -> bool:
        return bool(self._starts)

    @property
    def firsts(self) -> list[Cell]:
        """The frames, a bounded number, from which on a channel stays the same."""
        return [self.frames[start] for start in sorted(set(self._starts.values()))[:_STARTS]]

    def add(self, cell: Cell, maps: Float16Array) -> None:
        """Takes in a frame, float16 (C, values)."""
        self._read.append((cell, {c: crc32(maps[c].tobytes()) for c in self._starts}))

    def confirmed(self) -> dict[int, int]:
        """Returns the channels whose maps stay the same, and the number of the frame since when."""
        return {c: start for c, start in self._starts.items() if self._is_one(c, start)}

    def _is_one(self, channel: int, start: int) -> bool:
        later = [sums[channel] for cell, sums in self._read if cell >= self.frames[start]]
        return len(later) > 1 and len(set(later)) == 1


def unchanging(found: LayerHealth, suspects: Suspects, run: Recording) -> list[Finding]:
    """Returns a finding for each channel that put out the same map for different pictures.

    Args:
        found: What is known of the layer so far.
        suspects: Of the layer's maps; frames have been added.
        run: The recording, which has the pictures.
    """
    frames = suspects.frames
    channels = {
        channel: start
        for channel, start in suspects.confirmed().items()
        if _input_changes(run, frames[start:])
    }
    return _findings(found, "the same map though the input changes", channels, frames)


def unchanging_in_probe(found: LayerHealth, probe: IntactFrames) -> list[Finding]:
    """Returns a finding for each channel whose map of the fixed image stays the same.

    Args:
        found: What is known of the layer so far; channels with findings are left out.
        probe: The layer's maps of the fixed image.
    """
    frames = probe.frames
    if len(frames) < symptoms.SHORTEST or probe.layer.shape != found.shape:
        return []
    known = {one.channel for one in found.findings if one.kind != "duplicate"}
    if None in known and any(one.kind == "unchanging" for one in found.findings):
        return []
    suspects = Suspects(frames, probe.ranges, known)
    for cell in sorted({*spread(frames, _OF_PROBE), *suspects.firsts}) if suspects else []:
        maps = probe.maps(cell)
        if maps is not None:
            suspects.add(cell, maps)
    sign = f"the same map of fixed image {probe.layer.probe} while the network trains"
    return _findings(found, sign, suspects.confirmed(), frames)


def _input_changes(run: Recording, cells: Sequence[Cell]) -> bool:
    """Returns whether the input pictures of some frames differ; True where that is unknown."""
    if run.probe_number is not None:
        return True
    sums = run.batches.get("input_checksum")
    if sums is not None and all(sums[cell] for cell in cells):
        return len({int(sums[cell]) for cell in cells}) > 1
    inputs = run.inputs
    if not inputs:
        return True
    try:
        images = [inputs[cell] for cell in spread(cells, _INPUTS)]
    except DamagedError:
        return True
    return any(not np.array_equal(images[0], image) for image in images[1:])


def _findings(
    found: LayerHealth, sign: str, channels: dict[int, int], frames: Sequence[Cell]
) -> list[Finding]:
    """Returns a finding for each channel, or one for the layer if all of its channels are such."""
    if len(channels) < found.channels or found.channels == 1:
        return [
            finding_to_the_end(found, "unchanging", sign, channel, start, frames)
            for channel, start in channels.items()
        ]
    start = max(channels.values())
    text = f"every channel: {sign}, {format_place(frames[start], 'since')}"
    lasts = len(frames) - start
    return [Finding("unchanging", text, found.name, None, *frames[start], lasts)]
