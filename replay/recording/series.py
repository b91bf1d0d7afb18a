"""What a recording has of every batch: the frames of a layer, and the first image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from replay import schema
from replay.schema import (
    DamagedError,
    FileError,
    Float16Array,
    Float32Array,
    Layer,
    SelectionError,
)

if TYPE_CHECKING:
    from replay.recording import Recording


class Series:
    """What one layer put out, frame by frame: `series[epoch, batch]` -> float16 (C, H, W).

    Attributes:
        layer: Name, module, frame shape and what its axes are.
    """

    def __init__(self, recording: Recording, layer: Layer) -> None:
        self._recording = recording
        self.layer = layer
        self._present: npt.NDArray[np.bool_] | None = None
        self._sums: dict[str, npt.NDArray[np.uint32] | None] = {}
        self._as_of = recording.committed  # what those were read after

    @property
    def name(self) -> str:
        """The layer's name, e.g. `layer1.0.conv1`."""
        return self.layer.name

    @property
    def recording(self) -> Recording:
        """The recording that it is of."""
        return self._recording

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Where the layer has a frame, bool (epoch, batch).

        A layer that put out nothing in a batch, or something of another shape, has none there.
        In a file without checksums every whole frame is taken to be there.
        """
        if self._present is None or self._as_of != self._recording.committed:
            self._forget()
            self._present = self._recording.order > 0
            sums = self.checksums()
            if sums is not None:
                self._present &= sums > 0
        return self._present

    @property
    def frames(self) -> list[tuple[int, int]]:
        """(epoch, batch) of every frame of the layer, in the order of epochs and batches."""
        return [(int(epoch), int(batch)) for epoch, batch in np.argwhere(self.present)]

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
            DamagedError: Its checksum is wrong, or it cannot be read.
        """
        epoch, batch = self._recording.locate(*pair_of(key))
        return self._read(schema.MAPS, schema.CHECKSUMS, epoch, batch)

    def kernels(self, epoch: int, batch: int) -> Float16Array:
        """The kernels that made the frame, float16 (C_out, C_in/groups, kH, kW).

        All NaN where they were not recorded.

        Raises:
            SelectionError: The layer has none in this file, or nothing was recorded there.
            DamagedError: Their checksum is wrong, or they cannot be read.
        """
        if self.layer.kernel is None:
            raise SelectionError(
                f"no kernels of {self.name!r} in {self._recording.path}: they are kept for "
                "convolutions whose kernels are no larger than their maps"
            )
        epoch, batch = self._recording.locate(epoch, batch)
        return self._read(schema.KERNELS, schema.KERNEL_CHECKSUMS, epoch, batch)

    @property
    def has_ranges(self) -> bool:
        """Whether the file keeps the layer's ranges, which a foreign one may not."""
        return self._recording._file.exists(self._at(schema.RANGES), 4)

    def ranges(self) -> Float32Array:
        """Smallest and largest finite value of every map, float32 (epoch, batch, C, 2).

        NaN where nothing was recorded.
        """
        recording = self._recording
        cell = (self.layer.channels, 2)
        ranges = recording._file.read_block(self._at(schema.RANGES), cell, *recording.shape)
        ranges[recording.order == 0] = np.nan
        return ranges

    def checksums(self, group: str = schema.CHECKSUMS) -> npt.NDArray[np.uint32] | None:
        """The CRC-32 of every frame, uint32 (epoch, batch); None in a file without them.

        Args:
            group: `checksums` for the maps, `kernel_checksums` for the kernels.
        """
        whole = self._recording.order
        sums = self._recording._file.read_numbers(self._at(group), 2, schema.CHECKSUM_DTYPE)
        if sums is None:
            return None
        fitted = np.zeros(whole.shape, schema.CHECKSUM_DTYPE)
        rows, columns = np.minimum(whole.shape, sums.shape)
        fitted[:rows, :columns] = sums[:rows, :columns]
        return fitted

    def _forget(self) -> None:
        """What was read before the recording was refreshed is out of date."""
        self._present, self._sums = None, {}
        self._as_of = self._recording.committed

    def _read(self, group: str, sums: str, epoch: int, batch: int) -> Float16Array:
        if self._as_of != self._recording.committed:
            self._forget()
        if sums not in self._sums:
            self._sums[sums] = self.checksums(sums)
        known = self._sums[sums]
        checksum = 0 if known is None else int(known[epoch, batch])
        what = f"{self.name} {group}"
        return _checked(self._recording, self._at(group), epoch, batch, checksum, what)

    def _at(self, group: str) -> str:
        return self.layer.group + path_of(group, self.name)


