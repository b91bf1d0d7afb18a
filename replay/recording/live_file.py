"""An HDF5 file that a writer may still be writing: opened without a lock, and again if it changed.

`superblock` explains how HDF5 is shown a file that is open for writing.
"""

from __future__ import annotations

import os
import stat
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import h5py

from replay.recording import superblock
from replay.schema import FileError

_Closing = TypeVar("_Closing", bound="Closing")

PATIENCE = 1.0  # seconds for which a file that changes under the reader is tried again

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_TICK = 2_000_000_000  # nanoseconds: no file system counts time more coarsely
_FOREIGN = (
    *(OSError, RuntimeError, ValueError, KeyError, TypeError, IndexError),
    *(ArithmeticError, MemoryError),
)


class Closing(ABC):
    """Has a method `close`, which a `with` block calls when it ends, however it ends."""

    def __enter__(self: _Closing) -> _Closing:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Releases what is held; a second call does nothing."""


class LiveFile(Closing):
    """An HDF5 file, open for reading; also one whose writer is still at work or was killed.

    Args:
        path: The file.

    Raises:
        FileError: It is missing, not a regular file or not HDF5.

    Attributes:
        path: The file.
        file: What h5py opened.
        size: The file's size in bytes when it was opened.
        unfinished: Whether the file says that it is open for writing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._outdated = False
        self._open()

    @property
    def is_open(self) -> bool:
        """Whether the file has not been closed yet."""
        return self._close.alive

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        self._close()

    def note_changes(self) -> None:
        """Looks whether something was written since the file was opened.

        If so, `is_outdated` is true from now on. A writer that adds a layer puts a new file in
        the place of the old one.
        """
        # Within one tick of the file system's clock a change leaves no trace.
        hidden = self.unfinished and self._opened - self._seen[2] < _TICK
        self._outdated = self._outdated or hidden or _trace(self.path) != self._seen

    @property
    def is_outdated(self) -> bool:
        """Whether the open file has to be opened again before the next read."""
        return self._outdated and self.is_open

    def reopen(self) -> None:
        """Opens the file as it is now.

        Raises:
            FileError: It cannot be opened any more.
        """
        self.close()
        self._open()
        self._outdated = False

    def mark_outdated(self) -> None:
        """Makes the file be opened again before the next read."""
        self._outdated = True

    def may_have_changed(self) -> bool:
        """Returns whether a writer may have written to the file since it was opened."""
        if not self.unfinished or not self.is_open:
            return False
        found = _trace(self.path)
        # A file system may count time in steps of some milliseconds.
        return found != self._seen or time.time_ns() - found[2] < 1e9

    def _open(self) -> None:
        """Opens the file; again, where a writer has changed it in the middle of that."""
        deadline = time.monotonic() + PATIENCE
        while True:
            self._seen, self._opened = _trace(self.path), time.time_ns()
            try:
                return self._open_once()
            except FileError:
                if _trace(self.path) == self._seen or time.monotonic() > deadline:
                    raise

    def _open_once(self) -> None:
        head, size = read_superblock(self.path)
        self.unfinished = superblock.being_written(head)
        self.size, end = size, superblock.end_of_file(head)
        if end > size and not self.unfinished:
            raise FileError(
                f"damaged HDF5 file: {self.path} is cut off: it has {size:,} of {end:,} bytes"
            )
        view: superblock.UnclosedFileView | None = None
        try:
            if self.unfinished and not superblock.is_sound(head):
                raise OSError("the checksum of its superblock is wrong")
            view = superblock.UnclosedFileView(self.path, self.unfinished)
            if superblock.being_written(view.head) and not self.unfinished:
                raise OSError("a writer put it in the place of another one just now")
            self.file = h5py.File(view, "r")
        except (OSError, ValueError, RuntimeError) as error:
            if view is not None:
                view.close()
            found = f"cannot be opened ({_first_line(error)})"
            if end > size:
                found = f"is cut off: it has {size:,} of {end:,} bytes, and {found}"
            raise FileError(f"damaged HDF5 file: {self.path} {found}") from error
        # Also at the interpreter's end, after which HDF5 must not ask Python for bytes.
        self._close = weakref.finalize(self, _close, self.file, view)


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Turns h5py's errors while reading into a FileError that names the file."""
    try:
        yield
    except _FOREIGN as error:
        raise FileError(f"cannot read from {path}: {_first_line(error)}") from error


def read_superblock(path: Path) -> tuple[bytes, int]:
    """Returns the superblock and the size in bytes of a regular file that is HDF5.

    Raises:
        FileError: It is something else, or cannot be read.
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


def _close(file: h5py.File, view: superblock.UnclosedFileView) -> None:
    file.close()
    view.close()


def _trace(path: Path) -> tuple[int, int, int]:
    """Returns what changes when the file is written to, or another file takes its place."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return 0, 0, 0
    return status.st_ino, status.st_size, status.st_mtime_ns


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
