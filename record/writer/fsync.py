"""Puts a file's data on the disk while the writing goes on."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time

SYNC_SECONDS = 30.0  # between two requests, at most


class BackgroundFsync:
    """Puts a file's data on the disk in a thread: a slow disk does not hold up the writing."""

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._busy = threading.Event()
        self._last = time.monotonic()
        threading.Thread(target=self._work, daemon=True).start()

    @property
    def due(self) -> bool:
        """Whether the last request is more than `SYNC_SECONDS` ago."""
        return time.monotonic() - self._last > SYNC_SECONDS

    def request(self, descriptor: int) -> None:
        """Asks for the data of an open file; ignored while an earlier request is under way."""
        self._last = time.monotonic()
        if not self._busy.is_set():
            self._busy.set()
            self._requests.put(os.dup(descriptor))

    def _work(self) -> None:
        """Serves the requests; runs in the thread."""
        while True:
            descriptor = self._requests.get()
            with contextlib.suppress(OSError):
                os.fsync(descriptor)
            with contextlib.suppress(OSError):
                os.close(descriptor)
            self._busy.clear()
