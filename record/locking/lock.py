"""Locks a recording for one writer, by a lock file beside it.

HDF5 gives its own lock up when a file enters the mode in which it can be read while it is written,
and a second recorder that replaces the file would destroy the first one's. The lock is the
operating system's, on `run.h5.lock`: it ends with the process that holds it, whatever ends that.

Where the file system has no locks (NFS, some containers), the file itself is the lock: it says who
holds the recording, and its time moves on as long as that process lives.
"""

from __future__ import annotations

import contextlib
import os
import time

from replay.schema.holders import Holder, lock_path, read_holder

try:
    import fcntl
except ImportError:  # Windows, where nobody can replace a file that is open
    fcntl = None  # type: ignore[assignment]

RENEW_SECONDS = 5.0  # how often a holder sets the lock file's time
_ABSENT_SECONDS = 60.0  # a holder on another machine that has not done so since has ended
_WATCH_SECONDS = 6.0  # clocks differ: for so long the file is watched before that is believed
_SETTLE_SECONDS = 0.2  # of several that take over a lock at once, the last one to write has it


class BusyError(OSError):
    """Raised where another process writes the recording."""


class Lock:
    """A lock on a recording, held by this process from its creation to `release`.

    Args:
        path: The recording, also by a symbolic link: all its names have one lock.

    Raises:
        BusyError: Another process holds it.
        OSError: The lock file cannot be made.

    Attributes:
        took_over: Whether a process had left it that ended without releasing it.
    """

    def __init__(self, path: str) -> None:
        self._path = lock_path(path)
        self._descriptor: int | None = None
        self._renewed = time.monotonic()
        self._holder: Holder | None = None
        self.took_over = False
        while fcntl is not None and self._descriptor is None:
            self._descriptor = self._take()

    def renew(self) -> None:
        """Sets the lock file's time now and then: it shows others that this process runs."""
        now = time.monotonic()
        if self._descriptor is not None and now - self._renewed > RENEW_SECONDS:
            self._renewed = now
            with contextlib.suppress(OSError):
                os.utime(self._descriptor)

    def release(self) -> None:
        """Releases the lock and removes its file, unless another process has taken that over."""
        if self._descriptor is not None:
            if self._is_in_place(self._descriptor) and read_holder(self._descriptor) in (
                None,
                self._holder,
            ):
                with contextlib.suppress(OSError):
                    os.unlink(self._path)
            os.close(self._descriptor)
            self._descriptor = None

    def _take(self) -> int | None:
        """Takes the lock.

        Returns:
            The lock file's descriptor; None where its last holder has just removed the file.

        Raises:
            BusyError: Another process holds the recording.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            locked = _flock(descriptor)
            before = read_holder(descriptor)
            if before is not None and not (locked and before.locked) and self._is_running(before):
                raise BusyError(_busy(before))
            self.took_over = before is not None
            self._holder = mine = Holder.this_process(locked)
            with contextlib.suppress(OSError):  # a full disk
                _write(descriptor, mine)
            if not locked:
                time.sleep(_SETTLE_SECONDS)
                after = read_holder(descriptor)
                if after is not None and after != mine:
                    raise BusyError(_busy(after))
            if self._is_in_place(descriptor):
                return descriptor
        except BlockingIOError as error:
            before = read_holder(descriptor)
            os.close(descriptor)
            raise BusyError(_busy(before)) from error
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def _is_running(self, holder: Holder) -> bool:
        """Returns whether a holder without a lock of the system's still runs."""
        if holder.is_local:
            return holder.is_alive
        seen = self._modified()
        if seen is None or abs(time.time() - seen) < _ABSENT_SECONDS:
            return seen is not None
        deadline = time.monotonic() + _WATCH_SECONDS
        while time.monotonic() < deadline:
            time.sleep(0.1)
            if self._modified() != seen:
                return True
        return False

    def _modified(self) -> float | None:
        """Returns when the lock file was last modified, in seconds; None where it is gone.

        The file is opened anew, which has a network file system ask its server.
        """
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)

    def _is_in_place(self, descriptor: int) -> bool:
        """Returns whether the open file is still the one of that name."""
        with contextlib.suppress(OSError):
            return os.path.samestat(os.fstat(descriptor), os.stat(self._path))
        return False


def _flock(descriptor: int) -> bool:
    """Locks a file.

    Returns:
        Whether it is locked: not where the file system has no locks.

    Raises:
        BlockingIOError: Another process has locked it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # ENOLCK, ENOTSUP, ENOSYS, EINVAL, EROFS, EIO: each has its file system
        return False
    return True


def _write(descriptor: int, holder: Holder) -> None:
    """Writes a holder into a lock file, in the place of the one before."""
    data = holder.encode()
    os.pwrite(descriptor, data, 0)
    os.ftruncate(descriptor, len(data))


def _busy(holder: Holder | None) -> str:
    """Returns the message that another process writes the recording."""
    words = "another process is recording into it"
    if holder is None:
        return words
    since = "" if holder.is_local or holder.locked else ", there less than a minute ago"
    return f"{words} (process {holder.pid} on {holder.host}{since})"
