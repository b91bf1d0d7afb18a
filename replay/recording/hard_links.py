"""The objects of a file that hard links alone lead to, which lie in that very file."""

from __future__ import annotations

from typing import Any

import h5py


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
