"""How wide a figure is on paper: lengths in words, and the resolution at which maps fill a page."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Callable
from dataclasses import dataclass

from replay.schema import OptionError
from replay.schema.faces import spell

FULL = 7.0  # inches across two columns, as in most journals and proceedings
NARROW = 4.6  # inches, below which pictures stand over the maps rather than beside them
_NARROWEST, _WIDEST = 1.0, 40.0  # inches
_HIGHEST_DPI = 2400
_ENOUGH = 0.995  # of a page's width that maps fill
_UNITS = {"in": 1.0, "cm": 2.54, "mm": 25.4, "pt": 72.27}  # an inch; points are those of TeX
_EXPECTED = "expected a length such as 3.3in, 8.4cm, 84mm or 239pt, or full"


@dataclass(frozen=True)
class PaperWidth:
    r"""The width of a figure on paper.

    Attributes:
        inches: In inches.
        words: As LaTeX spells it: `3.3in`, or `\textwidth` for a full page.
    """

    inches: float
    words: str


def read_width(width: str | float) -> PaperWidth:
    """Reads a width: inches as a number, or a length with its unit, or `full`.

    A point is one of TeX (72.27 to the inch), so that what LaTeX prints as its column's width can
    be given as it is.

    Raises:
        OptionError: It is something else, or no width for a figure.
    """
    if isinstance(width, str):
        match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(in|cm|mm|pt)\s*", width)
        if width.strip() == "full":
            return PaperWidth(FULL, r"\textwidth")
        if match is None:
            raise OptionError(f"width {width!r}: {_EXPECTED}")
        inches = float(match[1]) / _UNITS[match[2]]
        words = match[1] + match[2]
    elif isinstance(width, numbers.Real) and not isinstance(width, bool):
        inches, words = float(width), f"{width:g}in"
    else:
        raise OptionError(f"width {width!r}: {_EXPECTED}")
    if not _NARROWEST <= inches <= _WIDEST:
        limits = f"{_NARROWEST:g} to {_WIDEST:g} inches"
        raise OptionError(f"width {words}: expected {limits}")
    return PaperWidth(inches, words)


def choose_dpi(
    inches: float, asked: int, width_at: Callable[[int], int], columns: int | None = None
) -> int:
    """Returns the resolution at which a page of whole pixels is filled.

    A map's pixel is a block of whole pixels, so that at most resolutions something is left of the
    width, or too little is there. The first one is taken that is as high as was asked for and at
    which next to nothing is left.

    Args:
        inches: The page's width.
        asked: Pixels an inch, at least.
        width_at: Returns the pixels that all takes across, at a resolution.
        columns: Maps side by side, if that was asked for.

    Raises:
        OptionError: The maps have more pixels across than paper can show at that width.
    """
    best, most, last = 0, 0.0, _HIGHEST_DPI
    for dpi in range(asked, _HIGHEST_DPI + 1):
        filled = width_at(dpi) / math.floor(inches * dpi)
        if filled > 1 or dpi > last:
            if dpi > last:
                break
            continue
        last = min(last, 2 * dpi)  # beyond, blocks of twice as many pixels look the same
        if filled > most:
            best, most = dpi, filled
        if filled >= _ENOUGH:
            break
    if not best:
        fewer = spell("columns")
        if columns is None:  # as many as look well are too small to be seen
            fewer = f"maps, such as {spell('channels', 'top:64')}"
        raise OptionError(
            f"{width_at(_HIGHEST_DPI):,} pixels across at {inches:.2f} inches need more than "
            f"{_HIGHEST_DPI} an inch; choose fewer {fewer}, or a larger {spell('width')}"
        )
    return best
