"""Reads datasets of many chunks, with no more memory than there are values.

HDF5 keeps some kilobytes for each chunk of a selection, also of those that were never written: the
numbers of two batches, a million epochs apart, would take gigabytes and half a minute.
"""

from __future__ import annotations

import math
from array import array
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

AT_ONCE = 1_000
"""Chunks of one selection: as many as HDF5 is about the fastest with."""


def read_plain(
    dataset: h5py.Dataset, starts: tuple[int, ...], stops: tuple[int, ...]
) -> npt.NDArray[Any]:
    """Returns a part of a dataset; its fill value where nothing was written.

    Args:
        dataset: One that HDF5 reads, without filters that expand what is stored.
        starts: The first index of each axis.
        stops: The end of each axis, excluded; at most the dataset's size.
    """
    steps = dataset.chunks
    if steps is None or _count(starts, stops, steps) <= AT_ONCE:
        part: npt.NDArray[Any] = dataset[_slices(starts, stops)]
        return part
    shape = [max(0, stop - start) for start, stop in zip(starts, stops, strict=True)]
    found = np.full(shape, dataset.fillvalue, dataset.dtype)
    waiting = [(starts, stops, find_written(dataset))]
    while waiting:
        low, high, written = waiting.pop()
        if written is not None:
            written = inside(written, low, high, steps)
            if not len(written):
                continue
        if _count(low, high, steps) <= AT_ONCE:
            into = _slices(*(np.subtract(at, starts).tolist() for at in (low, high)))
            found[into] = dataset[_slices(low, high)]
            continue
        axis, middle = _halve(low, high, steps)
        ends = (*high[:axis], middle, *high[axis + 1 :])
        begins = (*low[:axis], middle, *low[axis + 1 :])
        waiting += [(low, ends, written), (begins, high, written)]
    return found


def _slices(starts: Any, stops: Any) -> tuple[slice, ...]:
    return tuple(slice(start, stop) for start, stop in zip(starts, stops, strict=True))


def _spans(
    starts: tuple[int, ...], stops: tuple[int, ...], steps: tuple[int, ...]
) -> list[tuple[int, int]]:
    """Returns the first chunk along each axis, and the one after the last."""
    axes = zip(starts, stops, steps, strict=True)
    return [(start // step, -(-stop // step)) for start, stop, step in axes]


def _count(starts: tuple[int, ...], stops: tuple[int, ...], steps: tuple[int, ...]) -> int:
    """Returns how many chunks a part of a dataset has."""
    return math.prod(max(0, last - first) for first, last in _spans(starts, stops, steps))


def _halve(
    starts: tuple[int, ...], stops: tuple[int, ...], steps: tuple[int, ...]
) -> tuple[int, int]:
    """Returns the axis with the most chunks, and where the second half of them begins."""
    spans = _spans(starts, stops, steps)
    axis = max(range(len(spans)), key=lambda each: spans[each][1] - spans[each][0])
    return axis, sum(spans[axis]) // 2 * steps[axis]


def find_written(dataset: h5py.Dataset) -> npt.NDArray[np.int64] | None:
    """Returns where the chunks begin that there are, int64 (N, axes); None if nobody can tell.

    Args:
        dataset: A chunked dataset.
    """
    if not hasattr(dataset.id, "chunk_iter"):  # of an HDF5 before 1.12.3
        return None
    found = array("q")
    dataset.id.chunk_iter(lambda chunk: found.extend(chunk.chunk_offset))
    return np.array(found, np.int64).reshape(-1, dataset.ndim)


def inside(
    written: npt.NDArray[np.int64],
    starts: tuple[int, ...],
    stops: tuple[int, ...],
    steps: tuple[int, ...],
) -> npt.NDArray[np.int64]:
    """Returns those of some chunks that have something of a part of their dataset.

    Args:
        written: From `find_written`.
        starts: The first index of each axis.
        stops: The end of each axis, excluded.
        steps: The chunks' shape.
    """
    there = (written + steps > starts).all(axis=1) & (written < stops).all(axis=1)
    return written[there]


def written_epochs(dataset: h5py.Dataset) -> npt.NDArray[np.int64]:
    """Returns the epochs of which something may have been written, int64 (N,), ascending.

    Args:
        dataset: (epoch, batch, ...).
    """
    written = None if dataset.chunks is None else find_written(dataset)
    if written is None:
        return np.arange(len(dataset))
    firsts = np.unique(written[:, 0])
    epochs = (firsts[:, None] + np.arange(dataset.chunks[0])).ravel()
    return epochs[epochs < len(dataset)]
