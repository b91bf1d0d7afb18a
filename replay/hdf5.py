"""A file that may be damaged or hostile, read through one door; the only room that knows h5py.

Whatever a file says, reading it opens no other file, allocates no more than it is told to and
fails with a `FileError`. `recording.py` says what the datasets mean.
"""

from __future__ import annotations

import math
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from replay import schema
from replay.schema import FileError

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# A few hundred bytes can declare a dataset of any size. Beyond these it is not a recording.
_MAX_CELLS = 20_000_000  # (epoch, batch) cells: 160 MB a field
_MAX_FRAME = 1 << 30  # bytes of one frame, and of one chunk, uncompressed


class SafeFile:
    """An HDF5 file, open for reading; also one whose writer is still at work or was killed.

    Args:
        path: The file.

    Raises:
        FileError: It is missing, not a regular file or not HDF5.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _open(path)
        there = os.stat(path)
        self._identity = there.st_dev, there.st_ino
        self._datasets: dict[str, h5py.Dataset] = {}

    def close(self) -> None:
        """Closes the file."""
        self._datasets.clear()
        self._file.close()

    def refresh(self) -> None:
        """Lets the next look at each dataset see what was written in the meantime.

        A writer that adds a layer puts a new file in the place of the old one.
        """
        self._datasets.clear()
        try:
            there = os.stat(self.path)
        except OSError:  # gone: what is open stays readable
            return
        if (there.st_dev, there.st_ino) != self._identity:
            fresh = _open(self.path)
            self._file.close()
            self._file, self._identity = fresh, (there.st_dev, there.st_ino)

    def attribute(self, name: str, path: str | None = None) -> Any:
        """An attribute of the file or of something in it; None where there is none."""
        node = self._file if path is None else self._node(path)
        with _translated(self.path):
            return None if node is None else node.attrs.get(name)

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
                if self._file.swmr_mode:
                    dataset.refresh()  # what was opened before may be remembered as it was then
            self._datasets[path] = dataset
        return dataset if rank is None or dataset.ndim == rank else None

    def _frames(self, path: str) -> h5py.Dataset | None:
        """A dataset of float16 arrays by epoch and batch, or None."""
        dataset = self._find(path, None)
        if dataset is None or dataset.ndim < 3 or 0 in dataset.shape[2:]:
            return None
        with _translated(self.path):
            if dataset.dtype != schema.FRAME_DTYPE:
                return None
        for shape in (dataset.shape[2:], dataset.chunks or ()):
            size = math.prod(shape) * schema.FRAME_DTYPE.itemsize
            if size > _MAX_FRAME:
                raise FileError(
                    f"refused: {path!r} in {self.path} declares frames of {size:,} bytes; "
                    f"expected at most {_MAX_FRAME:,}"
                )
        return dataset

    def frame_shape(self, path: str) -> tuple[int, ...] | None:
        """Shape of one frame of a dataset of float16 arrays by epoch and batch, or None."""
        dataset = self._frames(path)
        return None if dataset is None else tuple(dataset.shape[2:])

    def read_frame(self, path: str, epoch: int, batch: int) -> schema.Float16Array:
        """One frame, or all NaN beyond the dataset's end: it joined the recording later.

        Raises:
            FileError: There is no such dataset, or it cannot be read.
        """
        dataset = self._frames(path)
        if dataset is None:
            raise FileError(f"damaged recording: {self.path} has no frames in {path!r}")
        if epoch >= dataset.shape[0] or batch >= dataset.shape[1]:
            return np.full(dataset.shape[2:], np.nan, np.float16)
        with _translated(self.path):
            frame: schema.Float16Array = dataset[epoch, batch]
        return frame

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
            block[:height, :width] = dataset[:height, :width]
        return block

    def read_numbers(self, path: str, rank: int, dtype: npt.DTypeLike) -> npt.NDArray[Any] | None:
        """A dataset of one number a cell, as a whole; None where there is none of that rank.

        Raises:
            FileError: It is too large, holds something else, or cannot be read.
        """
        dataset = self._find(path, rank)
        if dataset is None:
            return None
        with _translated(self.path):
            if max(dataset.size, math.prod(dataset.chunks or ())) > _MAX_CELLS:
                raise FileError(
                    f"refused: {path!r} in {self.path} declares {dataset.size:,} values; expected "
                    f"at most {_MAX_CELLS:,}"
                )
            if not np.can_cast(dataset.dtype, dtype, "same_kind"):
                raise ValueError(f"{path!r} holds {dataset.dtype}, expected {np.dtype(dtype)}")
            values: npt.NDArray[Any] = dataset[:].astype(dtype)
        return values

    def exists(self, path: str, rank: int) -> bool:
        """Whether there is a dataset of that rank."""
        return self._find(path, rank) is not None


def _open(path: Path) -> h5py.File:
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
            head = file.read(36)
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from error
    if not head:
        raise FileError(f"nothing in {path}: the file is empty (0 bytes)")
    if not head.startswith(_SIGNATURE):
        raise FileError(f"not an HDF5 file: {path}; expected a recording made by 'record'")
    end = _end_of_file(head)
    if end > status.st_size and not (_being_written(head) and _survives_reading(path)):
        raise FileError(
            f"damaged HDF5 file: {path} is cut off: it has {status.st_size:,} of {end:,} bytes"
        )
    try:
        if _being_written(head):  # or its writer was killed
            return h5py.File(path, "r", libver="latest", swmr=True, locking="best-effort")
        return h5py.File(path, "r", locking="best-effort")
    except (OSError, ValueError, RuntimeError) as error:
        raise FileError(f"damaged HDF5 file: {path} cannot be opened ({_line(error)})") from error


# A reader beside a writer takes what it cannot make sense of for half-written, and tries again for
# minutes. So a file is read that way only if its superblock (version 3) says that it is open for
# writing. One that is shorter than its superblock says is read by another process first, which
# can be stopped: after a full disk the file's end is missing and all that was committed is there.
# Offsets: HDF5 File Format Specification, version 3.0, "Disk Format: Level 0A - Superblock".


def _being_written(head: bytes) -> bool:
    return len(head) > 11 and head[8] == 3 and bool(head[11] & 0b101)


_TRIAL_SECONDS = 5.0
_TRIAL = f"""
import sys, h5py
with h5py.File(sys.argv[1], "r", libver="latest", swmr=True, locking="best-effort") as file:
    file.visititems(lambda name, node: None)
    file["{schema.STATE}"][:]
    recorded = file["{schema.BATCHES}/recorded"]
    assert recorded.size <= {_MAX_CELLS}
    recorded[:]
"""


def _survives_reading(path: Path) -> bool:
    """Whether another process reads the file's structure and counters without hanging."""
    command = [sys.executable, "-c", _TRIAL, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TRIAL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _end_of_file(head: bytes) -> int:
    """The file's length as its superblock has it; 0 where that is of another version."""
    if len(head) < 36 or head[8] not in (2, 3) or head[9] != 8:
        return 0
    return int.from_bytes(head[28:36], "little")


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
        if isinstance(error, (OSError, RuntimeError, ValueError, KeyError, TypeError)):
            raise FileError(f"cannot read from {self._path}: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
