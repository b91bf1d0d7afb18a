"""Looks for gradients that vanish or explode, told from the largest value of each frame.

The size of a gradient is its largest value times the square root of how many values it has, as its
norm would grow with them: a large map shares among its pixels what a small one has in each. How
well the network does on a picture changes the gradients of all layers alike, so that a layer is
compared with those behind it in the same batch, and in time only with the largest that there was at
first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from replay.diagnosis import symptoms
from replay.diagnosis.report import (
    Finding,
    LayerHealth,
    finding_to_the_end,
    format_batches,
    format_place,
)
from replay.maps.axes import spread
from replay.recording import Recording
from replay.schema import Cell, FileError

VANISHED = 1e-4  # of what a layer behind it gets: less than that has vanished
EXPLODED = 1e4  # likewise: more than that has exploded
GROWN = 1e3  # of the largest at first: more than that has exploded
_EARLY = 0.1  # of the batches are those at first
_FEWEST_EARLY = 3
_MOST_WRITTEN = 10**12
_HISTORY = 240  # frames of which the size is kept

Sizes = npt.NDArray[np.float64]


def look_for_gradients(layers: Sequence[LayerHealth], run: Recording) -> list[Finding]:
    """Finds vanishing and exploding gradients, and adds to each layer how large its own were.

    Args:
        layers: What is known of the layers so far, in their order.
        run: The recording.

    Returns:
        The findings, without advice; they belong to the layers that they name.
    """
    names = run.gradients
    known: list[LayerHealth] = []
    columns: list[Sizes] = []
    broken: list[Finding] = []
    for layer in layers:
        if layer.name not in names:
            continue
        gradient = run.gradient(layer.name)
        try:
            largest, present = gradient.largest, gradient.present
        except FileError as error:
            layer.remarks.append(f"its gradients cannot be read: {error}")
            continue
        sizes = largest * math.sqrt(max(1, math.prod(layer.shape)))
        layer.gradients = {
            cell: float(sizes[cell])
            for cell in spread(gradient.frames, _HISTORY)
            if np.isfinite(sizes[cell])
        }
        broken += _not_finite(layer.name, present & ~np.isfinite(largest), int(present.sum()))
        known.append(layer)
        columns.append(np.array([sizes[cell] for cell in run.frames]))
    if not known:
        return broken
    with np.errstate(all="ignore"):
        return broken + _compare(known, run.frames, np.stack(columns, axis=1))


def _compare(layers: Sequence[LayerHealth], frames: list[Cell], sizes: Sizes) -> list[Finding]:
    """Returns what the sizes of all layers tell, float64 (frames, layers), NaN where missing."""
    found: list[Finding] = []
    told = np.nan_to_num(sizes).max(axis=1) > 0  # of a perfect answer there is no gradient
    kept = [cell for cell, tells in zip(frames, told, strict=True) if tells]
    sizes = sizes[told]
    for place, layer in enumerate(layers):
        own = sizes[:, place]
        behind = np.fmax.reduce(sizes[:, place + 1 :], axis=1, initial=np.nan)
        ratio = own / np.where(behind > 0, behind, np.nan)
        vanished = _lasting(ratio < VANISHED)
        if vanished < len(kept):
            factor = float(np.nanmedian(ratio[vanished:]))
            times = "zero, other than" if factor == 0 else f"{_times(1 / factor)} smaller than"
            sign = f"gradients {times} behind it"
            found.append(finding_to_the_end(layer, "vanishing", sign, None, vanished, kept, factor))
        exploded = _lasting(ratio > EXPLODED)
        if exploded < len(kept):
            factor = float(np.nanmedian(ratio[exploded:]))
            sign = f"gradients {_times(factor)} larger than behind it"
            found.append(finding_to_the_end(layer, "exploding", sign, None, exploded, kept, factor))
            continue
        found += _grown(layer, own, kept)
    return found


def _grown(layer: LayerHealth, own: Sizes, frames: Sequence[Cell]) -> list[Finding]:
    """Returns a finding where gradients have become far larger than they were at first."""
    early = max(_FEWEST_EARLY, math.ceil(_EARLY * len(own)))
    if len(own) <= early or not np.isfinite(own[:early]).any():
        return []
    growth = own / np.nanmax(own[:early])
    signs = np.asarray(growth > GROWN)
    if not signs.any():
        return []
    since = _lasting(signs)
    if since < len(frames):
        factor = float(np.nanmedian(growth[since:]))
        sign = f"gradients {_times(factor)} larger than at first"
        return [finding_to_the_end(layer, "exploding", sign, None, since, frames, factor)]
    factor, first = float(np.nanmax(growth)), frames[int(signs.argmax())]
    text = (
        f"gradients up to {_times(factor)} larger than at first in {int(signs.sum())} of "
        f"{format_batches(len(frames))}, {format_place(first, 'first in')}"
    )
    return [Finding("exploding", text, layer.name, None, *first, int(signs.sum()), factor)]


def _not_finite(name: str, where: npt.NDArray[np.bool_], batches: int) -> list[Finding]:
    """Returns a finding where whole frames of gradients are NaN or infinite."""
    if not where.any():
        return []
    epoch, batch = (int(number) for number in np.argwhere(where)[0])
    text = (
        f"gradients without any finite value in {int(where.sum())} of {format_batches(batches)}, "
        f"{format_place((epoch, batch), 'first in')}"
    )
    return [Finding("exploding", text, name, None, epoch, batch, int(where.sum()), math.inf)]


def _lasting(signs: npt.NDArray[np.bool_]) -> int:
    """Returns from which frame on a sign holds to the end; the number of frames where it does not.

    Args:
        signs: bool (frames,).
    """
    return int(symptoms.since(signs[:, None])[0])


def _times(factor: float) -> str:
    """Returns a factor in words, with one digit that counts: `20,000 times`."""
    if not factor < _MOST_WRITTEN:
        return f"more than {_MOST_WRITTEN:,} times"
    power = 10 ** max(0, math.floor(math.log10(max(factor, 1))))
    return f"{round(factor / power) * power:,} times"
