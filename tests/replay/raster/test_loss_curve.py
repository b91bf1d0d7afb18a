"""The loss over a run in which something is missing."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import drifting_maps, write_recording

from record.schedule.schedule import Schedule
from replay.film import ComparisonFilm, Film
from replay.options import ComparisonOptions, FilmOptions
from replay.raster.arrangement import MARGIN, SIDE
from replay.raster.loss_curve import LossCurve, ends_in_words
from replay.raster.palette import Palette
from replay.raster.text import height_of
from replay.raster.time_axis import TimeAxis
from replay.raster.widgets import SMALL, Pen
from replay.recording import open_recording

Cells = list[tuple[int, int]]
WHOLE: Cells = [(epoch, batch) for epoch in range(6) for batch in range(20)]


def gaps(cells: Cells) -> list[tuple[int, int]]:
    axis = TimeAxis(cells)
    assert axis.places[0] == 0.0
    assert len(cells) == 1 or axis.places[-1] == pytest.approx(1.0)
    assert (np.diff(axis.places) > 0).all()
    return [cell for cell, gap in zip(cells, axis.gaps, strict=True) if gap]


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        (lambda e, b: True, []),
        (lambda e, b: e != 2, [(3, 0)]),
        (lambda e, b: e not in (1, 2), [(3, 0)]),
        (lambda e, b: e != 2 or not 5 <= b < 12, [(2, 12)]),
        (lambda e, b: (e, b) not in ((2, 7), (2, 8)), [(2, 9)]),
        (lambda e, b: e != 2 or b < 9, [(3, 0)]),  # broken off
        (lambda e, b: e != 2 or b >= 9, [(2, 9)]),
        (lambda e, b: b % 5 == 0 and (e, b) != (3, 10), [(3, 15)]),
        (lambda e, b: b == 3, []),
        (lambda e, b: b < 20 - e % 2, []),  # of which some epochs have a batch less
        (lambda e, b: (e, b) == (4, 4), []),
    ],
)
def test_what_is_missing_is_found(
    recorded: Callable[[int, int], bool], expected: list[tuple[int, int]]
) -> None:
    assert gaps([cell for cell in WHOLE if recorded(*cell)]) == expected


@pytest.mark.parametrize(
    "schedule",
    ["every=7", "epochs=0:30:3", "epochs=0:30:3,every=10", "first=8", "dense-early", "every=1"],
)
def test_a_schedule_misses_nothing(schedule: str) -> None:
    kept = Schedule.parse(schedule)
    cells = [(e, b) for e in range(30) for b in range(50) if kept.keeps(e, b, 50 * e + b)]
    assert gaps(cells) == []


def test_a_gap_is_as_wide_as_what_is_missing_but_never_most_of_the_axis() -> None:
    without = TimeAxis([cell for cell in WHOLE if cell[0] != 3])
    at = int(np.flatnonzero(without.gaps)[0])
    assert np.diff(without.places)[at - 1] == pytest.approx(20 / 119, abs=0.01)
    far = TimeAxis([*WHOLE, *((epoch + 500, batch) for epoch, batch in WHOLE)])
    assert np.diff(far.places).max() == pytest.approx(1 / 3, abs=0.01)


@settings(max_examples=200, deadline=None)
@given(st.sets(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=60))
def test_frames_stand_in_their_order_whatever_there_is(cells: set[tuple[int, int]]) -> None:
    axis = TimeAxis(sorted(cells))
    assert (np.diff(axis.places) > 0).all()
    assert axis.places[0] == 0.0
    assert axis.places[-1] <= 1.0 + 1e-9
    assert not axis.gaps[0]


def plot(film: Film | ComparisonFilm) -> np.ndarray:
    """The columns of the loss curve in which something is drawn, of the last frame."""
    for _ in film.frames(film.cells[-1:]):
        plane = film.layout.plane.copy()
    curve: LossCurve = film.layout._curve  # type: ignore[union-attr, assignment]
    box = plane[curve._top : curve._top + LossCurve.PLOT, MARGIN : MARGIN + SIDE]
    return np.asarray((box != film.palette.paper).any(axis=0))


@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize("missing", ["epoch", "loss", "none"])
def test_the_curve_has_a_gap_where_an_epoch_or_the_loss_is_missing(
    tmp_path: Path, missing: str, two: bool
) -> None:
    path = write_recording(
        tmp_path / "run.h5",
        {"conv1": drifting_maps(2, 6, 6)},
        epochs=6,
        batches=12,
        recorded=lambda e, b: missing != "epoch" or e != 3,
        fields={"loss": lambda e, b: math.nan if missing == "loss" and e == 3 else 2 - e / 4},
    )
    with open_recording(path) as run:
        film: Film | ComparisonFilm = (
            ComparisonFilm([run, run], ComparisonOptions()) if two else Film(run, FilmOptions())
        )
        drawn = plot(film)
    inside = drawn[6:-6]
    runs = np.flatnonzero(np.diff(np.append(inside, True).astype(int)))
    assert bool(inside.all()) == (missing == "none")
    if missing != "none":
        first, last = np.flatnonzero(~inside)[[0, -1]] + 6
        assert (last - first) / SIDE == pytest.approx(1 / 6, abs=0.04)
        assert first / SIDE == pytest.approx(0.5, abs=0.04)
        assert len(runs) == 2 or two


def test_the_ends_are_those_of_a_real_loss() -> None:
    assert ends_in_words(np.array([0.35, 0.931])) == "0.350 – 0.931"
    assert ends_in_words(np.array([0.5, math.nan, 0.5])) == "0.500"
    assert ends_in_words(np.array([math.nan, math.inf])) == "not finite"
    assert height_of(SMALL) > 0


@pytest.mark.parametrize("odd", [math.inf, -math.inf])
def test_an_infinite_loss_is_a_gap_as_nan_is(odd: float) -> None:
    """It lay at the edge of the plot, as the greatest or the least loss of the run does."""

    def drawn(value: float) -> np.ndarray:
        palette = Palette()
        pen = Pen(np.full((LossCurve.HEIGHT, SIDE), palette.paper, np.uint8), palette)
        cells = [(0, batch) for batch in range(9)]
        curve = LossCurve(pen, 0, 0, SIDE, cells, np.array([1.0, 2, 3, 4, value, 6, 7, 8, 9]))
        curve.update(0, 4)
        return pen.plane

    np.testing.assert_array_equal(drawn(odd), drawn(math.nan))
