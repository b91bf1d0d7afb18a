"""Lossless animated WebP, encoded by ffmpeg and joined here.

Source: WebP Container Specification.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from replay.encoding.ffmpeg import FfmpegSink
from replay.overwriting import WEBP_CHUNK


class WebpSink(FfmpegSink):
    """Takes colours of 32 bits, as `as_colours` gives them."""

    pixel_format = "bgra"
    # The quality of a lossless file is its effort.
    arguments = (
        *("-c:v", "libwebp_anim", "-lossless", "1", "-compression_level", "1"),
        *("-quality", "20", "-loop", "0", "-f", "webp"),
    )

    def finish(self) -> None:
        """Waits until ffmpeg has written the rest, and adds who made the file."""
        super().finish()
        with self.path.open("r+b") as file:
            _end(file)


def join_webp(parts: Sequence[Path], path: Path) -> None:
    """Writes the frames of all parts behind the header of the first."""
    with path.open("wb") as file:
        file.write(b"RIFF\0\0\0\0WEBP")
        for number, part in enumerate(parts):
            data = part.read_bytes()
            at = 12
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
    """Gives a file another frame rate: each frame says how many milliseconds it lasts."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        at, number = 12, 0
        while at < len(data):
            name, size = struct.unpack_from("<4sI", data, at)
            if name == b"ANMF":
                begin, end = (round(1000 * place / new) for place in (number, number + 1))
                data[at + 20 : at + 23] = (end - begin).to_bytes(3, "little")
                number += 1
            at += 8 + size + size % 2
