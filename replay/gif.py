"""Frames to the bytes of an animated GIF: the frames of this room, the compression Pillow's.

Pillow compresses outside of Python's lock, so frames are compressed side by side, one a core, and
of each frame only the box in which it differs from the one before.

Source: GIF89a Specification (CompuServe, 1990).
"""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, cast

from PIL import Image

from replay.pixels import Bytes, Indexed

TRAILER = b"\x3b"
_TABLE = 0x87  # flags of 256 colours
_STAYS = 1 << 2  # what is done with a frame when the next comes: it is left where it is
_MOST = 8  # frames compressed at a time
_CODE_BITS, _END_OF_BLOCKS = b"\x08", b"\0"  # around the compressed pixels of 256 colours


def blocks(
    frames: Iterable[Indexed], size: tuple[int, int], fps: float, threads: int | None = None
) -> Generator[tuple[bytes, bytes]]:
    """What each frame adds to the file, in two pieces; `TRAILER` ends it.

    Args:
        frames: Their indices and colours, from `as_indices`.
        size: Height and width of all of them.
        fps: Frames a second, one for which 100 / fps is whole.
        threads: Frames compressed at a time; as many as there are cores by default.
    """
    threads = cores() if threads is None else threads
    pending: deque[tuple[bytes, Future[_Spool]]] = deque()
    free: list[_Spool] = []
    shared: bytes | None = None

    def finished() -> tuple[bytes, bytes]:
        head, compressed = pending.popleft()
        spool = compressed.result()
        free.append(spool)
        return head, spool.pixels()

    with contextlib.ExitStack() as spools, ThreadPoolExecutor(threads) as pool:
        for frame in frames:
            colours = frame.colours.tobytes()
            head = b"" if shared is not None else _header(size, colours)
            shared = colours if shared is None else shared
            head += _control(fps) + _descriptor(frame, colours if colours != shared else b"")
            spool = free.pop() if free else spools.enter_context(contextlib.closing(_Spool()))
            pending.append((head, pool.submit(_compress, frame.plane, spool)))
            while len(pending) > 2 * threads or (pending and pending[0][1].done()):
                yield finished()
        while pending:
            yield finished()


def cores() -> int:
    """How many frames it pays to compress at a time."""
    with contextlib.suppress(AttributeError):  # not on every system
        return min(_MOST, len(os.sched_getaffinity(0)))
    return min(_MOST, os.cpu_count() or 1)


class _Spool:
    """A file in which Pillow finds nothing to do but to compress.

    For a file with a descriptor it compresses outside of Python's lock. What else it writes would
    each time ask the system, and then for that lock again: here it is left out, and the descriptor
    has the compressed pixels alone.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)

    def fileno(self) -> int:
        """Where the compressed pixels go."""
        return self._file.fileno()

    def write(self, data: bytes) -> int:
        """Leaves out what is around the pixels."""
        return len(data)

    def flush(self) -> None:
        """Nothing is kept back."""

    def pixels(self) -> bytes:
        """What was compressed, as section 22 has it; the file can then be used again."""
        size = self._file.tell()
        assert size, "Pillow compresses into the descriptor"
        self._file.seek(0)
        data = self._file.read(size)
        self._file.seek(0)
        return _CODE_BITS + data + _END_OF_BLOCKS

    def close(self) -> None:
        """Gives the file up."""
        self._file.close()


def _compress(plane: Bytes, spool: _Spool) -> _Spool:
    """Compresses an image's pixels into a spool."""
    file = cast("IO[bytes]", spool)  # as much of one as Pillow asks for
    Image.fromarray(plane).save(file, "GIF", interlace=False, optimize=False)
    return spool


def _header(size: tuple[int, int], colours: bytes) -> bytes:
    """Sections 17 to 19, and the extension that has it played again and again."""
    height, width = size
    screen = struct.pack("<6sHHBBB", b"GIF89a", width, height, 0x70 | _TABLE, 0, 0)
    again = struct.pack("<BBB11sBBHB", 0x21, 0xFF, 11, b"NETSCAPE2.0", 3, 1, 0, 0)
    return screen + colours + again


def _control(fps: float) -> bytes:
    """Section 23: how long a frame stays, in hundredths of a second."""
    return struct.pack("<BBBBHBB", 0x21, 0xF9, 4, _STAYS, round(100 / fps), 0, 0)


def _descriptor(frame: Indexed, colours: bytes) -> bytes:
    """Sections 20 and 21: where it lies, and its colours where they are its own."""
    top, left, bottom, right = frame.box
    flags = _TABLE if colours else 0
    return struct.pack("<BHHHHB", 0x2C, left, top, right - left, bottom - top, flags) + colours
