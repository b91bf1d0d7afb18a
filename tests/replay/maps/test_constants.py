"""Layers of one value, or of none: nothing invents a scale for them."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from samples import drifting_maps, write_recording

import replay
from replay.film import Film
from replay.options import FilmOptions
from replay.raster.palette import Palette, Range
from replay.raster.widgets import ColorBar, Pen
from replay.recording import open_recording


def even(value: float) -> np.ndarray:
    return np.full((2, 4, 4), value, np.float16)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(
        tmp_path_factory.mktemp("constant") / "run.h5",
        {
            "half": lambda e, b: even(0.5),
            "dead": lambda e, b: even(0.0),
            "never": lambda e, b: even(math.nan),
            "turns": lambda e, b: even(2.0) if e else drifting_maps(2, 4, 4)(e, b),
        },
    )


@pytest.mark.parametrize("scale", ["run", "epoch", "frame"])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(
    ("layer", "word"),
    [("half", "constant 0.5"), ("dead", "constant 0"), ("never", "no finite value")],
)
def test_one_value_is_named_and_none_is_not(
    path: Path, layer: str, word: str, scale: str, symmetric: bool
) -> None:
    with open_recording(path) as run:
        film = Film(run, FilmOptions(layers=[layer], scale=scale, symmetric=symmetric))
        shown = film.map_sections[0].range_of(film.cells[0])
    assert shown is not None
    if symmetric and layer == "half":  # a range around 0 is what was asked for
        assert shown == Range(-0.5, 0.5)
    else:
        assert shown.in_words() == word


def test_a_layer_that_becomes_constant_is_named_from_then_on(path: Path) -> None:
    with open_recording(path) as run:
        film = Film(run, FilmOptions(layers=["turns"], scale="epoch"))
        words = [film.map_sections[0].range_of(cell) for cell in film.cells]
    assert [bool(each and each.word) for each in words] == [False] * 4 + [True] * 4


def test_figures_name_it(path: Path, tmp_path: Path) -> None:
    for scale in ("run", "frame", "channel"):
        for number, draw in enumerate((replay.grid, replay.sheet)):
            out = tmp_path / f"{scale}{number}.svg"
            draw(path, out, layer="half", scale=scale)
            words = " | ".join(re.findall(r">([^<]*)</text>", out.read_text()))
            assert "1.5" not in words
            assert ("constant 0.5" in words) or scale == "channel"


@pytest.mark.parametrize("beside", [False, True])
def test_a_colour_bar_forgets_nothing_and_keeps_nothing(beside: bool) -> None:
    planes = []
    ranges = [Range(-1.0, 2.0), Range.of_one(0.5), Range.of_none(), Range(-1.0, 2.0)]
    for shown in (ranges, ranges[:1], ranges[:2], ranges[1:2]):
        pen = Pen(np.zeros((40, 330), np.uint8), Palette())
        pen.plane[:] = pen.palette.paper
        bar = ColorBar(pen, 2, 4, 300, beside=beside)
        for each in shown:
            bar.update(each)
        planes.append(pen.plane.copy())
    np.testing.assert_array_equal(planes[0], planes[1])
    np.testing.assert_array_equal(planes[2], planes[3])
    assert not np.array_equal(planes[0], planes[2])


def test_axes_of_ones_own_have_no_range_that_is_not_there(path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    image = replay.draw(path, figure.add_subplot(), layer="half", scale="run")
    assert (image.norm.vmin, image.norm.vmax) == (0.5, 0.5)
    figure.colorbar(image)
    figure.canvas.draw()
