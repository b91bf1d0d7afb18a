"""An HDF5 file that a writer may still be writing: opened without a lock, and again if it changed.

HDF5 is shown a view of it, which holds against the rest what no checksum vouches for: `structures`.
"""

from __future__ import annotations

import io
import os
import stat
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import h5py

from replay.recording import structures
from replay.recording.address import Address
from replay.recording.structures import SIGNATURE, STRUCTURES, SUPERBLOCK_BYTES, StructureCheck
from replay.schema import FileError, errors, faces
from replay.schema.chunks import CHUNK_SLOTS
from replay.schema.suggestions import near_files

_Closing = TypeVar("_Closing", bound="Closing")

PATIENCE = 1.0  # seconds for which a file that changes under the reader is tried again

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
        view: The bytes that it reads.
        size: The file's size in bytes when it was opened.
        unfinished: Whether the file says that it is open for writing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._outdated = self._stays = False
        self._open(None)

    @property
    def is_open(self) -> bool:
        """Whether the file has not been closed yet."""
        return self._close.alive

    @property
    def number(self) -> int:
        """What tells the file that was opened from another one of its name; that is never 0."""
        return self.view.number or self._seen[0] or 1

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        self._close()

    def note_changes(self) -> None:
        """Looks whether something was written since the file was opened.

        If so, `is_outdated` is true from now on. A writer that adds a layer puts a new file in
        the place of the old one.
        """
        # Within one tick of the file system's clock a change leaves no trace.
        # The server of an address may not tell at all.
        hidden = self.unfinished and (
            self._opened - self._seen[2] < _TICK or isinstance(self.path, Address)
        )
        if hidden or _trace(self.path) != self._seen:
            self._outdated, self._stays = True, False

    @property
    def is_outdated(self) -> bool:
        """Whether the open file has to be opened again before the next read."""
        return self._outdated and self.is_open

    def reopen(self) -> None:
        """Opens the file as it is now; where it was only marked so, the very one that was open.

        Raises:
            FileError: It cannot be opened any more.
        """
        same = self.view.duplicate() if self._stays else None
        self.close()
        try:
            self._open(same)
        finally:
            if same is not None:
                same.close()
        self._outdated = self._stays = False

    def mark_outdated(self) -> None:
        """Makes the file be opened again before the next read.

        Even if another one has its name by then: this one was complete before that, and what is
        known of its frames does not hold for the other.
        """
        self._stays = self._stays or not self._outdated
        self._outdated = True

    def may_have_changed(self) -> bool:
        """Returns whether a writer may have written to the file since it was opened."""
        if not self.unfinished or not self.is_open:
            return False
        found = _trace(self.path)
        # A file system may count time in steps of some milliseconds.
        return found != self._seen or time.time_ns() - found[2] < 1e9

    def _open(self, same: io.FileIO | None) -> None:
        """Opens the file; again, where a writer has changed it in the middle of that."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found, self._opened = _trace(self.path), time.time_ns()
            if same is None or found[0] == os.fstat(same.fileno()).st_ino:
                self._seen = found  # else it is one that takes the place of the one that is read
            try:
                return self._open_once(same)
            except FileError:
                if _trace(self.path) == self._seen or time.monotonic() > deadline:
                    raise

    def _open_once(self, same: io.FileIO | None) -> None:
        head, size = read_superblock(self.path) if same is None else _read_head(same)
        self.unfinished = structures.being_written(head)
        self.size, end = size, structures.end_of_file(head)
        if end > size and not self.unfinished:
            raise FileError(
                f"damaged HDF5 file: {self.path} is cut off: it has {size:,} of {end:,} bytes"
            )
        view: UnclosedFileView | None = None
        try:
            if self.unfinished and not structures.is_sound(head):
                raise OSError("the checksum of its superblock is wrong")
            view = UnclosedFileView(self.path, self.unfinished, same)
            if structures.being_written(view.head) and not self.unfinished:
                raise OSError("a writer put it in the place of another one just now")
            with watched(self.path):
                self.file = h5py.File(view, "r", rdcc_nslots=CHUNK_SLOTS)
        except (OSError, ValueError, RuntimeError) as error:
            if view is not None:
                view.close()
            raise_if_lost(self.path, error)
            found = f"cannot be opened ({_first_line(error)})"
            if end > size:
                found = f"is cut off: it has {size:,} of {end:,} bytes, and {found}"
            raise FileError(f"damaged HDF5 file: {self.path} {found}") from error
        self.view = view
        # Also at the interpreter's end, after which HDF5 must not ask Python for bytes.
        self._close = weakref.finalize(self, _close, self.path, self.file, view)


@contextmanager
def watched(path: Path) -> Iterator[None]:
    """In a command's own process, ends that in one line where HDF5 crashes or does not return."""
    if not faces.is_own_process:
        yield
        return
    from replay.recording import last_words

    last_words.begin(path)
    try:
        yield
    finally:
        last_words.end()


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Turns h5py's errors while reading into a FileError that names the file."""
    try:
        with watched(path):
            yield
    except _FOREIGN as error:
        raise_if_lost(path, error)
        raise FileError(f"cannot read from {path}: {_first_line(error)}") from error


