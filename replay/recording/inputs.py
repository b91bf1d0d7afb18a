"""The images that frames belong to: the first one of each batch, or a fixed one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from replay import schema
from replay.formatting import clean_line, format_count, format_shape
from replay.recording.notebook_views import show
from replay.recording.small_values import is_sound
from replay.recording.snapshot import Snapshot, parse_key, read_vector
from replay.schema import DamagedError, Float16Array, SelectionError

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
        self.mean = read_vector(file.attribute("mean", schema.INPUTS))
        self.std = read_vector(file.attribute("std", schema.INPUTS))

    def __bool__(self) -> bool:
        return self.shape is not None

    def __repr__(self) -> str:
        number = self.probe_number
        what = "Inputs" if number is None else f"Fixed image {number}"
        if self.shape is None:
            return clean_line(f"<{what} of {str(self.path)!r}: no image was recorded>")
        sizes = " or ".join(format_shape(shape) for shape in self.shapes[:3])
        more = ", ..." if len(self.shapes) > 3 else ""
        many = format_count(int(self.present.sum()), "image" if number is None else "frame")
        return clean_line(
            f"<{what} of {str(self.path)!r}: {sizes}{more}, {many}, [epoch, batch] reads one>"
        )

    def _repr_html_(self) -> str | None:
        return show(self)

    @property
    def path(self) -> Path:
        """The recording's file."""
        return self._snapshot.path

    @property
    def probe_number(self) -> int | None:
        """The number of the fixed image that they are; None for the batches' own."""
        return self._snapshot.probe_number

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
        sums = self._snapshot.fields.get("input_checksum")
        checksum = None if sums is None else int(sums[epoch, batch])
        if checksum == 0:
            return np.full(self.shape, np.nan, schema.FRAME_DTYPE)
        image = self._find(epoch, batch)
        if checksum:
            self._snapshot.compare(image, epoch, batch, checksum, "input")
        return image

    def _find(self, epoch: int, batch: int) -> Float16Array:
        images = (self._snapshot.read_frame(path, epoch, batch, 0, "input") for path in self._paths)
        for image in images:
            if not (np.isnan(image.flat[0]) and np.isnan(image).all()):  # else of another shape
                break
        return image


class FixedImage(Inputs):
    """The one image that was shown at every batch: `inputs[epoch, batch]` is always the same.

    Args:
        snapshot: The frames that belong to the image.

    Attributes:
        is_sound: Whether the image has the checksum that it should have.
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
        self.is_sound = self._image is None or is_sound(file, path, self._image)
        self.shape = None if self._image is None else self._image.shape
        self.shapes = () if self.shape is None else (self.shape,)
        for name in ("mean", "std"):
            values = (file.attribute(name, at) for at in (path, schema.INPUTS))
            setattr(self, name, read_vector(next((v for v in values if v is not None), None)))

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Where there is a frame of the image, bool (epoch, batch)."""
        return np.asarray(self._snapshot.order > 0)

    def __getitem__(self, key: tuple[int, int]) -> Float16Array:
        """Returns the image, normalised as the network saw it.

        Raises:
            SelectionError: Nothing was recorded there, or the file has no image.
            DamagedError: Its checksum is wrong.
        """
        self._snapshot.locate(*parse_key(key))
        where = f"fixed image {self._snapshot.probe_number} of {self._snapshot.path}"
        if self._image is None:
            raise SelectionError(f"{where} has no picture")
        if not self.is_sound:
            raise DamagedError(f"damaged: the picture of {where} (its checksum is wrong)")
        return self._image


def read_inputs(snapshot: Snapshot) -> Inputs:
    """Returns the images that the frames of a snapshot belong to."""
    return Inputs(snapshot) if snapshot.probe_number is None else FixedImage(snapshot)
