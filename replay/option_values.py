"""What values options take: how they are read from a command line, and from Python by two names."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any, TypeAlias, TypeVar, cast

from replay.schema import OptionError
from replay.schema.faces import spell
from replay.schema.suggestions import did_you_mean

Request = TypeVar("Request")

AUTO = "auto"  # of a largest size: that of the preset, or of the format; of a quality: what fits
EXACT = "exact"

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


def picture_quality(text: str) -> int | str:
    """Reads the quality of a WebP: a number from 1 to 100, `exact` (or `lossless`) or `auto`.

    Raises:
        OptionError: It is something else.
    """
    words = {EXACT: EXACT, "lossless": EXACT, AUTO: AUTO}
    if text in words:
        return words[text]
    if not re.fullmatch(r"\d{1,3}", text) or not 1 <= int(text) <= 100:
        meant = did_you_mean(text, list(words))
        raise OptionError(f"expected 1 to 100, {EXACT} or {AUTO}, found {text!r}{meant}")
    return int(text)


def check_quality(quality: int | str) -> int | str:
    """Returns the quality of a WebP as `picture_quality` does, of a value in Python."""
    try:
        return picture_quality(str(quality))
    except OptionError as error:
        raise OptionError(f"{spell('quality')}: {error}") from None


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


def either(name: str, numbers: Any, alias: str, others: Any, default: Any = None) -> Any:
    """Returns what was given under one of two names, as epochs, batches and layers are in Python.

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


def gather(kind: type[Request], arguments: Mapping[str, Any]) -> Request:
    """Returns the request that a public function was called with.

    Args:
        kind: `RenderRequest`, or that of another function.
        arguments: The function's arguments by their names, which are those of the options. An
            iterator is read once and kept, since several films may be made of one request.
    """

    def chosen(options: Any) -> dict[str, Any]:
        found = {
            each.name: arguments[each.name] for each in fields(options) if each.name in arguments
        }
        return {
            name: tuple(value) if isinstance(value, Iterator) else value
            for name, value in found.items()
        }

    made: Any = kind
    return cast(
        "Request", made(film=made.film_options(**chosen(made.film_options)), **chosen(kind))
    )
