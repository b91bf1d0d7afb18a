"""Where an animation goes, and what its suffix means: format, frame rate, size."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from replay.formatting import format_count
from replay.output import check_writable
from replay.schema import EncodeError, OptionError, OutputError

SUFFIXES = (".mp4", ".gif", ".webp", ".png", ".apng")


_GIF_LEVELS = 168  # 16 more for text and lines; 72 remain for the input picture


class LimitError(EncodeError):
    """The file would be larger than it may be.

    Attributes:
        bytes: Its size when that was found.
        frames: Number of frames that it then held, or a few more.
    """

    def __init__(self, size: int, frames: int, limit: int) -> None:
        super().__init__(
            f"{size:,} bytes after {format_count(frames, 'frame')}; expected at most {limit:,}"
        )
        self.bytes, self.frames = size, frames


@dataclass(frozen=True)
class Target:
    """Where an animation goes, and as what.

    Attributes:
        path: The file, or the folder of numbered PNG frames.
        kind: `mp4`, `gif`, `webp`, `apng` or `folder`.
        levels: Entries of the palette that the format leaves to the colormap.
    """

    path: Path
    kind: str
    levels: int


def choose_target(out: str | os.PathLike[str]) -> Target:
    """Reads the format from the suffix, and makes sure that the target can be written.

    Args:
        out: A path ending in `.mp4`, `.gif`, `.webp`, `.png` or `.apng`, or in `/` for a folder
            of numbered PNG frames, which must be new or empty.

    Raises:
        OutputError: An unknown suffix, a folder that is missing or read-only, or a target that
            is something else than such a file.
    """
    text = os.fspath(out)
    path = Path(text)
    if text.endswith(("/", os.sep)):
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise OutputError(f"{path} exists; expected a folder that is new or empty")
        check_writable(path)
        return Target(path, "folder", 240)
    kind = path.suffix.lower().lstrip(".")
    if f".{kind}" not in SUFFIXES:
        raise OutputError(
            f"unknown suffix {path.suffix!r} of {path}; expected {', '.join(SUFFIXES)}, "
            "or a folder ending in / for numbered PNG frames"
        )
    if path.exists() and not path.is_file():
        raise OutputError(f"{path} exists and is not a file")
    check_writable(path)
    kind = "apng" if kind == "png" else kind
    return Target(path, kind, _GIF_LEVELS if kind == "gif" else 240)


def choose_fps(fps: float | None, frames: int, kind: str) -> float:
    """The frame rate that will be used.

    Args:
        fps: The one asked for; None for one at which the whole lasts about 25 seconds, with no
            fewer than 4 and no more than 30 frames a second.
        frames: Number of frames.
        kind: As in `Target`. A GIF counts in hundredths of a second and takes 50 at most.

    Raises:
        OptionError: Not a number above 0 and up to 240.
    """
    if fps is None:
        fps = float(min(30, max(4, round(frames / 25))))
    if not (math.isfinite(fps) and 0 < fps <= 240):
        raise OptionError(f"fps {fps:g}: expected a number above 0 and up to 240")
    return 100 / max(2, round(100 / fps)) if kind == "gif" else float(fps)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.iterdir())
    return path.stat().st_size
