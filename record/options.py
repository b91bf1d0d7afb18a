"""What a recording is asked for: read from words, and checked before any work."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Iterable, Mapping
from typing import Any

from replay.schema import OptionError
from replay.schema.suggestions import did_you_mean

ATTENTION_KINDS = ("cls", "full")

_CHOICES = {
    "on_error": ("warn", "raise"),
    "when_full": ("wait", "drop"),
    "ranks": ("0", "all"),
    "durability": ("flush", "fsync"),
}


def check_options(
    every: Any, max_map: Any, resume: Any, batch_axis: Any, **choices: Any
) -> dict[str, int]:
    """Checks the arguments of `Recorder` that need no model.

    Args:
        every: A whole number from 1.
        max_map: A whole number from 1, or None.
        resume: True, False or an epoch.
        batch_axis: Axes from 0 by layers' names or globs, or None.
        **choices: `on_error`, `when_full`, `ranks` and `durability`, which are one of some words.

    Returns:
        The axes by layers' names or globs.

    Raises:
        OptionError: One of them is something else.
    """
    if not isinstance(every, int) or every < 1:
        raise OptionError(f"every: expected a whole number from 1, found {every!r}")
    if not isinstance(resume, (bool, int)) or resume < 0:
        raise OptionError(f"resume: expected True, False or an epoch, found {resume!r}")
    if max_map is not None and (not isinstance(max_map, int) or max_map < 1):
        raise OptionError(f"max_map: expected a whole number from 1, found {max_map!r}")
    for name, value in choices.items():
        if value not in _CHOICES[name]:
            known = ", ".join(_CHOICES[name])
            meant = did_you_mean(str(value), _CHOICES[name])
            raise OptionError(f"{name}: expected one of {known}, found {value!r}{meant}")
    axes = {} if batch_axis is None else batch_axis
    if not isinstance(axes, Mapping) or not all(
        isinstance(name, str) and type(axis) is int and axis >= 0 for name, axis in axes.items()
    ):
        raise OptionError(
            'batch_axis: expected axes from 0 by layer, such as {"encoder.*": 1}, '
            f"found {batch_axis!r}"
        )
    return dict(axes)


def either(name: str, number: int | None, alias: str, other: int | None) -> int | None:
    """Returns the number that was given under one of two names that mean the same, if any.

    Args:
        name: The one, such as `epochs`.
        number: What was given under it.
        alias: The other one, `epoch`.
        other: What was given under that.

    Raises:
        OptionError: Both were given.
    """
    if number is not None and other is not None:
        raise OptionError(
            f"{name} and {alias}: two names of the same, give one of them; "
            f"found {number!r} and {other!r}"
        )
    return number if other is None else other


def attention_kind(attention: Any) -> str | None:
    """Returns whose attention `attention` of `Recorder` asks for: `cls`, `full`, or None.

    Raises:
        OptionError: It is something else.
    """
    if attention is None or isinstance(attention, bool):
        return "cls" if attention else None
    if attention not in ATTENTION_KINDS:
        meant = did_you_mean(str(attention), ATTENTION_KINDS)
        raise OptionError(f"attention: expected True, cls or full, found {attention!r}{meant}")
    return str(attention)


def parse_probe(text: str) -> int | str:
    """Reads how many fixed images there are to be: a number, or `classes`.

    Raises:
        ArgumentTypeError: It is neither.
    """
    if text == "classes" or text.lstrip("-").isdecimal():
        return text if text == "classes" else int(text)
    raise ArgumentTypeError(f"expected a number or classes, found {text!r}")


def parse_axes(words: Iterable[str]) -> dict[str, int]:
    """Reads which axis counts the images of a batch from words such as `encoder.*=1`.

    Args:
        words: The values of `--batch-axis`.

    Returns:
        Axes by layers' names or globs.

    Raises:
        OptionError: A word says no layer or no axis.
    """
    axes: dict[str, int] = {}
    for word in words:
        name, equals, axis = word.rpartition("=")
        if not name or not equals or not axis.isdecimal():
            raise OptionError(
                f"--batch-axis {word}: expected a layer and an axis from 0, such as encoder.*=1"
            )
        axes[name] = int(axis)
    return axes
