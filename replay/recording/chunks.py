"""Reads compressed datasets chunk by chunk, past HDF5: see `chunk_filters`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from replay.recording.chunk_filters import Pipeline
from replay.recording.plain_chunks import AT_ONCE, find_written, inside

_MOST_CHUNKS = 200_000  # of one region; a recording has far larger ones
_SLACK = 4096  # bytes by which what cannot be compressed may grow


def most_bytes(size: int) -> int:
    """Returns how many bytes a chunk of so many may take in a file."""
    return size + size // 64 + _SLACK


def check_frame_chunks(dataset: h5py.Dataset) -> None:
    """Makes sure that each chunk is a frame.

    Raises:
        ValueError: Chunks are something else.
    """
    if dataset.chunks != (1, 1, *dataset.shape[2:]):
        raise ValueError(f"{dataset.name!r} has chunks of {dataset.chunks}; expected one a frame")


def read_chunk(
    dataset: h5py.Dataset, pipeline: Pipeline, at: tuple[int, ...]
) -> npt.NDArray[Any] | None:
    """Returns one chunk, in its full shape; None where it was never written.

    Args:
        dataset: A chunked dataset.
        pipeline: Its filters.
        at: Where the chunk begins.

    Raises:
        ValueError: It is larger than its shape says, or damaged.
    """
    size = math.prod(dataset.chunks) * dataset.dtype.itemsize
    room = np.empty(most_bytes(size), np.uint8)
    try:
        left_out, stored = dataset.id.read_direct_chunk(at, out=room)
    except (RuntimeError, ValueError) as error:
        if dataset.id.get_chunk_info_by_coord(at).byte_offset is None:
            return None  # where there is no chunk at all, h5py finds one of any size
        if isinstance(error, RuntimeError):
            raise
        raise ValueError(
            f"refused: a chunk takes more bytes in the file than the {size:,} of its shape"
        ) from error
    values = pipeline.decode(stored, left_out, size)
    chunk: npt.NDArray[Any] = values.view(dataset.dtype).reshape(dataset.chunks)
    return chunk


def read_region(
    dataset: h5py.Dataset, pipeline: Pipeline, starts: tuple[int, ...], stops: tuple[int, ...]
) -> npt.NDArray[Any]:
    """Returns a part of a dataset; its fill value where nothing was written.

    Args:
        dataset: A chunked dataset.
        pipeline: Its filters.
        starts: The first index of each axis.
        stops: The end of each axis, excluded; at most the dataset's size.

    Raises:
        ValueError: A chunk is larger than its shape says or damaged, or there are too many.
    """
    shape = tuple(max(0, stop - start) for start, stop in zip(starts, stops, strict=True))
    found = np.full(shape, dataset.fillvalue, dataset.dtype)
    if not found.size:
        return found
    axes = list(zip(starts, stops, dataset.chunks, strict=True))
    places = [range(start // step * step, stop, step) for start, stop, step in axes]
    every: Iterable[tuple[int, ...]] = itertools.product(*places)
    count = math.prod(map(len, places))
    if count > AT_ONCE and (written := find_written(dataset)) is not None:
        every = list(map(tuple, inside(written, starts, stops, dataset.chunks).tolist()))
        count = len(every)
    if count > _MOST_CHUNKS:
        raise ValueError(f"refused: more than {_MOST_CHUNKS:,} chunks in {shape} values")
    for at in every:
        chunk = read_chunk(dataset, pipeline, at)
        if chunk is None:
            continue
        into, of = [], []
        for place, (start, stop, step) in zip(at, axes, strict=True):
            first, last = max(place, start), min(place + step, stop)
            into.append(slice(first - start, last - start))
            of.append(slice(first - place, last - place))
        found[tuple(into)] = chunk[tuple(of)]
    return found


def read_own_chunk(
    dataset: h5py.Dataset, pipeline: Pipeline | None, epoch: int, batch: int
) -> npt.NDArray[Any] | None:
    """Returns a frame of a dataset whose chunks are frames; None where it was never written.

    Args:
        dataset: (epoch, batch, ...).
        pipeline: Its filters; None for those that keep the size.
        epoch: The frame's epoch.
        batch: The frame's batch.

    Raises:
        ValueError: The chunks are not frames, or this one is damaged.
    """
    check_frame_chunks(dataset)
    if pipeline is None:
        if dataset.id.get_create_plist().get_nfilters():  # HDF5 undoes them
            return np.asarray(dataset[epoch, batch])
        pipeline = Pipeline((), dataset.dtype.itemsize)
    chunk = read_chunk(dataset, pipeline, (epoch, batch, *(0,) * (dataset.ndim - 2)))
    return None if chunk is None else np.asarray(chunk[0, 0])
