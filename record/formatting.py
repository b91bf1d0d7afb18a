"""Numbers in words, for messages. `replay.formatting` has the same for itself."""

from __future__ import annotations


def format_count(number: int, what: str) -> str:
    """Returns a number with what it counts: `1 frame`, `1,200 frames`, `0 batches`."""
    return f"{number:,} {pluralize(what, number)}"


def pluralize(what: str, number: int) -> str:
    """Returns the word for so many: `batch`, `batches`."""
    if number == 1:
        return what
    return what + ("es" if what.endswith(("s", "x", "tch", "sh")) else "s")


def format_bytes(count: float) -> str:
    """Returns a number of bytes in decimal units: `393 kB`."""
    if count < 1000:
        return f"{count:.0f} bytes"
    units = iter(("kB", "MB", "GB", "TB"))
    unit = "bytes"
    while count >= 1000 and unit != "TB":
        count, unit = count / 1000, next(units)
    return f"{count:.0f} {unit}" if count >= 100 else f"{count:.3g} {unit}"
