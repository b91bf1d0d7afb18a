"""A frame is the same whichever others were drawn before it: parts of a film are drawn apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from samples import drifting_maps, write_recording

import replay
from replay.film.comparison_film import ComparisonFilm
from replay.film.film import Film
from replay.options import ComparisonOptions, FilmOptions


def write(path: Path, seed: int) -> Path:
    """A layer that is always there, one that comes late, and one that now and then has a frame."""
    usual, late, odd = (drifting_maps(3, 8, 8, seed=seed + place) for place in range(3))
    return write_recording(
        path,
        {
            "usual": usual,
            "late": lambda e, b: late(e, b) if e > 0 else None,
            "odd": lambda e, b: odd(e, b) if b % 2 else None,
        },
        epochs=3,
    )


@pytest.mark.parametrize("scale", ["adaptive", "map", "run", "frame", "channel"])
@pytest.mark.parametrize("several", [False, True])
def test_a_frame_does_not_depend_on_those_before(scale: str, several: bool, tmp_path: Path) -> None:
    with (
        replay.open(write(tmp_path / "a.h5", 0)) as one,
        replay.open(write(tmp_path / "b.h5", 5)) as other,
    ):

        def film() -> Film | ComparisonFilm:
            if several:
                options = ComparisonOptions("all", scale=scale, difference=True)
                return ComparisonFilm([one, other], options)
            return Film(one, FilmOptions("all", scale=scale, show="difference,histogram"))

        whole = film()
        frames = [frame.plane.copy() for frame in whole.frames()]
        backwards = film()
        for cell, plane in reversed(list(zip(whole.cells, frames, strict=True))):
            for again in (film(), backwards):
                assert np.array_equal(next(again.frames([cell])).plane, plane), cell


def test_a_layer_without_a_frame_has_no_strength(tmp_path: Path) -> None:
    """Neither before its first frame nor between two: a number there would be that of another."""
    path = write(tmp_path / "a.h5", 0)
    with replay.open(path) as run:
        film = Film(run, FilmOptions("odd"))
        captions = film.layout._grid.captions[0]
        told = []
        for cell, frame in zip(film.cells, film.frames(), strict=True):
            accent = film.palette.solid("accent")
            lit = [bool((frame.plane[t:b, x:r] == accent).any()) for t, x, b, r in captions._bars]
            assert len(set(lit)) == 1
            told.append((cell, lit[0]))
    assert [there for _, there in told] == [batch % 2 > 0 for (_, batch), _ in told]
