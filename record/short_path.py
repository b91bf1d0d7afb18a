"""Paths as they are typed where the user stands: in the folder where the program began."""

from __future__ import annotations

import contextlib
import multiprocessing
import os


def _working_folder() -> str | None:
    """Returns the folder that the process works in; None where it is gone."""
    with contextlib.suppress(OSError):
        return os.getcwd()
    return None


# When the program begins: scripts change it, and the user's shell stays.
_FOLDER = _working_folder()


def short_path(path: str | os.PathLike[str]) -> str:
    """Returns a path relative to the folder where the program began, if it lies in it."""
    whole = os.path.abspath(path)
    if _FOLDER is None or multiprocessing.parent_process() is not None:
        return whole
    inside = whole.startswith(os.path.join(_FOLDER, ""))
    return os.path.relpath(whole, _FOLDER) if inside else whole
