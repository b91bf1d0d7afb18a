"""All fixed images of a run side by side: what is shown of each, in one scale and one basis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from replay.maps import attention_view, cam_view
from replay.maps.components_view import ComponentsRecording, choose_names
from replay.maps.overlaid import drawn_as_given
from replay.maps.overlay_series import share_ranges
from replay.maps.overlay_view import OverlayRecording, choose_placed
from replay.maps.runs import choose_layers_of
from replay.options import FilmOptions
from replay.recording import Recording
from replay.schema import OptionError, SelectionError
from replay.schema.faces import spell

_VIEWS = ("maps", "cam", "attention", "components", "overlay")


def look_at_all(
    runs: Sequence[Recording], options: FilmOptions
) -> tuple[list[Recording], FilmOptions]:
    """Returns what is shown of each fixed image of a run, and the options that suit it.

    Args:
        runs: One run.
        options: What was asked for.

    Raises:
        OptionError: Several runs, one fixed image alone, or a view that is not over the image.
        SelectionError: The run has no fixed image, or nothing of what is to be shown.
    """
    if len(runs) > 1:
        raise OptionError(
            f"{spell('grid_of_probes', True)}: expected one recording, found {len(runs)}"
        )
    run = runs[0]
    if run.probe_number is not None:
        raise OptionError(
            f"{spell('grid_of_probes', True)} shows all fixed images; expected no {spell('probe')}"
        )
    if options.view not in _VIEWS:
        raise OptionError(
            f"{spell('view', options.view)}: expected one of {', '.join(_VIEWS)} with "
            f"{spell('grid_of_probes', True)}"
        )
    images = [run.probe(number) for number in range(max(1, run.probes))]
    names, found = _look(images, options)
    for each in found:
        each.require_frames()
    names = [name for name in names if all(name in each for each in found)]
    if not names:
        raise SelectionError(f"no layer of all fixed images in {run.path}")
    share_ranges(found, names, options)
    return found, drawn_as_given(replace(options, layers=names))


def _look(images: Sequence[Recording], options: FilmOptions) -> tuple[list[str], list[Recording]]:
    """Returns the layers, and what is shown of each image."""
    if options.view == "cam":
        names = cam_view.choose_names(images, options)
        return names, [cam_view.CamRecording(image, names, options) for image in images]
    if options.view == "components":
        names = choose_names(images, options)
        return names, [ComponentsRecording(each, names, options, images) for each in images]
    sources = list(images)
    if options.view == "attention":
        sources, options = attention_view.look_at(images, options)
    names = choose_placed(sources, choose_layers_of(sources[:1], options.layers), options)
    like = sources[0]
    return names, [OverlayRecording(each, names, options, like) for each in sources]
