"""Writes frames as compressed chunks: worked on by all cores, written by one, in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from replay.output import available_cores
from replay.recording import Closing
from replay.recording.chunk_filters import Pipeline, add_filters, read_pipeline
from replay.recording.safe_file import FREE_BYTES, MOST_SHRUNK

_LEAST = 256  # bytes of a frame that is worth a filter
_AHEAD = 3  # chunks that wait, for each core


class FrameTarget:
    """A new dataset of (epoch, batch, ...), one chunk a frame.

    Args:
        file: The file that is being written.
        path: Where it lies.
        shape: (epochs, batches, ...).
        dtype: Of a value.
        fill: What stands where nothing was written.
        filter: One of `chunk_filters.FILTERS`.

    Attributes:
        dataset: The dataset.
        pipeline: What a frame goes through on its way into it.
    """

    def __init__(
        self,
        file: h5py.File,
        path: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        fill: float,
        filter: str,
    ) -> None:
        frame = shape[2:]
        self._frame_bytes = int(np.prod(frame, dtype=np.int64)) * dtype.itemsize
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((1, 1, *frame))
        properties.set_obj_track_times(False)  # equal data, equal bytes
        properties.set_fill_value(np.array(fill, dtype))
        if self._frame_bytes >= _LEAST:
            add_filters(properties, filter, dtype.itemsize)
        *groups, name = path.split("/")
        group = file.require_group("/".join(groups)) if groups else file
        unlimited = h5py.h5s.UNLIMITED
        space = h5py.h5s.create_simple(shape, (unlimited, unlimited, *frame))
        kind = h5py.h5t.py_create(dtype, logical=True)
        made = h5py.h5d.create(group.id, name.encode(), kind, space, properties)
        self.dataset = h5py.Dataset(made)
        self._id, self._start = made, (0,) * len(frame)
        found, _ = read_pipeline(self.dataset, path)
        self.pipeline = found or Pipeline((), dtype.itemsize)

    def encode(self, frame: np.ndarray[Any, Any]) -> tuple[npt.NDArray[np.uint8], int]:
        """Returns a frame's chunk and its mask, see `Pipeline.encode`."""
        data, mask = self.pipeline.encode(frame)
        if self._frame_bytes > FREE_BYTES and len(data) * MOST_SHRUNK < self._frame_bytes:
            # A reader would take so much out of so little for a bomb.
            return frame.reshape(-1).view(np.uint8), (1 << len(self.pipeline.filters)) - 1
        return data, mask

    def write(self, at: tuple[int, int], data: npt.NDArray[np.uint8], mask: int) -> None:
        """Writes a chunk that `encode` gave."""
        self._id.write_direct_chunk((*at, *self._start), data, mask)


class Workers(Closing):
    """Does work on all cores, and takes in the results in the order of the work."""

    def __init__(self) -> None:
        cores = available_cores()
        self._pool = ThreadPoolExecutor(cores, thread_name_prefix="pack")
        self._room = _AHEAD * cores
        self._waiting: deque[tuple[Future[Any], Callable[[Any], None]]] = deque()

    def add(self, work: Callable[[], Any], take: Callable[[Any], None]) -> None:
        """Has work done by a thread, and its result taken in by this one.

        Args:
            work: Does not touch HDF5.
            take: Called with what it returns, after those of all earlier work.
        """
        self._waiting.append((self._pool.submit(work), take))
        if len(self._waiting) > self._room:
            self._take_in()

    def finish(self) -> None:
        """Takes in what is left."""
        while self._waiting:
            self._take_in()

    def _take_in(self) -> None:
        done, take = self._waiting.popleft()
        take(done.result())

    def close(self) -> None:
        """Ends the threads; what has not begun is not done any more."""
        self._pool.shutdown(cancel_futures=True)
