"""Finds the objects of a file that may be damaged or hostile, and reads their attributes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from replay.schema import FileError

_MOST = 4 << 20  # bytes of an attribute
_TEXTS = 64 << 20  # bytes of all texts of a file
_NUMBERS = 512 << 20  # bytes of all numbers that are read whole, where a file is no larger


class Allowance:
    """What has been read of a file since it was last looked at.

    Attributes:
        path: The file, for messages.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reset()

    def reset(self) -> None:
        """Forgets what has been read."""
        self._texts = self._numbers = 0
        self._known: dict[str, int] = {}

    def take_text(self, size: int) -> None:
        """Counts a text.

        Raises:
            FileError: All texts together are larger than those of a recording.
        """
        self._texts += size
        if self._texts > _TEXTS:
            raise FileError(
                f"refused: the texts in {self.path} have more than {_TEXTS:,} bytes together; "
                "expected a recording, whose texts are short"
            )

    def take_numbers(self, place: str, size: int, file_size: int) -> None:
        """Counts numbers that are about to be read whole, those of each place once.

        Args:
            place: The dataset.
            size: Their bytes in memory.
            file_size: The bytes that the file has, or may expand to.

        Raises:
            FileError: All numbers together are larger than those of a recording of this size.
        """
        self._numbers += size - self._known.get(place, 0)
        self._known[place] = size
        most = max(_NUMBERS, 2 * file_size)
        if self._numbers > most:
            raise FileError(
                f"refused: the fields in {self.path} declare more than {most:,} bytes together; "
                f"expected no more of a file of {file_size:,} bytes"
            )


class HardLinks:
    """Finds objects by their paths, and keeps the groups on the way open.

    A soft or external link, also in the middle of a path, may lead into another file.
    """

    def __init__(self) -> None:
        self._groups: dict[str, h5py.Group] = {}

    def forget(self) -> None:
        """Forgets the groups: what is found next is what the file has then."""
        self._groups.clear()

    def find(self, file: h5py.File, path: str) -> Any:
        """Returns what a path leads to; None unless hard links alone do.

        Args:
            file: The open file, the same one until `forget` is called.
            path: Names with slashes between them.

        Raises:
            Exception: Any of h5py's, where the file is damaged.
        """
        above, _, name = path.rpartition("/")
        group = self._group(file, above) if above else file
        return None if group is None else _open(group, name)

    def _group(self, file: h5py.File, path: str) -> h5py.Group | None:
        group = self._groups.get(path)
        if group is None:
            found = self.find(file, path)
            if not isinstance(found, h5py.Group):
                return None
            group = self._groups[path] = found
        return group


def _open(group: h5py.Group, name: str) -> Any:
    key, links = name.encode(), group.id.links
    if not key or not links.exists(key):
        return None
    if links.get_info(key).type != h5py.h5l.TYPE_HARD:
        return None
    return group[name]


def list_names(node: Any, most: int, what: str) -> list[str]:
    """Returns the names in a group, of those that are texts; none where it is no group.

    Args:
        node: The group.
        most: How many there may be.
        what: What to call it in a message.

    Raises:
        FileError: There are more than `most`.
    """
    if not isinstance(node, h5py.Group):
        return []
    if len(node) > most:
        raise FileError(f"refused: {what} has {len(node):,} names; at most {most:,}")
    return [name for name in node if isinstance(name, str)]


def sort_as_written(group: h5py.Group, names: list[str]) -> list[str]:
    """Returns names in the order in which what they lead to was written: that of its place."""
    links = group.id.links
    return sorted(names, key=lambda name: links.get_info(name.encode()).u)


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
    dtype = about.dtype  # which h5py makes anew each time that it is asked
    size = math.prod(about.shape or ()) * dtype.itemsize
    if dtype.kind == "O" and size > dtype.itemsize:
        raise FileError(
            f"refused: attribute {name!r} in {path} is a list of texts; expected one text"
        )
    if not _is_plain(about, dtype):
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


def _is_plain(about: h5py.h5a.AttrID, dtype: np.dtype[Any]) -> bool:
    """Returns whether values hold nothing that HDF5 has to follow but one text, or a reference."""
    if not dtype.hasobject:
        return True
    if h5py.check_string_dtype(dtype):  # of bytes, or it takes many times its length
        return bool(about.get_type().get_super().get_size() == 1)
    return bool(h5py.check_ref_dtype(dtype))
