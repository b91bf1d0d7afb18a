"""What values options take: how they are read from a command line, and from Python by two names."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from typing import Any, TypeAlias

from replay.schema import OptionError
from replay.schema.faces import spell

AUTO = "auto"  # of a largest size: that of the preset, or of the format

Numbers: TypeAlias = str | int | slice | Iterable[int] | None
"""How a caller names epochs, batches or channels; None means all of them."""


def whole_number(text: str) -> int:
    """Reads a whole number of 1 or more.

    Raises:
        OptionError: It is something else.
    """
    if not re.fullmatch(r"\d+", text) or int(text) == 0:
        raise OptionError(f"expected a whole number of 1 or more, found {text!r}")
    return int(text)


def positive_number(text: str) -> float:
    """Reads a number above 0.

    Raises:
        OptionError: It is something else.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise OptionError(f"expected a number above 0, found {text!r}")
    return value


def size_limit(text: str) -> float | str | None:
    """Reads a number above 0, `none` or `auto`.

    Raises:
        OptionError: It is something else.
    """
    if text in ("none", AUTO):
        return AUTO if text == AUTO else None
    try:
        return positive_number(text)
    except OptionError:
        raise OptionError(f"expected a number above 0, or none, found {text!r}") from None


def value_range(text: str) -> tuple[float, float]:
    """Reads two numbers with a comma between them.

    Raises:
        OptionError: It is something else.
    """
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"expected LO,HI such as -1,1, found {text!r}") from None
    return low, high


def either(name: str, numbers: Numbers, alias: str, others: Numbers, default: Any = None) -> Any:
    """Returns the epochs or batches that were given under one of two names, as in Python's calls.

    Args:
        name: The first name.
        numbers: What was given under it.
        alias: The second one.
        others: What was given under that; None for nothing.
        default: What the first one has where nothing was given.

    Raises:
        OptionError: Both were given.
    """
    if others is None:
        return numbers
    if numbers is not default and (type(numbers) is not int or numbers != default):
        raise OptionError(
            f"{name} and {alias}: two names of the same, give one of them; "
            f"found {numbers!r} and {others!r}"
        )
    return others


def one_number(numbers: Numbers, command: str, what: str) -> int:
    """Returns the number of the one epoch or batch that a picture shows.

    Args:
        numbers: A number, its spelling, or a list of one.
        command: What draws the picture: `grid`.
        what: What it shows one of: `batch`.

    Raises:
        OptionError: There are several, or it is no number.
    """
    found: Any = numbers
    if isinstance(numbers, Iterable) and not isinstance(numbers, str):
        listed = list(numbers)
        found = listed[0] if len(listed) == 1 else ",".join(map(str, listed))
    if isinstance(found, str) and re.fullmatch(r"\s*-?\d+\s*", found):
        return int(found)
    if isinstance(found, (str, slice)) or found is None:
        raise OptionError(
            f"{command} shows one {what}: expected one number for {spell(what)}, found "
            f"{found!r}; animate shows several"
        )
    return operator.index(found)
