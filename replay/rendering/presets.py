"""What the places want to which animations go: a format, a size in bytes, a size in pixels."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from replay.options import RenderRequest
from replay.schema import OptionError
from replay.schema.faces import spell
from replay.schema.suggestions import unknown


@dataclass(frozen=True)
class Preset:
    """What a place takes.

    Attributes:
        suffixes: Formats, the default first; `/` is a folder of numbered PNG frames.
        max_mb: Largest size in MB (10^6 bytes).
        bounds: Greatest width and height of a frame, in pixels.
        crf: Quality of an MP4 where nothing has to be saved.
        most: Number of frames at most.
    """

    suffixes: tuple[str, ...]
    max_mb: float
    bounds: tuple[int, int]
    crf: int | None = None
    most: int | None = None


PRESETS = {
    "github": Preset((".gif", ".webp"), 10.0, (1000, 1000)),
    "slack": Preset((".mp4",), 8.0, (1280, 1080)),
    "slides": Preset((".mp4",), 50.0, (1920, 1080), crf=14),
    "paper": Preset(("/",), 20.0, (1000, 1000), most=60),
}


def choose_preset(name: str) -> Preset:
    """Returns the preset of that name.

    Raises:
        OptionError: There is none.
    """
    if name not in PRESETS:
        raise OptionError(unknown("preset", name, list(PRESETS)))
    return PRESETS[name]


def choose_out(request: RenderRequest, recording: Path) -> str | os.PathLike[str]:
    """Returns where an animation goes: as asked for, or beside the recording in the first format.

    Args:
        request: What was asked for, with a preset.
        recording: The path of the recording.

    Raises:
        OptionError: There is no such preset, or it makes another format.
    """
    name, out = str(request.preset), request.out
    suffixes = choose_preset(name).suffixes
    if ".mp4" in suffixes and request.codec not in (None, "h264"):
        raise OptionError(
            f"preset {name} makes H.264; leave {spell('codec', request.codec)} out, or the preset"
        )
    if out is None:
        folder = recording.with_name(f"{recording.stem}-frames")
        return f"{folder}/" if suffixes[0] == "/" else recording.with_suffix(suffixes[0])
    text = os.fspath(out)
    suffix = "/" if text.endswith(("/", os.sep)) else Path(text).suffix.lower()
    if suffix not in suffixes:
        formats = " or ".join(
            "a folder of numbered PNG frames, such as frames/" if each == "/" else each
            for each in suffixes
        )
        raise OptionError(
            f"preset {name} makes {formats}; found {text}: change {spell('out')} or the preset"
        )
    return out
