"""Class activation of a fixed image as maps of values, for what draws with colormaps of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from replay.formatting import format_number
from replay.maps import cam_view
from replay.options import FilmOptions
from replay.raster.overlay import USUAL
from replay.recording import Recording, Series
from replay.recording.cam_frames import CamFrames
from replay.recording.derived import DerivedRecording, DerivedSeries
from replay.recording.snapshot import parse_key
from replay.schema import Cell, DamagedError, Float16Array

_GRAY = "gray"


def look_at(runs: Sequence[Recording], options: FilmOptions) -> tuple[list[Recording], FilmOptions]:
    """Returns class activation of fixed images as maps, each frame divided by its largest value.

    Args:
        runs: Fixed images.
        options: The layers, and the method; all layers that have weights by default.

    Raises:
        SelectionError: There are none; the message says what there is, and how to record it.
    """
    images = [run if run.probe_number is not None else run.probe(0) for run in runs]
    asked = "all" if options.layers is None else options.layers
    names = cam_view.choose_names(images, replace(options, layers=asked))
    found: list[Recording] = [CamValues(image, names, options.cam_method) for image in images]
    cmap = USUAL if options.cmap == _GRAY else options.cmap
    return found, replace(options, layers=names, cmap=cmap)


class CamValues(DerivedRecording):
    """Class activation of a fixed image.

    Args:
        image: The fixed image of a recording.
        names: The layers.
        method: As in `CamFrames`.
    """

    quantity = "class activation"

    def __init__(self, image: Recording, names: Sequence[str], method: str) -> None:
        self._names, self._method = names, method
        super().__init__(image)

    def derive(self) -> Mapping[str, Series]:
        """Returns the class activation of each layer."""
        frames = (CamFrames(self.source, name, self._method) for name in self._names)
        return {cam.name: FrameCam(self.source[cam.name], cam) for cam in frames}


class FrameCam(DerivedSeries):
    """Class activation, float16 (1, H, W), each frame divided by its largest value.

    From batch to batch scores grow by orders of magnitude, which float16 does not hold.

    Args:
        source: The layer's maps.
        cam: The values.

    Attributes:
        cam: As given.
    """

    unit = 0.0

    def __init__(self, source: Series, cam: CamFrames) -> None:
        self.cam = cam
        note = ", ".join(filter(None, [cam_view.words_of(cam), source.layer.note]))
        shape = (1, *cam.size)
        layer = replace(source.layer, shape=shape, axes="CHW", kernel=None, pooled=1, note=note)
        super().__init__(source, layer)

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Where there is a frame, bool (epoch, batch)."""
        return self.cam.present

    def __getitem__(self, key: tuple[int, int]) -> Float16Array:
        """Returns one frame; see `Series`."""
        values = self.cam[self._snapshot.locate(*parse_key(key))].astype(np.float64)
        largest = _largest(values)
        divided: Float16Array = (values / (largest or 1.0)).astype(np.float16)
        return divided[None]

    def remark(self, cell: Cell) -> str:
        """Returns the largest value of a frame, in words."""
        if not self.present[cell]:
            return ""
        try:
            return f"largest {format_number(_largest(self.cam[cell]))}"
        except DamagedError:
            return ""


def _largest(values: npt.NDArray[np.floating]) -> float:
    known = np.abs(values[np.isfinite(values)])
    return float(known.max(initial=0.0))
