"""Animated GIF, whose frames are compressed side by side and joined here.

Source: GIF89a Specification (CompuServe, 1990).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from replay.encoding.gif_stream import TRAILER, GifStream
from replay.encoding.pixel_formats import Indexed
from replay.encoding.sink import EncodeOptions, Output
from replay.raster.palette import Palette
from replay.schema import EncodeError

_HEADER = 13  # bytes before the global colours
_CONTROL = 0xF9  # the label of the extension that belongs to a frame


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
                    if number == 0 or data[at + 1] == _CONTROL:
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


def _table_bytes(flags: int) -> int:
    """Returns the bytes of a table of colours."""
    return int(3 << (flags & 7) + 1)


def _after_blocks(data: bytes, at: int) -> int:
    """Returns the place behind a chain of blocks, each with its length before it."""
    while data[at]:
        at += 1 + data[at]
    return at + 1
