"""Commands to type next, from where the user stands: in the folder where the process began."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shlex
import shutil
import sys
from pathlib import Path

_PYTHONS = ("python", "python3")


def _working_folder() -> str | None:
    """Returns the folder that the process works in; None where it is gone."""
    with contextlib.suppress(OSError):
        return os.getcwd()
    return None


# When the program begins: scripts change it, and the user's shell stays.
_FOLDER = _working_folder()


def short_path(path: str | os.PathLike[str]) -> str:
    """Returns a path as it is typed where the user stands: relative to that folder, if in it."""
    whole = os.path.abspath(path)
    if _FOLDER is None or multiprocessing.parent_process() is not None:
        return whole
    inside = whole.startswith(os.path.join(_FOLDER, ""))
    return os.path.relpath(whole, _FOLDER) if inside else whole


def replay_command(command: str, path: str | os.PathLike[str], options: str = "") -> str:
    """Returns a command line of replay that can be typed as it is.

    Args:
        command: The command, `animate`, say.
        path: The recording.
        options: What stands behind it.
    """
    words = f"{_python()} -m replay {command} {shlex.quote(short_path(path))}"
    return f"{words} {options}".rstrip()


def _python() -> str:
    """Returns what starts this Python: `python`, or its path where the shell has another one."""
    executable = sys.executable or "python"
    for name in _PYTHONS:
        found = shutil.which(name)
        if found is not None and Path(found).absolute() == Path(executable).absolute():
            return name
    return shlex.quote(short_path(executable))
