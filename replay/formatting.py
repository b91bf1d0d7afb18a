"""Writes numbers and names as text, for terminals and pictures."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from replay.schema import format_intervals, spell_loss
from replay.schema.addresses import without_secrets

ELLIPSIS = "…"
_SHORT = 200  # characters of a module in short: far more than any has
_STRONG = "\u0600-\u10ff\u2600-\u27bf\U0001f000-\U0001faff"  # scripts that join letters, and emoji
_JOINER = re.compile(f"(?<=[{_STRONG}\ufe0f])[\u200c\u200d](?=[{_STRONG}])")
_REPLACED = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # Unicode categories without a glyph


def clean(text: str, limit: int | None = 400, mark: str = "·") -> str:
    """Returns a text from a file as one printable line, fit for a picture.

    Control and format characters, line ends and lone surrogates become `mark`, but for those that
    join letters of Persian or Hindi, or parts of an emoji; what is longer than `limit` characters
    ends in an ellipsis.
    """
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + ELLIPSIS
    if text.isascii() and text.isprintable():
        return text
    cleaned = "".join(mark if unicodedata.category(c) in _REPLACED else c for c in text)
    joiners = [match.start() for match in _JOINER.finditer(text)]
    for place in joiners:
        cleaned = cleaned[:place] + text[place] + cleaned[place + 1 :]
    return cleaned


def clean_line(text: str) -> str:
    """Returns a text from a file as one line of a terminal, whole and with plain letters."""
    return without_secrets(clean(text, limit=None, mark="?"))


def format_bytes(size: float) -> str:
    """Returns a number of bytes, in powers of 1,000: `1.2 MB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:,.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.1f} {unit}"


def format_count(number: int, what: str) -> str:
    """Returns a number with its word: `1 frame`, `1,200 frames`, `0 batches`."""
    return f"{number:,} {pluralize(what, number)}"


def pluralize(what: str, number: int) -> str:
    """Returns the word for a number of things: `batch`, `batches`."""
    if number == 1:
        return what
    return what + ("es" if what.endswith(("s", "x", "tch", "sh")) else "s")


def format_numbers(what: str, numbers: Sequence[int]) -> str:
    """Returns ascending numbers with their word: `epoch 3`, `epochs 0-4, 8`."""
    return f"{pluralize(what, len(numbers))} {format_intervals(numbers)}"


def format_shape(sizes: Sequence[int]) -> str:
    """Returns a shape as text: `12x128x128`."""
    return "x".join(map(str, sizes))


def format_number(value: float, digits: int = 3) -> str:
    """Returns a measured value with as many digits as count, `-0.412`; a true minus sign."""
    if value == 0 or not abs(value) < float("inf"):
        return {True: "0"}.get(value == 0, str(value))
    return f"{value:.{digits}g}".replace("-", "−")


def format_loss(value: float) -> str:
    """Returns a loss with three significant digits, and a true minus sign; see `spell_loss`."""
    return spell_loss(value).replace("-", "−")


def format_module(module: str) -> str:
    """Returns a module's repr in short: `Conv2d 3 → 12, 3×3`.

    What is not understood is left out.

    Args:
        module: The repr, such as `Conv2d(3, 12, kernel_size=(3, 3))`.
    """
    match = re.match(r"\s*([A-Za-z_]\w*)\s*(?:\((.*)\))?\s*$", clean(module, 2000), re.DOTALL)
    if match is None:
        return ""
    kind, inside = match.group(1), match.group(2) or ""
    sizes = re.match(r"\s*(\d+)(?:\s*,\s*(\d+))?\s*(?:,|$)", inside)
    channels = " → ".join(size for size in (sizes.groups() if sizes else ()) if size)
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
    return clean(", ".join([" ".join(filter(None, (kind, channels))), *details]), _SHORT)


def _option(inside: str, name: str) -> list[str]:
    match = re.search(rf"\b{name}=(\(?[\d, ]+\)?)", inside)
    return re.findall(r"\d+", match.group(1)) if match else []
