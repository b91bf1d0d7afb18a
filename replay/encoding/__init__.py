"""Frames to bytes: the only room that knows a codec.

Each format is a sink, a class of three methods in a file of its own, and a line in `formats`. The
interface of a sink and the loop that feeds every sink are in `replay.output`. Pixels without a
file come from `replay.encoding.pixel_formats`.
"""

from replay.encoding.formats import FORMATS, join

__all__ = ["FORMATS", "join"]
