"""Many layers in one frame: each is seen, and no frame is larger than the place it goes to takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from samples import drifting_maps, write_recording

import replay
from replay.__main__ import main
from replay.film.comparison_film import ComparisonFilm
from replay.film.film import Film
from replay.options import ComparisonOptions, FilmOptions
from replay.raster.arrangement import Space, Tiling, arrange, count_fitting
from replay.raster.stacking import arrange_together
from replay.rendering.presets import PRESETS
from replay.schema import OptionError

SHAPES = ((64, 48), (128, 24), (256, 12), (512, 6))  # channels and side of the stages of a ResNet


def layers(number: int) -> dict[str, object]:
    """Layers named as those of a ResNet are, with their shapes."""
    shapes = [SHAPES[place * len(SHAPES) // number] for place in range(number)]
    return {
        f"layer{place // 4}.{place % 4}.conv": drifting_maps(channels, side, side)
        for place, (channels, side) in enumerate(shapes)
    }


@pytest.fixture(scope="module")
def twenty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("twenty") / "run.h5"
    return write_recording(path, layers(20), epochs=1, batches=2)


@pytest.fixture(scope="module")
def sixty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sixty") / "run.h5"
    return write_recording(path, layers(60), epochs=1, batches=2)


@pytest.mark.parametrize(("number", "bounds"), [(20, (1920, 1080)), (60, (3840, 2160))])
def test_all_layers_of_a_network_are_seen_in_one_frame(
    twenty: Path, sixty: Path, number: int, bounds: tuple[int, int]
) -> None:
    with replay.open(twenty if number == 20 else sixty) as recording:
        film = Film(recording, FilmOptions(layers="all"))
    height, width = film.size
    assert (width <= bounds[0], height <= bounds[1]) == (True, True)
    assert len(film.panels) == number
    for panel, (top, left) in zip(film.panels, film.layout.mosaic_corners, strict=True):
        assert min(panel.mosaic.tile) >= 24  # maps of 6x6 are enlarged
        assert top + panel.mosaic.height <= height
        assert left + panel.mosaic.width <= width
    columns = {left for _, left in film.layout.mosaic_corners}
    assert len(columns) >= 3
    assert max(columns) > 0.6 * width  # rows fill the width
    (note,) = film.notes
    assert note == (
        f"the frame has no space for all maps of {number} of {number} layers; "
        "channels chooses which"
    )
    assert all("of 512 maps" in panel.details for panel in film.panels[-number // 4 :])


def used(film: Film, number: int) -> float:
    """The share of the height below the heading that the highest and the lowest column use."""
    bottoms: dict[int, int] = {}
    for panel, (top, left) in zip(film.panels, film.layout.mosaic_corners, strict=True):
        bottoms[left] = max(bottoms.get(left, 0), top + panel.mosaic.height)
    assert len(film.panels) == number
    top = min(top for top, _ in film.layout.mosaic_corners)
    return (min(bottoms.values()) - top) / (film.size[0] - top - 60)


def test_an_overview_uses_the_height_of_its_frame(twenty: Path, sixty: Path) -> None:
    for path, number in ((twenty, 20), (sixty, 60)):
        with replay.open(path) as recording:
            film = Film(recording, FilmOptions(layers="all"))
        assert used(film, number) > 0.85
        assert film.size[0] > 0.9 * (1080 if number == 20 else 1440)
        assert min(min(panel.mosaic.tile) for panel in film.panels) >= 40
    assert min(panel.mosaic.count for panel in film.panels) >= 5


@pytest.mark.parametrize(
    "names", [("conv1", "conv2", "conv3"), ("conv1", "conv2"), ("conv2", "conv3")]
)
def test_layers_under_one_another_fill_the_width(tmp_path: Path, names: tuple[str, ...]) -> None:
    shapes = {"conv1": (12, 128), "conv2": (24, 32), "conv3": (32, 16)}
    path = write_recording(
        tmp_path / "run.h5",
        {name: drifting_maps(count, side, side) for name, (count, side) in shapes.items()},
        epochs=1,
        batches=2,
    )
    with replay.open(path) as recording:
        film = Film(recording, FilmOptions(layers=list(names)))
    width = film.size[1] - 24  # but for the margin
    for panel, (_, left) in zip(film.panels, film.layout.mosaic_corners, strict=True):
        assert panel.mosaic.count == shapes[names[film.panels.index(panel)]][0]
        assert left + panel.mosaic.width > left + 0.9 * (width - left)


def test_mosaics_are_arranged_together_within_their_space() -> None:
    sizes = [(12, 128), (24, 32), (32, 16), (64, 8)]
    space = Space(1048, 200, stretch=1.0)
    items = [(count, (side, side), Tiling(digits=2, gains=True)) for count, side in sizes]
    made = arrange_together(items, space)
    widest = max(mosaic.width for mosaic in made)
    assert widest <= 1048
    assert sum(mosaic.height for mosaic in made) <= 4 * 200
    assert all(mosaic.width > 0.85 * widest for mosaic in made)
    assert [mosaic.count for mosaic in made] == [count for count, _ in sizes]
    asked = [(12, (128, 128), Tiling(columns=3)), items[1]]
    assert arrange_together(asked, space)[0].columns == 3


def test_few_layers_stand_under_one_another_with_all_their_maps(twenty: Path) -> None:
    with replay.open(twenty) as recording:
        film = Film(recording, FilmOptions(layers=["layer0.0.conv", "layer2.3.conv"]))
    assert film.notes == []
    assert len({left for _, left in film.layout.mosaic_corners}) == 1


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_never_exceeds_its_size(
    twenty: Path, sixty: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    width, height = PRESETS[name].bounds
    suffix = PRESETS[name].suffixes[0]
    for number, run in enumerate((twenty, sixty)):
        out = f"{tmp_path}/a{number}{suffix}"
        made = replay.animate(run, out, layers="all", preset=name)
        assert (made.width <= width, made.height <= height) == (True, True)
        assert made.notes
    left_out = [note for note in made.notes if "of 60 layers, which fill the frame" in note]
    assert len(left_out) == 1
    many = replay.animate(
        sixty, f"{tmp_path}/b{suffix}", layers=["layer7.0.conv"], zoom=9, preset=name
    )
    assert (many.width <= width, many.height <= height) == (True, True)
    out = f"{tmp_path}/c{suffix}"
    assert main(["animate", str(sixty), "-o", out, "--layer", "all", "--preset", name]) == 0
    told = capsys.readouterr().err
    assert "note: shows layer0.0.conv to layer" in told
    assert "--channels chooses which" in told


@pytest.mark.parametrize("options", [{"zoom": 40}, {"columns": 40, "zoom": 8}, {"layers": "all"}])
def test_a_video_stays_within_what_players_decode(
    sixty: Path, tmp_path: Path, options: dict[str, object]
) -> None:
    made = replay.animate(sixty, tmp_path / "a.mp4", epochs=0, **options)
    assert (made.width <= 4096, made.height <= 2304) == (True, True)
    data = made.path.read_bytes()
    at = data.index(b"avcC") + 4
    assert data[at] == 1
    assert data[at + 3] <= 52  # H.264 level 5.2


@pytest.mark.parametrize("difference", [False, True])
def test_nine_layers_of_two_runs_are_seen(tmp_path: Path, difference: bool) -> None:
    runs = [
        write_recording(tmp_path / f"{name}.h5", layers(9), epochs=1, batches=2) for name in "ab"
    ]
    with replay.open(runs[0]) as a, replay.open(runs[1]) as b:
        film = ComparisonFilm([a, b], ComparisonOptions(layers="all", difference=difference))
        assert len(list(film.frames())) == 2
    height, width = film.size
    assert height < 0.8 * width  # as screens are
    assert (width <= 2560, height <= 1440) == (True, True)
    for panel, corners in zip(film.panels, film.layout.mosaic_corners, strict=True):
        assert min(panel.mosaic.tile) >= 48
        assert panel.mosaic.count >= 4
        assert corners[-1][1] + panel.mosaic.width <= width
    columns = {corners[0][1] for corners in film.layout.mosaic_corners}
    assert difference or len(columns) >= 2
    texts = film.layout.texts
    assert {panel.name for panel in film.panels} <= texts  # whole


@pytest.mark.parametrize("difference", [False, True])
def test_a_comparison_never_exceeds_a_preset_or_a_video(
    twenty: Path, tmp_path: Path, difference: bool
) -> None:
    other = write_recording(tmp_path / "other.h5", layers(20), epochs=1, batches=2)
    for name in ("github", "slack", "slides"):
        width, height = PRESETS[name].bounds
        out = tmp_path / f"a{PRESETS[name].suffixes[0]}"
        for shown in ("all", "layer0.0.conv"):
            made = replay.compare(
                twenty, other, out, layers=shown, preset=name, difference=difference
            )
            assert (made.width <= width, made.height <= height) == (True, True)
        assert made.bytes <= PRESETS[name].max_mb * 1e6
    made = replay.compare(
        twenty, other, tmp_path / "a.mp4", layers="all", difference=difference, zoom=4
    )
    assert (made.width <= 4096, made.height <= 2304) == (True, True)
    with pytest.raises(OptionError, match="preset slack makes .mp4"):
        replay.compare(twenty, other, tmp_path / "a.gif", preset="slack")


@pytest.mark.parametrize("shape", [(6, 6), (96, 96), (1, 1), (4, 2000), (300, 3)])
@pytest.mark.parametrize("unit", [1, 3])
def test_as_many_maps_as_fit(shape: tuple[int, int], unit: int) -> None:
    space = Space(400, 60, stretch=1.0)
    most = count_fitting(510, *shape, space, digits=3, unit=unit, least=28, gains=True)
    assert most % unit == 0
    assert unit <= most < 510
    mosaic = arrange(most, *shape, space, digits=3, unit=unit, gains=True)
    if most > unit:
        assert (mosaic.width <= space.width, mosaic.height <= space.height) == (True, True)
    assert count_fitting(2, 8, 8, space) == 2
