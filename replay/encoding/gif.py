"""Animated GIF: the structure is written here, the compression is Pillow's.

Pillow compresses outside of Python's lock, so frames are compressed side by side, one a core, and
of each frame only the box in which it differs from the one before.

Source: GIF89a Specification (CompuServe, 1990).
"""

from __future__ import annotations

import contextlib
import mmap
import struct
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, BinaryIO, cast

from PIL import Image

from replay.encoding.pixel_formats import Bytes, Indexed
from replay.output import EncodeOptions, Output, available_cores
from replay.overwriting import GIF_COMMENT
from replay.raster.palette import Palette
from replay.schema import EncodeError

TRAILER = b"\x3b"
_TABLE = 0x87  # flags of 256 colours
_STAYS = 1 << 2  # what is done with a frame when the next comes: it is left where it is
_MAX_THREADS = 8
_AHEAD = 3  # frames that a thread has, the one that it compresses and those that wait
_CODE_BITS, _END_OF_BLOCKS = b"\x08", b"\0"  # around the compressed pixels of 256 colours
_HEADER = 13  # bytes before the global colours
_FRAME_EXTENSION = 0xF9  # the label of the one that belongs to a frame


class GifSink:
    """Takes indices of up to 256 colours, as `as_indices` gives them."""

    def begin(
        self, output: Output, palette: Palette, size: tuple[int, int], options: EncodeOptions
    ) -> None:
        """Opens the file and starts the threads that compress."""
        self._output = output
        self._file = output.resources.enter_context(_open(output.path))
        self._stream = GifStream(size, options.fps, output.resources)

    def write(self, pixels: Indexed) -> None:
        """Has a frame compressed, and writes those that are."""
        self._write(self._stream.add(pixels))

    def finish(self) -> None:
        """Writes the frames that are left, and the end of the file."""
        self._write(self._stream.rest())
        self._file.write(TRAILER)

    def _write(self, frames: Iterable[tuple[bytes, bytes]]) -> None:
        for head, pixels in frames:
            self._output.count_frame(len(head) + len(pixels))
            self._file.writelines((head, pixels))


@contextlib.contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    """Opens the file; what the disk refuses from now on is said in a line."""
    try:
        # It is there and empty. Opened with "wb" a file system may take it for one whose contents
        # are replaced (ext4 does), and has all of it written to the disk when it is closed.
        with path.open("r+b") as file:
            yield file
    except OSError as error:
        raise EncodeError(f"cannot write the GIF: {error.strerror}") from error


def whole_hundredths(fps: float) -> float:
    """Returns the next frame rate at which a frame lasts whole hundredths of a second, two or more.

    Many players show a frame that lasts one hundredth ten times as long.
    """
    return 100 / max(2, round(100 / fps))


class GifStream:
    """Compresses frames, several at a time, and gives their bytes in the order of the frames.

    Args:
        size: Height and width of all frames.
        fps: Frames a second, one for which 100 / fps is whole.
        resources: Where the threads and the files end that this needs.
        threads: Frames compressed at a time; as many as there are cores, up to 8, by default.
    """

    def __init__(
        self,
        size: tuple[int, int],
        fps: float,
        resources: contextlib.ExitStack,
        threads: int | None = None,
    ) -> None:
        self._size, self._fps = size, fps
        self._threads = min(available_cores(), _MAX_THREADS) if threads is None else threads
        self._spools = resources.enter_context(contextlib.ExitStack())
        self._pool: ThreadPoolExecutor | None = None
        if self._threads > 1:  # they end before the files to which they write
            self._pool = resources.enter_context(ThreadPoolExecutor(self._threads - 1))
        self._pending: deque[_Image] = deque()
        self._free: list[_Spool] = []
        self._shared: bytes | None = None  # the colours of the file

    def add(self, frame: Indexed) -> Iterator[tuple[bytes, bytes]]:
        """Has a frame compressed, and yields what those that are finished add to the file.

        Args:
            frame: Its indices and colours, from `as_indices`; the colours are copied.

        Yields:
            Two pieces for each frame.
        """
        colours, header = frame.colours.tobytes(), b""
        if self._shared is None:
            self._shared, header = colours, _header(self._size, colours)
        own = b"" if colours == self._shared else colours
        head = header + _control(self._fps) + _descriptor(frame, own)
        spool = self._free.pop() if self._free else self._new_spool()
        self._pending.append(_Image(head, frame.plane, spool, self._pool))
        # This thread makes the frames; where the others have enough to do, it compresses too.
        # With one more than there are cores, some that could go on would wait for a core.
        if sum(not image.done() for image in self._pending) > _AHEAD * (self._threads - 1):
            self._pending[-1].compress_here()
        most = 2 * _AHEAD * self._threads
        while self._pending and (self._pending[0].done() or len(self._pending) > most):
            yield self._finished()

    def rest(self) -> Iterator[tuple[bytes, bytes]]:
        """Compresses what is left, and yields it like `add`; `TRAILER` then ends the file."""
        for image in reversed(self._pending):
            image.compress_here()
        while self._pending:
            yield self._finished()

    def _finished(self) -> tuple[bytes, bytes]:
        image = self._pending.popleft()
        image.wait()
        self._free.append(image.spool)
        return image.head, image.spool.pixels()

    def _new_spool(self) -> _Spool:
        return self._spools.enter_context(contextlib.closing(_Spool()))


