"""Reads from a file that may be damaged or hostile.

Whatever a file says, reading it opens no other file, allocates no more than it is told to and
fails with a `FileError`. `recording` says what the datasets mean.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import h5py
import numpy as np
import numpy.typing as npt

from replay import schema
from replay.recording import objects
from replay.recording.live_file import PATIENCE, Closing, LiveFile, file_errors
from replay.recording.plain_chunks import read_plain
from replay.schema import FileError, RecordingError
from replay.schema.faces import choose

if TYPE_CHECKING:
    from replay.recording.chunk_filters import Pipeline  # imported for a packed file only
    from replay.recording.live_file import UnclosedFileView
    from replay.recording.packed_frames import PackedFrames

# A few hundred bytes can declare a dataset of any size. Beyond these it is not a recording.
_MAX_FRAME = 1 << 30  # bytes of one frame, and of one chunk
# What is larger than this has to be in the file, or, where it is compressed, a part of it.
FREE_BYTES = 64 << 20
MOST_SHRUNK = 16  # times that a frame above those bytes may be larger than the file

P = ParamSpec("P")
T = TypeVar("T")
File = TypeVar("File", bound="SafeFile")


def retried(
    method: Callable[Concatenate[File, P], T],
) -> Callable[Concatenate[File, P], T]:
    """Tries again where a writer at work may have been in the middle of what was read."""

    @functools.wraps(method)
    def again(self: File, /, *args: P.args, **kwargs: P.kwargs) -> T:
        live, deadline = self._live, 0.0
        if not live.is_open:
            text = f"{self.path} was closed; to read on, open it again: replay.open(...)"
            raise RecordingError(text)  # which is no damage
        while True:
            try:
                if live.is_outdated:
                    self._forget_datasets()
                    live.reopen()
                self.check_number(self._expected)
                return method(self, *args, **kwargs)
            except FileError as error:
                now = time.monotonic()
                deadline = deadline or now + PATIENCE
                final = isinstance(error, ExchangedError) or now > deadline
                if final or not live.may_have_changed():
                    raise
                live.mark_outdated()
                time.sleep(0.02)

    return again


class ExchangedError(FileError):
    """Raised where something is asked for of a file in whose place there is another one."""


class SafeFile(Closing):
    """An HDF5 file, open for reading; also one whose writer is still at work or was killed.

    Args:
        path: The file.

    Raises:
        FileError: It is missing, not a regular file or not HDF5.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._live = LiveFile(path)
        self._links = objects.HardLinks()
        self._datasets: dict[str, h5py.Dataset] = {}
        self._frame_datasets: dict[str, h5py.Dataset] = {}  # those of them that hold frames
        self._pipelines: dict[str, Pipeline | None] = {}  # what undoes the compression of each
        self._packed: PackedFrames | None = None
        self._allowance = objects.Allowance(path)
        self._expected = 0  # its number; 0 while it may be any

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the path: another process opens the file for itself."""
        return SafeFile, (self.path.absolute(),)

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        self._forget_datasets()
        self._live.close()

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._live.size

    @property
    def number(self) -> int:
        """What tells the open file from another one of its name; that is never 0."""
        return self._live.number

    def expect(self) -> None:
        """Has nothing read from now on, until `refresh`, of a file that takes this one's place."""
        self._expected = self.number

    def check_number(self, number: int) -> None:
        """Raises ExchangedError where the file is not the one of this number, unless that is 0."""
        if number not in (0, self.number):
            raise ExchangedError(
                f"{self.path} has been replaced since it was last looked at (frames were taken "
                f"out, or recorded anew); {choose('run the command again', 'call refresh()')}"
            )

    def refresh(self) -> None:
        """Lets the next look at each dataset see what was written in the meantime."""
        self._expected = 0
        self._forget_datasets()
        self._live.note_changes()

    def _forget_datasets(self) -> None:
        self._links.forget()
        self._datasets.clear()
        self._frame_datasets.clear()
        self._pipelines.clear()
        self._packed = None
        self._allowance.reset()

    def attribute(self, name: str, path: str | None = None) -> Any:
        """Returns an attribute of the file or of something in it; None where there is none.

        Raises:
            FileError: It is too large or cannot be read.
        """
        return self.attributes((name,), path)[name]

    @retried
    def attributes(self, names: Sequence[str], path: str | None = None) -> dict[str, Any]:
        """Returns several attributes at once; None for those that are not there.

        Raises:
            FileError: One of them is too large or cannot be read.
        """
        node = self.node(path)
        with file_errors(self.path):
            there = () if node is None else node.attrs
            known = [name for name in names if name in there]
            found = {name: objects.read_attribute(there, name, self._allowance) for name in known}
            return {name: found.get(name) for name in names}

    def _node(self, path: str) -> Any:
        """Returns an object of the file; None unless hard links alone lead to it.

        Everything that is read passes through here.
        """
        with file_errors(self.path):
            return self._links.find(self._live.file, path)

    @retried
    def node(self, path: str | None) -> Any:
        """Returns an object of the file, as `_node` does; the file itself for None."""
        if path is None:
            return self._live.file
        return self._datasets.get(path) or self._node(path)

    @retried
    def links(self, group: str, most: int = 20_000, as_written: bool = False) -> list[str]:
        """Returns the names in a group ("": the file itself), of those that are texts.

        They are in the order of their letters, or in that in which they were written.

        Raises:
            FileError: There are more than `most`, or they cannot be read.
        """
        node = self._node(group) if group else self._live.file
        with file_errors(self.path):
            names = objects.list_names(node, most, f"{'/' + group!r} in {self.path}")
            return objects.sort_as_written(node, names) if as_written and names else names

    def find(self, path: str, rank: int | None) -> h5py.Dataset | None:
        """Returns a dataset that holds its own values in a shape that can be read, or None."""
        dataset = self._datasets.get(path)
        if dataset is None:
            dataset = self._node(path)
            if not isinstance(dataset, h5py.Dataset):
                return None
            with file_errors(self.path):
                if dataset.is_virtual or dataset.external:
                    raise FileError(f"refused: {path!r} in {self.path} reads from another file")
                if dataset.shape is None:
                    return None
                self._read_filters(path, dataset)
                self.check_bytes(path, math.prod(dataset.chunks or ()) * dataset.dtype.itemsize)
            self._datasets[path] = dataset
        return dataset if rank is None or dataset.ndim == rank else None

    def _read_filters(self, path: str, dataset: h5py.Dataset) -> None:
        """Notes what undoes a dataset's filters, and refuses those that nothing is known of."""
        if not dataset.id.get_create_plist().get_nfilters():
            self._pipelines[path] = None
            return
        from replay.recording.chunk_filters import read_known_pipeline

        self._pipelines[path] = read_known_pipeline(dataset, f"{path!r} in {self.path}")

    def check_bytes(self, path: str, size: int, what: str = "chunks") -> None:
        """Makes sure that something is no larger than a recording of this size can have it.

        Raises:
            FileError: It is larger.
        """
        pipeline = self._pipelines.get(path)
        there = self._live.size * (MOST_SHRUNK if pipeline and pipeline.compresses else 1)
        if size > min(_MAX_FRAME, max(FREE_BYTES, there)):
            raise FileError(
                f"refused: {path!r} in {self.path} declares {what} of {size:,} bytes; expected at "
                f"most {_MAX_FRAME:,}, and no more than the file's {self._live.size:,}"
            )

    def part(self, path: str, dataset: h5py.Dataset, *ends: tuple[int, int]) -> npt.NDArray[Any]:
        """Reads from a start to an end of each of the first axes, and all of the others."""
        whole = [(0, size) for size in dataset.shape[len(ends) :]]
        starts, stops = zip(*ends, *whole, strict=True)
        pipeline = self._pipelines.get(path)
        if pipeline is None:
            return read_plain(dataset, starts, stops)
        from replay.recording import chunks

        return chunks.read_region(dataset, pipeline, starts, stops)

    def frames(self, path: str) -> h5py.Dataset | None:
        """Returns a dataset of float16 arrays by epoch and batch, or None."""
        if path in self._frame_datasets:
            return self._frame_datasets[path]
        dataset = self.find(path, None)
        if dataset is None or dataset.ndim < 2 or 0 in dataset.shape[2:]:
            return None
        with file_errors(self.path):
            if dataset.dtype != schema.FRAME_DTYPE and not self._is_of_8_bits(path, dataset):
                return None
        size = math.prod(_frame_shape(dataset)) * schema.FRAME_DTYPE.itemsize
        self.check_bytes(path, size, "frames")
        self._frame_datasets[path] = dataset
        return dataset

    @retried
    def frame_shape(self, path: str) -> tuple[int, ...] | None:
        """Returns the shape of one frame of a dataset of float16 (epoch, batch, ...), or None.

        A frame of one number, without an axis, has the shape (1,): one channel.
        """
        dataset = self.frames(path)
        return None if dataset is None else _frame_shape(dataset)

    def read_frame(self, path: str, epoch: int, batch: int) -> schema.Float16Array:
        """Reads one frame, float16; all NaN beyond the end of a dataset that joined later.

        Raises:
            FileError: There is no such dataset, or it cannot be read.
        """
        return self.restore(path, epoch, batch, self.read_stored(path, epoch, batch))

    @retried
    def read_stored(self, path: str, epoch: int, batch: int) -> npt.NDArray[Any]:
        """Reads one frame as the file has it, which its checksum is of: float16 or uint8.

        Raises:
            FileError: There is no such dataset, or it cannot be read.
        """
        dataset = self.frames(path)
        if dataset is None:
            raise FileError(f"damaged recording: {self.path} has no frames in {path!r}")
        shape = _frame_shape(dataset)
        if epoch >= dataset.shape[0] or batch >= dataset.shape[1]:
            return np.full(shape, np.nan, np.float16)
        with file_errors(self.path):
            if self.pipeline(path) is None and dataset.dtype == schema.FRAME_DTYPE:
                return np.asarray(dataset[epoch, batch], schema.FRAME_DTYPE).reshape(shape)
            return self.packed.read(path, dataset, epoch, batch).reshape(shape)

    @retried
    def restore(
        self, path: str, epoch: int, batch: int, stored: npt.NDArray[Any]
    ) -> schema.Float16Array:
        """Returns a frame that was stored, float16.

        Raises:
            FileError: It has 8 bits, and the ranges that they stand for cannot be read.
        """
        if stored.dtype == schema.FRAME_DTYPE:
            return stored
        return self.packed.restore(path, epoch, batch, stored)

    @property
    def view(self) -> UnclosedFileView:
        """The bytes that HDF5 reads."""
        return self._live.view

    @property
    def packed(self) -> PackedFrames:
        """What reads compressed frames, and those of 8 bits."""
        if self._packed is None:
            from replay.recording.packed_frames import PackedFrames

            self._packed = PackedFrames(self)
        return self._packed

    @retried
    def note_of_bits(self, path: str, note: str) -> str:
        """Returns a note with what is to be said of frames in 8 bits, see `eight_bits`."""
        dataset = self.frames(path)
        of_16 = dataset is None or dataset.dtype == schema.FRAME_DTYPE
        return note if of_16 else self.packed.note(note)

    def pipeline(self, path: str) -> Pipeline | None:
        """Returns what undoes the filters of a dataset that was found; None where HDF5 does."""
        return self._pipelines.get(path)

    def _is_of_8_bits(self, path: str, dataset: h5py.Dataset) -> bool:
        return dataset.dtype == np.uint8 and self.packed.is_of_8_bits(path, dataset)

    @retried
    def read_block(
        self, path: str, shape: tuple[int, ...], rows: range, columns: range
    ) -> schema.Float32Array:
        """Reads some rows, and columns of them, of a dataset of float32 (epoch, batch, *shape).

        NaN stands for what lies beyond the dataset's end.

        Raises:
            FileError: There is no such dataset, its shape is another one, or it cannot be read.
        """
        dataset = self.find(path, 2 + len(shape))
        whole = (len(rows), len(columns), *shape)
        with file_errors(self.path):
            values: schema.Float32Array = np.full(whole, np.nan, np.float32)
            if dataset is None or dataset.shape[2:] != shape or dataset.dtype.kind != "f":
                raise ValueError(f"{path!r} does not hold float32 (epoch, batch, *{shape})")
            height = max(0, min(rows.stop, dataset.shape[0]) - rows.start)
            width = max(0, min(columns.stop, dataset.shape[1]) - columns.start)
            self.check_bytes(path, height * width * math.prod(shape) * 4, "values")
            ends = (rows.start, rows.start + height), (columns.start, columns.start + width)
            values[:height, :width] = self.part(path, dataset, *ends)
        return values

    @retried
    def read_numbers(self, path: str, rank: int, dtype: npt.DTypeLike) -> npt.NDArray[Any] | None:
        """Reads a dataset of one number a cell; None where there is none of that rank.

        Raises:
            FileError: It is too large, holds something else, or cannot be read.
        """
        dataset = self.find(path, rank)
        if dataset is None:
            return None
        with file_errors(self.path):
            pipeline = self._pipelines.get(path)
            there = self._live.size * (MOST_SHRUNK if pipeline and pipeline.compresses else 1)
            most = schema.most_cells(there, dataset.dtype.itemsize)
            if max(dataset.size, math.prod(dataset.chunks or ())) > most:
                raise FileError(
                    f"refused: {path!r} in {self.path} declares {dataset.size:,} values; expected "
                    f"at most {most:,}"
                )
            if not np.can_cast(dataset.dtype, dtype, "same_kind"):
                raise ValueError(f"{path!r} holds {dataset.dtype}, expected {np.dtype(dtype)}")
            self._allowance.take_numbers(path, dataset.size * np.dtype(dtype).itemsize, there)
            values = self.part(path, dataset, *((0, size) for size in dataset.shape))
        return values.astype(dtype)

    @retried
    def together(self, read: Callable[[], T]) -> T:
        """Does some reading while the file stays the one that it is."""
        return read()

    @retried
    def exists(self, path: str, rank: int) -> bool:
        """Returns whether there is a dataset of that rank."""
        return self.find(path, rank) is not None


def _frame_shape(dataset: h5py.Dataset) -> tuple[int, ...]:
    return tuple(dataset.shape[2:]) or (1,)
