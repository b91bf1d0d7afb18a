"""Where a recording is pushed to, in words: `wandb`, `wandb=PROJECT`, `tensorboard=DIR`.

`replay` pushes and `record` is asked to, so both read the same words.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec

from replay.schema.errors import OptionError
from replay.schema.suggestions import unknown

FOLDER = "folder"

# What stands behind the `=`; in brackets where the tracker knows one by itself.
_VALUES = {
    "tensorboard": "DIR",
    "wandb": "[PROJECT]",
    "mlflow": "[URI]",
    "aim": "[REPO]",
    "trackio": "PROJECT",
    FOLDER: "DIR",
}
TRACKERS = tuple(_VALUES)


@dataclass(frozen=True)
class Destination:
    """What takes the pictures and numbers of a recording, and where.

    Attributes:
        tracker: One of TRACKERS.
        value: A folder, a project, an address or a repository; empty for the tracker's own choice.
    """

    tracker: str
    value: str = ""

    def __str__(self) -> str:
        return f"{self.tracker}={self.value}" if self.value else self.tracker

    @property
    def needs_value(self) -> bool:
        """Whether it cannot be pushed to without a value."""
        return not _VALUES[self.tracker].startswith("[")

    @property
    def missing(self) -> str:
        """What to do where the tracker's package is not installed; empty where it is."""
        if self.tracker == FOLDER or find_spec(self.tracker) is not None:
            return ""
        return f"{self.tracker}: not installed; pip install 'mapreel[{self.tracker}]'"


def read_destination(words: str | os.PathLike[str], whole: bool = True) -> Destination:
    """Reads a destination.

    Args:
        words: Such as `wandb=PROJECT`.
        whole: Whether it is refused without a value that it needs; not where it stands for a run
            that is there already.

    Raises:
        OptionError: No such tracker, or it needs a value.
    """
    text = os.fspath(words)
    tracker, _, value = text.partition("=")
    if tracker not in _VALUES:
        raise OptionError(unknown("tracker", tracker, TRACKERS))
    found = Destination(tracker, value.strip())
    if whole and found.needs_value and not found.value:
        raise OptionError(f"{tracker}: expected {tracker}={_VALUES[tracker]}, found {text!r}")
    return found
