"""Reads the attributes of a file that may be damaged or hostile."""

from __future__ import annotations

import math
from typing import Any

import h5py

from replay.recording.live_file import Allowance
from replay.schema import FileError

_MOST = 4 << 20  # bytes


def read_attribute(there: h5py.AttributeManager, name: str, allowance: Allowance) -> Any:
    """Returns the value of an attribute.

    Args:
        there: The attributes of something in a file.
        name: The attribute's.
        allowance: What may be read of the file.

    Raises:
        FileError: It is too large, or of a kind that HDF5 would have to follow.
    """
    about, path = there.get_id(name), allowance.path
    size = math.prod(about.shape or ()) * about.dtype.itemsize
    if about.dtype.kind == "O" and size > about.dtype.itemsize:
        raise FileError(
            f"refused: attribute {name!r} in {path} is a list of texts; expected one text"
        )
    if not _is_plain(about):
        raise FileError(
            f"refused: attribute {name!r} in {path} holds lists; expected a text, or numbers"
        )
    value = None if size > _MOST else there[name]
    if isinstance(value, (str, bytes)):
        size = len(value)
    allowance.take_text(size)
    if size > _MOST:
        raise FileError(
            f"refused: attribute {name!r} in {path} has {size:,} bytes; expected at most {_MOST:,}"
        )
    return value


def _is_plain(about: h5py.h5a.AttrID) -> bool:
    """Returns whether values hold nothing that HDF5 has to follow but one text, or a reference."""
    dtype = about.dtype
    if not dtype.hasobject:
        return True
    if h5py.check_string_dtype(dtype):  # of bytes, or it takes many times its length
        return bool(about.get_type().get_super().get_size() == 1)
    return bool(h5py.check_ref_dtype(dtype))
