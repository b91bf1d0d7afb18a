"""Keeps errors of the watcher's callbacks away from the script."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from record.reporting import say
from replay.schema import RecordingError


class CallbackGuard:
    """Calls functions whose errors are said, once each, and never reach the script.

    Nothing is called in a forked child: recording is the parent's.

    Args:
        lock: Held while a function runs.
    """

    def __init__(self, lock: AbstractContextManager[Any]) -> None:
        self._lock = lock
        self._process = os.getpid()
        self._said: set[str] = set()

    @property
    def in_fork(self) -> bool:
        """Whether this process is a forked child of the one that made the guard."""
        return os.getpid() != self._process

    def call(self, function: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        """Calls a function; says what goes wrong."""
        if self.in_fork:
            return
        try:
            with self._lock:
                function(*args, **kwargs)
        except Exception as error:
            self.say_once(f"{describe_error(error, 300)}; the script goes on")

    def say_once(self, text: str) -> None:
        """Writes one line to stderr, unless it was written before."""
        if text not in self._said:
            self._said.add(text)
            say(text)


def describe_error(error: Exception, length: int) -> str:
    """Returns an exception in one line: the text of a `RecordingError`, else with its type.

    Args:
        error: The exception.
        length: The number of characters of the text after which it is cut.
    """
    text = " ".join(str(error).split())[:length]
    return text if isinstance(error, RecordingError) else f"{type(error).__name__}: {text}"
