"""The datasets of an open recording: arrays go in as direct chunks, small values in rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from record.protocol import messages
from record.protocol.layout import BatchLayout, Slot
from record.writer.pending import PendingFrame
from replay import schema
from replay.schema import Field


class ChunkWriter:
    """Writes a part of the flat buffer: one chunk of a dataset for each batch.

    Args:
        dataset: The dataset (epoch, batch, ...).
        slot: Where the part lies in the buffer.
    """

    def __init__(self, dataset: h5py.Dataset, slot: Slot) -> None:
        self._write = dataset.id.write_direct_chunk  # past HDF5's conversion and its cache
        self._slot = slot
        self._origin = (0,) * len(slot.shape)

    def write(self, epoch: int, batch: int, values: memoryview) -> None:
        """Writes the part of one batch.

        Args:
            epoch: The epoch.
            batch: The batch within the epoch.
            values: The bytes of the whole flat buffer.
        """
        part = self._slot.of(values)
        if part:
            self._write((epoch, batch, *self._origin), part)


class RowWriter:
    """Writes a small value of each batch, past h5py's slicing and what that asks each time.

    Args:
        dataset: The dataset (epoch, batch, ...).

    Attributes:
        dtype: The dtype of the values.
    """

    def __init__(self, dataset: h5py.Dataset) -> None:
        self.dtype: np.dtype[Any] = dataset.dtype
        self._shape = dataset.shape[2:]  # of the value of one batch
        self._origin = (0,) * len(self._shape)
        self._id = dataset.id
        self._type = h5py.h5t.py_create(self.dtype)
        self.refresh_extent()
        self._blocks: dict[int, h5py.h5s.SpaceID] = {}  # by number of batches

    def refresh_extent(self) -> None:
        """Reads the extent again: the dataset has grown, or shrunk."""
        self._space = self._id.get_space()

    def write(self, epoch: int, first: int, block: npt.NDArray[Any]) -> None:
        """Writes the values of some batches that follow each other.

        Args:
            epoch: The epoch.
            first: The first batch.
            block: The values, (batches, ...).
        """
        shape = (1, len(block), *self._shape)
        values = self._blocks.get(len(block))
        if values is None:
            values = self._blocks[len(block)] = h5py.h5s.create_simple(shape)
        self._space.select_hyperslab((epoch, first, *self._origin), shape)
        self._id.write(values, self._space, np.ascontiguousarray(block, self.dtype), self._type)


class _Block:
    """Where the small values of some frames belong: the batches of an epoch from first to last.

    Args:
        group: Frames of one epoch, batches ascending.

    Attributes:
        all: True for each frame.
    """

    def __init__(self, group: Sequence[PendingFrame]) -> None:
        self._epoch, self._first = group[0].epoch, group[0].batch
        self._count = group[-1].batch - self._first + 1
        self._rows = [frame.batch - self._first for frame in group]
        self.all = [True] * len(group)

    def write(self, writer: RowWriter, values: npt.NDArray[Any], fill: float) -> None:
        """Writes the values of the frames, (frames, ...), and the fill between them."""
        if self._count != len(self._rows):
            block = np.full((self._count, *values.shape[1:]), fill, writer.dtype)
            block[self._rows] = values
            values = block
        writer.write(self._epoch, self._first, values)


class CheckedRowWriter:
    """Writes a small value of each batch, and its checksum beside it.

    Args:
        file: The open file.
        path: The dataset (epoch, batch, ...).

    Attributes:
        parts: What writes the values and what writes the checksums.
    """

    def __init__(self, file: h5py.File, path: str) -> None:
        self.parts = RowWriter(file[path]), RowWriter(file[schema.value_checksums_path(path)])

    def write(
        self, block: _Block, values: npt.NDArray[Any], fill: float, present: Sequence[bool]
    ) -> None:
        """Writes the values of some frames.

        Args:
            block: Where they belong.
            values: The values, (frames, ...).
            fill: The value of batches between the frames.
            present: Which of the frames have such a value; the others get no checksum.
        """
        rows, sums = self.parts
        values = values.astype(rows.dtype, copy=False)
        checksums = schema.checksum_cells(values)
        checksums[~np.asarray(present)] = 0
        block.write(rows, values, fill)
        block.write(sums, checksums, 0)


@dataclass
class LayerDatasets:
    """What writes the values of one layer.

    Attributes:
        place: The layer's place in the layout.
        span: The first of its rows in the ranges of a frame, and the one after its last.
        maps: Writes its maps.
        ranges: Writes the smallest and the largest value of each map.
        checksums: Writes the checksum of its maps.
        kernel: Writes its kernels; None without any.
        kernel_checksums: Writes the checksum of its kernels; None without any.
        exponents: Writes the exponent of its values; None where they have none.
    """

    place: int
    span: tuple[int, int]
    maps: ChunkWriter
    ranges: CheckedRowWriter
    checksums: RowWriter
    kernel: ChunkWriter | None = None
    kernel_checksums: RowWriter | None = None
    exponents: CheckedRowWriter | None = None

    def row_writers(self) -> Iterator[RowWriter]:
        """Yields what writes its small values."""
        yield from self.ranges.parts
        yield self.checksums
        if self.kernel_checksums is not None:
            yield self.kernel_checksums
        if self.exponents is not None:
            yield from self.exponents.parts


class OpenDatasets:
    """The datasets that frames of one layout are written into, each opened when first used.

    Args:
        file: The open file.
        layout: What a frame consists of.
        spans: As `FrameSummarizer.spans`.
    """

    def __init__(
        self, file: h5py.File, layout: BatchLayout, spans: Sequence[tuple[int, int]]
    ) -> None:
        self._file = file
        self._layout = layout
        self._spans = spans
        self._fields: dict[str, CheckedRowWriter] = {}
        self._images: dict[int, ChunkWriter] = {}  # by place in the layout
        self._layers: list[LayerDatasets] | None = None
        self._state: h5py.h5d.DatasetID | None = None

    def close(self) -> None:
        """Lets go of all datasets, so that the file can be closed."""
        self._fields, self._images, self._layers, self._state = {}, {}, None, None

    def refresh_extents(self) -> None:
        """Reads the extents again: all datasets of the file have grown, or shrunk."""
        of_layers = itertools.chain.from_iterable(
            layer.row_writers() for layer in self._layers or ()
        )
        of_fields = itertools.chain.from_iterable(field.parts for field in self._fields.values())
        for writer in (*of_fields, *of_layers):
            writer.refresh_extent()

    def write_state(self, state: npt.NDArray[np.int64]) -> None:
        """Writes how many frames a reader may see, and what else `schema.STATE` holds."""
        if self._state is None:
            self._state = self._file[schema.STATE].id
        self._state.write(h5py.h5s.ALL, h5py.h5s.ALL, state)

    def write_arrays(self, header: messages.FrameHeader, values: memoryview) -> None:
        """Writes the image, the maps and the kernels of one frame.

        Args:
            header: Says where the frame belongs and what it has.
            values: The bytes of its flat buffer.
        """
        epoch, batch = header.epoch, header.batch
        if header.image is not None:
            self._image(header.image).write(epoch, batch, values)
        for layer in self._layers or self._open_layers():
            if layer.place not in header.missing:
                layer.maps.write(epoch, batch, values)
                if layer.kernel is not None:
                    layer.kernel.write(epoch, batch, values)

    def write_rows(self, group: Sequence[PendingFrame], fields: Mapping[str, Field]) -> None:
        """Writes the small values of frames of one epoch, batches ascending.

        Args:
            group: The frames; nothing is written yet for the batches between theirs.
            fields: The fields of `/batches`.
        """
        block = _Block(group)
        known = set().union(*(frame.fields for frame in group))
        for name, field in fields.items():
            if name not in known:  # the cells that nobody wrote have the fill anyway
                continue
            values = np.array([frame.fields.get(name, field.fill) for frame in group], np.float64)
            if field.dtype.kind in "iu":  # what is not a number becomes the fill
                values[~np.isfinite(values)] = field.fill
            self._field(name).write(block, values.astype(field.dtype), field.fill, block.all)
        ranges = np.stack([frame.ranges for frame in group])
        for layer in self._layers or self._open_layers():
            found = [frame.checksums.maps[layer.place] for frame in group]
            present = [checksum is not None for checksum in found]
            if not any(present):
                continue
            layer.ranges.write(block, ranges[:, slice(*layer.span)], np.nan, present)
            block.write(layer.checksums, _as_array(found), 0)
            if layer.kernel_checksums is not None:
                found = [frame.checksums.kernels[layer.place] for frame in group]
                block.write(layer.kernel_checksums, _as_array(found), 0)
            if layer.exponents is not None:
                found = [frame.checksums.exponents[layer.place] for frame in group]
                values = _as_array(found, schema.EXPONENT_DTYPE)
                layer.exponents.write(block, values, 0, present)

    def _field(self, name: str) -> CheckedRowWriter:
        """Returns what writes a field of `/batches`."""
        writer = self._fields.get(name)
        if writer is None:
            path = schema.dataset_path(schema.BATCHES, name)
            writer = self._fields[name] = CheckedRowWriter(self._file, path)
        return writer

    def _image(self, place: int) -> ChunkWriter:
        """Returns what writes an image of the layout."""
        writer = self._images.get(place)
        if writer is None:
            layout = self._layout
            path = schema.inputs_path(layout.images[place] if place else None)
            writer = ChunkWriter(self._file[path], layout.image_slots[place])
            self._images[place] = writer
        return writer

    def _open_layers(self) -> list[LayerDatasets]:
        """Opens the datasets of all layers of the layout."""
        layout = self._layout
        self._layers = []
        for place, layer in enumerate(layout.layers):
            group, link = layer.group, schema.encode_name(layer.name)
            slot = layout.kernel_slots[place]
            datasets = LayerDatasets(
                place,
                self._spans[place],
                ChunkWriter(self._file[f"{group}{schema.MAPS}/{link}"], layout.map_slots[place]),
                CheckedRowWriter(self._file, f"{group}{schema.RANGES}/{link}"),
                RowWriter(self._file[f"{group}{schema.CHECKSUMS}/{link}"]),
            )
            if slot is not None:
                kernels = self._file[f"{group}{schema.KERNELS}/{link}"]
                datasets.kernel = ChunkWriter(kernels, slot)
                checksums = self._file[f"{group}{schema.KERNEL_CHECKSUMS}/{link}"]
                datasets.kernel_checksums = RowWriter(checksums)
            if layer.scaled:
                path = f"{group}{schema.EXPONENTS}/{link}"
                datasets.exponents = CheckedRowWriter(self._file, path)
            self._layers.append(datasets)
        return self._layers


def _as_array(
    numbers: Sequence[int | None], dtype: np.dtype[Any] = schema.CHECKSUM_DTYPE
) -> npt.NDArray[Any]:
    """Returns checksums or exponents as an array, 0 for those that are missing."""
    return np.array([number or 0 for number in numbers], dtype)