class _Image:
    """A frame whose pixels are compressed by another thread, or by this one.

    Args:
        head: The bytes before the pixels.
        plane: The pixels, uint8 (h, w).
        spool: Where the compressed pixels go.
        pool: The other threads; without them the frame is compressed at once.
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
        """Compresses the frame, unless that was done already or another thread has begun to."""
        if self._future is not None and self._future.cancel():
            self._future = None
            _compress(self._plane, self.spool)

    def done(self) -> bool:
        """Returns whether the frame is compressed."""
        return self._future is None or self._future.done()

    def wait(self) -> None:
        """Waits until the frame is compressed."""
        if self._future is not None:
            self._future.result()


class _Spool:
    """A temporary file that takes the compressed pixels, and nothing else that Pillow writes.

    Pillow compresses outside of Python's lock if the file has a descriptor. Everything else it
    writes with calls of `write`, each of which would wait for the system and then for that lock;
    they do nothing here.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)

    def fileno(self) -> int:
        """Returns the descriptor to which Pillow writes the compressed pixels."""
        return self._file.fileno()

    def write(self, data: bytes) -> int:
        """Leaves out what surrounds the pixels."""
        return len(data)

    def flush(self) -> None:
        """Does nothing, since nothing is buffered."""

    def pixels(self) -> bytes:
        """Returns the compressed pixels as section 22 has them, and makes the file free again."""
        size = self._file.tell()
        assert size, "Pillow compresses into the descriptor"
        self._file.seek(0)
        data = self._file.read(size)
        self._file.seek(0)
        return _CODE_BITS + data + _END_OF_BLOCKS

    def close(self) -> None:
        """Closes the file, which is then gone."""
        self._file.close()


def _compress(plane: Bytes, spool: _Spool) -> None:
    """Compresses an image's pixels into a spool."""
    file = cast("IO[bytes]", spool)  # as much of one as Pillow asks for
    Image.fromarray(plane).save(file, "GIF", interlace=False, optimize=False)


def _header(size: tuple[int, int], colours: bytes) -> bytes:
    """Returns sections 17 to 19, that the file is played again and again, and who made it."""
    height, width = size
    screen = struct.pack("<6sHHBBB", b"GIF89a", width, height, 0x70 | _TABLE, 0, 0)
    again = struct.pack("<BBB11sBBHB", 0x21, 0xFF, 11, b"NETSCAPE2.0", 3, 1, 0, 0)
    return screen + colours + again + GIF_COMMENT


def _control(fps: float) -> bytes:
    """Returns section 23: how long a frame stays, in hundredths of a second."""
    return struct.pack("<BBBBHBB", 0x21, 0xF9, 4, _STAYS, round(100 / fps), 0, 0)


def _descriptor(frame: Indexed, colours: bytes) -> bytes:
    """Returns sections 20 and 21: where a frame lies, and its colours where they are its own."""
    top, left, bottom, right = frame.box
    flags = _TABLE if colours else 0
    return struct.pack("<BHHHHB", 0x2C, left, top, right - left, bottom - top, flags) + colours


def join_gif(parts: Sequence[Path], path: Path) -> None:
    """Writes the blocks of all parts; a part's own global colours become those of its frames."""
    with path.open("wb") as file:
        shared = b""
        for number, part in enumerate(parts):
            data = part.read_bytes()
            flags = data[10]
            at = _HEADER + (_table_bytes(flags) if flags & 0x80 else 0)
            colours = data[_HEADER:at]
            if number == 0:
                shared = colours
                file.write(data[:at])
            while data[at] != TRAILER[0]:
                if data[at] == 0x21:  # an extension; of those of the file, one set is enough
                    end = _after_blocks(data, at + 2)
                    if number == 0 or data[at + 1] == _FRAME_EXTENSION:
                        file.write(data[at:end])
                else:  # an image: place and size, flags, colours, pixels
                    own = data[at + 9]
                    pixels = at + 10 + (_table_bytes(own) if own & 0x80 else 0)
                    end = _after_blocks(data, pixels + 1)
                    if own & 0x80 or colours == shared:
                        file.write(data[at:end])
                    else:
                        file.write(data[at : at + 9])
                        file.write(bytes([own & 0x40 | 0x80 | flags & 7]) + colours)
                        file.write(data[pixels:end])
                at = end
        file.write(TRAILER)


def retime_gif(path: Path, fps: float, new: float) -> None:
    """Gives a file another frame rate: each frame says how many hundredths of a second it lasts."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        at = _HEADER + (_table_bytes(data[10]) if data[10] & 0x80 else 0)
        while data[at] != TRAILER[0]:
            if data[at] == 0x21:
                if data[at + 1] == _FRAME_EXTENSION:
                    struct.pack_into("<H", data, at + 4, round(100 / new))
                at = _after_blocks(data, at + 2)
            else:
                own = data[at + 9]
                at = _after_blocks(data, at + 11 + (_table_bytes(own) if own & 0x80 else 0))


def _table_bytes(flags: int) -> int:
    """Returns the bytes of a table of colours."""
    return int(3 << (flags & 7) + 1)


def _after_blocks(data: bytes | mmap.mmap, at: int) -> int:
    """Returns the place behind a chain of blocks, each with its length before it."""
    while data[at]:
        at += 1 + data[at]
    return at + 1
