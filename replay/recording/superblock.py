"""The bytes of a file as HDF5 is to see them: without a lock, and not open for writing.

HDF5 locks a file that it opens by name. Reading needs no lock: there may be none to be had (a
network file system, a container), another program may hold one, and HDF5 refuses to open in one
process, locked, what is open there without. A file that Python has opened it reads as it is.

A file that says that it is open for writing has a writer at work, or one that was killed. HDF5
opens it only as a concurrent reader, and a concurrent reader takes what it cannot make sense of for
half-written and tries again for many minutes: one wrong bit after a crash would hang a replay. So
HDF5 is shown the same bytes under a superblock without the mark. Nothing in the file is changed,
and what cannot be read is an error at once; whoever reads decides whether to try again.

Layout: HDF5 File Format Specification, version 3.0, "Disk Format: Level 0A - Superblock".
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

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
        self._file = path.open("rb", buffering=0)
        self._size = os.fstat(self._file.fileno()).st_size
        self._at = 0
        self.head = self._file.read(SUPERBLOCK_BYTES)
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
        if hasattr(os, "preadv"):
            return os.preadv(self._file.fileno(), [buffer], self._at)
        self._file.seek(self._at)
        return self._file.readinto(buffer) or 0

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
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
