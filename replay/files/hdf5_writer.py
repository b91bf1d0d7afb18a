"""Writes a recording with h5py."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from replay import schema
from replay.recording import Closing
from replay.recording.plain_chunks import AT_ONCE
from replay.schema import Float16Array, Layer

_HDF5 = h5py.version.hdf5_version_tuple[:3]
_CAN_UNLOCK = _HDF5 >= (1, 12, 1) or (1, 10, 7) <= _HDF5 < (1, 11)  # older ones cannot
_UNLOCKED: dict[str, Any] = {"locking": False} if _CAN_UNLOCK else {}
_CHUNK_BYTES = 1 << 16  # of the small datasets, at most


class RecordingWriter(Closing):
    """A recording that is being written outside of a training: frames in any order, then `finish`.

    Args:
        path: An empty or missing file.
        shape: Epochs and batches.
        attributes: Of the root group.
    """

    def __init__(self, path: Path, shape: tuple[int, int], attributes: Mapping[str, Any]) -> None:
        self._file = create_file(path)
        self._shape = shape
        self._groups: dict[str, h5py.Group] = {}
        self._frames: dict[str, h5py.h5d.DatasetID] = {}  # whose chunks are frames
        self._names = h5py.h5p.create(h5py.h5p.LINK_CREATE)
        self._names.set_char_encoding(h5py.h5t.CSET_UTF8)
        for name, value in attributes.items():
            self._file.attrs[name] = value

    def add_layer(self, layer: Layer, place: int) -> None:
        """Makes a layer's datasets."""
        maps = self._large(_path(layer, schema.MAPS), layer.shape)
        about = {"module": layer.module, "axes": layer.axes}
        for key in ("note", "queries", "of"):
            if getattr(layer, key):
                about[key] = getattr(layer, key)
        if layer.grid is not None:
            maps.attrs["grid"] = np.array(layer.grid, "<i8")
        for name, value in {"order": place, "pooled": layer.pooled, **about}.items():
            maps.attrs[name] = value
        if layer.kernel is not None:
            self._large(_path(layer, schema.KERNELS), layer.kernel)

    def add_images(self, path: str, shape: tuple[int, ...], about: Mapping[str, Any]) -> None:
        """Makes a dataset of input images."""
        images = self._large(path, shape)
        for name, value in about.items():
            images.attrs[name] = value

    def write(self, layer: Layer, group: str, at: tuple[int, int], array: Float16Array) -> None:
        """Writes one frame, or its kernels."""
        self.write_image(_path(layer, group), at, array)

    def write_image(self, path: str, at: tuple[int, int], array: Float16Array) -> None:
        """Writes one frame of a dataset whose chunks are frames."""
        offset = (*at, *(0,) * array.ndim)
        self._frames[path].write_direct_chunk(offset, np.ascontiguousarray(array))

    def write_field(
        self,
        path: str,
        values: npt.NDArray[Any],
        fill: float,
        checked: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Writes a small dataset (epoch, batch, ...) as a whole, and its checksums beside it.

        Args:
            path: Of the dataset.
            values: The values.
            fill: What stands where there is none.
            checked: bool (epoch, batch), where there is a value; None for no checksums.
        """
        if checked is not None:
            sums = np.zeros(checked.shape, schema.CHECKSUM_DTYPE)
            sums[checked] = schema.checksum_cells(values[checked])
            self.write_field(schema.value_checksums_path(path), sums, 0)
        chunk = small_chunk(values.shape, values.dtype)
        made = self._create(path, values.shape, values.dtype, chunk, fill)
        if values.size:
            _write_rows(made, np.ascontiguousarray(values), fill, chunk)

    def write_layer_field(
        self,
        layer: Layer,
        group: str,
        values: npt.NDArray[Any],
        fill: float,
        checked: npt.NDArray[np.bool_] | None,
    ) -> None:
        """Writes one of a layer's small datasets, see `write_field`."""
        self.write_field(_path(layer, group), values, fill, checked)

    def write_single_image(self, path: str, image: Float16Array, about: Mapping[str, Any]) -> None:
        """Writes a single image and its checksum."""
        dataset = self._file.create_dataset(path, data=image)
        checksum = np.array([schema.checksum(np.ascontiguousarray(image))], schema.CHECKSUM_DTYPE)
        self._file.create_dataset(schema.value_checksums_path(path), data=checksum)
        for name, value in about.items():
            dataset.attrs[name] = value

    def describe_probe(self, number: int, label: int | None) -> None:
        """Writes what is known of a fixed image, once something of it is there."""
        group = f"{schema.PROBE}/{number}"
        if label is not None and group in self._file:
            self._file[group].attrs["label"] = label

    def finish(self, state: list[int]) -> None:
        """Writes the counters and puts the file on the disk.

        Args:
            state: As in `schema.STATE_FIELDS`, without the checksum.
        """
        values = schema.encode_state(state)
        dataset = self._file.create_dataset(
            schema.STATE, data=values, maxshape=values.shape, chunks=values.shape
        )
        dataset.attrs["fields"] = list(schema.STATE_FIELDS)
        self._file.flush()
        os.fsync(self._file.id.get_vfd_handle())

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        self._file.close()

    def _large(self, path: str, shape: tuple[int, ...]) -> h5py.Dataset:
        made = self._create(path, (*self._shape, *shape), schema.FRAME_DTYPE, (1, 1), np.nan)
        self._frames[path] = made
        return h5py.Dataset(made)

    def _create(
        self,
        path: str,
        shape: tuple[int, ...],
        dtype: Any,
        chunk: tuple[int, int],
        fill: float,
    ) -> h5py.h5d.DatasetID:
        """Makes a dataset (epoch, batch, ...) whose chunks have so many epochs and batches.

        Past h5py's face, whose checks take longer than the writing: there may be thousands.
        """
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((*chunk, *(max(1, n) for n in shape[2:])))
        properties.set_obj_track_times(False)
        properties.set_fill_value(np.array(fill, dtype))
        unlimited = h5py.h5s.UNLIMITED
        space = h5py.h5s.create_simple(shape, (unlimited, unlimited, *shape[2:]))
        group, _, name = path.rpartition("/")
        parent = self._groups.get(group)
        if parent is None:
            parent = self._groups[group] = self._file.require_group(group or "/")
        kind = h5py.h5t.py_create(np.dtype(dtype), logical=True)
        made = h5py.h5d.create(parent.id, None, kind, space, properties)
        h5py.h5o.link(made, parent.id, name.encode(), lcpl=self._names)
        return made


def small_chunk(shape: tuple[int, ...], dtype: npt.DTypeLike) -> tuple[int, int]:
    """Returns how many epochs and batches share a chunk of small numbers (epoch, batch, ...).

    All of them are there already: unlike a recorder's, a chunk may be as large as it can be.
    """
    cell = np.dtype(dtype).itemsize * math.prod(shape[2:])
    cells = max(1, _CHUNK_BYTES // max(1, cell))
    batches = max(1, min(shape[1], cells))
    return max(1, min(shape[0], cells // batches)), batches


def _write_rows(
    made: h5py.h5d.DatasetID, values: npt.NDArray[Any], fill: float, chunk: tuple[int, int]
) -> None:
    """Writes the epochs in which there is something, not too many at once: see `plain_chunks`.

    Args:
        made: The dataset (epoch, batch, ...).
        values: All of it.
        fill: What stands where nothing was written.
        chunk: Epochs and batches of a chunk.
    """
    raw = f"u{values.dtype.itemsize}"
    unset = values.view(raw) == np.array(fill, values.dtype).view(raw)  # also another NaN is set
    epochs = np.flatnonzero(~unset.reshape(len(values), -1).all(axis=1))
    step = max(1, AT_ONCE // -(-values.shape[1] // chunk[1])) * chunk[0]
    space = made.get_space()
    for run in np.split(epochs, np.flatnonzero(np.diff(epochs) > 1) + 1):
        for start in range(0, len(run), step):
            block = values[run[start] : run[start : start + step][-1] + 1]
            space.select_hyperslab((int(run[start]), *(0,) * (values.ndim - 1)), block.shape)
            made.write(h5py.h5s.create_simple(block.shape), space, block)


def create_file(path: Path) -> h5py.File:
    """Makes a new file, without a lock: nobody else knows of it."""
    try:
        return h5py.File(path, "w", libver=("v110", "v110"), **_UNLOCKED)
    except OSError as error:
        if "lock file" not in str(error):
            raise
        text = "HDF5 is told to lock files and cannot here; set HDF5_USE_FILE_LOCKING=FALSE"
        raise OSError(error.errno, text) from error


def _path(layer: Layer, group: str) -> str:
    return layer.group + schema.dataset_path(group, layer.name)
