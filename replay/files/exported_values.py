"""What an export holds: a layer's maps, or what was recorded beside them, in true values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from replay.maps.selection import choose_layers
from replay.options import EXPORTED, FilmOptions
from replay.recording import Recording
from replay.recording.scaled import true_frames
from replay.recording.series import Series
from replay.schema import FRAME_DTYPE, Cell, OptionError, SelectionError
from replay.schema.faces import spell


class Frames(Protocol):
    """Frames by epoch and batch."""

    @property
    def name(self) -> str:
        """The layer's name."""

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Where there is a frame, bool (epoch, batch)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(epoch, batch, ...)."""

    def __getitem__(self, key: Cell) -> npt.NDArray[Any]:
        """Returns a frame."""


class ExportedValues:
    """Frames as (C, ...), as they are and not as they are shown.

    Args:
        frames: The frames.
        axis: The axis of their channels; None where they have none.
        dtype: The type of their values.

    Attributes:
        frames: As given.
        dtype: As given.
        channels: Number of channels, 1 where there is no axis of them.
        rest: Shape of what each channel has.
    """

    def __init__(self, frames: Frames, axis: int | None, dtype: np.dtype[Any]) -> None:
        self.frames, self.dtype, self._axis = frames, dtype, axis
        shape = frames.shape[2:]
        self.channels = 1 if axis is None else shape[axis]
        self.rest = shape if axis is None else shape[:axis] + shape[axis + 1 :]

    def __getitem__(self, cell: Cell) -> npt.NDArray[Any]:
        frame = self.frames[cell]
        return frame[None] if self._axis is None else np.moveaxis(frame, self._axis, 0)


def choose_values(
    run: Recording, view: str, layer: str | Sequence[str] | None, method: str
) -> ExportedValues:
    """Returns the values that are exported.

    Args:
        run: The recording, or a fixed image of it.
        view: One of `EXPORTED`.
        layer: The layer; by default the first one, of all but maps and gradients the last.
        method: Of class activation, see `CamFrames`.

    Raises:
        OptionError: Another view, or several layers.
        SelectionError: There is nothing of it; the message says what there is.
    """
    if view not in EXPORTED:
        raise OptionError(
            f"{spell('view', view)}: only values can be exported; expected {', '.join(EXPORTED)}"
        )
    if view == "maps":
        frames = true_frames(run[_one(run, layer)])
        dtype = FRAME_DTYPE if isinstance(frames, Series) else np.dtype("<f4")
        return ExportedValues(frames, frames.layer.channel_axis, dtype)
    if view == "cam":
        name = None if layer is None else _one(run.beside("cam"), layer)
        cam = run.cam(name, None, method)
        return ExportedValues(cam, None, np.dtype("<f4"))
    if view == "components":
        return ExportedValues(_Components(run, layer), 0, np.dtype("<f4"))
    beside = run.beside("attention" if view == "attention" else "gradients")
    if not beside.layers:
        beside[""]  # which raises, and says how to record it
    if view == "attention":
        attention = beside[beside.layers[-1] if layer is None else _one(beside, layer)]
        return ExportedValues(attention, 0, FRAME_DTYPE)
    gradient = beside.scaled(_one(beside, layer))
    return ExportedValues(gradient, gradient.layer.channel_axis, np.dtype("<f4"))


class _Components:
    """The principal components of a layer: float32 (k, H, W) by epoch and batch."""

    def __init__(self, run: Recording, layer: str | Sequence[str] | None) -> None:
        from replay.maps.components_view import ComponentSeries, ComponentsRecording, choose_names

        options = FilmOptions(None if layer is None else _one(run, layer))
        (self.name,) = choose_names([run], options)
        series = ComponentsRecording(run, [self.name], options)[self.name]
        assert isinstance(series, ComponentSeries)
        self._series = series

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Where there is a frame, bool (epoch, batch)."""
        return self._series.present

    @property
    def shape(self) -> tuple[int, ...]:
        """(epoch, batch, k, H, W)."""
        counts = len(self._series.components.basis), *self._series.layer.shape[1:]
        return *self._series.shape[:2], *counts

    def __getitem__(self, key: Cell) -> npt.NDArray[np.float32]:
        """Returns a frame."""
        return self._series.values(key)


def _one(run: Recording, layer: str | Sequence[str] | None) -> str:
    if not run.layers:
        raise SelectionError(f"nothing of it in {run.path}")
    name, *others = choose_layers(run, layer)
    if others:
        asked = layer if isinstance(layer, str) else ", ".join(layer or ())
        raise OptionError(
            f"layer {asked!r} is {1 + len(others)} layers; an export is of one, such as {name!r}"
        )
    return name
