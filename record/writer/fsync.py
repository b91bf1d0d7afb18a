"""Puts a file's data, and its name, on the disk."""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import threading
import time

SYNC_SECONDS = 30.0  # between two requests, at most
# With these a disk, often one behind a network, says that it has not kept what was written. Others
# say that it cannot be asked.
_NOT_KEPT = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ESTALE)


def sync_file(path: str) -> None:
    """Puts a file's data, or a folder's names, on the disk.

    Raises:
        OSError: The disk has failed.
    """
    mode = os.O_RDWR if os.name == "nt" else os.O_RDONLY  # Windows wants it open for writing
    descriptor = os.open(path, mode | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def try_to_sync(path: str) -> None:
    """Puts a file's data on the disk, if that can be done."""
    with contextlib.suppress(OSError):
        sync_file(path)


def sync_folder(path: str) -> None:
    """Puts the names in a file's folder on the disk: a file's own sync need not do that.

    Does nothing where the system cannot.
    """
    with contextlib.suppress(OSError):
        sync_file(os.path.dirname(path) or ".")


class BackgroundFsync:
    """Puts a file's data on the disk in a thread: a slow disk does not hold up the writing."""

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._is_waiting = False  # whether a request is in the queue
        self._busy = threading.Event()  # set while there is anything to do
        self._last = time.monotonic()
        self._failure: OSError | None = None
        threading.Thread(target=self._work, daemon=True).start()

    @property
    def due(self) -> bool:
        """Whether the last request is more than `SYNC_SECONDS` ago."""
        return time.monotonic() - self._last > SYNC_SECONDS

    def request(self, descriptor: int) -> None:
        """Asks for the data of an open file.

        One request at most waits for the end of an earlier one: it speaks for those after it.

        Raises:
            OSError: The disk has not kept what an earlier request was for.
        """
        if self._failure is not None:
            raise self._failure
        self._last = time.monotonic()
        with self._lock, contextlib.suppress(OSError):  # no descriptor is to be had: the next one
            if not self._is_waiting:
                self._requests.put(os.dup(descriptor))
                self._is_waiting = True
                self._busy.set()

    def _work(self) -> None:
        """Serves the requests; runs in the thread."""
        while True:
            descriptor = self._requests.get()
            with self._lock:  # what is written from here on may be missed by this one
                self._is_waiting = False
            try:
                os.fsync(descriptor)
            except OSError as error:
                if error.errno in _NOT_KEPT:
                    self._failure = error
            with contextlib.suppress(OSError):
                os.close(descriptor)
            with self._lock:
                if not self._is_waiting:
                    self._busy.clear()
