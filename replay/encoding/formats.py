"""The formats that an animation can have, one line each, and the choice among them by suffix."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from replay.encoding.apng import ApngSink, join_apng, retime_apng
from replay.encoding.folder import FolderSink, join_folder
from replay.encoding.gif import GifSink, join_gif, retime_gif, whole_hundredths
from replay.encoding.mov import MovSink, join_mov
from replay.encoding.mp4 import Mp4Sink, join_mp4, retime_mp4
from replay.encoding.pixel_formats import as_colours, as_indices, as_patches, as_yuv
from replay.encoding.webm import WebmSink, join_webm, retime_webm
from replay.encoding.webp import WebpSink, join_webp, retime_webp
from replay.output import Format
from replay.schema import EncodeError

# An MP4 or WebM has a whole picture every 250 frames anyway, so a cut there costs nothing. Of the
# 256 colours of a GIF 16 are for text and lines, and 72 for the input picture. GIF, WebP
# and APNG play in pages, mails and chats, which take 10 MB as a rule, and hold noise without loss.
FORMATS: tuple[Format[Any], ...] = (
    Format(
        *("mp4", (".mp4",), Mp4Sink, as_yuv, join_mp4),
        part_frames=250,
        retime=retime_mp4,
        codecs=tuple(Mp4Sink.encoders),
    ),
    Format(
        *("webm", (".webm",), WebmSink, as_yuv, join_webm),
        part_frames=250,
        retime=retime_webm,
        codecs=tuple(WebmSink.encoders),
    ),
    Format(
        *("mov", (".mov",), MovSink, as_colours, join_mov),
        retime=retime_mp4,
        codecs=("prores",),
        frames_alone=True,
    ),
    Format(
        *("gif", (".gif",), GifSink, as_indices, join_gif),
        levels=168,
        part_frames=25,
        frame_rate=whole_hundredths,
        retime=retime_gif,
        usual_mb=10.0,
    ),
    Format(
        *("webp", (".webp",), WebpSink, as_patches, join_webp),
        frames_alone=True,
        retime=retime_webp,
        usual_mb=10.0,
    ),
    Format(
        *("apng", (".png", ".apng"), ApngSink, as_patches, join_apng),
        frames_alone=True,
        retime=retime_apng,
        usual_mb=10.0,
    ),
    Format("folder", ("/",), FolderSink, as_colours, join_folder),
)


def join(parts: Sequence[Path], path: Path, format: Format[Any]) -> None:
    """Writes one animation with all frames of its parts, in their order, without encoding anew.

    Args:
        parts: Files or folders of the same format, frame size, frame rate and options, each
            written by `encode`; at least one. Of several, each has at least two frames.
        path: The file or the empty folder to write to; the contents of a file are replaced.
        format: What they are.

    Raises:
        EncodeError: A part is not whole, or the joining failed.
    """
    if len(parts) == 1 and not format.is_folder:  # an APNG of one frame is a plain PNG
        shutil.copyfile(parts[0], path)
        return
    try:
        format.join(parts, path)
    except (IndexError, struct.error) as error:
        raise EncodeError(f"cannot join the parts of a {format.name}: one is cut off") from error
