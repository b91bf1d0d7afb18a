"""Numbers and names in words, for terminals and pictures."""

from __future__ import annotations

from collections.abc import Sequence


def clean(text: str) -> str:
    """Text from a file, fit for a terminal or a picture: what is not printable becomes `?`."""
    return "".join(c if c.isprintable() else "?" for c in text)


def in_bytes(size: float) -> str:
    """A number of bytes, in powers of 1,000: `1.2 MB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:,.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"


def count(number: int, what: str) -> str:
    """`1 frame`, `1,200 frames`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def shape(sizes: Sequence[int]) -> str:
    """`12x128x128`."""
    return "x".join(map(str, sizes))
