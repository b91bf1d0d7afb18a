"""What an address is, such as `s3://bucket/run.h5`; anything else is a path of this machine."""

from __future__ import annotations

import os
import re

# Two letters at least, since C:\ and C:/ are drives; a Path has made one slash of two.
_ADDRESS = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]+://", re.IGNORECASE)
_COLLAPSED = re.compile(r"(?!file:)[a-z][a-z0-9+.-]+:/")


def is_address(path: object) -> bool:
    """Returns whether something names a file that is read through fsspec."""
    return isinstance(path, str) and _ADDRESS.match(path) is not None


def was_address(path: str | os.PathLike[str]) -> str | None:
    """Returns the address that a path was made of; None where it is a path of this machine."""
    text = os.fspath(path)
    if is_address(text):
        return text
    if not _COLLAPSED.match(text) or os.path.exists(text.partition("/")[0]):
        return None
    return text.replace(":/", "://", 1)
