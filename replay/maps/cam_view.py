"""Class activation over the input: which places of a fixed image speak for its class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from replay import schema
from replay.maps.answers import Answers
from replay.maps.overlaid import CamTile, describe_scale, drawn_as_given
from replay.maps.overlay_series import OverlaySeries
from replay.options import FilmOptions
from replay.recording import Recording, Series
from replay.recording.cam_frames import CamFrames
from replay.recording.derived import DerivedRecording
from replay.schema import Cell

_NAMES = {
    "grad-cam": "Grad-CAM",
    "hirescam": "HiResCAM",
    "gradient-x-activation": "gradient × activation",
}


def look_at(runs: Sequence[Recording], options: FilmOptions) -> tuple[list[Recording], FilmOptions]:
    """Returns class activation of a fixed image over the image, see `views.look_at`.

    Of a run the first fixed image is shown. The last layer that has weights is shown where none is
    asked for.
    """
    images = [run if run.probe_number is not None else run.probe(0) for run in runs]
    found: list[Recording] = [CamRecording(image, options) for image in images]
    for cams in found:
        cams.require_frames()
    layers = found[0].layers[-1] if options.layers is None else options.layers
    return found, drawn_as_given(replace(options, layers=layers))


class CamRecording(DerivedRecording):
    """Class activation of a fixed image over the image, a tile for each layer that has weights.

    Args:
        image: The fixed image of a recording.
        options: The method, the scale and the colormap.
    """

    quantity = "class activation"

    def __init__(self, image: Recording, options: FilmOptions) -> None:
        self._options = options
        self.scale_words = describe_scale(options)
        super().__init__(image)

    def derive(self) -> Mapping[str, Series]:
        """Returns the class activation of each layer over the image."""
        cams = self.source.beside(schema.CAM)
        if not cams.layers:
            cams[""]  # which raises, and says how to record it
        return {name: CamSeries(self.source, name, self._options) for name in cams.layers}


class CamSeries(OverlaySeries):
    """Class activation of a fixed image over the image.

    Args:
        image: The fixed image of a recording.
        name: The layer.
        options: The method, the scale and the colormap.
    """

    def __init__(self, image: Recording, name: str, options: FilmOptions) -> None:
        self.cam = cam = CamFrames(image, name, options.cam_method)
        of = f" of the {cam.of}" if cam.of else ""
        note = f"{_NAMES[cam.method]}{of}, {cam.size[0]}×{cam.size[1]}, bilinear over the input"
        self._answers = Answers(image)
        super().__init__(image, image[name], CamTile(cam), options, "bilinear", note)

    def remark(self, cell: Cell) -> str:
        """Returns what the network answered and how sure it was, in words; see `Series`."""
        return ", ".join(filter(None, [super().remark(cell), self._answers.in_words(cell)]))
