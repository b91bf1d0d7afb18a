"""A fixed image that was shown to the network at every recorded batch, as a recording of its own.

What changes from frame to frame is then the network alone. The maps are those of the evaluation
mode, after the batch's update of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from replay import schema
from replay.recording import Recording
from replay.recording.series import Inputs, pair_of, vector_of
from replay.schema import Float16Array, SelectionError

# What the file keeps of a batch about its own first image, and counts in that image's maps.
_OF_THE_BATCH = ("label", "prediction", "nan", "inf", "missing", "input_checksum")
_RANKS = range(1, 5)  # of an image
_ANSWERS = ("label", "prediction")
_HIGHEST_CLASS = 1 << 31  # beyond it, it is no class


class Probe(Recording):
    """The frames of one fixed image; `Recording.probe` makes it.

    Layers, frames and ranges are the image's, `inputs[epoch, batch]` is the image itself, and
    `batches` are those of the run, without what belongs to the batch's own first image. It reads
    from the file of the recording that it was made from, and is good for as long as that is open.

    Args:
        recording: The recording.
        number: The image's number, from 0.

    Raises:
        SelectionError: No such image was recorded.

    Attributes:
        run: The recording that it was made from.
    """

    def __init__(self, recording: Recording, number: int) -> None:
        there = recording.probes
        if not there:
            raise SelectionError(
                f"no probe image in {recording.path}; 'record train --probe 1' or "
                "Recorder(probe=...) records one"
            )
        if not 0 <= number < there:
            raise SelectionError(
                f"no probe image {number} in {recording.path}; "
                f"there: {schema.in_words(range(there))}"
            )
        self.probe_number = number
        self.run = recording
        self.path, self._file = recording.path, recording._file
        self.version, self.meta = recording.version, recording.meta
        self.run_id, self.created = recording.run_id, recording.created
        self.refresh()

    def close(self) -> None:
        """Does nothing: the file belongs to the recording that this was made from."""

    @property
    def inputs(self) -> Inputs:
        """The fixed image, at every epoch and batch."""
        return _Image(self)

    @property
    def batches(self) -> Mapping[str, npt.NDArray[Any]]:
        """The per-batch fields of the run; label and prediction are the fixed image's."""
        return _Fields(super().batches, self)


class _Image(Inputs):
    """The one image, wherever it is asked for."""

    def __init__(self, probe: Probe) -> None:
        self._recording = probe
        self._image: Float16Array | None = None
        path = f"{schema.PROBE}/{probe.probe_number}/{schema.PROBE_INPUT}"
        for rank in _RANKS:
            if self._image is None:
                self._image = probe._file.read_numbers(path, rank, schema.FRAME_DTYPE)
        if self._image is not None and not self._image.size:
            self._image = None
        self.shape = None if self._image is None else self._image.shape
        self.shapes = () if self.shape is None else (self.shape,)
        attribute = probe._first_attribute
        self.mean = vector_of(attribute("mean", path, schema.INPUTS))
        self.std = vector_of(attribute("std", path, schema.INPUTS))

    def __getitem__(self, key: tuple[int, int]) -> Float16Array:
        self._recording.locate(*pair_of(key))
        if self._image is None:
            raise SelectionError(
                f"probe {self._recording.probe_number} of {self._recording.path} has no image"
            )
        return self._image


class _Fields(Mapping[str, "npt.NDArray[Any]"]):
    """The fields of the run, with what is known of the fixed image instead of the batch's."""

    def __init__(self, fields: Mapping[str, npt.NDArray[Any]], probe: Probe) -> None:
        self._fields = fields
        self._order = probe.order
        self._own = {name: value for name, value in _known(probe).items() if name in _ANSWERS}
        self._names = [name for name in fields if name not in _OF_THE_BATCH] + list(self._own)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self._names else default

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        if name in self._own:
            return np.where(self._order > 0, self._own[name], -1).astype(np.int64)
        if name not in self._names:
            raise SelectionError(
                f"no field {name!r} of a probe image; there are: {', '.join(sorted(self._names))}"
            )
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _known(probe: Probe) -> dict[str, int]:
    """The numbers that the run's description has on the image, such as its label."""
    assert probe.probe_number is not None
    described = probe.meta.get("probe")
    if not isinstance(described, list) or len(described) <= probe.probe_number:
        return {}
    about = described[probe.probe_number]
    if not isinstance(about, dict):
        return {}
    return {
        key: value
        for key, value in about.items()
        if type(value) is int and 0 <= value <= _HIGHEST_CLASS
    }
