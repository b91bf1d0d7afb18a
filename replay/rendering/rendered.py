"""What became of a film that was written to a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from replay.film.film import BaseFilm
from replay.rendering.accessibility import Flashes
from replay.schema import Cell

FilmT = TypeVar("FilmT", bound=BaseFilm)


@dataclass(frozen=True)
class Rendered(Generic[FilmT]):
    """What was written.

    Attributes:
        film: What drew it.
        cells: The (epoch, batch) of the frames in it.
        fps: Frames a second.
        frames: Number of frames written.
        flashes: What was found of flashes.
        given_up: What was given up for its size, in words; empty if nothing.
    """

    film: FilmT
    cells: list[Cell]
    fps: float
    frames: int
    flashes: Flashes
    given_up: str = ""
