"""Chunks of a file: which epochs share one, and how much is kept of them in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

CHUNK_SLOTS = 97
"""Places of HDF5's table of a dataset's chunks; its own 8,191 take 64 kB for each open dataset."""


def group_epochs(epochs: npt.ArrayLike, together: int) -> Iterator[tuple[int, int]]:
    """Yields epochs chunk by chunk: the first of them in each, and the one after the last.

    Args:
        epochs: Their numbers, ascending.
        together: How many epochs share a chunk.
    """
    numbers = np.asarray(epochs, np.int64)
    for each in np.split(numbers, np.flatnonzero(np.diff(numbers // together)) + 1):
        if each.size:
            yield int(each[0]), int(each[-1]) + 1
