"""The formats that an animation can have, one line each, and the choice among them by suffix."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from replay.encoding.apng import ApngSink, join_apng
from replay.encoding.folder import FolderSink, join_folder
from replay.encoding.gif import GifSink, join_gif, whole_hundredths
from replay.encoding.mp4 import Mp4Sink, join_mp4
from replay.encoding.pixel_formats import as_colours, as_indices, as_yuv
from replay.encoding.sink import Format, Target
from replay.encoding.webp import WebpSink, join_webp
from replay.output import check_writable
from replay.schema import OutputError

# An H.264 stream has a whole picture every 250 frames anyway, so a cut there costs nothing. Of the
# 256 colours of a GIF 16 are for text and lines, and 72 for the input picture. The encoders of
# WebP and APNG use one core, and a process takes half a second to start.
FORMATS: tuple[Format[Any], ...] = (
    Format("mp4", (".mp4",), Mp4Sink, as_yuv, join_mp4, part_frames=250),
    Format("gif", (".gif",), GifSink, as_indices, join_gif, 168, 25, frame_rate=whole_hundredths),
    Format("webp", (".webp",), WebpSink, as_colours, join_webp, process_pays_from=20),
    Format("apng", (".png", ".apng"), ApngSink, as_colours, join_apng, process_pays_from=20),
    Format("folder", ("/",), FolderSink, as_colours, join_folder),
)


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
    suffix = "/" if text.endswith(("/", os.sep)) else path.suffix.lower()
    known = [each for format in FORMATS for each in format.suffixes]
    if suffix not in known:
        raise OutputError(
            f"unknown suffix {path.suffix!r} of {path}; "
            f"expected {', '.join(each for each in known if each != '/')}, "
            "or a folder ending in / for numbered PNG frames"
        )
    chosen = next(format for format in FORMATS if suffix in format.suffixes)
    if chosen.is_folder:
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise OutputError(f"{path} exists; expected a folder that is new or empty")
    elif path.exists() and not path.is_file():
        raise OutputError(f"{path} exists and is not a file")
    check_writable(path)
    return Target(path, chosen)
