"""Numbers and names in words, for terminals and pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence

from replay.schema import in_words


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
    """`1 frame`, `1,200 frames`, `0 batches`."""
    return f"{number:,} {plural(what, number)}"


def plural(what: str, number: int) -> str:
    """The word for so many: `batch`, `batches`."""
    if number == 1:
        return what
    return what + ("es" if what.endswith(("s", "x", "tch", "sh")) else "s")


def numbered(what: str, numbers: Sequence[int]) -> str:
    """`epoch 3`, `epochs 0-4, 8`: ascending numbers with their word."""
    return f"{plural(what, len(numbers))} {in_words(numbers)}"


def shape(sizes: Sequence[int]) -> str:
    """`12x128x128`."""
    return "x".join(map(str, sizes))


def number(value: float) -> str:
    """A measured value with three digits that count, `-0.412`; a true minus sign."""
    if value == 0 or not abs(value) < float("inf"):
        return {True: "0"}.get(value == 0, str(value))
    return f"{value:.3g}".replace("-", "−")


def module_words(module: str) -> str:
    """A module's `repr` in short: `Conv2d 3 → 12, 3×3, stride 2`; others as they are."""
    match = re.match(r"(Conv\w*)\((\d+), (\d+), kernel_size=\(?([\d, ]+)\)?", module)
    if match is None:
        return clean(module)
    kind, inputs, outputs, kernel = match.groups()
    sizes = [size for size in kernel.replace(" ", "").split(",") if size]
    short = f"{kind} {inputs} → {outputs}, {'kernel ' * (len(sizes) == 1)}{'×'.join(sizes)}"
    if (stride := re.search(r"stride=\(?(\d+)(?:, (\d+))*", module)) and stride.group(1) != "1":
        short += f", stride {stride.group(1)}"
    if groups := re.search(r"groups=(\d+)", module):
        short += f", {groups.group(1)} groups"
    return short
