"""Opens a recording safely and hands out lazy arrays by layer, epoch and batch.

The only room of this package that knows h5py. Opening reads the small per-batch fields once and
takes that as the state of affairs: frames committed later appear after `refresh()`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from replay import schema
from replay.schema import (
    FileError,
    Float16Array,
    Float32Array,
    Layer,
    SelectionError,
    in_words,
)

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MAX_CELLS = 50_000_000  # (epoch, batch) cells; a declared size beyond it is not a recording


def open_recording(path: str | os.PathLike[str]) -> Recording:
    """Opens a recording for reading; also one whose writer is still at work or was killed.

    Args:
        path: The file, as `record` wrote it.

    Raises:
        FileError: It is missing, not a regular file, not HDF5, not a mapreel recording or of a
            newer version of the format.
    """
    return Recording(path)


class Series:
    """What one layer put out, frame by frame: `series[epoch, batch]` -> float16 (C, H, W).

    Attributes:
        layer: Name, module and frame shape.
    """

    def __init__(self, recording: Recording, layer: Layer) -> None:
        self._recording = recording
        self.layer = layer

    @property
    def name(self) -> str:
        """The layer's name, e.g. `layer1.0.conv1`."""
        return self.layer.name

    @property
    def shape(self) -> tuple[int, ...]:
        """(epoch, batch, C, H, W); what lies in between was not necessarily recorded."""
        return (*self._recording.shape, *self.layer.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Always float16."""
        return schema.FRAME_DTYPE

    def __len__(self) -> int:
        return self._recording.shape[0]

    def __getitem__(self, key: tuple[int, int]) -> Float16Array:
        """One frame; negative numbers count from the last recorded epoch and batch.

        Returns:
            float16 (C, H, W), or the shape that the layer put out. All NaN where this layer put
            out nothing in that batch.

        Raises:
            SelectionError: Nothing was recorded at that epoch and batch.
        """
        epoch, batch = self._recording.locate(*_pair(key))
        return self._recording._read(schema.MAPS, self.name, epoch, batch)

    def kernels(self, epoch: int, batch: int) -> Float16Array:
        """The kernels that made the frame, float16 (C_out, C_in/groups, kH, kW).

        Raises:
            SelectionError: The layer has none in this file, or nothing was recorded there.
        """
        if self.layer.kernel is None:
            raise SelectionError(
                f"no kernels of {self.name!r} in {self._recording.path}: they are kept for "
                "convolutions whose kernels are no larger than their maps"
            )
        epoch, batch = self._recording.locate(epoch, batch)
        return self._recording._read(schema.KERNELS, self.name, epoch, batch)

    def ranges(self) -> Float32Array:
        """Smallest and largest finite value of every map, float32 (epoch, batch, C, 2).

        NaN where nothing was recorded.
        """
        dataset = self._recording._dataset(schema.RANGES, self.name, 4)
        epochs, batches = self._recording.shape
        ranges: Float32Array = dataset[:epochs, :batches]
        ranges[self._recording.order == 0] = np.nan
        return ranges


class Recording:
    """An open recording: `recording["conv1"][epoch, batch]`, `recording.inputs[epoch, batch]`.

    Use it as a context manager, or call `close`.

    Attributes:
        path: The file.
        meta: The run's description, as the recorder wrote it (command, versions, model, ...).
        run_id: Identifies the run; the same in every file of one run.
        created: When recording began, ISO 8601 with time zone.
        layers: Names of the recorded layers, in the order in which they first ran.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = _open(self.path)
        try:
            self._read_header()
            self.refresh()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file. The arrays handed out stay valid."""
        self._file.close()

    def _read_header(self) -> None:
        attributes = self._file.attrs
        if _text(attributes.get("format")) != schema.FORMAT:
            raise FileError(
                f"not a mapreel recording: {self.path} is HDF5, but its attribute 'format' is "
                f"not {schema.FORMAT!r}"
            )
        version = attributes.get("version")
        if not isinstance(version, (int, np.integer)):
            raise FileError(f"damaged recording: {self.path} has no version number")
        if version > schema.VERSION:
            raise FileError(
                f"{self.path} has version {int(version)} of the format, and this mapreel reads up "
                f"to {schema.VERSION}: upgrade with 'pip install -U mapreel'"
            )
        self.run_id = _text(attributes.get("run_id"))
        self.created = _text(attributes.get("created"))
        self.meta = schema.decode_meta(_text(attributes.get("meta")))

    def refresh(self) -> None:
        """Takes in what was committed since the recording was opened or last refreshed.

        The counter of committed frames is read before anything that it vouches for.
        """
        state = self._small(schema.STATE, 1)
        values = [int(value) for value in state[:]] if state is not None else []
        values += [0] * (len(schema.STATE_FIELDS) - len(values))
        self.committed, self.dropped, self.lost, closed = values[:4]
        self.closed = bool(closed)

        order = self._field_array("recorded")
        self.order: npt.NDArray[np.int64] = np.where(order <= self.committed, order, 0)
        self._fields: dict[str, npt.NDArray[Any]] = {}
        self._series = {layer.name: Series(self, layer) for layer in self._find_layers()}
        self.layers: tuple[str, ...] = tuple(self._series)

    @property
    def shape(self) -> tuple[int, int]:
        """(epochs, batches) that the file has room for; a cell may be without a frame."""
        return self.order.shape[0], self.order.shape[1]

    @property
    def frames(self) -> list[tuple[int, int]]:
        """(epoch, batch) of every whole frame, in the order of epochs and batches."""
        return [(int(epoch), int(batch)) for epoch, batch in np.argwhere(self.order > 0)]

    @property
    def batches(self) -> Mapping[str, npt.NDArray[Any]]:
        """The per-batch fields by name, each of shape (epoch, batch); see docs/format.md."""
        return _Fields(self)

    @property
    def inputs(self) -> Inputs:
        """The first image of each batch, as the network saw it."""
        return Inputs(self)

    def __contains__(self, name: object) -> bool:
        return name in self._series

    def __getitem__(self, name: str) -> Series:
        """The frames of one layer.

        Raises:
            SelectionError: No such layer in the file; the message says which are there.
        """
        try:
            return self._series[name]
        except KeyError:
            there = ", ".join(self.layers[:12]) + (" ..." if len(self.layers) > 12 else "")
            raise SelectionError(
                f"no layer {name!r} in {self.path}; recorded: {there or 'none'}"
            ) from None

    def locate(self, epoch: int, batch: int) -> tuple[int, int]:
        """The epoch and batch of a whole frame, negative numbers counted from the last one.

        Raises:
            SelectionError: Nothing was recorded there; the message says what was.
        """
        epochs = np.flatnonzero((self.order > 0).any(axis=1))
        found = _index(epochs, epoch)
        if found is None:
            raise SelectionError(
                f"no epoch {epoch} in {self.path}; recorded: {in_words(epochs.tolist())}"
            )
        batches = np.flatnonzero(self.order[found] > 0)
        at = _index(batches, batch)
        if at is None:
            raise SelectionError(
                f"no batch {batch} in epoch {found} of {self.path}; "
                f"recorded: {in_words(batches.tolist())}"
            )
        return found, at

    # What follows is for the classes in this file: nothing of h5py leaves it.

    def _read(self, group: str, name: str, epoch: int, batch: int) -> Float16Array:
        layer = self._series[name].layer
        shape = layer.shape if group == schema.MAPS else layer.kernel
        assert shape is not None
        dataset = self._dataset(group, name, 2 + len(shape))
        if epoch >= dataset.shape[0] or batch >= dataset.shape[1]:
            return np.full(shape, np.nan, np.float16)  # the layer joined the recording later
        with _translated(self.path):
            frame: Float16Array = dataset[epoch, batch]
        return frame

    def _dataset(self, group: str, name: str, rank: int) -> h5py.Dataset:
        path = f"{group}/{schema.encode_name(name)}"
        dataset = self._small(path, rank)
        if dataset is None:
            raise FileError(f"damaged recording: {self.path} has no dataset {path!r}")
        return dataset

    def _small(self, path: str, rank: int) -> h5py.Dataset | None:
        """A dataset of our own kind, or None: followed through hard links only."""
        node: Any = self._file
        for part in path.split("/"):
            if not isinstance(node, h5py.Group):
                return None
            link = node.get(part, getlink=True)
            if not isinstance(link, h5py.HardLink):
                return None
            with _translated(self.path):
                node = node[part]
        if not isinstance(node, h5py.Dataset) or node.ndim != rank:
            return None
        if node.is_virtual or node.external:
            raise FileError(f"refused: {path!r} in {self.path} would read from another file")
        return node

    def _field_array(self, name: str) -> npt.NDArray[Any]:
        field = next((f for f in schema.FIELDS if f.name == name), schema.custom_field(name))
        dataset = self._small(f"{schema.BATCHES}/{schema.encode_name(name)}", 2)
        if dataset is None:
            shape = self.order.shape if name != "recorded" else (0, 0)
            return np.full(shape, field.fill, field.dtype)
        if dataset.size > _MAX_CELLS or dataset.dtype.kind not in "iufb":
            raise FileError(f"damaged recording: {self.path} declares {dataset!r} for {name!r}")
        with _translated(self.path):
            values: npt.NDArray[Any] = dataset[:]
        if name == "recorded":
            return values
        fitted = np.full(self.order.shape, field.fill, field.dtype)
        rows = min(fitted.shape[0], values.shape[0])
        columns = min(fitted.shape[1], values.shape[1])
        fitted[:rows, :columns] = values[:rows, :columns]
        fitted[self.order == 0] = field.fill
        return fitted

    def _find_layers(self) -> list[Layer]:
        group = self._file.get(schema.MAPS)
        if not isinstance(group, h5py.Group):
            return []
        found: list[tuple[int, Layer]] = []
        for link in group:
            dataset = (
                self._small(f"{schema.MAPS}/{link}", group[link].ndim)
                if (
                    isinstance(group.get(link, getlink=True), h5py.HardLink)
                    and isinstance(group[link], h5py.Dataset)
                )
                else None
            )
            if dataset is None or dataset.ndim < 3 or dataset.dtype != schema.FRAME_DTYPE:
                continue
            kernels = self._file.get(f"{schema.KERNELS}/{link}")
            layer = Layer(
                name=schema.decode_name(link),
                module=_text(dataset.attrs.get("module")),
                shape=dataset.shape[2:],
                kernel=kernels.shape[2:] if isinstance(kernels, h5py.Dataset) else None,
            )
            place = dataset.attrs.get("order")
            found.append((int(place) if isinstance(place, (int, np.integer)) else 1 << 30, layer))
        found.sort(key=lambda entry: entry[0])
        return [layer for _, layer in found]


class Inputs:
    """The first image of every batch: `inputs[epoch, batch]` -> float16 (C, H, W).

    Attributes:
        shape: Shape of one image, or None where no image was recorded.
        mean: Per channel, what was subtracted before the network saw the image; None if unknown.
        std: Per channel, what it was divided by; None if unknown.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        dataset = None
        node = recording._file.get(schema.INPUTS)
        if isinstance(node, h5py.Dataset):
            dataset = recording._small(schema.INPUTS, node.ndim)
        self._dataset = dataset
        self.shape: tuple[int, ...] | None = None if dataset is None else dataset.shape[2:]
        self.mean = _vector(dataset, "mean")
        self.std = _vector(dataset, "std")

    def __bool__(self) -> bool:
        return self._dataset is not None

    def __getitem__(self, key: tuple[int, int]) -> Float16Array:
        """The image at an epoch and batch, normalised as the network saw it.

        Raises:
            SelectionError: No image was recorded there.
        """
        epoch, batch = self._recording.locate(*_pair(key))
        if self._dataset is None:
            raise SelectionError(f"no input images in {self._recording.path}")
        with _translated(self._recording.path):
            image: Float16Array = self._dataset[epoch, batch]
        return image


class _Fields(Mapping[str, "npt.NDArray[Any]"]):
    """The per-batch fields, each read when it is first asked for."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        group = recording._file.get(schema.BATCHES)
        links = list(group) if isinstance(group, h5py.Group) else []
        self._names = [schema.decode_name(link) for link in links]

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        if name not in self._names:
            raise SelectionError(
                f"no field {name!r} in {self._recording.path}; there are: "
                + ", ".join(sorted(self._names))
            )
        cache = self._recording._fields
        if name not in cache:
            cache[name] = self._recording._field_array(name)
        return cache[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _open(path: Path) -> h5py.File:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise FileError(f"no such file: {path}") from None
    except (OSError, ValueError) as error:
        raise FileError(f"cannot read {path}: {getattr(error, 'strerror', error)}") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise FileError(f"expected a recording such as run.h5, but {path} is {kind}")
    try:
        with path.open("rb") as file:
            signature = file.read(len(_SIGNATURE))
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror}") from error
    if not signature:
        raise FileError(f"nothing in {path}: the file is empty (0 bytes)")
    if signature != _SIGNATURE:
        raise FileError(f"not an HDF5 file: {path}; expected a recording made by 'record'")
    try:
        # Opened as a concurrent reader, a file opens while it is written and after a crash.
        return h5py.File(path, "r", libver="latest", swmr=True, locking="best-effort")
    except (OSError, ValueError, RuntimeError):
        pass  # not written for concurrent readers, so not ours: find out what it is
    try:
        return h5py.File(path, "r", locking="best-effort")
    except (OSError, ValueError, RuntimeError) as error:
        raise FileError(f"damaged HDF5 file: {path} cannot be opened ({_line(error)})") from error


class _translated:  # noqa: N801 - reads as a word in a with statement
    """Turns h5py's errors while reading into a FileError that names the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, (OSError, RuntimeError, ValueError, KeyError)):
            raise FileError(f"cannot read from {self._path}: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""


def _vector(dataset: h5py.Dataset | None, name: str) -> Float32Array | None:
    value = None if dataset is None else dataset.attrs.get(name)
    if not isinstance(value, np.ndarray) or value.ndim != 1 or value.dtype.kind != "f":
        return None
    return value.astype(np.float32)


def _pair(key: Any) -> tuple[int, int]:
    if isinstance(key, tuple) and len(key) == 2:
        epoch, batch = key
        if isinstance(epoch, (int, np.integer)) and isinstance(batch, (int, np.integer)):
            return int(epoch), int(batch)
    raise SelectionError(f"expected [epoch, batch], two whole numbers; found [{key!r}]")


def _index(there: npt.NDArray[np.intp], wanted: int) -> int | None:
    """The number itself if it is there; counted from the end if negative."""
    if wanted < 0:
        return int(there[wanted]) if -wanted <= there.size else None
    return wanted if wanted in there else None
