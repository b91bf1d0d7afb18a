"""A file that may be damaged or hostile, read through one door.

Whatever a file says, reading it opens no other file, allocates no more than it is told to and
fails with a `FileError`. `recording.py` says what the datasets mean.
"""

from __future__ import annotations

import functools
import math
import os
import stat
import time
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import h5py
import numpy as np
import numpy.typing as npt

from replay import schema
from replay.recording import superblock
from replay.schema import FileError

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# A few hundred bytes can declare a dataset of any size. Beyond these it is not a recording.
_MAX_CELLS = 20_000_000  # (epoch, batch) cells: 160 MB a field
_MAX_FRAME = 1 << 30  # bytes of one frame, and of one chunk
_MAX_ATTRIBUTE = 4 << 20  # bytes
# What is larger than this has to be in the file: nothing in a recording is compressed.
_FREE_CELLS = 4_000_000
_FREE_BYTES = 64 << 20
_FILTERS = {h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}  # those that keep the size

_TICK = 2_000_000_000  # nanoseconds: no file system counts time more coarsely
_PATIENCE = 1.0  # seconds for which a file that changes under the reader is tried again

P = ParamSpec("P")
T = TypeVar("T")


def _patient(
    method: Callable[Concatenate[SafeFile, P], T],
) -> Callable[Concatenate[SafeFile, P], T]:
    """Tries again where a writer at work may have been in the middle of what was read."""

    @functools.wraps(method)
    def patient(self: SafeFile, /, *args: P.args, **kwargs: P.kwargs) -> T:
        deadline = 0.0
        while True:
            try:
                self._catch_up()
                return method(self, *args, **kwargs)
            except FileError:
                now = time.monotonic()
                deadline = deadline or now + _PATIENCE
                if now > deadline or not self._may_have_changed():
                    raise
                self._stale = True
                time.sleep(0.02)

    return patient


