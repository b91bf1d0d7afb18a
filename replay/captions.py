"""Words to pixels: planes of coverage in DejaVu Sans, which ships inside matplotlib.

All of it is pure: a text, a size and a weight give the same uint8 plane on every machine, and
the plane is kept for the next frame. Neither matplotlib nor its pyplot is imported.
"""

from __future__ import annotations

import importlib.util
import math
import re
import unicodedata
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from replay.schema import OptionError

Coverage = npt.NDArray[np.uint8]

ELLIPSIS = "…"
_REPLACED = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # Unicode categories without a glyph


def clean(text: str, limit: int = 400) -> str:
    """A text from a file as one printable line.

    Control and format characters, line ends and lone surrogates become `·`; what is longer than
    `limit` characters ends in an ellipsis.
    """
    text = text if len(text) <= limit else text[: limit - 1] + ELLIPSIS
    return "".join("·" if unicodedata.category(c) in _REPLACED else c for c in text)


@lru_cache(maxsize=4096)
def width_of(text: str, size: int, bold: bool = False) -> int:
    """Width of a text in pixels, as `cover` draws it."""
    return math.ceil(_font(size, bold).getlength(text)) if text else 0


def ascent_of(size: int, bold: bool = False) -> int:
    """Rows from the top of a line to the foot of its letters."""
    return int(_font(size, bold).getmetrics()[0])


def height_of(size: int, bold: bool = False) -> int:
    """Rows of one line of text."""
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


def fit(text: str, size: int, width: int, bold: bool = False, middle: bool = False) -> str:
    """The text, or as much of it as fits a width, with an ellipsis for the rest.

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


def wrap(text: str, size: int, width: int) -> list[str]:
    """The text in lines of at most that width, broken at spaces; a longer word is shortened."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and width_of(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(fit(word, size, width))
    return lines


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


def number(value: float) -> str:
    """A number for a scale: three significant digits and a true minus sign."""
    return f"{value:.3g}".replace("-", "−")


def loss_in_words(value: float) -> str:
    """A loss with three decimals, or three significant digits where it is very large or small."""
    if not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf"
    size = abs(value)
    text = f"{value:.3f}" if size < 1000 and (size >= 0.001 or size == 0) else f"{value:.2e}"
    return text.replace("-", "−")


def module_in_words(module: str) -> str:
    """A module's repr in a few words: `Conv2d(3, 12, kernel_size=(3, 3))` as `Conv2d 3 → 12, 3×3`.

    What it does not understand, it leaves out.
    """
    match = re.match(r"\s*([A-Za-z_]\w*)\s*(?:\((.*)\))?\s*$", clean(module, 2000), re.DOTALL)
    if match is None:
        return ""
    kind, inside = match.group(1), match.group(2) or ""
    sizes = re.match(r"\s*(\d+)(?:\s*,\s*(\d+))?\s*(?:,|$)", inside)
    words = " → ".join(size for size in (sizes.groups() if sizes else ()) if size)
    details = []
    if kernel := _option(inside, "kernel_size"):
        one = len(kernel) == 1
        details.append(
            f"kernel {kernel[0]}" if one and "1d" in kind else "×".join(kernel * (1 + one))
        )
    for name in ("stride", "dilation", "groups"):
        value = _option(inside, name)
        if value and set(value) != {"1"}:
            details.append(f"{name} {'×'.join(value if len(set(value)) > 1 else value[:1])}")
    return ", ".join([" ".join(filter(None, (kind, words))), *details])


def _option(inside: str, name: str) -> list[str]:
    match = re.search(rf"\b{name}=(\(?[\d, ]+\)?)", inside)
    return re.findall(r"\d+", match.group(1)) if match else []
