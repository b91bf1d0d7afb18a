"""A folder of numbered PNG files, encoded by ffmpeg."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from replay.encoding.ffmpeg import FfmpegSink


class FolderSink(FfmpegSink):
    """Takes colours of 32 bits, as `as_colours` gives them."""

    pixel_format = "bgra"
    arguments = ("-pix_fmt", "rgb24", "-start_number", "0", "-f", "image2")


def join_folder(parts: Sequence[Path], path: Path) -> None:
    """Moves the files of all parts to one folder, numbered on."""
    pictures = [picture for part in parts for picture in sorted(part.iterdir())]
    for number, picture in enumerate(pictures):
        picture.rename(path / f"{number:06d}.png")
