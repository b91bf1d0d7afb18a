"""Everything that is in a recording, also what nothing is known of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from replay import schema
from replay.recording.live_file import file_errors
from replay.recording.safe_file import SafeFile
from replay.schema import FileError

_DEEPEST = 32  # groups in groups
_MOST = 1_000_000  # objects: beyond that it is no recording


@dataclass(frozen=True)
class Entry:
    """One thing in a file.

    Attributes:
        path: Its path, without a slash at the front.
        node: What h5py has for it.
        kind: `group`; `frames`, an array for each epoch and batch; `cells`, small numbers for each;
            `other`, which is copied as it is; `link`, which leads elsewhere and is not followed.
    """

    path: str
    node: Any
    kind: str

    @property
    def layer(self) -> str:
        """The last part of the path, which is a layer's if the thing belongs to one."""
        return self.path.rsplit("/", 1)[-1]


def walk(file: SafeFile) -> Iterator[Entry]:
    """Yields everything in a file but its root, groups before what is in them.

    Raises:
        FileError: Something in it cannot be read safely, or groups hold themselves.
    """
    seen: set[Any] = set()
    waiting = [("", 0)]
    while waiting:
        group, depth = waiting.pop()
        for name in file.links(group, _MOST):
            path = f"{group}/{name}" if group else name
            entry = _entry(file, path)
            yield entry
            if entry.kind != "group":
                continue
            with file_errors(file.path):
                address = h5py.h5o.get_info(entry.node.id).addr
            if address in seen or depth >= _DEEPEST or len(seen) > _MOST:
                raise FileError(f"refused: {path!r} in {file.path} leads round in circles")
            seen.add(address)
            waiting.append((path, depth + 1))


def attributes_of(file: SafeFile, entry_path: str | None) -> dict[str, Any]:
    """Returns all attributes of something in a file, or of the file itself.

    Raises:
        FileError: One of them is too large, or cannot be read.
    """
    node = file.node(entry_path)
    with file_errors(file.path):
        names = [name for name in node.attrs if isinstance(name, str)]
    return file.attributes(names, entry_path)


def _entry(file: SafeFile, path: str) -> Entry:
    node = file.node(path)
    if node is None:
        return Entry(path, None, "link")
    if isinstance(node, h5py.Group):
        return Entry(path, node, "group")
    if not isinstance(node, h5py.Dataset):
        return Entry(path, node, "other")
    dataset = file.find(path, None)
    if dataset is None:
        return Entry(path, node, "other")
    with file_errors(file.path):
        grows = dataset.maxshape is not None and dataset.maxshape[:2] == (None, None)
    ours = path.split("/")[0].split("@")[0] in (schema.MAPS, schema.KERNELS, schema.INPUTS)
    if not (grows or ours):
        return Entry(path, dataset, "other")
    if file.frame_shape(path) is not None and dataset.ndim > 2:
        return Entry(path, dataset, "frames")
    if grows and dataset.dtype.kind in "iuf" and np.dtype(dataset.dtype).itemsize <= 8:
        return Entry(path, dataset, "cells")
    return Entry(path, dataset, "other")
