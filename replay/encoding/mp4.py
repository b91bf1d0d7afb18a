"""MP4 with H.264 or AV1, encoded and joined by ffmpeg."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

from replay.encoding.ffmpeg import FfmpegSink, concatenate

_TAGS = "range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
_CONTAINER = ("-movflags", "+faststart", "-f", "mp4")


class Mp4Sink(FfmpegSink):
    """Takes planes of Y, U and V, as `as_yuv` gives them."""

    pixel_format = "yuv420p"
    arguments = ("-vf", f"setparams={_TAGS}", "-pix_fmt", "yuv420p", *_CONTAINER)
    encoders = MappingProxyType(
        {
            "h264": (("-c:v", "libx264", "-preset", "veryfast"), 18),
            "av1": (("-c:v", "libsvtav1", "-preset", "10"), 30),
        }
    )


def join_mp4(parts: Sequence[Path], path: Path) -> None:
    """Writes the pictures of all parts to one file; each part begins with a whole picture."""
    concatenate(parts, path, _CONTAINER)
