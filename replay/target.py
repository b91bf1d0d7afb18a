"""Where a picture goes: checked before the work, written beside its name, renamed when whole."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from replay.schema import OutputError


def check_suffix(path: Path, suffixes: Sequence[str]) -> str:
    """The file name's suffix in lower case.

    Raises:
        OutputError: It is none of those that are known.
    """
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        known = ", ".join(suffixes)
        raise OutputError(f"cannot tell a format from {path}: expected a name that ends in {known}")
    return suffix


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; on success the file takes its place, else it goes.

    Raises:
        OutputError: The folder is missing or not writable, the name is a folder's, or the disk
            is full. What stood there before is untouched.
    """
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder; expected a file name")
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: no such folder: {path.parent}; create it first")
    beside = path.with_name(f".{path.stem[:80]}-{secrets.token_hex(4)}{path.suffix}")
    try:
        beside.touch(exist_ok=False)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    try:
        yield beside
        os.replace(beside, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            beside.unlink()
