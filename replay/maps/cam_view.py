"""Class activation over the input: which places of a fixed image speak for its class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from replay import schema
from replay.formatting import format_count
from replay.maps.answers import Answers
from replay.maps.overlaid import CamTile, describe_scale, drawn_as_given
from replay.maps.overlay_series import OverlaySeries, share_ranges
from replay.maps.runs import choose_layers_of
from replay.options import FilmOptions
from replay.recording import Recording, Series
from replay.recording.cam_frames import CamFrames
from replay.recording.derived import DerivedRecording
from replay.schema import Cell, SelectionError
from replay.schema.faces import choose

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
    names = choose_names(images, options)
    found: list[Recording] = [CamRecording(image, names, options) for image in images]
    for cams in found:
        cams.require_frames()
    if len(found) > 1:
        share_ranges(found, names, options)
    return found, drawn_as_given(replace(options, layers=names))


def choose_names(images: Sequence[Recording], options: FilmOptions) -> list[str]:
    """Returns the layers that are shown: those asked for, or the last one that has weights in all.

    Raises:
        SelectionError: There are none; the message says what there is, and how to record it.
    """
    cams = [image.beside(schema.CAM) for image in images]
    if not cams[0].layers:
        raise _without(images[0])
    names = choose_layers_of(cams[:1], "all" if options.layers is None else options.layers)
    if options.layers is not None:
        return names
    return ([name for name in names if all(name in each for each in cams)] or names)[-1:]


def words_of(cam: CamFrames) -> str:
    """Returns what it is: `Grad-CAM of the score of the label`."""
    return _NAMES[cam.method] + (f" of the {cam.of}" if cam.of else "")


def _without(image: Recording) -> SelectionError:
    """Returns what to say of an image without class activation."""
    there = [
        f"{what} of {format_count(len(names), 'layer')}"
        for what, names in (
            ("maps", image.layers),
            ("attention", image.attentions),
            ("gradients", image.gradients),
        )
        if names
    ]
    records = choose("'record run --cam'", "Recorder(cam=...)")
    return SelectionError(
        f"no class activation in {image.path} (fixed image {image.probe_number} has "
        f"{', '.join(there) or 'nothing'}); {records} records it"
    )


class CamRecording(DerivedRecording):
    """Class activation of a fixed image over the image, a tile for each layer that has weights.

    Args:
        image: The fixed image of a recording.
        names: The layers.
        options: The method, the scale and the colormap.
    """

    quantity = "class activation"

    def __init__(self, image: Recording, names: Sequence[str], options: FilmOptions) -> None:
        self._names, self._options = names, options
        self.scale_words = describe_scale(options, steady=True)
        super().__init__(image)

    def derive(self) -> Mapping[str, Series]:
        """Returns the class activation of each layer over the image."""
        return {name: CamSeries(self.source, name, self._options) for name in self._names}


class CamSeries(OverlaySeries):
    """Class activation of a fixed image over the image.

    Args:
        image: The fixed image of a recording.
        name: The layer.
        options: The method, the scale and the colormap.
    """

    def __init__(self, image: Recording, name: str, options: FilmOptions) -> None:
        self.cam = cam = CamFrames(image, name, options.cam_method)
        self.subject = words_of(cam)
        note = f"{self.subject}, {cam.size[0]}×{cam.size[1]}, bilinear over the input"
        self._answers = Answers(image)
        super().__init__(image, image[name], CamTile(cam), options, "bilinear", note)

    def remark(self, cell: Cell) -> str:
        """Returns what the network answered and how sure it was, in words; see `Series`."""
        return ", ".join(filter(None, [super().remark(cell), self._answers.in_words(cell)]))
