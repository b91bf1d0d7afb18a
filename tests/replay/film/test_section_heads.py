from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layer_names import resnet_names
from samples import drifting_maps, write_recording

from replay.diagnosis import health
from replay.figures import draw_health
from replay.film import ComparisonFilm, Film
from replay.film.section_heads import histogram_titles
from replay.options import ComparisonOptions, FilmOptions
from replay.raster.arrangement import MARGIN, SECTION_HEAD, SIDE
from replay.recording import open_recording

NAMES = resnet_names()[1:17]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    layers = {name: drifting_maps(2, 6, 6, place) for place, name in enumerate(NAMES)}
    path = tmp_path_factory.mktemp("named") / "run.h5"
    return write_recording(path, layers, epochs=2, batches=2)


@pytest.mark.parametrize("bounds", [None, (1920, 1080)])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_two_of_sixteen_layers_have_one_heading(
    run: Path, bounds: tuple[int, int] | None, theme: str
) -> None:
    made = Film(open_recording(run), FilmOptions(layers=NAMES, bounds=bounds, theme=theme))
    heads = {
        made.layout.plane[top - SECTION_HEAD + 14 : top, left : left + 360].tobytes()
        for top, left in made.layout.mosaic_corners
    }
    assert len(heads) == len(NAMES)


def test_no_two_histograms_have_one_title(run: Path) -> None:
    made = Film(open_recording(run), FilmOptions(layers=NAMES[:6], show="histogram"))
    titles = histogram_titles(made.panels, SIDE)
    assert len(set(titles)) == 6
    assert histogram_titles(made.panels[:1], 1000) == [f"values of {NAMES[0]}"]


def test_runs_with_long_names_are_told_apart(run: Path, tmp_path: Path) -> None:
    common = "a_run_whose_name_is_so_long_that_it_has_no_place_over_its_column_of_a_comparison"
    paths = [tmp_path / f"{common}_seed_{seed}_of_a_series_of_trainings.h5" for seed in (1, 2)]
    for path in paths:
        path.write_bytes(run.read_bytes())
    options: Any = ComparisonOptions(layers=NAMES[:3], difference=True)
    made = ComparisonFilm([open_recording(path) for path in paths], options)
    corners = made.layout.mosaic_corners[0]
    top = made.layout.input_corners[0][0] if made.layout.input_corners else MARGIN
    first, second, _ = (made.layout.plane[top : top + 18, left:][:, :400] for _, left in corners)
    assert not np.array_equal(first, second)


def test_the_chart_of_the_health_names_every_layer(run: Path, tmp_path: Path) -> None:
    with open_recording(run) as recording:
        found = health(recording)
    text = draw_health(found, tmp_path / "health.svg").path.read_text()
    for name in NAMES:
        stage, layer, place = name.split(".")[3], name.split(".")[5], name.split(".")[-2]
        assert f"stages.{stage}.layers.{layer}" in text or f"{stage}…{layer}" in text, place
