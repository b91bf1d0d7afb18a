"""`--batch-axis "encoder.*=1"`: which axis counts the images of a batch, as it is said in words."""

from __future__ import annotations

from collections.abc import Iterable

from replay.schema import OptionError


def parse_axes(words: Iterable[str]) -> dict[str, int]:
    """Axes by layers' names or globs, from words such as `encoder.*=1`.

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
