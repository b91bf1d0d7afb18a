"""What is said when something cannot be recorded: a warning, or what the training asked for."""

from __future__ import annotations

import contextlib
import sys
import threading
import warnings
from _thread import get_ident
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

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


class _Muted:
    """A stream that takes nothing from some threads, and everything from others.

    Attributes:
        unmuted: The stream itself.
        threads: Those that it takes nothing from.
        speaking: Those of them that it takes something from nevertheless, for a moment.
    """

    def __init__(self, stream: TextIO) -> None:
        self.unmuted = stream
        self.threads: set[int] = set()
        self.speaking: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unmuted, name)

    def write(self, text: str) -> int:
        """Writes what another thread says."""
        if get_ident() in self.threads - self.speaking:
            return len(text)
        return self.unmuted.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes what another thread says."""
        for line in lines:
            self.write(line)


_muting = threading.Lock()  # several threads may be silenced at the same time


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Keeps what this thread prints from being printed, but for what is said here."""
    with _muting:
        muted = {name: _mute(name) for name in ("stdout", "stderr")}
    try:
        yield
    finally:
        with _muting:
            for name, stream in muted.items():
                if stream is None:
                    continue
                stream.threads.discard(get_ident())  # also where somebody else keeps it by now
                if not stream.threads and getattr(sys, name) is stream:
                    setattr(sys, name, stream.unmuted)


def _mute(name: str) -> _Muted | None:
    """Has a standard stream take nothing from this thread; None where there is no such stream."""
    stream: TextIO | _Muted | None = getattr(sys, name)
    if stream is None:
        return None
    if not isinstance(stream, _Muted):
        stream = _Muted(stream)
        setattr(sys, name, stream)
    stream.threads.add(get_ident())
    return stream


@contextlib.contextmanager
def _heard() -> Iterator[None]:
    """Has what is written heard while a fixed image is shown and the model's words are dropped."""
    stream = sys.stderr
    if not isinstance(stream, _Muted):
        yield
        return
    stream.speaking.add(get_ident())
    try:
        yield
    finally:
        stream.speaking.discard(get_ident())
