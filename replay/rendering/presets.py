"""What the places want to which animations go: a format, a size in bytes, a size in pixels."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from replay.schema import OptionError


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
    """The preset of that name.

    Raises:
        OptionError: There is none.
    """
    if name not in PRESETS:
        raise OptionError(f"unknown preset {name!r}; expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


def choose_out(
    name: str | None, out: str | os.PathLike[str] | None, recording: Path, codec: str
) -> str | os.PathLike[str]:
    """Where an animation goes: as asked for, or beside the recording in a preset's first format.

    Args:
        name: A preset's name, or None.
        out: What was asked for, if anything.
        recording: The path of the recording.
        codec: The codec that was asked for.

    Raises:
        OptionError: No such preset, or one that makes another format.
    """
    if name is None:
        return recording.with_suffix(".mp4") if out is None else out
    suffixes = choose_preset(name).suffixes
    if ".mp4" in suffixes and codec != "h264":
        raise OptionError(f"preset {name} makes H.264; leave --codec {codec} out, or the preset")
    if out is None:
        folder = recording.with_name(f"{recording.stem}-frames")
        return f"{folder}/" if suffixes[0] == "/" else recording.with_suffix(suffixes[0])
    text = os.fspath(out)
    suffix = "/" if text.endswith(("/", os.sep)) else Path(text).suffix.lower()
    if suffix not in suffixes:
        wanted = {"/": "a folder of numbered PNG frames, such as frames/"}
        formats = " or ".join(wanted.get(each, each) for each in suffixes)
        raise OptionError(f"preset {name} makes {formats}; found {text}: change -o or the preset")
    return out
