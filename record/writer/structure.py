"""The groups and datasets of a recording: creates them, and grows them with the training."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from record.protocol.layout import GROWTH, BatchLayout, small_chunk
from replay import schema
from replay.schema import Field, Layer

_MOST_GROWTH = 64 * GROWTH  # batches, by which an epoch of unknown length grows at once, at most


class FileStructure:
    """Creates the datasets of a recording, all of the same extent in epochs and batches.

    Attributes:
        file: The open file; to be set again whenever it was closed and opened.
        fields: The fields of `/batches`, by name.
        rows: The number of epochs in every dataset.
        columns: The number of batches of an epoch in every dataset.
        batches: The number of batches in an epoch, where it is known.
        probes: The fixed images, (C, H, W) each.
        labels: The class of each, None where it is not known.
    """

    def __init__(self) -> None:
        self.probes: Sequence[npt.NDArray[np.float16]] = ()
        self.labels: Sequence[int | None] = ()
        self.file: h5py.File
        self.fields: dict[str, Field] = {}
        self.rows, self.columns = 0, 0
        self.batches: int | None = None
        self._growing: tuple[h5py.File, list[tuple[h5py.h5d.DatasetID, tuple[int, ...]]]] | None
        self._growing = None

    def create(self, file: h5py.File, attributes: dict[str, Any]) -> None:
        """Makes an empty file an empty recording with these root attributes."""
        self.file = file
        for name, value in attributes.items():
            file.attrs[name] = schema.storable(value) if isinstance(value, str) else value
        self._create_state((0, 0, 0, 0))
        self.add_fields(schema.FIELDS)

    def _create_state(self, numbers: Sequence[int]) -> None:
        """Creates the counters, in one chunk with their checksum."""
        size = len(schema.STATE_FIELDS)
        values = schema.encode_state(numbers)
        state = self.file.create_dataset(
            schema.STATE, data=values, maxshape=(size,), chunks=(size,)
        )
        state.attrs["fields"] = list(schema.STATE_FIELDS)

    def resume(self, file: h5py.File, epoch: int, created: str) -> None:
        """Takes over the structure of an existing recording, and notes in it that it is resumed.

        Args:
            file: The recording.
            epoch: The epoch with which it goes on.
            created: When that is, as in the root attributes.
        """
        self.file = file
        meta = schema.decode_meta(file.attrs["meta"])
        meta["resumed"] = [*meta.get("resumed", []), {"epoch": epoch, "created": created}]
        file.attrs["meta"] = schema.encode_meta(meta)
        self.rows, self.columns = file[f"{schema.BATCHES}/recorded"].shape
        for link in file[schema.BATCHES]:
            name = schema.decode_name(link)
            known = (field for field in schema.FIELDS if field.name == name)
            self.fields[name] = next(known, schema.custom_field(name))
            self._create_checksums(f"{schema.BATCHES}/{link}")
        numbers = file[schema.STATE][:]
        if len(numbers) < len(schema.STATE_FIELDS):
            del file[schema.STATE]  # of a version that had no checksums of values
            self._create_state(numbers)

    def expect(self, batches: int | None) -> int:
        """Takes the number of batches in an epoch, if it is known and can be.

        Returns:
            How many are to have room in the file for now.
        """
        self.batches = None if batches is None or batches > schema.FREE_CELLS else batches
        if self.batches is not None and not self.rows:  # the fields were made before it was known
            for name in self.fields:
                path = schema.dataset_path(schema.BATCHES, name)
                del self.file[path], self.file[schema.value_checksums_path(path)]
            self.add_fields(list(self.fields.values()))
        return self.batches or GROWTH

    def add_fields(self, fields: Iterable[Field]) -> None:
        """Creates the datasets of fields of `/batches`."""
        for field in fields:
            path = schema.dataset_path(schema.BATCHES, field.name)
            self._create_small(path, (), field.dtype, field.fill)
            self._create_checksums(path)
            self.fields[field.name] = field

    def add_layout(self, layout: BatchLayout, known: Collection[tuple[str, str]]) -> None:
        """Creates what a layout needs and the file does not have yet.

        Args:
            layout: What a frame consists of.
            known: The group and the name of the layers of the layout before it.

        Raises:
            ValueError: A layer of a resumed file had another shape.
        """
        for place, layer in enumerate(layout.layers):
            if (layer.group, layer.name) not in known:
                self._add_layer(layer, place)
            self._write_note(layer)
        for place, shape in enumerate(layout.images):
            path = schema.inputs_path(shape if place else None)
            if path not in self.file:
                self._describe_image(self._create(path, shape, schema.FRAME_DTYPE, np.nan))
        for number, image in enumerate(self.probes):
            path = f"{schema.PROBE}/{number}/{schema.PROBE_INPUT}"
            if path not in self.file:
                self._describe_image(self.file.create_dataset(path, data=image))
                checksum = np.array([schema.checksum(image)], schema.CHECKSUM_DTYPE)
                self.file.create_dataset(schema.value_checksums_path(path), data=checksum)
        for number, label in enumerate(self.labels):
            if label is not None:
                self.file.require_group(f"{schema.PROBE}/{number}").attrs["label"] = label

    def complete_meta(self, facts: dict[str, Any]) -> None:
        """Adds facts to the run's description that it does not have yet."""
        meta = schema.decode_meta(self.file.attrs["meta"])
        new = {name: value for name, value in facts.items() if meta.get(name) is None}
        if new:
            self.file.attrs["meta"] = schema.encode_meta({**meta, **new})

    def grow(self, rows: int, columns: int) -> bool:
        """Grows every dataset to hold so many epochs and batches.

        Returns:
            Whether they were too small.
        """
        if rows <= self.rows and columns <= self.columns:
            return False
        self.resize(*self._extent(rows, columns))
        return True

    def fits(self, rows: int, columns: int) -> bool:
        """Returns whether a reader would accept a file that has so many epochs and batches."""
        if rows <= self.rows and columns <= self.columns:
            return True
        rows, columns = self._extent(rows, columns)
        if rows * columns <= schema.FREE_CELLS:
            return True
        return rows * columns <= schema.most_cells(self.file.id.get_filesize())

    def _extent(self, rows: int, columns: int) -> tuple[int, int]:
        """Returns the extent of a file that grows to hold so many epochs and batches."""
        rows = max(rows, self.rows)
        if columns <= self.columns:
            return rows, self.columns
        # Each time by more: it takes milliseconds.
        most = max(columns, min(2 * self.columns, self.columns + _MOST_GROWTH))
        ahead = max(columns, self.batches or -(-most // GROWTH) * GROWTH)
        return rows, columns if rows * ahead > schema.FREE_CELLS else ahead

    def resize(self, rows: int, columns: int) -> None:
        """Sets the extent of every dataset in epochs and batches."""
        for dataset, cell in self._find_growing():
            dataset.set_extent((rows, columns, *cell))
        self.rows, self.columns = rows, columns

    def _find_growing(self) -> list[tuple[h5py.h5d.DatasetID, tuple[int, ...]]]:
        """Returns every dataset that grows, and the shape of what it has of a batch.

        They are looked for once in an open file: to walk through it takes milliseconds, and an
        epoch of few batches no more than that.
        """
        if self._growing is None or self._growing[0] is not self.file:
            found: list[tuple[h5py.h5d.DatasetID, tuple[int, ...]]] = []

            def note(_: str, node: h5py.Group | h5py.Dataset) -> None:
                if isinstance(node, h5py.Dataset) and node.maxshape[:2] == (None, None):
                    found.append((node.id, node.shape[2:]))

            self.file.visititems(note)
            self._growing = self.file, found
        return self._growing[1]

    def _create(
        self,
        path: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        fill: float,
        chunk: tuple[int, int] = (1, 1),
    ) -> h5py.Dataset:
        """Creates a dataset (epoch, batch, *shape), with chunks of so many epochs and batches."""
        self._growing = None
        return self.file.create_dataset(
            path,
            shape=(self.rows, self.columns, *shape),
            maxshape=(None, None, *shape),
            chunks=(*chunk, *(max(1, n) for n in shape)),
            dtype=dtype,
            fillvalue=fill,
        )

    def _create_small(
        self, path: str, shape: tuple[int, ...], dtype: np.dtype[Any], fill: float
    ) -> None:
        """Creates a dataset of small values, with those of many batches in a chunk."""
        nbytes = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        self._create(path, shape, dtype, fill, small_chunk(nbytes, self.batches))

    def _create_checksums(self, path: str) -> None:
        """Creates the checksums of a dataset of small values, if it does not have them yet."""
        sums = schema.value_checksums_path(path)
        if sums not in self.file:
            self._create_small(sums, (), schema.CHECKSUM_DTYPE, 0)

    def _add_layer(self, layer: Layer, place: int) -> None:
        """Creates a layer's datasets; those of a file that is resumed have to fit it.

        Raises:
            ValueError: They do not.
        """
        path = _path(layer, schema.MAPS)
        if path not in self.file:
            self._create_layer(layer, place)
        for kind in (schema.RANGES, schema.EXPONENTS)[: 1 + layer.scaled]:
            self._create_checksums(_path(layer, kind))
        found = self.file[path].shape[2:]
        kernels = _path(layer, schema.KERNELS)
        kernel = self.file[kernels].shape[2:] if kernels in self.file else None
        if found != layer.shape or kernel != layer.kernel:
            raise ValueError(
                f"cannot go on with {layer.name}: it has frames of {found} in the file and of "
                f"{layer.shape} now"
            )

    def _create_layer(self, layer: Layer, place: int) -> None:
        """Creates a layer's datasets; `place` is its place in the layout."""
        maps = self._create(_path(layer, schema.MAPS), layer.shape, schema.FRAME_DTYPE, np.nan)
        maps.attrs["order"] = place
        maps.attrs["module"] = schema.storable(layer.module)
        maps.attrs["axes"] = layer.axes
        maps.attrs["pooled"] = layer.pooled
        for name, text in (("queries", layer.queries), ("of", layer.of)):
            if text:
                maps.attrs[name] = schema.storable(text)
        if layer.grid is not None:
            maps.attrs["grid"] = np.array(layer.grid, np.int64)
        if layer.scaled:
            self._create_small(_path(layer, schema.EXPONENTS), (), schema.EXPONENT_DTYPE, 0)
        ranges = (layer.channels, 2)
        self._create_small(_path(layer, schema.RANGES), ranges, schema.RANGE_DTYPE, np.nan)
        self._create_small(_path(layer, schema.CHECKSUMS), (), schema.CHECKSUM_DTYPE, 0)
        if layer.kernel is not None:
            self._create(_path(layer, schema.KERNELS), layer.kernel, schema.FRAME_DTYPE, np.nan)
            self._create_small(_path(layer, schema.KERNEL_CHECKSUMS), (), schema.CHECKSUM_DTYPE, 0)

    def _write_note(self, layer: Layer) -> None:
        """Writes the note on a layer, which may have turned up later than the layer."""
        maps = self.file[_path(layer, schema.MAPS)]
        note = schema.storable(layer.note)
        if note and maps.attrs.get("note") != note:
            maps.attrs["note"] = note

    def _describe_image(self, dataset: h5py.Dataset) -> None:
        """Writes how to undo the images' normalisation, where the run's description says it."""
        meta = schema.decode_meta(self.file.attrs["meta"])
        for name in ("mean", "std"):
            if meta.get(name) is not None:
                dataset.attrs[name] = np.atleast_1d(np.asarray(meta[name], np.float32))


def _path(layer: Layer, kind: str) -> str:
    """Returns the path of one of a layer's datasets."""
    return f"{layer.group}{kind}/{schema.encode_name(layer.name)}"
