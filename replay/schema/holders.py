"""Who holds a recording, as its lock file says: a process, and whether it still runs.

`record` writes the lock file beside the recording, and `replay` asks whether more will come.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_MAX_BYTES = 4096  # of a lock file
_ENDED_STATES = ("Z", "X")  # of a process that has ended and was not waited for yet


@dataclass(frozen=True)
class Holder:
    """The process that holds a recording.

    Attributes:
        host: The machine's name.
        space: Where its process numbers hold: the machine since it was started, the container.
        pid: The process's number.
        began: When the process was started, in the system's own measure: numbers are used again.
        locked: Whether it holds a lock of the operating system.
    """

    host: str
    space: str
    pid: int
    began: str
    locked: bool

    @classmethod
    def this_process(cls, locked: bool) -> Holder:
        """Returns this process as a holder.

        Args:
            locked: Whether it holds a lock of the operating system.
        """
        pid = os.getpid()
        return cls(socket.gethostname(), _process_space(), pid, _state_of(pid)[1], locked)

    def encode(self) -> bytes:
        """Returns the holder as one line of JSON, as it is written into a lock file."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> Holder | None:
        """Returns the holder that a lock file's bytes say; None where they cannot be understood."""
        try:
            found: Any = json.loads(data.split(b"\n")[0])
            return cls(
                host=str(found["host"]),
                space=str(found["space"]),
                pid=int(found["pid"]),
                began=str(found["began"]),
                locked=bool(found["locked"]),
            )
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return None

    @property
    def is_local(self) -> bool:
        """Whether its number means the same process here."""
        here = socket.gethostname(), _process_space()
        return bool(self.space) and (self.host, self.space) == here

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs; only a local one can be asked for."""
        if self.pid <= 0:
            return False
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except OSError:  # somebody else's
            pass
        state, began = _state_of(self.pid)
        return state not in _ENDED_STATES and (not self.began or began in ("", self.began))


def _process_space() -> str:
    """Returns what tells one set of process numbers from another; empty where it is not known."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return "" if os.path.isdir("/proc/self") or os.name != "posix" else "one"


def _state_of(pid: int) -> tuple[str, str]:
    """Returns a process's state, a letter, and its start in ticks; empty where unknown."""
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return fields[0], fields[19]
    return "", ""


def lock_path(path: str | os.PathLike[str]) -> str:
    """Returns the lock file's path: all names of a recording have one."""
    return f"{os.path.realpath(path)}.lock"


def read_holder(descriptor: int) -> Holder | None:
    """Returns the holder that an open lock file names; None where it cannot be understood."""
    with contextlib.suppress(OSError):
        return Holder.decode(os.pread(descriptor, _MAX_BYTES, 0))
    return None


def holder_of(path: str | os.PathLike[str]) -> Holder | None:
    """Returns who holds a recording, as far as its lock file says.

    Whether the holder still runs is not asked.

    Args:
        path: The recording, also by a symbolic link.

    Returns:
        The holder; None where there is no lock file, or it cannot be understood.
    """
    with contextlib.suppress(OSError, ValueError):
        descriptor = os.open(lock_path(path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return read_holder(descriptor)
        finally:
            os.close(descriptor)
    return None
