"""Reads frames that are compressed or in 8 bits, of a file that `safe_file` opened."""

from __future__ import annotations

import math
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from replay import schema
from replay.recording import chunks, eight_bits
from replay.recording.live_file import file_errors
from replay.recording.small_values import Mask, Vouched, read_checked_block
from replay.recording.stored_chunks import StoredChunks
from replay.schema import FileError


class PackedFrames:
    """The frames of a packed file, and what has to be known to copy frames from file to file.

    Args:
        file: The `SafeFile` whose part it is.
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        # By path: an epoch, its ranges, and where they are damaged.
        self._ranges: dict[str, tuple[int, schema.Float32Array, Mask | None]] = {}
        self._vouched: Vouched | None = None

    def is_of_8_bits(self, path: str, dataset: h5py.Dataset) -> bool:
        """Returns whether a dataset of uint8 is of maps, with their ranges beside them."""
        ranges = eight_bits.ranges_path(path)
        known = dataset.attrs.get(eight_bits.BITS) == 8
        return known and ranges is not None and self._file.exists(ranges, 4)

    def read(self, path: str, dataset: h5py.Dataset, epoch: int, batch: int) -> npt.NDArray[Any]:
        """Reads a frame as the file has it; from beside the others if it was kept in 16 bits."""
        if dataset.dtype != schema.FRAME_DTYPE:
            whole = self._whole(path, dataset, epoch, batch)
            if whole is not None:
                return whole
        pipeline = self._file.pipeline(path)
        if pipeline is None or dataset.chunks != (1, 1, *dataset.shape[2:]):
            ends = (epoch, epoch + 1), (batch, batch + 1)
            return np.asarray(self._file.part(path, dataset, *ends)[0, 0])
        frame = chunks.read_own_chunk(dataset, pipeline, epoch, batch)
        if frame is None:
            return np.full(dataset.shape[2:], dataset.fillvalue, dataset.dtype)
        return frame

    def _whole(
        self, path: str, dataset: h5py.Dataset, epoch: int, batch: int
    ) -> schema.Float16Array | None:
        beside = eight_bits.beside(path, eight_bits.WHOLE)
        whole = None if beside is None else self._file.frames(beside)
        if beside is None or whole is None:
            return None
        if epoch >= whole.shape[0] or batch >= whole.shape[1]:
            return None
        if whole.dtype != schema.FRAME_DTYPE or whole.shape[2:] != dataset.shape[2:]:
            raise ValueError(f"{beside!r} does not hold frames like those of {path!r}")
        frame: schema.Float16Array | None = chunks.read_own_chunk(
            whole, self._file.pipeline(beside), epoch, batch
        )
        return frame

    def restore(
        self, path: str, epoch: int, batch: int, stored: npt.NDArray[Any]
    ) -> schema.Float16Array:
        """Returns the values that a frame of 8 bits stands for, float16."""
        axis = self.channel_axis(path)
        ranges = eight_bits.ranges_path(path)
        assert ranges is not None  # it was found to be maps
        channels = 1 if axis is None else stored.shape[axis]
        known = self.ranges(ranges, epoch, batch, channels)
        damaged = self._ranges[ranges][2]
        if damaged is not None and damaged[0, batch]:
            raise FileError(f"damaged in {self._file.path}: the ranges that its 8 bits stand for")
        return eight_bits.restore(stored, known, axis)

    def axes(self, path: str) -> str:
        """Returns a letter for each axis of a frame; those of a probe may be the run's own."""
        shape = self._file.frame_shape(path) or ()
        of_run = path.split("/", 2)[-1] if path.startswith(f"{schema.PROBE}/") else path
        for place in (path, of_run):
            axes = self._file.attribute("axes", place)
            if isinstance(axes, str) and len(axes) == len(shape):
                return axes
        return schema.AXES.get(len(shape), ("",))[0]

    def channel_axis(self, path: str) -> int | None:
        """Returns the axis of a frame on which the channels lie; None where there is none."""
        axes = self.axes(path)
        return axes.index("C") if "C" in axes else None

    def note(self, note: str) -> str:
        """Returns what is to be known of maps in 8 bits, behind what is known besides."""
        return "; ".join(filter(None, (note, eight_bits.NOTE)))

    def ranges(self, path: str, epoch: int, batch: int, channels: int) -> schema.Float32Array:
        """Reads the ranges of one frame, float32 (C, 2); those of an epoch are kept in memory.

        They are NaN where they are damaged.

        Raises:
            FileError: They cannot be read.
        """
        kept, block, _ = self._ranges.get(path, (-1, None, None))
        if kept != epoch or block is None or block.shape[1] <= batch:
            dataset = self._file.find(path, None)
            columns = range(max(batch + 1, 0 if dataset is None else dataset.shape[1]))
            row = range(epoch, epoch + 1)
            shape, vouched = (channels, 2), self._vouched_of(epoch, len(columns))
            block, damaged = read_checked_block(self._file, path, shape, row, columns, vouched)
            if damaged is not None:
                block[damaged] = np.nan
            self._ranges[path] = epoch, block, damaged
        ranges: schema.Float32Array = block[0, batch]
        return ranges

    def _vouched_of(self, epoch: int, batches: int) -> Mask:
        """Returns which batches of an epoch have lost their ranges if they have no checksum.

        Those of no frame may have none; nobody asks for their ranges.
        """
        if self._vouched is None:
            numbers = schema.dataset_path(schema.BATCHES, "recorded")
            order = self._file.read_numbers(numbers, 2, np.int64)
            self._vouched = Vouched(self._file, np.zeros((0, 0), int) if order is None else order)
        return self._vouched.mask[epoch : epoch + 1, :batches]

    def own(self, path: str, epoch: int, batch: int) -> npt.NDArray[Any] | None:
        """Reads a frame that lies in this very dataset, as it is stored; None if never written.

        Raises:
            FileError: It cannot be read.
        """
        dataset = self._file.frames(path)
        if dataset is None or dataset.chunks != (1, 1, *dataset.shape[2:]):
            stored: npt.NDArray[Any] = self._file.read_stored(path, epoch, batch)
            return stored
        with file_errors(self._file.path):
            frame = chunks.read_own_chunk(dataset, self._file.pipeline(path), epoch, batch)
        return None if frame is None else frame.reshape(frame.shape or (1,))

    def chunks(self, path: str) -> StoredChunks | None:
        """Returns the frames of this very dataset for any thread; None where only HDF5 reads them.

        Raises:
            FileError: It cannot be read.
        """
        dataset, pipeline = self._file.frames(path), self._file.pipeline(path)
        with file_errors(self._file.path):
            if dataset is None or dataset.chunks != (1, 1, *dataset.shape[2:]):
                return None
            if pipeline is None and dataset.id.get_create_plist().get_nfilters():
                return None
            view = self._file.view
            return StoredChunks(dataset, pipeline, view) if view.serves_threads else None

    def rows(self, path: str, first: int, stop: int) -> npt.NDArray[Any]:
        """Reads epochs of a dataset of small numbers by epoch and batch, as they are stored.

        Raises:
            FileError: There is no such dataset, or it cannot be read.
        """
        dataset = self._file.find(path, None)
        if dataset is None or dataset.ndim < 2:
            raise FileError(f"damaged recording: {self._file.path} has no numbers in {path!r}")
        nbytes = (stop - first) * math.prod(dataset.shape[1:]) * dataset.dtype.itemsize
        self._file.check_bytes(path, nbytes, "values")
        with file_errors(self._file.path):
            values: npt.NDArray[Any] = self._file.part(path, dataset, (first, stop))
        return values
