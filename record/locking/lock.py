"""One writer a recording: a lock file beside it.

HDF5 gives its own lock up when a file enters the mode in which it can be read while it is written,
and a second recorder that replaces the file would destroy the first one's. The lock is the
operating system's, on `run.h5.lock`: it ends with the process that holds it, whatever ends that.

Where the file system has no locks (NFS, some containers), the file itself is the lock: it says who
holds the recording, and its time moves on as long as that process lives.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import asdict
from typing import Any

from record.locking.holder import Holder

try:
    import fcntl
except ImportError:  # Windows, where nobody can replace a file that is open
    fcntl = None  # type: ignore[assignment]

RENEW_SECONDS = 5.0  # how often a holder sets the lock file's time
_ABSENT_SECONDS = 60.0  # a holder on another machine that has not done so since has ended
_WATCH_SECONDS = 6.0  # clocks differ: for so long its time is watched before that is believed
_SETTLE_SECONDS = 0.2  # of several that take over a lock at once, the last one to write has it
_MOST_BYTES = 4096


class BusyError(OSError):
    """Another process writes this recording."""


def holder_of(path: str | os.PathLike[str]) -> Holder | None:
    """Who holds a recording, as far as its lock file says; whether that is still so is not asked.

    Args:
        path: The recording, also by a symbolic link.
    """
    with contextlib.suppress(OSError, ValueError):
        descriptor = os.open(_lock_path(path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _read(descriptor)
        finally:
            os.close(descriptor)
    return None


class Lock:
    """Holds a recording for this process.

    Args:
        path: The recording, also by a symbolic link: all its names have one lock.

    Raises:
        BusyError: Another process holds it.
        OSError: The lock file cannot be made.
    """

    def __init__(self, path: str) -> None:
        self._path = _lock_path(path)
        self._descriptor: int | None = None
        self._renewed = time.monotonic()
        self._holder: Holder | None = None
        while fcntl is not None and self._descriptor is None:
            self._descriptor = self._take()

    def renew(self) -> None:
        """Shows others, now and then, that this process is still there."""
        now = time.monotonic()
        if self._descriptor is not None and now - self._renewed > RENEW_SECONDS:
            self._renewed = now
            with contextlib.suppress(OSError):
                os.utime(self._descriptor)

    def release(self) -> None:
        """Lets go of it, and removes the lock file, unless another has taken that over."""
        if self._descriptor is not None:
            if self._is_there(self._descriptor) and _read(self._descriptor) in (None, self._holder):
                with contextlib.suppress(OSError):
                    os.unlink(self._path)
            os.close(self._descriptor)
            self._descriptor = None

    def _take(self) -> int | None:
        """The lock file's descriptor; None where its last holder has just removed the file."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            locked = _flock(descriptor)
            before = _read(descriptor)
            if before is not None and not (locked and before.locked) and self._lives(before):
                raise BusyError(_busy(before))
            self._holder = mine = Holder.this(locked)
            with contextlib.suppress(OSError):  # a full disk
                _write(descriptor, mine)
            if not locked:
                time.sleep(_SETTLE_SECONDS)
                after = _read(descriptor)
                if after is not None and after != mine:
                    raise BusyError(_busy(after))
            if self._is_there(descriptor):
                return descriptor
        except BlockingIOError as error:
            before = _read(descriptor)
            os.close(descriptor)
            raise BusyError(_busy(before)) from error
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def _lives(self, holder: Holder) -> bool:
        """Whether a holder without a lock of the system's is still there."""
        if holder.here:
            return holder.alive
        seen = self._time()
        if seen is None or abs(time.time() - seen) < _ABSENT_SECONDS:
            return seen is not None
        deadline = time.monotonic() + _WATCH_SECONDS
        while time.monotonic() < deadline:
            time.sleep(0.1)
            if self._time() != seen:
                return True
        return False

    def _time(self) -> float | None:
        """The lock file's time; opened anew, which has a network file system ask its server."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return os.fstat(descriptor).st_mtime
        finally:
            os.close(descriptor)

    def _is_there(self, descriptor: int) -> bool:
        """Whether the file that is open is still the one of that name."""
        with contextlib.suppress(OSError):
            return os.path.samestat(os.fstat(descriptor), os.stat(self._path))
        return False


def _lock_path(path: str | os.PathLike[str]) -> str:
    return f"{os.path.realpath(path)}.lock"


def _flock(descriptor: int) -> bool:
    """Locks a file; False where the file system has no locks.

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


def _read(descriptor: int) -> Holder | None:
    """What a lock file says; None where it says nothing that could be understood."""
    try:
        found: Any = json.loads(os.pread(descriptor, _MOST_BYTES, 0).split(b"\n")[0])
        return Holder(
            host=str(found["host"]),
            space=str(found["space"]),
            pid=int(found["pid"]),
            began=str(found["began"]),
            locked=bool(found["locked"]),
        )
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None


def _write(descriptor: int, holder: Holder) -> None:
    data = json.dumps(asdict(holder)).encode() + b"\n"
    os.pwrite(descriptor, data, 0)
    os.ftruncate(descriptor, len(data))


def _busy(holder: Holder | None) -> str:
    words = "another process is recording into it"
    if holder is None:
        return words
    since = "" if holder.here or holder.locked else ", there less than a minute ago"
    return f"{words} (process {holder.pid} on {holder.host}{since})"