class Inputs:
    """The first image of every batch: `inputs[epoch, batch]` -> float16 (C, H, W).

    Images of another shape than the first lie beside it in the file, and are found all the same.

    Attributes:
        shape: Shape of the first image, or None where no image was recorded.
        shapes: Every shape that an image has, the first one's first.
        mean: Per channel, what was subtracted before the network saw the image; None if unknown.
        std: Per channel, what it was divided by; None if unknown.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        file = recording._file
        shapes = {schema.INPUTS: file.frame_shape(schema.INPUTS)}
        for link in sorted(file.links("")):
            if link.startswith(f"{schema.INPUTS}@"):
                shape = file.frame_shape(link)
                shapes[link] = shape if shape and schema.inputs_path(shape) == link else None
        self._paths = {path: shape for path, shape in shapes.items() if shape is not None}
        self.shapes: tuple[tuple[int, ...], ...] = tuple(dict.fromkeys(self._paths.values()))
        self.shape: tuple[int, ...] | None = self.shapes[0] if self.shapes else None
        self.mean = vector_of(file.attribute("mean", schema.INPUTS))
        self.std = vector_of(file.attribute("std", schema.INPUTS))

    def __bool__(self) -> bool:
        return self.shape is not None

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Where there is an image, bool (epoch, batch).

        In a file without the images' checksums every whole frame is taken to have one.
        """
        there: npt.NDArray[np.bool_] = self._recording.order > 0
        sums = self._recording.batches.get("input_checksum")
        return there if sums is None else there & (sums != 0)

    def __getitem__(self, key: tuple[int, int]) -> Float16Array:
        """The image at an epoch and batch, normalised as the network saw it.

        Raises:
            SelectionError: No image was recorded there.
            DamagedError: Its checksum is wrong, or it cannot be read.
        """
        epoch, batch = self._recording.locate(*pair_of(key))
        if self.shape is None:
            raise SelectionError(f"no input images in {self._recording.path}")
        image = self._find(epoch, batch)
        sums = self._recording.batches.get("input_checksum")
        if sums is not None and sums[epoch, batch]:
            _compare(self._recording, image, int(sums[epoch, batch]), "input", epoch, batch)
        return image

    def _find(self, epoch: int, batch: int) -> Float16Array:
        run = self._recording
        images = (_checked(run, path, epoch, batch, 0, "input") for path in self._paths)
        image = next(images)
        while np.isnan(image.flat[0]) and np.isnan(image).all():  # it has another shape
            other = next(images, None)
            if other is None:
                break
            image = other
        return image


def _checked(
    run: Recording, path: str, epoch: int, batch: int, checksum: int, what: str
) -> Float16Array:
    """A frame that is what was recorded, where the file has a checksum of it (not 0)."""
    try:
        frame = run._file.read_frame(path, epoch, batch)
    except FileError as error:
        raise DamagedError(f"{what} of epoch {epoch} batch {batch}: {error}") from error
    if checksum:
        _compare(run, frame, checksum, what, epoch, batch)
    return frame


def _compare(
    run: Recording, frame: Float16Array, checksum: int, what: str, epoch: int, batch: int
) -> None:
    found = schema.checksum(np.ascontiguousarray(frame))
    if found != checksum:
        raise DamagedError(
            f"damaged in {run.path}: {what} of epoch {epoch} batch {batch} (checksum "
            f"{found:#010x}, expected {checksum:#010x}); 'python -m replay repair' copies the rest"
        )


def path_of(group: str, name: str) -> str:
    """Where in the file a group keeps what is of a name."""
    return f"{group}/{schema.encode_name(name)}"


def vector_of(value: Any) -> Float32Array | None:
    """An attribute that is a list of numbers, as float32; None if it is something else."""
    if not isinstance(value, np.ndarray) or value.ndim != 1 or value.dtype.kind != "f":
        return None
    return value.astype(np.float32)


def pair_of(key: Any) -> tuple[int, int]:
    """Epoch and batch, of what stands in brackets.

    Raises:
        SelectionError: It is something else.
    """
    if isinstance(key, tuple) and len(key) == 2:
        epoch, batch = key
        if isinstance(epoch, (int, np.integer)) and isinstance(batch, (int, np.integer)):
            return int(epoch), int(batch)
    raise SelectionError(f"expected [epoch, batch], two whole numbers; found [{key!r}]")
