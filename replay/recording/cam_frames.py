"""Class activation maps of a fixed image, made of what was recorded: maps, weights, gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from replay import schema
from replay.formatting import clean_line, format_count
from replay.recording.class_activation import (
    check_method,
    class_activation,
    needs_gradients,
    place_tokens,
)
from replay.recording.inputs import Inputs
from replay.recording.notebook_views import show
from replay.recording.series import Series
from replay.recording.snapshot import cells_of, parse_key
from replay.schema import Cell, Float16Array, Float32Array, SelectionError
from replay.schema.faces import choose
from replay.schema.token_grid import find_grid

_Mask = npt.NDArray[np.bool_]
_PLACED = ("CHW", "HWC", "TC")  # axes of what has places in an image


class Recording(Protocol):
    """As much of a `Recording` as is needed here."""

    path: Path
    probe_number: int | None

    @property
    def inputs(self) -> Inputs:
        """The images."""

    def probe(self, number: int) -> Any:
        """Returns what there is of a fixed image."""

    def beside(self, kind: str) -> Any:
        """Returns what lies beside the maps."""

    def __contains__(self, name: object) -> bool: ...

    def __getitem__(self, name: str) -> Series: ...


def cam_of(recording: Recording, layer: str | None, probe: int | None, method: str) -> CamFrames:
    """Returns class activation of a fixed image of a recording, or of the image that it is.

    Args:
        recording: The recording.
        layer: As in `CamFrames`.
        probe: The image's number; None for the one that the recording is, else the first.
        method: As in `CamFrames`.
    """
    is_image = recording.probe_number is not None and probe is None
    return CamFrames(recording if is_image else recording.probe(probe or 0), layer, method)


class CamFrames:
    """Class activation by epoch and batch: `cam[epoch, batch]` -> float32 (H, W).

    Args:
        recording: A fixed image of a recording.
        name: The layer; None for the last one that has weights.
        method: One of `options.CAM_METHODS`.

    Raises:
        OptionError: An unknown method.
        SelectionError: Something that the method needs was not recorded; the message says what.

    Attributes:
        layer: The layer that put out the maps.
        method: As given.
        of: What was differentiated, such as `score of the label`.
        size: Height and width of a map.
        left_out: Tokens before those of the image.
    """

    def __init__(
        self, recording: Recording, name: str | None = None, method: str = "grad-cam"
    ) -> None:
        self.method = check_method(method)
        weights = recording.beside(schema.CAM)
        if name is None:
            name = weights.layers[-1] if weights.layers else ""
        self._weights = weights.scaled(name)  # which says what there is, if that is not
        if name not in recording:
            raise SelectionError(
                f"no maps of {name!r} for fixed image {recording.probe_number} in "
                f"{recording.path}, which class activation is made of; record that layer, too"
            )
        self._maps = recording[name]
        if needs_gradients(method):
            gradients = recording.beside(schema.GRADIENTS)
            if name not in gradients:
                records = choose("'record run --gradients'", "Recorder(gradients=...)")
                raise SelectionError(
                    f"{method} needs the gradients of {name!r} for fixed image "
                    f"{recording.probe_number}, which are not in {recording.path}; grad-cam does "
                    f"without, {records} records them"
                )
            self._weights = gradients.scaled(name)
        self.layer, self.of = self._maps.layer, self._weights.layer.of
        if self.layer.axes not in _PLACED:
            raise SelectionError(
                f"no class activation of {name!r} in {recording.path}: its maps have no places "
                f"in an image (axes {self.layer.axes or 'none'})"
            )
        self._grid: tuple[int, int] | None = None
        self._parts: tuple[_Mask, _Mask, _Mask] | None = None
        self.left_out = 0
        if self.layer.axes == "TC":
            shape, known = recording.inputs.shape, weights[name].layer.grid
            image = (shape[1], shape[2]) if shape is not None and len(shape) == 3 else None
            grid = find_grid(self.layer.shape[0], known, image)
            if grid is None:
                raise SelectionError(
                    f"no class activation of {name!r} in {recording.path}: its "
                    f"{self.layer.shape[0]} tokens fill no rows and columns in the proportions of "
                    "the image"
                )
            self._grid = grid.rows, grid.columns
            self.left_out = grid.prefix
        self.size: tuple[int, int] = self._grid or (
            self.layer.shape[self.layer.axes.index("H")],
            self.layer.shape[self.layer.axes.index("W")],
        )

    def __repr__(self) -> str:
        frames = format_count(int(self.present.sum()), "frame")
        height, width = self.size
        return clean_line(
            f"<Cam of {self.name!r} of {str(self.path)!r}, fixed image {self.probe_number}: "
            f"{self.method}, {height}×{width}{f', of the {self.of}' if self.of else ''}; {frames}, "
            "[epoch, batch] reads one>"
        )

    def _repr_html_(self) -> str | None:
        return show(self)

    @property
    def name(self) -> str:
        """The layer's name, e.g. `layer4`."""
        return self.layer.name

    @property
    def path(self) -> Path:
        """The recording's file."""
        return self._maps.path

    @property
    def probe_number(self) -> int | None:
        """The number of the fixed image."""
        return self._maps.probe_number

    @property
    def shape(self) -> tuple[int, ...]:
        """(epoch, batch, H, W); what lies in between was not necessarily recorded."""
        return (*self._maps.shape[:2], *self.size)

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Where there is all that a map is made of, bool (epoch, batch)."""
        maps, weights = self._maps.present, self._weights.present
        if self._parts is None or self._parts[0] is not maps or self._parts[1] is not weights:
            self._parts = maps, weights, maps & weights  # kept: it is asked for cell by cell
        return self._parts[2]

    @property
    def frames(self) -> list[Cell]:
        """(epoch, batch) of every map, in the order of epochs and batches."""
        return cells_of(self.present)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: tuple[int, int]) -> Float32Array:
        """Returns one map; negative numbers count from the last recorded epoch and batch.

        Returns:
            float32 (H, W); 0 or more but for `gradient-x-activation`. All NaN where there is none.

        Raises:
            SelectionError: Nothing was recorded at that epoch and batch.
            DamagedError: What it is made of is damaged.
        """
        cell = parse_key(key)
        maps = self._placed(self._maps[cell])
        weights = self._weights[cell]
        weights = self._placed(weights) if needs_gradients(self.method) else weights
        return class_activation(self.method, maps, weights)

    def _placed(self, frame: Float16Array | Float32Array) -> npt.NDArray[np.floating]:
        """Returns a frame of the layer as maps, (C, H, W)."""
        if self._grid is not None:
            return place_tokens(frame, *self._grid)
        return np.moveaxis(frame, -1, 0) if self.layer.axes == "HWC" else frame
