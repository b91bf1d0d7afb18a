"""Breaks text into lines that fit a width, whatever its words are."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

_PARTS = re.compile(r"[^._/\-]+[._/\-]*|[._/\-]+")
"""The parts of a name, which may be broken behind dots, dashes, underscores and slashes."""


def wrap(text: str, max_width: int, width_of: Callable[[str], int]) -> list[str]:
    """Returns a text as lines, broken at white space; inside of a word only where it is too long.

    A word that does not fit a line is broken behind a dot, dash, underscore or slash, else
    between two letters. Three spaces, which stand between facts, are one place like any other.

    Args:
        text: The text; all of it is in the lines, but for white space where they end.
        max_width: The width of a line.
        width_of: Returns the width of a text. To measure takes long, so few texts are measured.
    """

    def fitting(parts: Sequence[str]) -> int:
        """Returns how many parts, one after the other, fit a line."""
        low, high, middle = 0, len(parts), len(parts)
        while low < high:
            if width_of("".join(parts[:middle]).rstrip()) <= max_width:
                low = middle
            else:
                high = middle - 1
            middle = (low + high + 1) // 2
        return low

    lines: list[str] = []
    words = re.findall(r"\S+\s*", text)
    while words:
        kept = fitting(words)
        line = "".join(words[:kept])
        if not kept:
            word = words[0].rstrip()
            parts = _PARTS.findall(word)
            line = "".join(parts[: fitting(parts)]) or word[: max(1, fitting(word))]
            words[0] = words[0][len(line) :].lstrip()
            kept = 0 if words[0] else 1
        lines.append(line.rstrip())
        words = words[kept:]
    return lines
