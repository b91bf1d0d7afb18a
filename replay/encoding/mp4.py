"""MP4 with H.264 or AV1, encoded and joined by ffmpeg."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from replay.encoding.ffmpeg import FfmpegSink, concatenate
from replay.encoding.sink import EncodeOptions

_ENCODERS = {
    "h264": ("libx264", "-preset", "veryfast"),
    "av1": ("libsvtav1", "-preset", "10"),
}
DEFAULT_CRF = {"h264": 18, "av1": 30}
_TAGS = "range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
_CONTAINER = ("-movflags", "+faststart", "-f", "mp4")


class Mp4Sink(FfmpegSink):
    """Takes planes of Y, U and V, as `as_yuv` gives them."""

    pixel_format = "yuv420p"

    def arguments(self, options: EncodeOptions) -> Sequence[str]:
        """Returns the encoder, its quality and the container."""
        crf = DEFAULT_CRF[options.codec] if options.crf is None else options.crf
        return [
            *("-vf", f"setparams={_TAGS}", "-c:v", *_ENCODERS[options.codec]),
            *("-pix_fmt", "yuv420p", "-crf", str(crf), *_CONTAINER),
        ]


def join_mp4(parts: Sequence[Path], path: Path) -> None:
    """Writes the pictures of all parts to one file; each part begins with a whole picture."""
    concatenate(parts, path, _CONTAINER)
