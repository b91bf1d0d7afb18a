"""QuickTime with ProRes 4444, which programs that edit films take, encoded and joined by ffmpeg."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from replay.encoding.ffmpeg import FfmpegSink, concatenate
from replay.encoding.mp4 import TAGS
from replay.overwriting import MAKER

_CONTAINER = ("-metadata", f"comment={MAKER}", "-movflags", "+faststart", "-f", "mov")
# BT.709 in limited range, of ten bits, which hold colours of eight bits but for rounding.
_SCALE = "scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int"


class MovSink(FfmpegSink):
    """Takes colours of 32 bits, as `as_colours` gives them."""

    pixel_format = "bgra"
    # Of ffmpeg's two encoders of 4444 the one that takes a quarter of the other's time.
    arguments = (
        *("-c:v", "prores_aw", "-profile:v", "4", "-vendor", "apl0"),
        *("-vf", f"{_SCALE},setparams={TAGS}", "-pix_fmt", "yuv444p10le"),
        *_CONTAINER,
    )


def join_mov(parts: Sequence[Path], path: Path) -> None:
    """Writes the pictures of all parts to one file; each stands for itself."""
    concatenate(parts, path, _CONTAINER)
