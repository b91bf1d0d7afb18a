"""Frames as they lie in a file, found by HDF5 and read past it: there any thread may do so.

HDF5 lets one thread at a time work, and asks Python for each piece of the file. Where a frame is
one chunk of a file of this machine, HDF5 only has to say where that lies.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from replay.recording.chunk_filters import Pipeline
from replay.recording.chunks import check_frame_chunks, most_bytes
from replay.recording.live_file import UnclosedFileView
from replay.schema import Cell


@dataclass(frozen=True, slots=True)
class Place:
    """Where a chunk lies: its first byte, its bytes, and the mask of filters that it went past."""

    start: int
    size: int
    left_out: int


class StoredChunks:
    """The frames of one dataset.

    Args:
        dataset: (epoch, batch, ...), whose chunks are frames.
        pipeline: Its filters.
        view: The bytes of its file, which serve several threads.

    Raises:
        ValueError: The chunks are not frames.
    """

    def __init__(
        self, dataset: h5py.Dataset, pipeline: Pipeline | None, view: UnclosedFileView
    ) -> None:
        check_frame_chunks(dataset)
        self._id, self._view, self._dtype = dataset.id, view, dataset.dtype
        self._pipeline = pipeline or Pipeline((), dataset.dtype.itemsize)
        self._shape = dataset.shape[2:]
        self._bytes = int(np.prod(self._shape, dtype=np.int64)) * dataset.dtype.itemsize
        self._places: dict[Cell, Place] = {}
        self._is_listed: bool | None = None  # whether those are all; None before anybody asked

    def find(self, epoch: int, batch: int) -> Place | None:
        """Returns where a frame lies; None where it was never written. Asks HDF5.

        Raises:
            ValueError: It takes more bytes than its shape says.
        """
        if self._is_listed is None:
            self._is_listed = self._list()
        place = self._places.get((epoch, batch))
        if place is None and not self._is_listed:
            place = self._look_up(epoch, batch)
        if place is not None and place.size > most_bytes(self._bytes):
            raise ValueError(
                f"refused: a chunk takes {place.size:,} bytes in the file; its shape has "
                f"{self._bytes:,}"
            )
        return place

    def _list(self) -> bool:
        """Notes where all frames lie: to say it of one, HDF5 goes through those before it.

        Returns:
            Whether that was possible; not where the index is damaged, or HDF5 is before 1.12.3.
        """

        def note(about: Any) -> None:
            epoch, batch, *_ = about.chunk_offset
            self._places[epoch, batch] = Place(about.byte_offset, about.size, about.filter_mask)

        with contextlib.suppress(AttributeError, OSError, RuntimeError):
            self._id.chunk_iter(note)
            return True
        return False

    def _look_up(self, epoch: int, batch: int) -> Place | None:
        about = self._id.get_chunk_info_by_coord((epoch, batch, *(0,) * len(self._shape)))
        if about.byte_offset is None:
            return None
        return Place(about.byte_offset, about.size, about.filter_mask)

    def read(self, place: Place) -> npt.NDArray[Any]:
        """Returns a frame as it is stored; from any thread.

        Raises:
            OSError: It cannot be read.
            ValueError: It is cut off, larger than its shape says, or damaged.
        """
        stored = np.empty(place.size, np.uint8)
        found = self._view.read_at(stored.data, place.start)
        if found != place.size:
            raise ValueError(f"a chunk is cut off: {found:,} of {place.size:,} bytes are there")
        values = self._pipeline.decode(stored, place.left_out, self._bytes)
        frame: npt.NDArray[Any] = values.view(self._dtype).reshape(self._shape or (1,))
        return frame
