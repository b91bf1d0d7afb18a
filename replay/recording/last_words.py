"""What a command says where HDF5 crashes in a damaged file, or does not come back from it.

Neither can be caught: a signal's handler in Python waits until HDF5 has returned. So these are
handlers in C that call Python at once, to say one line and end the process. They are set in a
command's own process alone, never in one that trains or that somebody works in.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_SECONDS = 20.0  # of work within one call
_FATAL = ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT")
_EXIT_CODE = 2  # as of any file that cannot be used

_path = ""
_handler: Callable[[int], None] | None = None  # kept, or C would call what is gone


def begin(path: Path) -> None:
    """Says what is to be said of a file if HDF5 dies in a call that begins now.

    Args:
        path: The file that is read.
    """
    global _path
    _path = os.fspath(path)
    if _handler is None:
        _set_handlers()
    signal.setitimer(signal.ITIMER_PROF, _SECONDS)


def end() -> None:
    """Says that the call has come back."""
    global _path
    signal.setitimer(signal.ITIMER_PROF, 0)
    _path = ""


def _set_handlers() -> None:
    global _handler
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_int)
    _handler = prototype(_die)
    library = _library()
    for name in (*_FATAL, "SIGPROF"):
        library.signal(int(getattr(signal, name)), _handler)


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _die(number: int) -> None:
    """Says one line, removes what is half-written, and ends the process at once."""
    from replay.formatting import clean_line

    if not _path:  # it was not HDF5
        _library().signal(number, 0)
        os.kill(os.getpid(), number)
        return
    what = f"HDF5 did not come back from it within {_SECONDS:.0f} s"
    if number != signal.SIGPROF:
        what = f"HDF5 crashed in it ({signal.Signals(number).name})"
    line = clean_line(f"error: damaged HDF5 file: {_path}: {what}") + "\n"
    output = sys.modules.get("replay.output")
    for unfinished in getattr(output, "unfinished_files", ()):
        with suppress(OSError):
            os.unlink(unfinished)
    os.write(2, line.encode(errors="replace"))
    os._exit(_EXIT_CODE)
