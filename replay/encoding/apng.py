"""Animated PNG, compressed by zlib and written here.

Source: Portable Network Graphics Specification (Third Edition), sections 9 and 11.3.6.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np

from replay.encoding.patches import PatchSink
from replay.encoding.pixel_formats import Bytes
from replay.output import EncodeOptions, Output
from replay.overwriting import PNG_TEXT
from replay.raster.mosaic import Box
from replay.raster.palette import Palette

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COUNT_AT = len(_SIGNATURE) + 12 + 13 + 8  # where the number of frames stands
_NONE, _UP = 0, 2  # filters: the row as it is, and how it differs from the one above it
_LEVEL, _MEMORY = 1, 9  # the least effort of zlib, and all its memory
_LARGEST = 65_000  # of a fraction's two numbers


class ApngSink(PatchSink):
    """Writes colours of 24 bits."""

    name = "PNG"

    def begin(
        self, output: Output, palette: Palette, size: tuple[int, int], options: EncodeOptions
    ) -> None:
        """Opens the file and starts the threads that compress."""
        self._sequence = self._frames = 0
        colours = palette.table[: palette.levels]
        self._gray = bool((colours == colours[:, :1]).all())
        super().begin(output, palette, size, options)

    def compress(self, pixels: Bytes) -> bytes:
        """Returns the rows, compressed.

        A pixel of a map is a block of equal ones: of most rows nothing is left once the one above
        is subtracted. Of the others what is left has fewer values only where all are gray.
        """
        height, width = pixels.shape[:2]
        new = pixels.copy()
        new[1:] -= pixels[:-1]
        rows = np.empty((height, 1 + 3 * width), np.uint8)
        rows[:, 0] = _UP
        if not self._gray:
            other = new.any(axis=(1, 2))
            new[other] = pixels[other]
            rows[other, 0] = _NONE
        for channel in range(3):
            rows[:, 1 + channel :: 3] = new[..., channel]
        stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, _MEMORY)
        return stream.compress(rows.data) + stream.flush()

    def head(self, alone: bool) -> bytes:
        """Returns what it is, and that it is played again and again."""
        height, width = self.size
        header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        return _SIGNATURE + header + (b"" if alone else _chunk(b"acTL", bytes(8)))

    def frame(self, data: bytes, box: Box, count: int, alone: bool) -> bytes:
        """Returns a frame's chunks: where and how long, and its pixels."""
        if alone:
            return _chunk(b"IDAT", data)
        top, left, bottom, right = box
        place = struct.pack(">5I", self._next(), right - left, bottom - top, left, top)
        lasts = struct.pack(">HHBB", *_fraction(count / self.options.fps), 0, 0)
        head = _chunk(b"fcTL", place + lasts)
        self._frames += 1
        if self._frames == 1:
            return head + _chunk(b"IDAT", data)
        return head + _chunk(b"fdAT", struct.pack(">I", self._next()) + data)

    def end(self, alone: bool) -> None:
        """Adds who made the file, and how many frames it has."""
        self.file.write(_chunk(b"tEXt", PNG_TEXT) + _chunk(b"IEND", b""))
        if not alone:
            _write_count(self.file, self._frames)

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence - 1


def _fraction(seconds: float) -> tuple[int, int]:
    """Returns a time as two numbers that a frame has space for."""
    found = Fraction(seconds).limit_denominator(min(10_000, int(_LARGEST / max(seconds, 1))))
    return found.numerator, found.denominator


def _write_count(file: BinaryIO, frames: int) -> None:
    """Writes the number of frames to where it stands."""
    file.seek(_COUNT_AT - 8)
    file.write(_chunk(b"acTL", struct.pack(">II", frames, 0)))


def join_apng(parts: Sequence[Path], path: Path) -> None:
    """Writes the frames of all parts, numbered on; only the very first is a PNG's own picture."""
    frames, number = 0, 0
    with path.open("wb") as file:
        file.write(_SIGNATURE)
        for place, part in enumerate(parts):
            for name, body in _chunks(part.read_bytes()):
                if name == b"acTL":
                    frames += struct.unpack_from(">I", body)[0]
                elif name in (b"fcTL", b"fdAT"):
                    body = struct.pack(">I", number) + body[4:]
                    number += 1
                elif name == b"IDAT" and place > 0:
                    name, body = b"fdAT", struct.pack(">I", number) + body
                    number += 1
                if (place == 0 and name != b"IEND") or name in (b"fcTL", b"fdAT"):
                    file.write(_chunk(name, body))
        file.write(_chunk(b"IEND", b""))
        if frames == 0:
            raise IndexError
        _write_count(file, frames)


def retime_apng(path: Path, fps: float, new: float) -> None:
    """Gives a file another frame rate: each patch says what fraction of a second it lasts."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        at = len(_SIGNATURE)
        while at < len(data):
            size, name = struct.unpack_from(">I4s", data, at)
            if name == b"fcTL":
                seconds = Fraction(*struct.unpack_from(">HH", data, at + 28))
                count = max(1, round(seconds * Fraction(fps)))
                struct.pack_into(">HH", data, at + 28, *_fraction(count / new))
                check = zlib.crc32(data[at + 4 : at + 8 + size])
                struct.pack_into(">I", data, at + 8 + size, check)
            at += 12 + size


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields the name and the body of each chunk of a PNG."""
    at = len(_SIGNATURE)
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if at + 12 + size > len(data):
            raise IndexError
        yield name, data[at + 8 : at + 8 + size]
        at += 12 + size


def _chunk(name: bytes, body: bytes) -> bytes:
    check = zlib.crc32(body, zlib.crc32(name))
    return struct.pack(">I4s", len(body), name) + body + struct.pack(">I", check)
