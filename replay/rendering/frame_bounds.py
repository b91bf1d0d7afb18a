"""A film in a frame that is no larger than the place where it goes can show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from replay.film.film import BaseFilm
from replay.options import FilmOptions
from replay.schema import OptionError

FilmT = TypeVar("FilmT", bound=BaseFilm)
Options = TypeVar("Options", bound=FilmOptions)

VIDEO_BOUNDS = (4096, 2304)
"""Greatest width and height of a video at H.264 level 5.1 or 5.2, which common players decode."""

_TRIALS = 4  # a heading that needs more lines leaves less space for the maps


def make_within(
    make: Callable[[Options], FilmT], options: Options, largest: tuple[int, int] | None = None
) -> tuple[FilmT, Options]:
    """Returns a film whose frames are within its bounds, and the options that it was made of.

    Args:
        make: Makes a film of options.
        options: What is asked for, perhaps with bounds.
        largest: Greatest width and height where there are no bounds; None for any.

    Raises:
        OptionError: What has to be shown does not fit.
    """
    film = make(options)
    bounds = options.bounds or largest
    if bounds is None or not any(_excess(film, bounds)):
        return film, options
    height, width = film.size
    inner = (min(bounds[0], width), min(bounds[1], height))
    for _ in range(_TRIALS):
        smaller = replace(options, bounds=inner)
        film = make(smaller)
        over = _excess(film, bounds)
        if not any(over):
            return film, smaller
        inner = (max(64, inner[0] - over[0]), max(64, inner[1] - over[1]))
    height, width = film.size
    raise OptionError(
        f"frames of {width}×{height} pixels, expected at most {bounds[0]}×{bounds[1]}: choose "
        "fewer layers, channels or recordings, or no input picture"
    )


def _excess(film: BaseFilm, bounds: tuple[int, int]) -> tuple[int, int]:
    """Returns the pixels by which a film's frames are too wide and too high."""
    height, width = film.size
    return max(0, width - bounds[0]), max(0, height - bounds[1])
