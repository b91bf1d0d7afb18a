"""Looks for channels that are dead, saturated, alike or not finite, and for how fast layers change.

Reads the ranges that lie beside the maps, and of the maps a bounded number of frames.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from replay.diagnosis import symptoms
from replay.diagnosis.advice import advise
from replay.diagnosis.attention_heads import examine_attention
from replay.diagnosis.detectors import (
    bounds_of,
    look_for_constants,
    look_for_not_finite,
    look_for_saturated,
    not_finite_in_all,
)
from replay.diagnosis.gradient_sizes import look_for_gradients
from replay.diagnosis.intact_frames import IntactFrames
from replay.diagnosis.movement import measure_change, unmoved_kernels
from replay.diagnosis.report import KINDS, Finding, Health, LayerHealth
from replay.diagnosis.unchanging import Suspects, unchanging, unchanging_in_probe
from replay.maps.axes import spread
from replay.recording import Recording, open_recording
from replay.schema import NOTE_OF_8_BITS, Cell
from replay.value_kinds import check_kinds

_CONSTANT = ("dead", "flat", "stuck")
_SAMPLED = 32  # frames of a layer that are read


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
    check_kinds(locals())
    if not isinstance(recording, Recording):
        with open_recording(recording) as run:
            return health(run, progress)
    recording.require_frames()
    damaged: set[tuple[str, Cell]] = set()
    everywhere = _with_advice(not_finite_in_all(recording))
    found = Health(recording.path, recording.frames, findings=everywhere)
    probe = recording.probe(0) if recording.probes and recording.probe_number is None else None
    for place, name in enumerate(recording.layers):
        shown = IntactFrames(probe, name, damaged) if probe is not None and name in probe else None
        found.layers.append(_examine(IntactFrames(recording, name, damaged), shown))
        if progress is not None:
            progress(place + 1, len(recording.layers))
    _add_gradients(found, recording)
    for layer in examine_attention(recording, damaged):
        layer.findings = _with_advice(layer.findings, layer.module)
        found.layers.append(layer)
    found.damaged = len(damaged)
    return found


def _add_gradients(found: Health, recording: Recording) -> None:
    """Adds what gradients tell to the layers, where there are any."""
    for one in _with_advice(look_for_gradients(found.layers, recording)):
        next(layer for layer in found.layers if layer.name == one.layer).findings.append(one)


def _examine(intact: IntactFrames, probe: IntactFrames | None) -> LayerHealth:
    """Looks for everything in one layer, of which there may be maps of a fixed image."""
    layer, frames = intact.layer, len(intact.frames)
    found = LayerHealth(layer.name, layer.module, layer.shape, layer.channels, frames)
    if NOTE_OF_8_BITS in layer.note:
        found.remarks.append(f"maps in {NOTE_OF_8_BITS}")
    if not frames:
        found.remarks.append("no frame was recorded")
        return found
    if frames < symptoms.SHORTEST:
        found.remarks.append("too few frames to tell what lasts")
    look_for_not_finite(found, intact)
    look_for_constants(found, intact)
    _look_into_maps(found, intact)
    measure_change(found, intact, probe)
    if found.measure == "kernels":
        found.findings += unmoved_kernels(found, intact)
    if probe is not None:
        found.findings += unchanging_in_probe(found, probe)
    if found.measure != "kernels" and not _stays(found):
        found.findings += unmoved_kernels(found, intact)
    found.findings.sort(key=lambda one: (KINDS.index(one.kind), one.channel or 0))
    found.findings = _with_advice(found.findings, found.module)
    return found


def _stays(found: LayerHealth) -> bool:
    """Returns whether it is known of the whole layer that it does not change."""
    return any(one.kind == "unchanging" and one.channel is None for one in found.findings)


def _with_advice(findings: list[Finding], module: str = "") -> list[Finding]:
    """Returns findings with what to do about each, in a layer that is such a module."""
    return [replace(one, advice=advise(one.kind, module, one.text, one.value)) for one in findings]


def _look_into_maps(found: LayerHealth, intact: IntactFrames) -> None:
    """Adds saturated, unchanging and duplicate channels, from some of the maps."""
    suspects, bounds = Suspects(intact.frames, intact.ranges), bounds_of(intact.ranges)
    correlations = symptoms.Correlations(found.channels)
    shares: list[npt.NDArray[np.float64]] = []
    cells = sorted({*spread(intact.frames, _SAMPLED), *suspects.firsts})
    for place, cell in enumerate(cells):
        maps = intact.maps(cell)
        if maps is None:
            continue
        found.sampled.append(cell)
        shares.append(symptoms.at_bound(maps, bounds))
        suspects.add(cell, maps)
        if place >= len(cells) // 2:
            correlations.add(maps)
    if not shares:
        found.remarks.append("every frame that was looked at is damaged")
        return
    constant = {one.channel for one in found.findings if one.kind in _CONSTANT}
    healthy = np.array([channel not in constant for channel in range(found.channels)], bool)
    look_for_saturated(found, np.stack(shares), bounds, healthy, intact)
    found.findings += unchanging(found, suspects, intact.run)
    if not correlations.possible and found.channels > 1:
        found.remarks.append("too many channels to look for duplicates")
    for channel, other, value in correlations.alike():
        if healthy[channel] and healthy[other]:
            text = f"like channel {other}, correlation {value:.3f}"
            alike = Finding("duplicate", text, found.name, channel, value=value, like=other)
            found.findings.append(alike)
