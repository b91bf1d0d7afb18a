"""Animated GIF: the structure is written here, the compression is Pillow's.

Pillow compresses outside of Python's lock, so frames are compressed side by side, one a core, and
of each frame only the box in which it differs from the one before.

Source: GIF89a Specification (CompuServe, 1990).
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import struct
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, cast

from PIL import Image

from replay.encoding.pixel_formats import Bytes, Indexed
from replay.encoding.side_by_side import InOrder, open_empty
from replay.output import EncodeOptions, Output
from replay.overwriting import GIF_COMMENT
from replay.raster.palette import Palette

TRAILER = b"\x3b"
_TABLE = 0x87  # flags of 256 colours
_STAYS = 1 << 2  # what is done with a frame when the next comes: it is left where it is
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
        self._file = output.resources.enter_context(open_empty(output.path, "GIF"))
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
        # The threads end before the files to which they write.
        self._spools = resources.enter_context(contextlib.ExitStack())
        self._work: InOrder[tuple[bytes, _Spool]] = InOrder(resources, _AHEAD, threads)
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
        for done in self._work.add(functools.partial(_compress, head, frame.plane, spool)):
            yield self._finished(*done)

    def rest(self) -> Iterator[tuple[bytes, bytes]]:
        """Compresses what is left, and yields it like `add`; `TRAILER` then ends the file."""
        for done in self._work.rest():
            yield self._finished(*done)

    def _finished(self, head: bytes, spool: _Spool) -> tuple[bytes, bytes]:
        self._free.append(spool)
        return head, spool.pixels()

    def _new_spool(self) -> _Spool:
        return self._spools.enter_context(contextlib.closing(_Spool()))


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


def _compress(head: bytes, plane: Bytes, spool: _Spool) -> tuple[bytes, _Spool]:
    """Compresses an image's pixels into a spool, and returns it with the bytes before them."""
    file = cast("IO[bytes]", spool)  # as much of one as Pillow asks for
    Image.fromarray(plane).save(file, "GIF", interlace=False, optimize=False)
    return head, spool


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
