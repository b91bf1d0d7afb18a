"""Hidden names for what is not whole yet; what a killed process left under them is removed.

The next process that asks for a name beside the same path, or for a folder in the same place,
removes what those left that have ended.
"""

from __future__ import annotations

import functools
import os
import secrets
import shutil
import socket
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_TRIES, _PAUSE = 40, 0.05  # seconds after each in which a folder is removed


def unfinished_path(path: Path, ending: str | None = None) -> Path:
    """Returns a hidden name beside a path, for what is to be put in its place when it is whole.

    What processes of this machine left under such names, and that have ended, is removed.

    Args:
        path: Where the result goes.
        ending: What the name ends with; by default the suffix of `path`.
    """
    beginning = f".{path.stem[:60]}-{_place()}-"
    with suppress(OSError):
        _remove_abandoned(path.parent, beginning)
    ending = path.suffix if ending is None else ending
    return path.with_name(f"{beginning}{os.getpid()}-{secrets.token_hex(4)}{ending}")


@contextmanager
def temporary_folder(path: Path | None = None) -> Iterator[Path]:
    """Yields an empty folder beside a path, or in the system's own, that is removed at the end."""
    folder = unfinished_path(path or Path(tempfile.gettempdir(), "mapreel"), ".parts")
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(folder: Path, beginning: str) -> None:
    """Removes what begins with a name and the number of a process that has ended."""
    with os.scandir(folder) as entries:
        found = [entry for entry in entries if entry.name.startswith(beginning)]
    for entry in found:
        pid, _, token = entry.name[len(beginning) :].partition("-")
        if not (pid.isascii() and pid.isdigit() and len(token) >= 8) or _is_running(int(pid)):
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            with suppress(OSError):
                os.unlink(entry.path)


def _is_running(pid: int) -> bool:
    """Returns whether a process may be there; where that cannot be asked, it may."""
    if os.name != "posix":
        return True  # there the question ends a process
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's
        pass
    return True


@functools.cache
def _place() -> str:
    """Returns what tells one set of process numbers from another: a machine, a container."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text("ascii"))
        parts.append(os.readlink("/proc/self/ns/pid"))
    return f"{zlib.crc32(' '.join(parts).encode()):08x}"


def remove_folder(path: Path) -> None:
    """Removes a folder with all in it, as far as that can be done.

    Threads of a package that writes into it, as zarr has some, may go on for a moment after Ctrl-C;
    what they write meanwhile is removed, too.
    """
    for _ in range(_TRIES):
        if not path.exists():
            return
        shutil.rmtree(path, ignore_errors=True)
        time.sleep(_PAUSE)  # in which one that was about to write makes it anew
