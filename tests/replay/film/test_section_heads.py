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
from replay.raster.text import width_of
from replay.raster.widgets import SMALL, fit_reason, fit_unfinite
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


@pytest.mark.parametrize("width", [64, 120, 190, 256])
@pytest.mark.parametrize(
    ("nan", "inf"), [(36, 256), (120, 160), (0, 6_400), (6_400, 0), (123_456, 123_456), (1, 1)]
)
def test_no_number_of_values_that_are_not_finite_is_cut(nan: int, inf: int, width: int) -> None:
    texts = fit_unfinite(nan, inf, width)
    assert sum(width_of(text, SMALL) for text, _ in texts) <= width
    words = "".join(text for text, _ in texts).replace("■", " ").split()
    assert [word for word in words if word.isalpha()] == ["NaN"] * bool(nan) + ["inf"] * bool(inf)
    numbers = [f"{count:,}" for count in (nan, inf) if count]
    assert [word for word in words if not word.isalpha()] in ([], numbers)


@pytest.mark.parametrize("width", [64, 120, 190])
@pytest.mark.parametrize(
    "reason",
    [
        "damaged",
        "damaged: no difference",
        "no frame before it",
        "no frame in this batch",
        "no frame to subtract",
    ],
)
def test_no_reason_why_there_is_no_frame_is_cut(reason: str, width: int) -> None:
    text = fit_reason(reason, width)
    assert width_of(text, SMALL) <= width
    assert reason.startswith(text)
    assert text in (reason, "damaged", "no frame")


@pytest.mark.parametrize("layers", [3, 16])
def test_a_film_says_of_each_layer_what_its_frame_lacks(tmp_path: Path, layers: int) -> None:
    def hurt(epoch: int, batch: int) -> np.ndarray | None:
        maps = drifting_maps(4, 8, 8)(epoch, batch)
        if batch == 1:
            maps[0, :2], maps[1, :3] = np.nan, np.inf
        return None if batch == 2 else maps

    named: Any = {f"conv{place}": hurt for place in range(layers - 1)}
    named["whole"] = drifting_maps(4, 8, 8)
    path = write_recording(tmp_path / "run.h5", named, epochs=1, batches=3)
    made = Film(open_recording(path), FilmOptions(layers=[*named], theme="dark"))
    written = [dict(made.layout.pen._held) for _ in made.frames()]
    for slots, words in zip(written, ([], ["NaN", "inf"], ["no frame"]), strict=True):
        said = [
            (slot, "".join(text for text, _ in parts))
            for slot, (_, parts) in slots.items()
            if any(word in "".join(text for text, _ in parts) for word in ("NaN", "no frame"))
        ]
        assert len(said) == (layers - 1) * bool(words)
        for slot, text in said:
            assert all(word in text for word in words)
            assert width_of(text, slot.size) <= slot.width
