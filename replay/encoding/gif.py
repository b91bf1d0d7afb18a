"""Frames to the bytes of an animated GIF: the frames of this room, the compression Pillow's.

Pillow compresses outside of Python's lock, so frames are compressed side by side, one a core, and
of each frame only the box in which it differs from the one before.

Source: GIF89a Specification (CompuServe, 1990).
"""

from __future__ import annotations

import contextlib
import struct
import tempfile
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import IO, cast

from PIL import Image

from replay.encoding.cores import cores
from replay.encoding.pixel_formats import Bytes, Indexed

TRAILER = b"\x3b"
_TABLE = 0x87  # flags of 256 colours
_STAYS = 1 << 2  # what is done with a frame when the next comes: it is left where it is
_MOST = 8  # frames compressed at a time
_AHEAD = 3  # frames that a helper has, the one that it compresses and those that wait
_CODE_BITS, _END_OF_BLOCKS = b"\x08", b"\0"  # around the compressed pixels of 256 colours


def blocks(
    frames: Iterable[Indexed], size: tuple[int, int], fps: float, threads: int | None = None
) -> Generator[tuple[bytes, bytes]]:
    """What each frame adds to the file, in two pieces; `TRAILER` ends it.

    Args:
        frames: Their indices and colours, from `as_indices`.
        size: Height and width of all of them.
        fps: Frames a second, one for which 100 / fps is whole.
        threads: Frames compressed at a time; as many as there are cores, up to 8, by default.
    """
    threads = min(cores(), _MOST) if threads is None else threads
    pending: deque[_Image] = deque()
    free: list[_Spool] = []
    shared: bytes | None = None

    def finished() -> tuple[bytes, bytes]:
        image = pending.popleft()
        image.wait()
        free.append(image.spool)
        return image.head, image.spool.pixels()

    with contextlib.ExitStack() as spools, _helpers(threads - 1) as pool:
        for frame in frames:
            colours = frame.colours.tobytes()
            head = b"" if shared is not None else _header(size, colours)
            shared = colours if shared is None else shared
            head += _control(fps) + _descriptor(frame, colours if colours != shared else b"")
            spool = free.pop() if free else spools.enter_context(contextlib.closing(_Spool()))
            pending.append(_Image(head, frame.plane, spool, pool))
            # This thread makes the frames; where the others have enough to do, it compresses too.
            # With one more than there are cores, some that could go on would wait for a core.
            if sum(not image.done() for image in pending) > _AHEAD * (threads - 1):
                pending[-1].compress_here()
            while pending and (pending[0].done() or len(pending) > 2 * _AHEAD * threads):
                yield finished()
        for image in reversed(pending):
            image.compress_here()
        while pending:
            yield finished()


def _helpers(number: int) -> contextlib.AbstractContextManager[ThreadPoolExecutor | None]:
    """So many threads beside the one that asks; None for none."""
    return ThreadPoolExecutor(number) if number > 0 else contextlib.nullcontext()


class _Image:
    """A frame whose pixels are compressed by one of the helpers, or here.

    Args:
        head: What is before the pixels.
        plane: The pixels.
        spool: Where they go.
        pool: The helpers; without them it is compressed at once.
    """

    def __init__(
        self, head: bytes, plane: Bytes, spool: _Spool, pool: ThreadPoolExecutor | None
    ) -> None:
        self.head, self.spool = head, spool
        self._plane = plane
        self._future = None if pool is None else pool.submit(_compress, plane, spool)
        if pool is None:
            _compress(plane, spool)

    def compress_here(self) -> None:
        """Compresses it, unless that was done already or a helper has begun to."""
        if self._future is not None and self._future.cancel():
            self._future = None
            _compress(self._plane, self.spool)

    def done(self) -> bool:
        """Whether it is compressed."""
        return self._future is None or self._future.done()

    def wait(self) -> None:
        """Waits until it is."""
        if self._future is not None:
            self._future.result()


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


def _compress(plane: Bytes, spool: _Spool) -> None:
    """Compresses an image's pixels into a spool."""
    file = cast("IO[bytes]", spool)  # as much of one as Pillow asks for
    Image.fromarray(plane).save(file, "GIF", interlace=False, optimize=False)


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
