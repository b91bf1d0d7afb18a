"""MP4 with H.264 or AV1, encoded and joined by ffmpeg; the times of the frames are changed here.

Source: ISO/IEC 14496-12 (ISO base media file format), sections 8.2.2, 8.3.2, 8.4.2 and 8.6.6.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

from replay.encoding.ffmpeg import FfmpegSink, concatenate
from replay.overwriting import MAKER

TAGS = "range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
YUV = ("-vf", f"setparams={TAGS}", "-pix_fmt", "yuv420p")
AV1 = (("-c:v", "libsvtav1", "-preset", "10"), 30)
"""An encoder, and its usual quality; see `FfmpegSink.encoders`."""

_CONTAINER = ("-metadata", f"comment={MAKER}", "-movflags", "+faststart", "-f", "mp4")
_PARENTS = (b"moov", b"trak", b"edts", b"mdia")
_DURATIONS = {b"mvhd": (16, 24), b"tkhd": (20, 28)}  # where they are, in versions 0 and 1
_TIMESCALE = (12, 20)  # where it is in mdhd


class Mp4Sink(FfmpegSink):
    """Takes planes of Y, U and V, as `as_yuv` gives them."""

    pixel_format = "yuv420p"
    arguments = (*YUV, *_CONTAINER)
    encoders = MappingProxyType(
        {
            "h264": (("-c:v", "libx264", "-preset", "veryfast"), 18),
            "av1": AV1,
        }
    )


def join_mp4(parts: Sequence[Path], path: Path) -> None:
    """Writes the pictures of all parts to one file; each part begins with a whole picture."""
    concatenate(parts, path, _CONTAINER)


def retime_mp4(path: Path, fps: float, new: float) -> None:
    """Gives a file another frame rate: its track has other units of time, and lasts longer."""
    slower = Fraction(fps).limit_denominator(10_000) / Fraction(new).limit_denominator(10_000)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        for name, at, end in _boxes(data, 0, len(data)):
            version = data[at]
            if name == b"mdhd":
                (units,) = struct.unpack_from(">I", data, at + _TIMESCALE[version])
                struct.pack_into(">I", data, at + _TIMESCALE[version], round(units / slower))
            form, size = (">Q", 20) if version else (">I", 12)  # of a duration, and of an edit
            places = [at + _DURATIONS[name][version]] if name in _DURATIONS else []
            if name == b"elst":
                places = list(range(at + 8, end, size))
            for place in places:
                (duration,) = struct.unpack_from(form, data, place)
                struct.pack_into(form, data, place, round(duration * slower))


def _boxes(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yields the name of each box, and where its content begins and ends, parents before children.

    Of those with boxes in them only the ones are opened that lead to times.
    """
    while at < end:
        size, name = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1:  # it stands behind the name
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        stop = at + size if size else end
        yield name, start, stop
        if name in _PARENTS:
            yield from _boxes(data, start, stop)
        at = stop
