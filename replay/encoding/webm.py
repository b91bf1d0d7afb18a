"""WebM with VP9 or AV1, encoded, joined and given other times by ffmpeg."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

from replay.encoding.ffmpeg import FfmpegSink, concatenate, copy_streams
from replay.encoding.mp4 import AV1, YUV
from replay.overwriting import MAKER
from replay.schema.unfinished import temporary_folder

_SEGMENT = b"\x18\x53\x80\x67"  # RFC 8794 and RFC 9559: what all of a file but its head is in
_EIGHT_BYTES = 1  # a size of eight bytes, of which the first one says so, as ffmpeg writes it
_HEAD = 128  # bytes in which it begins
_CONTAINER = ("-metadata", f"comment={MAKER}", "-f", "webm")


class WebmSink(FfmpegSink):
    """Takes planes of Y, U and V, as `as_yuv` gives them."""

    pixel_format = "yuv420p"
    arguments = (*YUV, *_CONTAINER)
    encoders = MappingProxyType(
        {
            # Its other ways take six times as long for files a tenth smaller.
            "vp9": (
                (
                    *("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"),
                    *("-row-mt", "1", "-tile-columns", "2", "-g", "250", "-b:v", "0"),
                ),
                24,
            ),
            "av1": AV1,
        }
    )


def join_webm(parts: Sequence[Path], path: Path) -> None:
    """Writes the pictures of all parts to one file; each part begins with a whole picture."""
    for part in parts:
        _check_whole(part)
    concatenate(parts, path, _CONTAINER)


def _check_whole(path: Path) -> None:
    """Raises IndexError where a file is shorter than it says, which ffmpeg does not mind."""
    with path.open("rb") as file:
        at = file.read(_HEAD).find(_SEGMENT)
        file.seek(at + len(_SEGMENT))
        first, *others = file.read(8) or [0]
        size = int.from_bytes(bytes(others), "big")
        if at < 0 or first != _EIGHT_BYTES or file.tell() + size > file.seek(0, 2):
            raise IndexError


def retime_webm(path: Path, fps: float, new: float) -> None:
    """Gives a file another frame rate: its pictures are written once more, with other times."""
    rate = Fraction(new).limit_denominator(10_000)
    each = 1 / rate
    times = f"setts=ts=round(N*{each}/TB):duration=round({each}/TB)"
    with temporary_folder(path) as folder:
        other = folder / path.name
        copy_streams(path, other, ("-r", str(rate), "-bsf:v", times, *_CONTAINER))
        os.replace(other, path)
