"""Where a recording is pushed to, in words: `wandb`, `wandb=PROJECT`, `tensorboard=DIR`.

`replay` pushes and `record` is asked to, so both read the same words.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from replay.schema.addresses import is_address, why_not_here, without_secrets
from replay.schema.errors import OptionError
from replay.schema.suggestions import unknown

FOLDER = "folder"
COPY = "copy"

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
        tracker: One of TRACKERS; COPY where the recording itself is copied to an address.
        value: A folder, a project, an address or a repository; empty for the tracker's own choice.
        run: The tracker's own object of a run that goes on; None where one is begun, or looked for.
    """

    tracker: str
    value: str = ""
    run: Any = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        value = without_secrets(self.value)
        if self.tracker == COPY:
            return value
        return f"{self.tracker}={value}" if value else self.tracker

    @property
    def needs_value(self) -> bool:
        """Whether it cannot be pushed to without a value."""
        return not _VALUES[self.tracker].startswith("[")

    @property
    def missing(self) -> str:
        """What to do where the tracker's package is not installed; empty where it is."""
        if self.tracker in (FOLDER, COPY) or find_spec(self.tracker) is not None:
            return ""
        return f"{self.tracker}: not installed; pip install 'mapreel[{self.tracker}]'"


def read_destination(to: Any, whole: bool = True) -> Destination:
    """Reads a destination.

    Args:
        to: Words, such as `wandb=PROJECT`; or a run of a tracker, or a `SummaryWriter`.
        whole: Whether words are refused without a value that they need; not where they stand for
            a run that is there already.

    Raises:
        OptionError: No such tracker, it needs a value, or it is something else.
    """
    if not isinstance(to, (str, os.PathLike)):
        return _destination_of(to)
    text = str(os.fspath(to))
    if is_address(text) or text.lower().startswith("file:"):
        return _copy_to(text)
    tracker, _, value = text.partition("=")
    if tracker not in _VALUES:
        raise OptionError(unknown("tracker", tracker, TRACKERS))
    found = Destination(tracker, value.strip())
    folder = tracker in ("tensorboard", FOLDER)
    if folder and (elsewhere := why_not_here(found.value)):
        raise OptionError(f"{tracker}={elsewhere}")
    if whole and found.needs_value and not found.value:
        raise OptionError(f"{tracker}: expected {tracker}={_VALUES[tracker]}, found {text!r}")
    return found


def _copy_to(address: str) -> Destination:
    shown, last = without_secrets(address), address.rpartition("::")[2]
    if last.lower().startswith(("file:", "local:")):
        raise OptionError(
            f"{shown}: that is on this machine, where the file itself can be copied; expected an "
            "address such as s3://bucket/run.h5"
        )
    if last != address:
        raise OptionError(f"{shown}: a copy goes where it will lie, to {without_secrets(last)}")
    return Destination(COPY, address)


def _destination_of(run: Any) -> Destination:
    """Returns where a tracker's own object of a run writes to."""
    kind = type(run)
    folder = getattr(run, "log_dir", None) or getattr(run, "logdir", None)
    if kind.__name__ == "SummaryWriter" and folder:
        return Destination("tensorboard", os.fspath(folder))
    package = kind.__module__.partition(".")[0]
    if package not in _VALUES or package == FOLDER:
        raise OptionError(
            f"expected a tracker, such as wandb=PROJECT, or a run of one; found {kind.__name__}"
        )
    return Destination(package, run=run)
