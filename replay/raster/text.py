"""Draws text as planes of coverage in DejaVu Sans, which ships inside matplotlib.

A text, a size and a weight give the same uint8 plane on every machine, and the plane is kept
for the next frame. Neither matplotlib nor its pyplot is imported.
"""

from __future__ import annotations

import importlib.util
import math
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from replay.formatting import ELLIPSIS
from replay.schema import OptionError

Coverage = npt.NDArray[np.uint8]


@lru_cache(maxsize=4096)
def width_of(text: str, size: int, bold: bool = False) -> int:
    """Returns width of a text in pixels, as `cover` draws it."""
    return math.ceil(_font(size, bold).getlength(text)) if text else 0


@lru_cache(maxsize=64)
def ascent_of(size: int, bold: bool = False) -> int:
    """Returns the rows from the top of a line to the foot of its letters."""
    return int(_font(size, bold).getmetrics()[0])


@lru_cache(maxsize=64)
def height_of(size: int, bold: bool = False) -> int:
    """Returns the height in rows of one line of text."""
    return int(sum(_font(size, bold).getmetrics()))


@lru_cache(maxsize=4096)
def cover(text: str, size: int, bold: bool = False) -> Coverage:
    """Draws one line of text.

    Args:
        text: What to write; `clean` it first where it comes from a file.
        size: Size of the font in pixels.
        bold: Whether to use the bold face.

    Returns:
        uint8 (height_of(size), width_of(text)), 0 for paper to 255 for ink; read-only.
    """
    image = Image.new("L", (max(width_of(text, size, bold), 1), height_of(size, bold)), 0)
    foot = ascent_of(size, bold)
    ImageDraw.Draw(image).text((0, foot), text, fill=255, font=_font(size, bold), anchor="ls")
    plane = np.array(image)
    plane.flags.writeable = False
    return plane


@lru_cache(maxsize=4096)
def fit(text: str, size: int, width: int, bold: bool = False, middle: bool = False) -> str:
    """Returns the text, or as much of it as fits a width, with an ellipsis for the rest.

    Args:
        text: What to write.
        size: Size of the font in pixels.
        width: Pixels that there are.
        bold: Whether the bold face is used.
        middle: Leaves out the middle instead of the end, as befits dotted names.

    Returns:
        A text of at most that width; empty where not even the ellipsis fits.
    """
    if width_of(text, size, bold) <= width:
        return text

    def shortened(kept: int) -> str:
        head = (kept + 1) // 2 if middle else kept
        tail = kept - head
        return text[:head].rstrip() + ELLIPSIS + (text[-tail:].lstrip() if tail else "")

    low, high = 0, len(text)  # shortened(low) fits or nothing does; shortened(high) does not
    while high - low > 1:
        kept = (low + high) // 2
        low, high = (kept, high) if width_of(shortened(kept), size, bold) <= width else (low, kept)
    return shortened(low) if width_of(shortened(low), size, bold) <= width else ""


@lru_cache(maxsize=1024)
def wrap(text: str, size: int, width: int) -> tuple[str, ...]:
    """Returns the text in lines of at most a width; a longer word is shortened."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and width_of(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(fit(word, size, width))
    return tuple(lines)


@lru_cache(maxsize=64)
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    # The basic layout engine: the other one is not on every machine, and draws other pixels.
    return ImageFont.truetype(_folder() / name, size, layout_engine=ImageFont.Layout.BASIC)


def _folder() -> Path:
    found = importlib.util.find_spec("matplotlib")
    if found is None or not found.submodule_search_locations:
        raise OptionError("matplotlib is not installed, and captions are set in its font")
    return Path(found.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf"
