"""Measures how far a layer moves while the network trains."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from replay.diagnosis import symptoms
from replay.diagnosis.intact_frames import IntactFrames
from replay.diagnosis.report import Change, Finding, LayerHealth, format_place
from replay.maps.axes import spread
from replay.schema import Cell, Float32Array

OF_THE_FIXED_IMAGE = "the fixed image's maps"

_POINTS = 65  # between which change is measured
_POINTS_OF_EPOCH = 17  # likewise where there is but one epoch
_KERNELS = 5  # that are compared where the change is not theirs


def measure_change(found: LayerHealth, intact: IntactFrames, probe: IntactFrames | None) -> None:
    """Adds how far the layer moved between the last batches of the epochs, and what was measured.

    Args:
        found: What is known of the layer so far.
        intact: Its frames.
        probe: Its maps of a fixed image; None where there are none.
    """
    frames = intact.frames
    if probe is not None and probe.layer.shape == found.shape:
        found.measure, frames = OF_THE_FIXED_IMAGE, probe.frames
    elif intact.layer.kernel is not None:
        found.measure = "kernels"
    previous: tuple[Cell, npt.NDArray[np.floating]] | None = None
    before = -1
    for place in _places(frames):
        values: npt.NDArray[np.floating] | None
        if found.measure == OF_THE_FIXED_IMAGE:
            assert probe is not None
            values = probe.maps(frames[place])
        elif found.measure == "kernels":
            values = intact.kernels(frames[place])
        else:  # the mean of what lies in between, since each batch has another picture
            values = _mean(intact.ranges[before + 1 : place + 1])
            before = place
        if values is None:
            continue
        if previous is not None:
            value = symptoms.relative_change(previous[1], values)
            found.changes.append(Change(previous[0], frames[place], value))
        previous = frames[place], values


def _places(frames: list[Cell]) -> list[int]:
    """Returns the places of the epochs' last frames; evenly spaced frames of an only epoch."""
    last = {epoch: place for place, (epoch, _) in enumerate(frames)}
    ends = [(place, 0) for place in last.values()]
    if len(ends) < 2:
        ends = spread([(place, 0) for place in range(len(frames))], _POINTS_OF_EPOCH)
    return [place for place, _ in spread(ends, _POINTS)]


def _mean(ranges: Float32Array) -> npt.NDArray[np.float64]:
    """Returns the mean over frames of float32 (frames, C, 2), without those that are NaN."""
    known = ~np.isnan(ranges)
    total = np.where(known, ranges, 0).sum(axis=0, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        mean: npt.NDArray[np.float64] = total / known.sum(axis=0)
    return mean


def unmoved_kernels(found: LayerHealth, intact: IntactFrames) -> list[Finding]:
    """Returns a finding if the kernels stayed as they were, whatever the maps did.

    Of two batches they may be the same for many a reason: a warm-up begins with a rate of 0.

    Args:
        found: What is known of the layer so far: its changes, if they are those of kernels.
        intact: Its frames.
    """
    if intact.layer.kernel is None or len(intact.frames) < symptoms.SHORTEST:
        return []
    if found.measure == "kernels":
        cells = [cell for one in found.changes for cell in (one.start, one.end)]
        same = not any(change.value for change in found.changes)
    else:
        read = [(cell, intact.kernels(cell)) for cell in spread(intact.frames, _KERNELS)]
        whole = [(cell, kernels) for cell, kernels in read if kernels is not None]
        cells = [cell for cell, _ in whole]
        same = all(np.array_equal(whole[0][1], kernels) for _, kernels in whole)
    if len(cells) < 2 or not same:
        return []
    first, end = (format_place(cell, "in") for cell in (cells[0], cells[-1]))
    text = f"the kernels are the same {end} as {first}"
    return [Finding("unchanging", text, found.name, None, *cells[0])]
