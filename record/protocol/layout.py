"""The layout of a batch: where the maps of each layer lie in one flat float16 buffer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from replay.schema import FRAME_DTYPE, Layer

GROWTH = 64  # batches by which an epoch of unknown length grows


_CHUNK_BYTES = 1 << 16  # of the small datasets, at most
_SHARED_BYTES, _SHARED_CELLS = 1 << 13, 4 * GROWTH  # likewise of chunks that epochs share


def small_chunk(cell_bytes: int, batches: int | None) -> tuple[int, int]:
    """Returns how many epochs, and batches of each, share a chunk in a dataset of small cells.

    Short epochs share one: with a chunk for each of many epochs of ten batches a file took five
    times the bytes, and a reader of all of them as many of HDF5's calls as there are epochs.

    Args:
        cell_bytes: Bytes of one batch's cell.
        batches: The number of batches in an epoch, if that is known.
    """
    cell_bytes = max(1, cell_bytes)
    across = max(1, min(_CHUNK_BYTES // cell_bytes, batches or GROWTH))
    return max(1, min(_SHARED_BYTES // cell_bytes, _SHARED_CELLS) // across), across


class Slot(NamedTuple):
    """Where one array lies in a batch's flat float16 buffer, counted in values."""

    start: int
    stop: int  # one past the last value
    shape: tuple[int, ...]

    def of(self, frame: memoryview) -> memoryview:
        """Returns the slot's part of a buffer's bytes."""
        size = FRAME_DTYPE.itemsize
        return frame[self.start * size : self.stop * size]


@dataclass(frozen=True)
class BatchLayout:
    """What one batch consists of, and where each part lies in its flat float16 buffer.

    The images come first, then for each layer its maps and, where they are kept, its kernels and
    the exponent of its values.

    Attributes:
        images: Shapes of the input images, (C, H, W), that occur: usually one, none where no
            image is recorded. A batch holds one of them.
        layers: The recorded layer calls.
        image_slots: Where the images lie.
        map_slots: Where the maps of each layer lie.
        kernel_slots: Where the kernels of each layer lie; None of a layer without.
        exponent_slots: Where the exponent of each layer lies, a whole number; None of a layer
            whose values are stored as they are.
        size: The number of values of a batch.
    """

    images: tuple[tuple[int, ...], ...]
    layers: tuple[Layer, ...]
    image_slots: tuple[Slot, ...] = field(init=False, repr=False, compare=False)
    map_slots: tuple[Slot, ...] = field(init=False, repr=False, compare=False)
    kernel_slots: tuple[Slot | None, ...] = field(init=False, repr=False, compare=False)
    exponent_slots: tuple[Slot | None, ...] = field(init=False, repr=False, compare=False)
    size: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        end = 0

        def place(shape: tuple[int, ...]) -> Slot:
            nonlocal end
            slot = Slot(end, end + int(np.prod(shape, dtype=np.int64)), shape)
            end = slot.stop
            return slot

        images = tuple(place(shape) for shape in self.images)
        maps, kernels, exponents = [], [], []
        for layer in self.layers:
            maps.append(place(layer.shape))
            kernels.append(None if layer.kernel is None else place(layer.kernel))
            exponents.append(place(()) if layer.scaled else None)
        object.__setattr__(self, "image_slots", images)
        object.__setattr__(self, "map_slots", tuple(maps))
        object.__setattr__(self, "kernel_slots", tuple(kernels))
        object.__setattr__(self, "exponent_slots", tuple(exponents))
        object.__setattr__(self, "size", end)

    @property
    def places(self) -> dict[object, Slot]:
        """Every part by a key that it keeps in a later layout, which has more parts."""
        named: dict[object, Slot] = dict(zip(self.images, self.image_slots, strict=True))
        slots = zip(
            self.layers, self.map_slots, self.kernel_slots, self.exponent_slots, strict=True
        )
        for layer, maps, kernel, exponent in slots:
            named[layer.group, layer.name] = maps
            if kernel is not None:
                named[layer.group, layer.name, "kernel"] = kernel
            if exponent is not None:
                named[layer.group, layer.name, "exponent"] = exponent
        return named

    @property
    def nbytes(self) -> int:
        """Bytes of one batch."""
        return self.size * FRAME_DTYPE.itemsize

    def encode(self) -> dict[str, Any]:
        """Returns the layout as values for JSON; `decode` reads them back."""
        return {
            "images": [list(shape) for shape in self.images],
            "layers": [layer.encode() for layer in self.layers],
        }

    @classmethod
    def decode(cls, data: dict[str, Any]) -> BatchLayout:
        """Returns the layout that `encode` has described."""
        return cls(
            images=tuple(tuple(shape) for shape in data["images"]),
            layers=tuple(Layer.decode(layer) for layer in data["layers"]),
        )
