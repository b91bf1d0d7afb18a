"""Where the values of a recording lie in its file."""

from __future__ import annotations

import math

import h5py


def find_value(dataset: h5py.Dataset, epoch: int, batch: int) -> tuple[int, int]:
    """Returns the offset in the file, and the bytes, of what a dataset has of one batch.

    Args:
        dataset: (epoch, batch, ...), whose chunks have all of the other axes, and no filter.
        epoch: The epoch.
        batch: The batch; something was written in its chunk.
    """
    epochs, batches = dataset.chunks[:2]
    row, column = epoch % epochs, batch % batches
    origin = (epoch - row, batch - column, *(0,) * (dataset.ndim - 2))
    size = dataset.dtype.itemsize * math.prod(dataset.shape[2:])
    start = dataset.id.get_chunk_info_by_coord(origin).byte_offset
    return start + (row * batches + column) * size, size