class SafeFile:
    """An HDF5 file, open for reading; also one whose writer is still at work or was killed.

    Args:
        path: The file.
        cut: Whether to open also a file whose end is missing, for what is left of it.

    Raises:
        FileError: It is missing, not a regular file or not HDF5.

    Attributes:
        unfinished: Whether the file says that it is open for writing.
        missing_bytes: How many bytes are missing at its end.
    """

    def __init__(self, path: Path, cut: bool = False) -> None:
        self.path = path
        self._cut = cut
        self._stale = False
        self._datasets: dict[str, h5py.Dataset] = {}
        self._fitting: dict[str, h5py.Dataset] = {}  # those of them that hold frames
        self._open()

    def _open(self) -> None:
        """Opens the file; again, where a writer has changed it in the middle of that."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            self._seen, self._opened = _trace(self.path), time.time_ns()
            try:
                return self._open_as_it_is()
            except FileError:
                if _trace(self.path) == self._seen or time.monotonic() > deadline:
                    raise

    def _open_as_it_is(self) -> None:
        head, size = _look_at(self.path)
        self.unfinished = superblock.being_written(head)
        end = superblock.end_of_file(head)
        self.missing_bytes = max(0, end - size)
        self._size = size
        if self.missing_bytes and not self.unfinished and not self._cut:
            raise FileError(
                f"damaged HDF5 file: {self.path} is cut off: it has {size:,} of {end:,} bytes"
            )
        mend = self.unfinished or self.missing_bytes > 0
        shown: superblock.UnclosedFileView | None = None
        try:
            if mend and not superblock.is_sound(head):
                raise OSError("the checksum of its superblock is wrong")
            shown = superblock.UnclosedFileView(self.path, mend)
            if superblock.being_written(shown.head) and not mend:
                raise OSError("a writer put it in the place of another one just now")
            self._file = h5py.File(shown, "r")
        except (OSError, ValueError, RuntimeError) as error:
            if shown is not None:
                shown.close()
            words = f"cannot be opened ({_line(error)})"
            if self.missing_bytes:
                words = f"is cut off: it has {size:,} of {end:,} bytes, and {words}"
            raise FileError(f"damaged HDF5 file: {self.path} {words}") from error
        # Also at the interpreter's end, after which HDF5 must not ask Python for bytes.
        self._close = weakref.finalize(self, _close, self._file, shown)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its path: another process opens the file for itself."""
        return SafeFile, (self.path.absolute(), self._cut)

    def close(self) -> None:
        """Closes the file."""
        self._datasets.clear()
        self._fitting.clear()
        self._close()

    def refresh(self) -> None:
        """Lets the next look at each dataset see what was written in the meantime.

        A writer that adds a layer puts a new file in the place of the old one.
        """
        self._datasets.clear()
        self._fitting.clear()
        # Within one tick of the file system's clock a change leaves no trace.
        hidden = self.unfinished and self._opened - self._seen[2] < _TICK
        self._stale = self._stale or hidden or _trace(self.path) != self._seen

    def _catch_up(self) -> None:
        """Opens the file again if something was written to it since it was opened."""
        if self._stale and self._close.alive:
            self.close()
            self._open()
            self._stale = False

    def _may_have_changed(self) -> bool:
        """Whether a writer may have written to the file since it was opened."""
        if not self.unfinished or not self._close.alive:
            return False
        found = _trace(self.path)
        # A file system may count time in steps of some milliseconds.
        return found != self._seen or time.time_ns() - found[2] < 1e9

    def attribute(self, name: str, path: str | None = None) -> Any:
        """An attribute of the file or of something in it; None where there is none.

        Raises:
            FileError: It is too large or cannot be read.
        """
        return self.attributes((name,), path)[name]

    @_patient
    def attributes(self, names: Iterable[str], path: str | None = None) -> dict[str, Any]:
        """Several attributes at once; None for those that are not there.

        Raises:
            FileError: One of them is too large or cannot be read.
        """
        node = self._file if path is None else self._node(path)
        with _translated(self.path):
            return {
                name: None if node is None or name not in node.attrs else self._value(node, name)
                for name in names
            }

    def _value(self, node: Any, name: str) -> Any:
        about = node.attrs.get_id(name)
        size = math.prod(about.shape) * about.dtype.itemsize
        value = None if size > _MAX_ATTRIBUTE else node.attrs[name]
        if isinstance(value, (str, bytes)):
            size = len(value)
        if size > _MAX_ATTRIBUTE:
            raise FileError(
                f"refused: attribute {name!r} in {self.path} has {size:,} bytes; expected at "
                f"most {_MAX_ATTRIBUTE:,}"
            )
        return value

    def _node(self, path: str) -> Any:
        """The one door to the file's objects: None unless hard links alone lead there.

        A soft or external link, also in the middle of a path, may lead into another file.
        """
        node: Any = self._file
        with _translated(self.path):
            for part in path.split("/"):
                if not isinstance(node, h5py.Group):
                    return None
                if not isinstance(node.get(part, getlink=True), h5py.HardLink):
                    return None
                node = node[part]
        return node

    @_patient
    def links(self, group: str) -> list[str]:
        """Names of what is in a group ("": the file itself); none where there is no such group."""
        node = self._node(group) if group else self._file
        with _translated(self.path):
            return list(node) if isinstance(node, h5py.Group) else []

    def _find(self, path: str, rank: int | None) -> h5py.Dataset | None:
        """A dataset that holds its own values in a shape that can be read, or None."""
        dataset = self._datasets.get(path)
        if dataset is None:
            dataset = self._node(path)
            if not isinstance(dataset, h5py.Dataset):
                return None
            with _translated(self.path):
                if dataset.is_virtual or dataset.external:
                    raise FileError(f"refused: {path!r} in {self.path} reads from another file")
                if dataset.shape is None:
                    return None
                self._check_filters(path, dataset)
                self._check_bytes(path, math.prod(dataset.chunks or ()) * dataset.dtype.itemsize)
            self._datasets[path] = dataset
        return dataset if rank is None or dataset.ndim == rank else None

    def _check_filters(self, path: str, dataset: h5py.Dataset) -> None:
        """A few bytes can expand to gigabytes, and an unknown filter would be looked for."""
        made = dataset.id.get_create_plist()
        found = [made.get_filter(place) for place in range(made.get_nfilters())]
        odd = [
            f"{name.decode(errors='replace')} ({code})"
            for code, _, _, name in found
            if code not in _FILTERS
        ]
        if odd:
            raise FileError(
                f"refused: {path!r} in {self.path} is compressed with {', '.join(odd)}, and a "
                "recording is not; 'h5repack -f NONE' makes a copy that can be read"
            )

    def _check_bytes(self, path: str, size: int, what: str = "chunks") -> None:
        if size > min(_MAX_FRAME, max(_FREE_BYTES, self._size)):
            raise FileError(
                f"refused: {path!r} in {self.path} declares {what} of {size:,} bytes; expected at "
                f"most {_MAX_FRAME:,}, and no more than the file's {self._size:,}"
            )

    def _frames(self, path: str) -> h5py.Dataset | None:
        """A dataset of float16 arrays by epoch and batch, or None."""
        if path in self._fitting:
            return self._fitting[path]
        dataset = self._find(path, None)
        if dataset is None or dataset.ndim < 2 or 0 in dataset.shape[2:]:
            return None
        with _translated(self.path):
            if dataset.dtype != schema.FRAME_DTYPE:
                return None
        size = math.prod(_cell(dataset)) * schema.FRAME_DTYPE.itemsize
        self._check_bytes(path, size, "frames")
        self._fitting[path] = dataset
        return dataset

    @_patient
    def frame_shape(self, path: str) -> tuple[int, ...] | None:
        """Shape of one frame of a dataset of float16 arrays by epoch and batch, or None.

        One number a frame, without an axis, is an array of one: one channel.
        """
        dataset = self._frames(path)
        return None if dataset is None else _cell(dataset)

    @_patient
    def read_frame(self, path: str, epoch: int, batch: int) -> schema.Float16Array:
        """One frame, or all NaN beyond the dataset's end: it joined the recording later.

        Raises:
            FileError: There is no such dataset, or it cannot be read.
        """
        dataset = self._frames(path)
        if dataset is None:
            raise FileError(f"damaged recording: {self.path} has no frames in {path!r}")
        if epoch >= dataset.shape[0] or batch >= dataset.shape[1]:
            return np.full(_cell(dataset), np.nan, np.float16)
        with _translated(self.path):
            frame: schema.Float16Array = np.asarray(dataset[epoch, batch], schema.FRAME_DTYPE)
        return frame.reshape(_cell(dataset))

    @_patient
    def read_block(
        self, path: str, cell: tuple[int, ...], rows: int, columns: int
    ) -> schema.Float32Array:
        """The first rows and columns of float32 cells, NaN beyond the dataset's end.

        Raises:
            FileError: There is no such dataset, its cells are others, or it cannot be read.
        """
        dataset = self._find(path, 2 + len(cell))
        block: schema.Float32Array = np.full((rows, columns, *cell), np.nan, np.float32)
        with _translated(self.path):
            if dataset is None or dataset.shape[2:] != cell or dataset.dtype.kind != "f":
                raise ValueError(f"{path!r} does not hold float32 (epoch, batch, *{cell})")
            height, width = min(rows, dataset.shape[0]), min(columns, dataset.shape[1])
            self._check_bytes(path, height * width * math.prod(cell) * 4, "values")
            block[:height, :width] = dataset[:height, :width]
        return block

    @_patient
    def read_cells(
        self,
        path: str,
        cell: tuple[int, ...],
        dtype: npt.DTypeLike,
        epoch: int,
        first: int,
        stop: int,
    ) -> npt.NDArray[Any]:
        """Cells of one epoch, from batch `first` up to `stop` or to the dataset's end.

        Raises:
            FileError: There is no such dataset, its cells are others, or it cannot be read.
        """
        dataset = self._find(path, 2 + len(cell))
        with _translated(self.path):
            if dataset is None or dataset.shape[2:] != cell or dataset.dtype != dtype:
                raise ValueError(
                    f"{path!r} does not hold {np.dtype(dtype)} (epoch, batch, *{cell})"
                )
            if epoch >= dataset.shape[0]:
                return np.empty((0, *cell), dtype)
            values: npt.NDArray[Any] = dataset[epoch, first:stop]
        return values

    @_patient
    def about(self, path: str) -> tuple[tuple[int, ...], np.dtype[Any], tuple[int, ...]] | None:
        """Shape, dtype and chunks of a dataset, without chunks (); None where there is none."""
        dataset = self._find(path, None)
        if dataset is None:
            return None
        with _translated(self.path):
            return tuple(dataset.shape), dataset.dtype, tuple(dataset.chunks or ())

    @_patient
    def read_numbers(self, path: str, rank: int, dtype: npt.DTypeLike) -> npt.NDArray[Any] | None:
        """A dataset of one number a cell, as a whole; None where there is none of that rank.

        Raises:
            FileError: It is too large, holds something else, or cannot be read.
        """
        dataset = self._find(path, rank)
        if dataset is None:
            return None
        with _translated(self.path):
            most = min(_MAX_CELLS, max(_FREE_CELLS, self._size // dataset.dtype.itemsize))
            if max(dataset.size, math.prod(dataset.chunks or ())) > most:
                raise FileError(
                    f"refused: {path!r} in {self.path} declares {dataset.size:,} values; expected "
                    f"at most {most:,}"
                )
            if not np.can_cast(dataset.dtype, dtype, "same_kind"):
                raise ValueError(f"{path!r} holds {dataset.dtype}, expected {np.dtype(dtype)}")
            values: npt.NDArray[Any] = dataset[:].astype(dtype)
        return values

    @_patient
    def exists(self, path: str, rank: int) -> bool:
        """Whether there is a dataset of that rank."""
        return self._find(path, rank) is not None


def _cell(dataset: h5py.Dataset) -> tuple[int, ...]:
    return tuple(dataset.shape[2:]) or (1,)


def _close(file: h5py.File, shown: superblock.UnclosedFileView) -> None:
    file.close()
    shown.close()


def _trace(path: Path) -> tuple[int, int, int]:
    """What changes when something is written to the file, or another file takes its place."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return 0, 0, 0
    return status.st_ino, status.st_size, status.st_mtime_ns


def _look_at(path: Path) -> tuple[bytes, int]:
    """The superblock and the size of a regular file that is HDF5.

    Raises:
        FileError: It is something else.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise FileError(f"no such file: {path}") from None
    except (OSError, ValueError) as error:
        raise FileError(f"cannot read {path}: {getattr(error, 'strerror', error)}") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise FileError(f"expected a recording such as run.h5, but {path} is {kind}")
    try:
        with path.open("rb") as file:
            head = file.read(superblock.SUPERBLOCK_BYTES)
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from error
    if not head:
        raise FileError(f"nothing in {path}: the file is empty (0 bytes)")
    if not head.startswith(_SIGNATURE):
        raise FileError(f"not an HDF5 file: {path}; expected a recording made by 'record'")
    return head, status.st_size


_FOREIGN = (
    *(OSError, RuntimeError, ValueError, KeyError, TypeError, IndexError),
    *(ArithmeticError, MemoryError),
)


class _translated:  # noqa: N801 - reads as a word in a with statement
    """Turns h5py's errors while reading into a FileError that names the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, _FOREIGN):
            raise FileError(f"cannot read from {self._path}: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
