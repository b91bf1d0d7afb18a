"""Which layers a recording has: their names at once, what is said of each when it is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from replay import schema
from replay.recording.snapshot import Snapshot, read_text
from replay.schema import Layer

# Of what is no map, the number of axes that a frame may have.
_RANKS = {schema.ATTENTION: (2, 3), schema.CAM: (1,)}
_KEYS = ("order", "module", "axes", "pooled", "note", "queries", "grid", "of")
_LAST = 1 << 30  # the place of a layer of which the file does not say when it ran


class LayerIndex:
    """The layers whose maps, or what lies beside them, a file has.

    To describe a layer takes as long as to read a small frame, so that of very many only those are
    described that are asked for.

    Args:
        snapshot: The frames that there are; of a fixed image, the layers that have some of it.
        kind: As in `Layer`.

    Attributes:
        left_out: The names in the file, among the maps, of what is no layer by its name.

    Raises:
        FileError: The names cannot be read.
    """

    def __init__(self, snapshot: Snapshot, kind: str = "") -> None:
        self._snapshot, self._kind = snapshot, kind
        self._usual_group, self._group = (
            Layer("", "", (), probe=of, kind=kind).group for of in (None, snapshot.probe_number)
        )
        self._links: dict[str, str] = {}
        self._found: dict[str, tuple[int, Layer] | None] = {}
        self.left_out: list[str] = []
        for link in snapshot.file.links(self._group + schema.MAPS, as_written=True):
            name = schema.decode_name(link)
            if schema.encode_name(name) == link:
                self._links[name] = link
            elif self._shape(link) is not None:
                self.left_out.append(link)
        self.left_out.sort()

    def __len__(self) -> int:
        """How many names there are, all of which are those of layers in a sound file."""
        return len(self._links)

    def find(self, name: str) -> Layer | None:
        """Returns a layer; None where there is none.

        Raises:
            FileError: It cannot be read.
        """
        found = self._find(name)
        return None if found is None else found[1]

    def first(self) -> Layer | None:
        """Returns the layer that ran first; None where there is none.

        It is looked for where it was written first, so that the others need not be described.

        Raises:
            FileError: A layer on the way to it cannot be read.
        """
        best: tuple[int, Layer] | None = None
        for name in self._links:
            found = self._find(name)
            if found is not None and (best is None or found[0] < best[0]):
                best = found
            if best is not None and not best[0]:
                break
        return None if best is None else best[1]

    def all(self) -> list[Layer]:
        """Returns all layers in the order of their first calls.

        Raises:
            FileError: One of them cannot be read.
        """
        each = [found for found in map(self._find, self._links) if found is not None]
        return [layer for _, layer in sorted(each, key=lambda found: found[0])]

    def _find(self, name: str) -> tuple[int, Layer] | None:
        if name not in self._found:
            link = self._links.get(name)
            self._found[name] = None if link is None else self._describe(name, link)
        return self._found[name]

    def _shape(self, link: str) -> tuple[int, ...] | None:
        return self._snapshot.file.frame_shape(f"{self._group}{schema.MAPS}/{link}")

    def _describe(self, name: str, link: str) -> tuple[int, Layer] | None:
        """Returns when a layer first ran, counted from 0, and the layer."""
        file, kind, shape = self._snapshot.file, self._kind, self._shape(link)
        if shape is None or len(shape) not in _RANKS.get(kind, (len(shape),)):
            return None
        path = f"{schema.MAPS}/{link}"
        about = file.attributes(_KEYS, self._group + path)
        if self._group != self._usual_group and None in about.values():  # as in the run itself
            usual = file.attributes(_KEYS, self._usual_group + path)
            about = {k: usual[k] if about[k] is None else about[k] for k in _KEYS}
        layer = Layer(
            name=name,
            module=read_text(about["module"]),
            shape=shape,
            kernel=None if kind else file.frame_shape(f"{self._group}{schema.KERNELS}/{link}"),
            axes=read_text(about["axes"]),
            pooled=max(1, _whole(about["pooled"], 1)),
            probe=self._snapshot.probe_number,
            note=file.note_of_bits(self._group + path, read_text(about["note"])),
            kind=kind,
            scaled=kind in (schema.GRADIENTS, schema.CAM),
            queries=read_text(about["queries"]) if kind else "",
            grid=_pair(about["grid"]),
            of=read_text(about["of"]) if kind else "",
        )
        return max(0, _whole(about["order"], _LAST)), layer


def _whole(value: Any, default: int) -> int:
    return int(value) if isinstance(value, (int, np.integer)) else default


def _pair(value: Any) -> tuple[int, int] | None:
    """Returns an attribute of two whole numbers; None if it is something else."""
    if not isinstance(value, np.ndarray) or value.shape != (2,) or value.dtype.kind not in "iu":
        return None
    return int(value[0]), int(value[1])
