"""What is said when something cannot be recorded: a warning, or what the training asked for."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator

from replay.schema import RecordingError

_PASSED = "record", "torch"  # packages between the training loop and a warning


class RecordingWarning(UserWarning):
    """Something was not recorded; training is not affected."""


class Problems:
    """Warns of what goes wrong, of each cause once, or raises where the user asked for that.

    Args:
        raises: Whether a problem while training raises a `RecordingError` there.
        say: Called with each warning, a line; must not raise.

    Attributes:
        raises: As given.
    """

    def __init__(self, raises: bool, say: Callable[[str], None]) -> None:
        self.raises = raises
        self._say = say
        self._known: set[str] = set()

    def meet(self, text: str, key: str | None = None) -> None:
        """Warns or raises because something could not be recorded.

        Args:
            text: What could not be recorded, in one line.
            key: Names the cause, where the text differs from case to case.

        Raises:
            RecordingError: The user has asked for errors.
        """
        if self.raises:
            raise RecordingError(text)
        self.warn(text, key)

    def fail(self, name: str, error: Exception) -> None:
        """Warns or raises because an error kept something from being recorded.

        Args:
            name: What could not be recorded: a layer, say.
            error: The error.

        Raises:
            RecordingError: The user has asked for errors.
        """
        if self.raises:
            raise RecordingError(f"cannot record {name}: {error}") from error
        self.warn(f"cannot record {name}: {type(error).__name__}: {error}")

    def warn(self, text: str, key: str | None = None) -> None:
        """Warns, and never raises, not even where warnings are errors: the training goes on."""
        key = key or text
        if key not in self._known:
            self._known.add(key)
            self._say(text)


def listed(names: list[str], most: int = 8) -> str:
    """Returns the first of some names with commas, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def warn(text: str) -> None:
    """Warns as Python does; where warnings are errors, writes a line to stderr instead."""
    with _heard():
        try:
            warnings.warn(text, RecordingWarning, stacklevel=_level())
        except RecordingWarning:
            print(f"RecordingWarning: {text}", file=sys.stderr)


def _level() -> int:
    """Counts the frames from `warn` to the training loop, whose line the warning shall name."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in _PASSED:
        frame, level = frame.f_back, level + 1
    return level


def say(text: str) -> None:
    """Writes one line to stderr, marked as the recorder's."""
    with _heard(), contextlib.suppress(OSError, ValueError, AttributeError):  # closed, say
        sys.stderr.write(f"mapreel: {text}\n")  # in one: several processes may speak at once
        sys.stderr.flush()


@contextlib.contextmanager
def _heard() -> Iterator[None]:
    """Has what is written heard while a fixed image is shown and the model's words are dropped."""
    muted = sys.stderr
    heard = getattr(muted, "unmuted", None)
    if heard is None:
        yield
        return
    sys.stderr = heard
    try:
        yield
    finally:
        sys.stderr = muted
