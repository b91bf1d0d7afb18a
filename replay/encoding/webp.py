"""Animated WebP, exact or lossy: each frame is compressed by libwebp, and the file is written here.

Source: WebP Container Specification.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import Image, features

from replay.encoding.patches import PatchSink
from replay.encoding.pixel_formats import Bytes
from replay.output import EncodeOptions, Output
from replay.overwriting import WEBP_CHUNK
from replay.raster.mosaic import Box
from replay.raster.palette import Palette
from replay.schema import EncodeError

_ANIMATED = 0x02  # a flag of the header
_NOT_BLENDED = 0x02  # a flag of a frame
_HEAD = 12  # bytes before the first chunk


class WebpSink(PatchSink):
    """Compresses without loss where the options have no quality."""

    name = "WebP"

    def begin(
        self, output: Output, palette: Palette, size: tuple[int, int], options: EncodeOptions
    ) -> None:
        """Opens the file and starts the threads that compress.

        Raises:
            EncodeError: This Pillow has no WebP.
        """
        if not features.check("webp"):
            raise EncodeError("Pillow is installed without WebP; expected one with it, as on PyPI")
        self._number = 0  # the first frame of the next patch
        super().begin(output, palette, size, options)

    def compress(self, pixels: Bytes) -> bytes:
        """Returns the chunk with the picture of a patch."""
        height, width = pixels.shape[:2]
        image = Image.frombuffer("RGBX", (width, height), pixels, "raw", "RGBX", 0, 1)
        file, quality = BytesIO(), self.options.quality
        # More effort makes the files of noisy maps smaller by a third, in six times the time.
        if quality is None:
            image.save(file, "WEBP", lossless=True, quality=0, method=0)
        else:
            image.save(file, "WEBP", quality=quality, method=0)
        return _picture(file.getvalue())

    def head(self, alone: bool) -> bytes:
        """Returns the chunks that say how large it is, and that it is played again and again."""
        height, width = self.size
        size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        canvas = struct.pack("<4sIB3x", b"VP8X", 10, 0 if alone else _ANIMATED) + size
        again = b"" if alone else struct.pack("<4sIIH", b"ANIM", 6, 0, 0)
        return b"RIFF\0\0\0\0WEBP" + canvas + again

    def frame(self, data: bytes, box: Box, count: int, alone: bool) -> bytes:
        """Returns a frame's chunk, or only the picture's where it is not animated."""
        if alone:
            return data
        top, left, bottom, right = box
        after = self._number + count
        lasts = _time(after, self.options.fps) - _time(self._number, self.options.fps)
        self._number = after
        numbers = (left // 2, top // 2, right - left - 1, bottom - top - 1, lasts)
        head = b"".join(number.to_bytes(3, "little") for number in numbers)
        size = len(head) + 1 + len(data)
        return struct.pack("<4sI", b"ANMF", size) + head + bytes([_NOT_BLENDED]) + data

    def end(self, alone: bool) -> None:
        """Adds who made the file, and its size."""
        _end(self.file)


def _picture(data: bytes) -> bytes:
    """Returns the chunk with the picture of a WebP that has one."""
    at = _HEAD
    while True:
        name, size = struct.unpack_from("<4sI", data, at)
        end = at + 8 + size + size % 2
        if name in (b"VP8 ", b"VP8L"):
            return data[at:end]
        at = end


def _time(number: int, fps: float) -> int:
    """Returns when a frame begins, in milliseconds."""
    return round(1000 * number / fps)


def join_webp(parts: Sequence[Path], path: Path) -> None:
    """Writes the frames of all parts behind the header of the first."""
    with path.open("wb") as file:
        file.write(b"RIFF\0\0\0\0WEBP")
        for number, part in enumerate(parts):
            data = part.read_bytes()
            at = _HEAD
            while at < len(data):
                name, size = struct.unpack_from("<4sI", data, at)
                end = at + 8 + size + size % 2
                if end > len(data):
                    raise IndexError
                own = name == WEBP_CHUNK[:4]
                if (number == 0 and not own) or name == b"ANMF":
                    file.write(data[at:end])
                at = end
        _end(file)


def _end(file: BinaryIO) -> None:
    """Adds who made the file, and writes its size to its beginning."""
    file.seek(0, 2)
    file.write(WEBP_CHUNK)
    size = file.tell() - 8
    file.seek(4)
    file.write(struct.pack("<I", size))


def retime_webp(path: Path, fps: float, new: float) -> None:
    """Gives a file another frame rate: each patch says how many milliseconds it lasts."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        at, number = _HEAD, 0
        while at < len(data):
            name, size = struct.unpack_from("<4sI", data, at)
            if name == b"ANMF":
                lasts = int.from_bytes(data[at + 20 : at + 23], "little")
                after = number + max(1, round(lasts * fps / 1000))
                lasts = _time(after, new) - _time(number, new)
                data[at + 20 : at + 23] = lasts.to_bytes(3, "little")
                number = after
            at += 8 + size + size % 2
