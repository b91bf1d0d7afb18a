"""Numbers in words, for what is said to people. `replay/words.py` has the same for itself."""

from __future__ import annotations


def format_count(number: int, what: str) -> str:
    """`1 frame`, `1,200 frames`, `0 batches`."""
    return f"{number:,} {pluralize(what, number)}"


def pluralize(what: str, number: int) -> str:
    """The word for so many: `batch`, `batches`."""
    if number == 1:
        return what
    return what + ("es" if what.endswith(("s", "x", "tch", "sh")) else "s")
