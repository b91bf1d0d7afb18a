"""Animated PNG, encoded by ffmpeg and joined here.

Source: Portable Network Graphics Specification (Third Edition), section 11.3.6.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from replay.encoding.ffmpeg import FfmpegSink
from replay.overwriting import PNG_TEXT

_END = 12  # bytes of the chunk that ends a file


class ApngSink(FfmpegSink):
    """Takes colours of 32 bits, as `as_colours` gives them."""

    pixel_format = "bgra"
    arguments = ("-pix_fmt", "rgb24", "-plays", "0", "-f", "apng")

    def finish(self) -> None:
        """Waits until ffmpeg has written the rest, and adds who made the file."""
        super().finish()
        with self.path.open("r+b") as file:
            file.seek(-_END, 2)
            _write_chunk(file, b"tEXt", PNG_TEXT)
            _write_chunk(file, b"IEND", b"")


def join_apng(parts: Sequence[Path], path: Path) -> None:
    """Writes the frames of all parts, numbered on; only the very first is a PNG's own picture."""
    frames, number, count_at = 0, 0, 0
    with path.open("wb") as file:
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
                if place == 0 and name == b"IHDR":
                    file.write(b"\x89PNG\r\n\x1a\n")
                if (place == 0 and name != b"IEND") or name in (b"fcTL", b"fdAT"):
                    if name == b"acTL":
                        count_at, plays = file.tell(), body[4:]
                    _write_chunk(file, name, body)
        _write_chunk(file, b"IEND", b"")
        if count_at == 0:
            raise IndexError
        file.seek(count_at)
        _write_chunk(file, b"acTL", struct.pack(">I", frames) + plays)


def retime_apng(path: Path, fps: float, new: float) -> None:
    """Gives a file another frame rate: each frame says what fraction of a second it lasts."""
    each = 1 / Fraction(new).limit_denominator(1000)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        at = 8
        while at < len(data):
            size, name = struct.unpack_from(">I4s", data, at)
            if name == b"fcTL":
                struct.pack_into(">HH", data, at + 28, each.numerator, each.denominator)
                check = zlib.crc32(data[at + 4 : at + 8 + size])
                struct.pack_into(">I", data, at + 8 + size, check)
            at += 12 + size


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields the name and the body of each chunk of a PNG."""
    at = 8
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if at + 12 + size > len(data):
            raise IndexError
        yield name, data[at + 8 : at + 8 + size]
        at += 12 + size


def _write_chunk(file: BinaryIO, name: bytes, body: bytes) -> None:
    check = zlib.crc32(body, zlib.crc32(name))
    file.write(struct.pack(">I", len(body)) + name + body + struct.pack(">I", check))
