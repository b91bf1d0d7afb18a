"""Draws text as planes of coverage in DejaVu Sans, which ships inside matplotlib.

A text, a size and a weight give the same uint8 plane on every machine, and the plane is kept
for the next frame. Neither matplotlib nor its pyplot is imported. What DejaVu Sans lacks is drawn
in another font, see `fonts`.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from replay.formatting import ELLIPSIS
from replay.raster.fonts import Piece, dejavu_path, has_raqm, is_plain, pieces

Coverage = npt.NDArray[np.uint8]


@lru_cache(maxsize=4096)
def width_of(text: str, size: int, bold: bool = False) -> int:
    """Returns width of a text in pixels, as `cover` draws it."""
    if not is_plain(text):
        return sum(math.ceil(_length(piece, size, bold)) for piece in pieces(text))
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
    foot, left = ascent_of(size, bold), 0
    draw = ImageDraw.Draw(image)
    for piece in [Piece(text)] if is_plain(text) else pieces(text):
        font, direction = _font_of(piece, size, bold), _direction(piece)
        draw.text((left, foot), piece.text, 255, font, "ls", direction=direction)
        left += math.ceil(_length(piece, size, bold))
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
def _font(size: int, bold: bool, path: str = "", shaped: bool = False) -> ImageFont.FreeTypeFont:
    # The basic layout engine: the other one is not on every machine, and draws other pixels.
    engine = ImageFont.Layout.RAQM if shaped and has_raqm() else ImageFont.Layout.BASIC
    return ImageFont.truetype(str(path or dejavu_path(bold)), size, layout_engine=engine)


def _font_of(piece: Piece, size: int, bold: bool) -> ImageFont.FreeTypeFont:
    return _font(size, bold, piece.path, piece.shaped)


def _length(piece: Piece, size: int, bold: bool) -> float:
    return _font_of(piece, size, bold).getlength(piece.text, direction=_direction(piece))


def _direction(piece: Piece) -> str | None:
    """Returns which way raqm is to set a piece; Pillow without it takes no such word."""
    if not piece.shaped or not has_raqm():
        return None
    return "rtl" if piece.leftward else "ltr"
