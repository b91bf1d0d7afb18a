"""The numbers that a recording keeps of every batch, such as the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.schema import Cell


def read_losses(
    fields: Mapping[str, npt.NDArray[Any]], cells: Sequence[Cell]
) -> npt.NDArray[np.float64] | None:
    """Returns the loss of each of some frames.

    A loss that is NaN throughout was not logged; one that became NaN is news.

    Args:
        fields: The fields of a recording, see `Recording.batches`.
        cells: (epoch, batch) of the frames, at least one.

    Returns:
        float64 (frames,), or None where no loss was logged.
    """
    if "loss" not in fields:
        return None
    losses: npt.NDArray[np.float64] = fields["loss"][tuple(np.array(cells).T)].astype(np.float64)
    return None if np.isnan(losses).all() else losses
