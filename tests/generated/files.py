"""A closed recording, read by plain h5py."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from generated.truth import At
from generated.watching import SIGNAL
from replay import schema

Frames = dict[str, dict[At, "np.ndarray[Any, Any]"]]


class File:
    """A closed recording, read by plain h5py.

    Attributes:
        recorded: int64 (epoch, batch).
        maps, kernels: By name, by epoch and batch, the float16 arrays: of what was written.
        probes: The maps of each fixed image likewise.
        notes: By the name of a layer, what is to be known of it.
    """

    def __init__(self, path: Path) -> None:
        self.images: dict[At, np.ndarray[Any, Any]] = {}
        self.damaged: list[str] = []
        with h5py.File(path, "r") as file:
            self.state = file["state"][:].tolist()
            self.recorded = file["batches/recorded"][:]
            self.loss = file["batches/loss"][:]
            self.missing = file["batches/missing"][:]
            cells = [(int(e), int(b)) for e, b in np.argwhere(self.recorded > 0)]
            self.cells = [at for at in cells if self.recorded[at] <= self.state[0]]
            self.maps = self._group(file, "maps", "checksums")
            self.kernels = self._group(file, "kernels", "kernel_checksums")
            maps = file.get("maps", {})
            self.notes = {schema.decode_name(n): str(maps[n].attrs.get("note", "")) for n in maps}
            self.probes = [
                self._group(file[f"probe/{number}"], "maps", "checksums")
                for number in range(len(file.get("probe", {})))
            ]
            for name, dataset in file.items():
                if name.split("@")[0] == "inputs":
                    sums = file["batches/input_checksum"][:]
                    for at, frame in self._read(dataset, sums).items():
                        if at in self.images:
                            self.damaged.append(f"two input images at {at}")
                        self.images[at] = frame

    def _group(self, file: h5py.Group, group: str, sums: str) -> Frames:
        return {
            schema.decode_name(link): self._read(dataset, file[sums][link][:])
            for link, dataset in file.get(group, {}).items()
        }

    def _read(self, dataset: h5py.Dataset, sums: np.ndarray[Any, Any]) -> Any:
        found = {}
        for at in self.cells:
            if any(n >= size for n, size in zip(at, dataset.shape, strict=False)):
                continue
            where = (*at, *[0] * (dataset.ndim - 2))
            if dataset.size and dataset.id.get_chunk_info_by_coord(where).byte_offset is None:
                continue
            frame = np.asarray(dataset[at])
            if zlib.crc32(frame.tobytes()) != sums[at]:
                self.damaged.append(f"{dataset.name} at {at}: the checksum is wrong")
            if (frame.view(np.uint16) == SIGNAL).any():
                self.damaged.append(f"{dataset.name} at {at} holds what was in the buffer before")
            found[at] = frame
        return found


def layer_of(name: str) -> str:
    """The layer's own name, without the part of its output, the call and the shape."""
    return name.split("@")[0].split("#")[0].split("[")[0]
