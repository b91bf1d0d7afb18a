"""Frames to bytes: the only room that knows a codec.

Each format is a sink, a class of three methods in a file of its own, and a line in `formats`;
`encode` feeds them all. Pixels without a file come from `replay.encoding.pixel_formats`.
"""

from replay.encoding.formats import FORMATS, join
from replay.output import (
    EncodeOptions,
    Format,
    LimitError,
    Output,
    Sink,
    Target,
    available_cores,
    choose_fps,
    choose_target,
    encode,
    size_of,
)

__all__ = [
    "FORMATS",
    "EncodeOptions",
    "Format",
    "LimitError",
    "Output",
    "Sink",
    "Target",
    "available_cores",
    "choose_fps",
    "choose_target",
    "encode",
    "join",
    "size_of",
]
