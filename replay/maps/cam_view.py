"""Class activation over the input: which places of a fixed image speak for its class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from replay import schema
from replay.maps.overlaid import CamTile
from replay.maps.overlay_series import OverlaySeries
from replay.options import FilmOptions
from replay.recording import Recording, Series
from replay.recording.cam_frames import CamFrames
from replay.recording.derived import DerivedRecording

_NAMES = {
    "grad-cam": "Grad-CAM",
    "hirescam": "HiResCAM",
    "gradient-x-activation": "gradient × activation",
}


def look_at(run: Recording, options: FilmOptions) -> tuple[Recording, FilmOptions]:
    """Returns class activation of a fixed image over the image, see `views.look_at`.

    Of a run the first fixed image is shown. The last layer that has weights is shown where none is
    asked for.
    """
    image = run if run.probe_number is not None else run.probe(0)
    cams = CamRecording(image, options)
    cams.require_frames()
    if options.layers is None:
        options = replace(options, layers=cams.layers[-1])
    return cams, options


class CamRecording(DerivedRecording):
    """Class activation of a fixed image over the image, a tile for each layer that has weights.

    Args:
        image: The fixed image of a recording.
        options: The method, the scale and the colormap.
    """

    quantity = "class activation"

    def __init__(self, image: Recording, options: FilmOptions) -> None:
        self._options = options
        super().__init__(image)

    def derive(self) -> Mapping[str, Series]:
        """Returns the class activation of each layer over the image."""
        names = self.source.beside(schema.CAM).layers
        if not names:
            self.source.beside(schema.CAM)[""]  # which raises, and says how to record it
        return {name: self._overlay(name) for name in names}

    def _overlay(self, name: str) -> OverlaySeries:
        cam = CamFrames(self.source, name, self._options.cam_method)
        words = _NAMES[cam.method] + (f" of the {cam.of}" if cam.of else "")
        note = f"{words}, {cam.size[0]}×{cam.size[1]}, bilinear over the input"
        source = self.source[name]
        return OverlaySeries(self.source, source, CamTile(cam), self._options, "bilinear", note)
