"""Settings of the whole process that are another way while a fixed image is shown to a model."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any


class SharedSetting:
    """A setting of all threads that is another way while any of them needs it so.

    Two trainings may each show an image at the same time. Where each put back what it had found,
    the one that ends last would leave for good what the other one has set meanwhile.

    Args:
        change: Changes the setting, and returns what puts it back.
    """

    def __init__(self, change: Callable[[], Callable[[], Any]]) -> None:
        self._change = change
        self._lock = threading.Lock()
        self._users = 0  # threads that need it so
        self._put_back: Callable[[], Any] = lambda: None

    @contextlib.contextmanager
    def changed(self) -> Iterator[None]:
        """Changes it until the end of the block, or of another thread's that goes on."""
        with self._lock:
            if not self._users:
                self._put_back = self._change()
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._put_back()
