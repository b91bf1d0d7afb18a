"""Who holds a recording: a process, and whether it is still there."""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from pathlib import Path

_ENDED = ("Z", "X")  # a process that has ended and was not waited for yet


@dataclass(frozen=True)
class Holder:
    """Who holds a recording.

    Attributes:
        host: The machine's name.
        space: Where its process numbers hold: the machine since it was started, the container.
        pid: Number of the process that writes.
        began: When that process was started, in the system's own measure: numbers are used again.
        locked: Whether it holds a lock of the operating system.
    """

    host: str
    space: str
    pid: int
    began: str
    locked: bool

    @classmethod
    def this(cls, locked: bool) -> Holder:
        """This process."""
        pid = os.getpid()
        return cls(socket.gethostname(), _space(), pid, _state_of(pid)[1], locked)

    @property
    def here(self) -> bool:
        """Whether its number means the same process here."""
        return bool(self.space) and (self.host, self.space) == (socket.gethostname(), _space())

    @property
    def alive(self) -> bool:
        """Whether the process, which is here, still runs."""
        if self.pid <= 0:
            return False
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except OSError:  # somebody else's
            pass
        state, began = _state_of(self.pid)
        return state not in _ENDED and (not self.began or began in ("", self.began))


def _space() -> str:
    """What tells one set of process numbers from another; empty where that is not known."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return "" if os.path.isdir("/proc/self") or os.name != "posix" else "one"


def _state_of(pid: int) -> tuple[str, str]:
    """A process's state, a letter, and when it was started, in ticks; empty where unknown."""
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return fields[0], fields[19]
    return "", ""
