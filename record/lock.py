"""One writer a recording: a lock file beside it.

HDF5 gives its own lock up when a file enters the mode in which it can be read while it is written,
and a second recorder that replaces the file would destroy the first one's. The lock is the
operating system's, on `run.h5.lock`: it ends with the process that holds it, whatever ends that.
"""

from __future__ import annotations

import contextlib
import os

try:
    import fcntl
except ImportError:  # Windows: HDF5's own lock is all there is
    fcntl = None  # type: ignore[assignment]


class BusyError(OSError):
    """Another process writes this recording."""


class Lock:
    """Holds a recording for this process.

    Args:
        path: The recording.

    Raises:
        BusyError: Another process holds it.
        OSError: The lock file cannot be made.
    """

    def __init__(self, path: str) -> None:
        self._path = f"{path}.lock"
        self._descriptor: int | None = None
        while fcntl is not None and self._descriptor is None:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(descriptor)
                raise BusyError("another process is recording into it") from error
            except OSError:  # a file system without locks: no worse than without this
                self._descriptor = descriptor
                break
            # Its last holder may have removed the file between our opening and locking it.
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(descriptor).st_ino == os.stat(self._path).st_ino:
                    self._descriptor = descriptor
            if self._descriptor is None:
                os.close(descriptor)

    def release(self) -> None:
        """Lets go of it, and removes the lock file."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            os.close(self._descriptor)
            self._descriptor = None
