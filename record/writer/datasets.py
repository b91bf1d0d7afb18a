"""The datasets of a recording as they grow: maps in direct chunks, small values in rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from record.protocol.layout import Slot


class ChunkWriter:
    """Where a part of the flat buffer goes: each cell is one chunk of the dataset."""

    def __init__(self, dataset: h5py.Dataset, slot: Slot) -> None:
        self._write = dataset.id.write_direct_chunk  # past HDF5's conversion and its cache
        self._slot = slot
        self._rest = (0,) * len(slot.shape)

    def write(self, epoch: int, batch: int, values: memoryview) -> None:
        """Writes a cell."""
        part = self._slot.of(values)
        if part:
            self._write((epoch, batch, *self._rest), part)


class RowWriter:
    """Where a small value of each batch goes, past h5py's slicing and what it asks each time.

    Attributes:
        dtype: Of the values.
    """

    def __init__(self, dataset: h5py.Dataset) -> None:
        self.dtype: np.dtype[Any] = dataset.dtype
        self._cell = dataset.shape[2:]
        self._origin = (0,) * len(self._cell)
        self._id = dataset.id
        self._type = h5py.h5t.py_create(self.dtype)
        self.notice_size()
        self._blocks: dict[int, h5py.h5s.SpaceID] = {}  # by number of batches

    def notice_size(self) -> None:
        """The dataset has grown, or shrunk."""
        self._space = self._id.get_space()

    def write(self, epoch: int, first: int, block: npt.NDArray[Any]) -> None:
        """Writes those of the batches of an epoch from `first` on, (batches, *cell)."""
        shape = (1, len(block), *self._cell)
        values = self._blocks.get(len(block))
        if values is None:
            values = self._blocks[len(block)] = h5py.h5s.create_simple(shape)
        self._space.select_hyperslab((epoch, first, *self._origin), shape)
        self._id.write(values, self._space, np.ascontiguousarray(block, self.dtype), self._type)


@dataclass
class LayerDatasets:
    """Where the values of a layer go, and which of the ranges are its."""

    place: int
    span: tuple[int, int]
    maps: ChunkWriter
    ranges: RowWriter
    checksums: RowWriter
    kernel: ChunkWriter | None = None
    kernel_checksums: RowWriter | None = None

    def small(self) -> Iterator[RowWriter]:
        """Where its small values go."""
        yield self.ranges
        yield self.checksums
        if self.kernel_checksums is not None:
            yield self.kernel_checksums


def _numbers(checksums: list[int | None]) -> npt.NDArray[np.uint32]:
    return np.array([checksum or 0 for checksum in checksums], np.uint32)
