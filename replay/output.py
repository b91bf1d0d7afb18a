"""Output paths: checked before the work, written beside their name, renamed when whole."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from replay.schema import OutputError


def check_suffix(path: Path, suffixes: Sequence[str]) -> str:
    """Returns the file name's suffix in lower case.

    Raises:
        OutputError: The suffix is none of those that are known.
    """
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        known = ", ".join(suffixes)
        raise OutputError(f"cannot tell a format from {path}: expected a name that ends in {known}")
    return suffix


def check_writable(path: Path) -> None:
    """Checks, before anything is rendered, that files can be made in the folder of a path.

    Raises:
        OutputError: There is no such folder, or nobody may write to it.
    """
    parent = path.absolute().parent
    if not parent.is_dir():
        raise OutputError(f"cannot write {path}: there is no folder {parent}")
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror} in {parent}") from error


@contextmanager
def replacing(path: Path, *, folder: bool = False) -> Iterator[Path]:
    """Yields a hidden path beside `path` to write to, which takes its place if all goes well.

    Whatever stood there before is untouched until then, and nothing half-written is left behind.

    Args:
        path: Where the result goes.
        folder: Whether it is a folder, which must be new or empty, instead of a file.

    Yields:
        An empty file, or an empty folder, with the same suffix as `path`.

    Raises:
        OutputError: The folder around it is missing or not writable, `path` is a folder where a
            file was expected, or the disk is full.
    """
    if not folder and path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder; expected a file name")
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: no such folder: {path.parent}; create it first")
    unfinished = path.with_name(f".{path.stem[:80]}-{secrets.token_hex(4)}{path.suffix}")
    try:
        if folder:
            unfinished.mkdir()
        else:
            unfinished.touch(exist_ok=False)
        yield unfinished
        if folder and path.is_dir():
            path.rmdir()  # it is empty; on Windows a folder cannot replace another
        os.replace(unfinished, path)
    except (ConnectionError, TimeoutError):  # these speak of an executor, not of this disk
        raise
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if folder:
            shutil.rmtree(unfinished, ignore_errors=True)
        else:
            with suppress(OSError):
                unfinished.unlink()
