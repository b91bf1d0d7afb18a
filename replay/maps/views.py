"""What a picture shows of a recording: its maps, or what the network looked at.

Each view has a module of its own with one function, `look_at(runs, options)`, which returns for
each recording one whose frames are what is shown (`replay.recording.derived`), so that films,
figures and pages draw them as they draw maps, and the options with what suits them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import Protocol, TypeVar, cast

from replay import schema
from replay.options import VIEWS, FilmOptions
from replay.recording import Recording
from replay.schema import OptionError
from replay.schema.suggestions import unknown

OptionsT = TypeVar("OptionsT", bound=FilmOptions)


class View(Protocol):
    """What the module of a view has."""

    def look_at(
        self, runs: Sequence[Recording], options: FilmOptions
    ) -> tuple[list[Recording], FilmOptions]:
        """Returns what is shown of the recordings, and the options that suit it."""


_HOMES = {
    "attention": "replay.maps.attention_view",
    "cam": "replay.maps.cam_view",
    "components": "replay.maps.components_view",
    "gradient": "replay.maps.gradient_view",
    "overlay": "replay.maps.overlay_view",
}

_VALUES = {"cam": "replay.maps.cam_values"}  # of views that are pictures in colours

_OF_MAPS = ("components", "overlay")  # a page makes these of the maps, or heads, that it has

_KINDS = {
    "attention": schema.ATTENTION,
    "gradient": schema.GRADIENTS,
    "cam": schema.CAM,
}


def views_of(runs: Sequence[Recording]) -> list[str]:
    """Returns the views that all of some recordings have something of, the maps first."""
    found = ["maps"] if all(run.layers for run in runs) else []
    return found + [
        view for view, kind in _KINDS.items() if all(run.beside(kind).layers for run in runs)
    ]


def look_at(
    runs: Sequence[Recording], options: OptionsT, values: bool = False
) -> tuple[list[Recording], OptionsT]:
    """Returns what is shown of recordings by the option `view`, and the options that suit it.

    Args:
        runs: The recordings, or what each has of a fixed image.
        options: What was asked for.
        values: Whether values are needed instead of pictures in colours, as in a page, which has
            colormaps of its own.

    Raises:
        OptionError: Another view, or an option that it cannot do with.
        SelectionError: A recording has nothing of the kind.
    """
    if options.view == "maps":
        return list(runs), options
    if options.view not in _HOMES:
        raise OptionError(unknown("view", options.view, VIEWS))
    if values and options.view in _OF_MAPS:
        return _made_of(runs, options)
    home = _VALUES.get(options.view) if values else None
    view: View = import_module(home or _HOMES[options.view])
    return cast("tuple[list[Recording], OptionsT]", view.look_at(runs, options))


def _made_of(runs: Sequence[Recording], options: OptionsT) -> tuple[list[Recording], OptionsT]:
    """Returns what components or single channels are made of, as a page makes them.

    Raises:
        SelectionError: None of the layers has places in an image.
    """
    if options.view == "components":
        components_view = import_module("replay.maps.components_view")
        asked = "all" if options.layers is None else options.layers
        names = components_view.choose_names(runs, replace(options, layers=asked))
        return list(runs), replace(options, layers=names, view="maps")
    overlay_view = import_module("replay.maps.overlay_view")
    names, heads = overlay_view.choose_names(runs, options)
    view = "attention" if heads else "maps"
    return look_at(runs, replace(options, layers=names, view=view), True)
