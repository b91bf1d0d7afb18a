"""An HDF5 file that a writer may still be writing: opened without a lock, and again if it changed.

`superblock` explains how HDF5 is shown a file that is open for writing.
"""

from __future__ import annotations

import io
import os
import stat
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import h5py

from replay.recording.address import Address
from replay.schema import FileError
from replay.schema.errors import find_shortage
from replay.schema.suggestions import near_files

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
        # The server of an address may not tell at all.
        hidden = self.unfinished and (
            self._opened - self._seen[2] < _TICK or isinstance(self.path, Address)
        )
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
        self.unfinished = being_written(head)
        self.size, end = size, end_of_file(head)
        if end > size and not self.unfinished:
            raise FileError(
                f"damaged HDF5 file: {self.path} is cut off: it has {size:,} of {end:,} bytes"
            )
        view: UnclosedFileView | None = None
        try:
            if self.unfinished and not is_sound(head):
                raise OSError("the checksum of its superblock is wrong")
            view = UnclosedFileView(self.path, self.unfinished)
            if being_written(view.head) and not self.unfinished:
                raise OSError("a writer put it in the place of another one just now")
            self.file = h5py.File(view, "r")
        except (OSError, ValueError, RuntimeError) as error:
            if view is not None:
                view.close()
            raise_if_lost(self.path, error)
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
        raise_if_lost(path, error)
        raise FileError(f"cannot read from {path}: {_first_line(error)}") from error


def raise_if_lost(path: Path, error: BaseException) -> None:
    """Raises what is behind an error of HDF5's and no fault of the file: a lost connection ..."""
    if (shortage := find_shortage(error)) is not None:
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
        raise_if_lost(path, error)
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


def _check_head(path: Path, head: bytes) -> bytes:
    """Returns what a file begins with.

    Raises:
        FileError: It is not HDF5.
    """
    if not head:
        raise FileError(f"nothing in {path}: the file is empty (0 bytes)")
    if not head.startswith(_SIGNATURE):
        raise FileError(f"not an HDF5 file: {path}; expected a recording made by 'record'")
    return head


def _close(file: h5py.File, view: UnclosedFileView) -> None:
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


SUPERBLOCK_BYTES = 48  # of version 2 or 3 with addresses of 8 bytes


_VERSION, _OFFSET_BYTES, _FLAGS = 8, 9, 11


_END = slice(28, 36)  # where the file ends, as its writer last said


_CHECKSUM = slice(44, 48)


_HEAP = b"GCOL\1\0\0\0"  # begins a global heap, where texts lie: section III.E


_OPEN_FOR_WRITING = 0b101  # bit 0: for writing; bit 2: by one writer beside readers


def being_written(head: bytes) -> bool:
    """Returns whether a superblock says that the file is, or was at a crash, open for writing."""
    known = len(head) >= SUPERBLOCK_BYTES and head[_VERSION] == 3 and head[_OFFSET_BYTES] == 8
    return known and bool(head[_FLAGS] & _OPEN_FOR_WRITING)


def end_of_file(head: bytes) -> int:
    """Returns the file's length as its superblock has it; 0 where that is of another version."""
    if len(head) < SUPERBLOCK_BYTES or head[_VERSION] not in (2, 3) or head[_OFFSET_BYTES] != 8:
        return 0
    return int.from_bytes(head[_END], "little")


def is_sound(head: bytes) -> bool:
    """Returns whether a superblock's checksum is right."""
    return _lookup3(head[: _CHECKSUM.start]) == int.from_bytes(head[_CHECKSUM], "little")


class UnclosedFileView(io.RawIOBase):
    """The bytes of a file, opened without a lock, as HDF5 is to see them.

    Its length is the one that the file has when it is opened.

    Args:
        path: The file.
        mend: Whether the superblock is shown as its writer would have left it: not open for
            writing, and with the file's length.

    Attributes:
        head: The superblock as it is in the file.
    """

    def __init__(self, path: Path, mend: bool) -> None:
        self._at = 0
        self._remote = path.connect() if isinstance(path, Address) else None
        if self._remote is None:
            self._file = path.open("rb", buffering=0)
            self._size = os.fstat(self._file.fileno()).st_size
            self.head = self._file.read(SUPERBLOCK_BYTES)
        else:
            self._size = self._remote.size
            self.head = self._remote.head(SUPERBLOCK_BYTES)
        self._head = b""
        if mend:
            head = bytearray(self.head)
            head[_FLAGS] = 0
            head[_END] = self._size.to_bytes(8, "little")
            head[_CHECKSUM] = _lookup3(bytes(head[: _CHECKSUM.start])).to_bytes(4, "little")
            self._head = bytes(head)

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
        count = self._read_at(buffer)
        if self._at < len(self._head):
            shown = self._head[self._at : self._at + count]
            memoryview(buffer)[: len(shown)] = shown
        if bytes(buffer[: len(_HEAP)]) == _HEAP and not _leads_on(memoryview(buffer)[:count]):
            raise OSError(f"the heap of texts at byte {self._at:,} is damaged")
        self._at += count
        return count

    def _read_at(self, buffer: Any) -> int:
        """Reads from the place on, which a forked child that reads too does not move."""
        if self._remote is not None:
            return self._remote.read_into(buffer, self._at)
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), [buffer], self._at)
        self._file.seek(self._at)
        return self._file.readinto(buffer) or 0

    def close(self) -> None:
        """Closes the file."""
        (self._file if self._remote is None else self._remote).close()
        super().close()


def _leads_on(heap: memoryview) -> bool:
    """Returns whether each object of a global heap leads to the next, as far as the bytes go.

    Nothing else vouches for them, and where one leads to itself HDF5 goes round for ever.
    """
    size = int.from_bytes(heap[8:16], "little")
    at, end = 16, min(size, len(heap))
    while at + 16 <= end:
        number = int.from_bytes(heap[at : at + 2], "little")
        taken = int.from_bytes(heap[at + 8 : at + 16], "little")
        if number:  # else it is free space, whose size holds for all of it
            taken = 16 + -(-taken // 8) * 8
        if not 0 < taken <= size - at:
            return False
        at += taken
    return True


def _lookup3(data: bytes) -> int:
    """Returns HDF5's metadata checksum: Bob Jenkins' `hashlittle` (lookup3.c, public domain)."""
    mask = 0xFFFFFFFF

    def turn(value: int, bits: int) -> int:
        return (value << bits | value >> (32 - bits)) & mask

    a = b = c = (0xDEADBEEF + len(data)) & mask
    whole = max(0, (len(data) - 1) // 12)
    numbers = [
        int.from_bytes(data[at : at + 4].ljust(4, b"\0"), "little")
        for at in range(0, 12 * whole + 12, 4)
    ]
    for at in range(0, 3 * whole, 3):
        a, b, c = ((x + y) & mask for x, y in zip((a, b, c), numbers[at : at + 3], strict=True))
        for bits in (4, 6, 8, 16, 19, 4):
            a = ((a - c) & mask) ^ turn(c, bits)
            c = (c + b) & mask
            a, b, c = b, c, a
    if not data:
        return c
    a, b, c = ((x + y) & mask for x, y in zip((a, b, c), numbers[-3:], strict=True))
    for bits in (14, 11, 25, 16, 4, 14, 24):
        c = ((c ^ b) - turn(b, bits)) & mask
        a, b, c = b, c, a
    # After seven steps the three have turned by one place: the last one that was made is b.
    return b
