"""What a picture shows of a recording: its maps, or what the network looked at.

Each view has a module of its own with one function, `look_at(runs, options)`, which returns for
each recording one whose frames are what is shown (`replay.recording.derived`), so that films,
figures and pages draw them as they draw maps, and the options with what suits them.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Protocol, TypeVar, cast

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
    "gradient": "replay.maps.gradient_view",
}


def look_at(runs: Sequence[Recording], options: OptionsT) -> tuple[list[Recording], OptionsT]:
    """Returns what is shown of recordings by the option `view`, and the options that suit it.

    Args:
        runs: The recordings, or what each has of a fixed image.
        options: What was asked for.

    Raises:
        OptionError: Another view, or an option that it cannot do with.
        SelectionError: A recording has nothing of the kind.
    """
    if options.view == "maps":
        return list(runs), options
    if options.view not in _HOMES:
        raise OptionError(unknown("view", options.view, VIEWS))
    view: View = import_module(_HOMES[options.view])
    return cast("tuple[list[Recording], OptionsT]", view.look_at(runs, options))
