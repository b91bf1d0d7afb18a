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

from PIL import Image

from replay.pixels import Bytes, Indexed
from replay.splice import to_pixels

TRAILER = b"\x3b"
_TABLE = 0x87  # flags of 256 colours
_STAYS = 1 << 2  # what is done with a frame when the next comes: it is left where it is
_MOST = 8  # frames compressed at a time
_HEAD = 4096  # bytes of a GIF in which its pixels begin


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
    pending: deque[tuple[bytes, Future[bytes]]] = deque()
    shared: bytes | None = None
    with ThreadPoolExecutor(threads) as pool:
        for frame in frames:
            colours = frame.colours.tobytes()
            head = b"" if shared is not None else _header(size, colours)
            shared = colours if shared is None else shared
            head += _control(fps) + _descriptor(frame, colours if colours != shared else b"")
            pending.append((head, pool.submit(_compress, frame.plane)))
            while len(pending) > 2 * threads or (pending and pending[0][1].done()):
                head, pixels = pending.popleft()
                yield head, pixels.result()
        for head, pixels in pending:
            yield head, pixels.result()


def cores() -> int:
    """How many frames it pays to compress at a time."""
    with contextlib.suppress(AttributeError):  # not on every system
        return min(_MOST, len(os.sched_getaffinity(0)))
    return min(_MOST, os.cpu_count() or 1)


def _compress(plane: Bytes) -> bytes:
    """An image's pixels: Pillow's own GIF of them, less what is around."""
    with tempfile.TemporaryFile() as file:  # for a real file Pillow lets go of Python's lock
        Image.fromarray(plane).save(file, "GIF", interlace=False, optimize=False)
        end = file.seek(-len(TRAILER), os.SEEK_END)
        file.seek(0)
        start = to_pixels(file.read(_HEAD))
        file.seek(start)
        return file.read(end - start)


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