def raise_if_lost(path: Path, error: BaseException) -> None:
    """Raises what is behind an error and no fault of the file: no connection, no memory."""
    if (shortage := errors.find_shortage(error)) is not None:
        raise shortage from error
    if isinstance(path, Address) and path.failure is not None:
        raise path.failure from error


def read_superblock(path: Path) -> tuple[bytes, int]:
    """Returns the superblock and the size in bytes of a regular file that is HDF5.

    Raises:
        FileError: It is something else, or cannot be read.
    """
    if isinstance(path, Address):
        remote = path.connect()
        return _check_head(path, remote.head(SUPERBLOCK_BYTES)), remote.size
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise FileError(f"no such file: {path}{near_files(path)}") from None
    except (OSError, ValueError) as error:
        raise FileError(f"cannot read {path}: {getattr(error, 'strerror', error)}") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise FileError(f"expected a recording such as run.h5, but {path} is {kind}")
    try:
        with path.open("rb") as file:
            head = file.read(SUPERBLOCK_BYTES)
    except OSError as error:
        raise_if_lost(path, error)
        raise FileError(f"cannot read {path}: {error.strerror}") from error
    return _check_head(path, head), status.st_size


def _again(file: io.FileIO) -> io.FileIO:
    return io.FileIO(os.dup(file.fileno()))


def _read_head(file: io.FileIO) -> tuple[bytes, int]:
    file.seek(0)
    return file.read(SUPERBLOCK_BYTES), os.fstat(file.fileno()).st_size


def _check_head(path: Path, head: bytes) -> bytes:
    """Returns what a file begins with.

    Raises:
        FileError: It is not HDF5.
    """
    if not head:
        raise FileError(f"nothing in {path}: the file is empty (0 bytes)")
    if not head.startswith(SIGNATURE):
        raise FileError(f"not an HDF5 file: {path}; expected a recording made by 'record'")
    return head


def _close(path: Path, file: h5py.File, view: UnclosedFileView) -> None:
    with watched(path), suppress(*_FOREIGN):  # a damaged file may not even be closed
        file.close()
    view.close()


def _trace(path: Path) -> tuple[int, int, int]:
    """Returns what changes when the file is written to, or another file takes its place."""
    if isinstance(path, Address):
        return path.trace()
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return 0, 0, 0
    return status.st_ino, status.st_size, status.st_mtime_ns


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class UnclosedFileView(io.RawIOBase):
    """The bytes of a file, opened without a lock, as HDF5 is to see them.

    Its length is the one that the file has when it is opened.

    Args:
        path: The file.
        mend: Whether the superblock is shown as its writer would have left it: not open for
            writing, and with the file's length.
        same: The file, where it is open already and may have another name, or none, by now.

    Attributes:
        head: The superblock as it is in the file.
        number: Of the file, as the system counts; 0 where it does not.
    """

    def __init__(self, path: Path, mend: bool, same: io.FileIO | None = None) -> None:
        self._at = 0
        self._remote = path.connect() if isinstance(path, Address) else None
        if self._remote is None:
            file = path.open("rb", buffering=0) if same is None else _again(same)
            self._file: io.FileIO = file
            self.head, self._size = _read_head(self._file)
            self.number = os.fstat(self._file.fileno()).st_ino
        else:
            self._size, self.number = self._remote.size, 0
            self.head = self._remote.head(SUPERBLOCK_BYTES)
        self._head = structures.closed_superblock(self.head, self._size) if mend else b""
        self._check = StructureCheck(self._read_bytes, self._size)

    def duplicate(self) -> io.FileIO | None:
        """Returns the open file once more; None of one that is not on this machine."""
        return None if self._remote is not None else _again(self._file)

    def readable(self) -> bool:
        """Returns True, as `io.RawIOBase` demands of a file like this."""
        return True

    def seekable(self) -> bool:
        """Returns True, as `io.RawIOBase` demands of a file like this."""
        return True

    def tell(self) -> int:
        """Returns the place of the next read."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the place of the next read."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer as far as the file goes."""
        if not 0 <= self._at < self._size:
            raise OSError(f"nothing at byte {self._at:,}")
        shown = memoryview(buffer)
        count = self.read_at(buffer, self._at)
        if self._at < len(self._head):
            part = self._head[self._at : self._at + count]
            shown[: len(part)] = part
        if bytes(shown[:4]) in STRUCTURES:
            self._check(self._at, shown[:count])
        self._at += count
        return count

    def _read_bytes(self, at: int, size: int) -> bytes:
        """Returns some bytes, fewer at the end."""
        found = bytearray(max(0, min(size, self._size - at)))
        return bytes(found[: self.read_at(found, at)]) if found else b""

    @property
    def serves_threads(self) -> bool:
        """Whether several threads may call `read_at` at once."""
        return self._remote is None and hasattr(os, "preadv")

    def read_at(self, buffer: Any, start: int) -> int:
        """Reads from a place on, which a forked child that reads too does not move."""
        if self._remote is not None:
            return self._remote.read_into(buffer, start)
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), [buffer], start)
        self._file.seek(start)
        return self._file.readinto(buffer) or 0

    def close(self) -> None:
        """Closes the file."""
        (self._file if self._remote is None else self._remote).close()
        super().close()
