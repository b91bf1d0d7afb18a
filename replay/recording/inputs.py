"""The images that the network saw: the first one of every batch, or a fixed one."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from replay import schema
from replay.recording.snapshot import Snapshot
from replay.schema import Float16Array, Float32Array, SelectionError

_RANKS = range(1, 5)  # of an image


class Inputs:
    """The first image of every batch: `inputs[epoch, batch]` -> float16 (C, H, W).

    Images of another shape than the first lie beside it in the file, and are found all the same.

    Args:
        snapshot: The frames that there are.

    Attributes:
        shape: Shape of the first image, or None where no image was recorded.
        shapes: Every shape that an image has, the first one's first.
        mean: Per channel, what was subtracted before the network saw the image, float32 (C,);
            None if unknown.
        std: Per channel, what it was divided by, float32 (C,); None if unknown.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        file = snapshot.file
        shapes = {schema.INPUTS: file.frame_shape(schema.INPUTS)}
        for link in sorted(file.links("")):
            if link.startswith(f"{schema.INPUTS}@"):
                shape = file.frame_shape(link)
                shapes[link] = shape if shape and schema.inputs_path(shape) == link else None
        self._paths = {path: shape for path, shape in shapes.items() if shape is not None}
        self.shapes: tuple[tuple[int, ...], ...] = tuple(dict.fromkeys(self._paths.values()))
        self.shape: tuple[int, ...] | None = self.shapes[0] if self.shapes else None
        self.mean = _vector(file.attribute("mean", schema.INPUTS))
        self.std = _vector(file.attribute("std", schema.INPUTS))

    def __bool__(self) -> bool:
        return self.shape is not None

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Where there is an image, bool (epoch, batch).

        In a file without the images' checksums every whole frame is taken to have one.
        """
        whole: npt.NDArray[np.bool_] = self._snapshot.order > 0
        sums = self._snapshot.fields.get("input_checksum")
        return whole if sums is None else whole & (sums != 0)

    def __getitem__(self, key: tuple[int, int]) -> Float16Array:
        """Returns the image of an epoch and batch, normalised as the network saw it.

        Raises:
            SelectionError: No image was recorded there.
            DamagedError: Its checksum is wrong, or it cannot be read.
        """
        epoch, batch = self._snapshot.locate(*parse_key(key))
        if self.shape is None:
            raise SelectionError(f"no input images in {self._snapshot.path}")
        image = self._find(epoch, batch)
        sums = self._snapshot.fields.get("input_checksum")
        if sums is not None and sums[epoch, batch]:
            self._snapshot.compare(image, epoch, batch, int(sums[epoch, batch]), "input")
        return image

    def _find(self, epoch: int, batch: int) -> Float16Array:
        images = (self._snapshot.read_frame(path, epoch, batch, 0, "input") for path in self._paths)
        image = next(images)
        while np.isnan(image.flat[0]) and np.isnan(image).all():  # it has another shape
            other = next(images, None)
            if other is None:
                break
            image = other
        return image


class FixedImage(Inputs):
    """The one image that was shown at every batch: `inputs[epoch, batch]` is always the same.

    Args:
        snapshot: The frames that belong to the image.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._image: Float16Array | None = None
        file = snapshot.file
        path = f"{schema.PROBE}/{snapshot.probe_number}/{schema.PROBE_INPUT}"
        for rank in _RANKS:
            if self._image is None:
                self._image = file.read_numbers(path, rank, schema.FRAME_DTYPE)
        if self._image is not None and not self._image.size:
            self._image = None
        self.shape = None if self._image is None else self._image.shape
        self.shapes = () if self.shape is None else (self.shape,)
        vectors = []
        for name in ("mean", "std"):
            values = (file.attribute(name, at) for at in (path, schema.INPUTS))
            vectors.append(_vector(next((v for v in values if v is not None), None)))
        self.mean, self.std = vectors

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Where there is a frame of the image, bool (epoch, batch)."""
        whole: npt.NDArray[np.bool_] = self._snapshot.order > 0
        return whole

    def __getitem__(self, key: tuple[int, int]) -> Float16Array:
        """Returns the image, normalised as the network saw it.

        Raises:
            SelectionError: Nothing was recorded there, or the file has no image.
        """
        self._snapshot.locate(*parse_key(key))
        if self._image is None:
            raise SelectionError(
                f"probe {self._snapshot.probe_number} of {self._snapshot.path} has no image"
            )
        return self._image


def read_inputs(snapshot: Snapshot) -> Inputs:
    """Returns the images that the frames of a snapshot belong to."""
    return Inputs(snapshot) if snapshot.probe_number is None else FixedImage(snapshot)


def parse_key(key: Any) -> tuple[int, int]:
    """Returns the epoch and the batch that stand in brackets.

    Raises:
        SelectionError: Something else stands there.
    """
    if isinstance(key, tuple) and len(key) == 2:
        epoch, batch = key
        if isinstance(epoch, (int, np.integer)) and isinstance(batch, (int, np.integer)):
            return int(epoch), int(batch)
    raise SelectionError(f"expected [epoch, batch], two whole numbers; found [{key!r}]")


def _vector(value: Any) -> Float32Array | None:
    """Returns an attribute that is a list of numbers, as float32; None if it is something else."""
    if not isinstance(value, np.ndarray) or value.ndim != 1 or value.dtype.kind != "f":
        return None
    return value.astype(np.float32)
