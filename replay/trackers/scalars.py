"""The numbers of a recording, by step, as a tracker draws them."""

from __future__ import annotations

import numpy as np

from replay.recording import Recording
from replay.schema import Cell
from replay.trackers.interface import Point

_NOT_DRAWN = {"recorded", "step", "time", "label", "prediction", "missing", "input_checksum"}
_COUNTS = ("nan", "inf")  # which are zero unless something is wrong


def step_of(recording: Recording, cell: Cell) -> int:
    """Returns the step of a batch: the batches trained before it, recorded or not.

    A file that does not say has the number of the frame instead.
    """
    steps = recording.batches.get("step")
    if steps is not None and steps[cell] >= 0:
        return int(steps[cell])
    return int(recording.order[cell]) - 1


def read_points(recording: Recording, cells: list[Cell]) -> list[Point]:
    """Returns the numbers that were kept with some batches, in the order of their steps.

    Those that were not logged with a batch are left out, and so are counts of NaN and infinite
    values where a run has none.

    Args:
        recording: An open recording.
        cells: (epoch, batch) of the batches.
    """
    fields = {
        name: values
        for name, values in recording.batches.items()
        if name not in _NOT_DRAWN and (name not in _COUNTS or (values > 0).any())
    }
    times = recording.batches.get("time")
    points = []
    for cell in cells:
        values: dict[str, float] = {"epoch": float(cell[0])}
        for name, of_all in fields.items():
            if not np.isnan(value := float(of_all[cell])):
                values[name] = value
        time = None if times is None or not np.isfinite(times[cell]) else float(times[cell])
        points.append(Point(step_of(recording, cell), time, values))
    return sorted(points, key=lambda point: point.step)
