"""Where the frames of a run stand along a line of time, and where some are missing between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from replay.schema import Cell

_NEIGHBORS = 2  # distances on each side that tell how far apart frames usually are there
_MISSING = 2.0  # times as far as that is a gap
_STRETCH = (
    2  # batches: a single one is not missed, which a thinning schedule leaves out now and then
)
_RAGGED = 0.1  # of an epoch: by so much epochs may differ in length
_LEAST = 0.025  # of the axis: a gap that is seen
_MOST = 0.5  # of the axis' recorded part: all gaps together


class TimeAxis:
    """Frames in their order, equally far apart, with a gap where epochs or batches are missing.

    A schedule that records every tenth batch or epoch, or ever fewer of them, has no gaps: missing
    is what lies between frames that are twice as far apart as those around.

    Args:
        cells: The (epoch, batch) of every frame that there is, in order, at least one.

    Attributes:
        places: Where each frame stands, from 0 to 1, float64 (frames,).
        gaps: Whether frames are missing before each one, bool (frames,).
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        missing = _missing_before(cells)
        self.gaps: npt.NDArray[np.bool_] = missing > 0
        count = len(cells)
        extra = np.where(self.gaps, np.maximum(missing, _LEAST * count), 0.0)
        extra *= min(1.0, _MOST * count / max(extra.sum(), 1e-9))
        steps = np.append(0.0, 1.0 + extra[1:])
        places: npt.NDArray[np.float64] = steps.cumsum() / max(steps.sum(), 1.0)
        self.places = places


def _missing_before(cells: Sequence[Cell]) -> npt.NDArray[np.float64]:
    """Returns about how many frames are missing before each one, float64 (frames,)."""
    epochs, batches = np.array(cells, np.float64).T
    inside = np.diff(batches)[np.diff(epochs) == 0]
    length = batches.max() + (float(np.median(inside)) if inside.size else 1.0)  # of an epoch
    steps = np.diff(epochs * length + batches)
    usual = _usual(steps)
    lost = steps / np.maximum(usual, 1.0) - 1
    lost[(steps < _MISSING * usual) | (steps < usual + _STRETCH)] = 0.0

    turns = np.flatnonzero(np.diff(epochs))  # the last frame of each epoch but the last
    apart = np.diff(epochs)[turns]
    usually = _usual(apart) if len(apart) > 1 else np.ones(len(apart))
    whole = apart > 1  # epochs between which there are others
    ragged = ~whole & (steps[turns] < usual[turns] + _RAGGED * length)
    lost[turns[ragged | (whole & (apart < _MISSING * usually))]] = 0.0
    frames = len(cells) / (len(turns) + 1)
    lost[turns] = np.where(whole & (lost[turns] > 0), (apart / usually - 1) * frames, lost[turns])
    return np.append(0.0, lost)


def _usual(steps: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns for each distance the median of those around it, at least 1."""
    if len(steps) < 2:
        return steps
    padded = np.pad(steps, _NEIGHBORS, constant_values=np.nan)
    offsets = [each for each in range(2 * _NEIGHBORS + 1) if each != _NEIGHBORS]
    around = np.stack([padded[each : each + len(steps)] for each in offsets])
    usual: npt.NDArray[np.float64] = np.maximum(1.0, np.nanmedian(around, axis=0))
    return usual
