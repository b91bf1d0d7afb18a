"""Breaks text into lines that fit a width, whatever its words are."""

from __future__ import annotations

import re
from collections.abc import Callable

_PARTS = re.compile(r"\s+|[^\s._/\-]+[._/\-]*|[._/\-]+")
"""White space, and what a name may be broken behind: dots, dashes, underscores, slashes."""


def wrap(text: str, max_width: int, width_of: Callable[[str], int]) -> list[str]:
    """Returns a text as lines, broken at white space; inside of a word only where it is too long.

    A word that does not fit a line is broken behind a dot, dash, underscore or slash, else
    between two letters. Three spaces, which stand between facts, are one place like any other.

    Args:
        text: The text; all of it is in the lines, but for white space where they end.
        max_width: The width of a line.
        width_of: Returns the width of a text.
    """
    lines: list[str] = []
    line = ""
    for word in re.findall(r"\s+|\S+", text):
        if width_of((line + word).rstrip()) <= max_width:
            line += word
            continue
        if line.strip():
            lines.append(line.rstrip())
        line = ""
        for part in _PARTS.findall(word.strip()):
            if width_of(line + part) > max_width and line:
                lines.append(line)
                line = ""
            while len(part) > 1 and width_of(part) > max_width:
                kept = _longest(part, max_width, width_of)
                lines.append(part[:kept])
                part = part[kept:]
            line += part
    if line.strip():
        lines.append(line.rstrip())
    return lines


def _longest(text: str, max_width: int, width_of: Callable[[str], int]) -> int:
    """Returns how many letters of a text fit a line; one at least."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if width_of(text[:middle]) <= max_width:
            low = middle
        else:
            high = middle - 1
    return low
