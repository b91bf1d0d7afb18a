"""Frames whose maps are written and whose small values wait for the commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from record.checksums import Checksums


@dataclass
class Pending:
    """A frame whose maps are written and whose small values wait for the commit."""

    epoch: int
    batch: int
    fields: dict[str, float]
    ranges: npt.NDArray[np.float32]
    checksums: Checksums


def in_rows(frames: Sequence[Pending]) -> list[list[Pending]]:
    """The frames in groups of one epoch each, batches ascending within a group."""
    runs: list[list[Pending]] = []
    for frame in frames:
        if runs and runs[-1][-1].epoch == frame.epoch and runs[-1][-1].batch < frame.batch:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return runs
