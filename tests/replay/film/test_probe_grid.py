"""All fixed images in one film: rows of images, columns of layers, heads or channels."""

from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from looking import LABELS, write_looking
from PIL import Image
from samples import drifting_maps, write_recording

import replay
from replay.film.probe_grid import ProbeGridFilm, open_grid
from replay.options import FilmOptions
from replay.schema import OptionError, SelectionError


@pytest.fixture(scope="module")
def looking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_looking(tmp_path_factory.mktemp("grid") / "run.h5", probes=3)


def grid_of(path: Path, **options: object) -> ProbeGridFilm:
    make, chosen = open_grid([replay.open(path)], FilmOptions(grid_of_probes=True, **options))
    return make(chosen)


def frames_of(folder: Path) -> list[np.ndarray]:
    """The frames of a folder of PNG, uint8 (H, W, 3)."""
    return [np.array(Image.open(each).convert("RGB")) for each in sorted(folder.glob("*.png"))]


def tile_of(frame: np.ndarray, film: ProbeGridFilm, place: int) -> np.ndarray:
    mosaic, (top, left) = film.panels[0].mosaic, film.layout.mosaic_corners[0]
    (y, x), (height, width) = mosaic.corner(place), mosaic.tile
    tile = frame[top + y : top + y + height, left + x : left + x + width]
    return tile[:: mosaic.zoom, :: mosaic.zoom]


def test_each_row_is_what_the_image_alone_shows(looking: Path, tmp_path: Path) -> None:
    replay.animate(looking, f"{tmp_path}/grid/", view="cam", grid_of_probes=True)
    film = grid_of(looking, view="cam")
    assert film.panels[0].mosaic.count == 6  # an image and a map of each
    frames = frames_of(tmp_path / "grid")
    for number in range(3):
        replay.animate(
            looking, f"{tmp_path}/{number}/", view="cam", probe=number, captions=False, input=False
        )
        alone = frames_of(tmp_path / str(number))
        height = alone[0].shape[0] - 24  # what lies around a tile alone is 12 pixels
        zoom = height // 32
        for mine, theirs in zip(frames, alone, strict=True):
            tile = theirs[12 : 12 + height : zoom, 12 : 12 + 32 * zoom : zoom]
            assert np.array_equal(tile_of(mine, film, 2 * number + 1), tile)
    with h5py.File(looking) as file:
        image = file["probe/2/input"][:].astype(float)
    colours = np.rint(np.clip(image * 0.25 + 0.5, 0, 1) * 255).transpose(1, 2, 0)
    assert np.abs(tile_of(frames[0], film, 4) - colours).max() <= 1


def test_rows_say_class_answer_and_whether_it_is_right(looking: Path) -> None:
    film = grid_of(looking, view="cam")
    pen = film.layout.pen
    names = ["cat", "dog", "owl"]
    for _ in film.frames(film.cells[:1]):
        texts = {text for _, parts in pen._held.values() for text, _ in parts}
    assert {names[label] for label in LABELS} <= pen.texts
    # In the first epoch the answer is the class after the label, as looking.py has it.
    assert {f"→ {names[(label + 1) % 3]}" for label in LABELS} <= texts
    assert any(text.startswith("wrong 0.40") for text in texts)
    for _ in film.frames(film.cells[-1:]):
        texts = {text for _, parts in pen._held.values() for text, _ in parts}
    assert "right 0.60" in texts
    assert not any(text.startswith("wrong") for text in texts)


def test_a_range_of_the_run_is_that_of_all_images(looking: Path) -> None:
    film = grid_of(looking, view="overlay", layers="conv1", channels=1, scale="run")
    runs = {series.shown((0, 0)) for tiles in film._tiles for series in tiles._series}
    assert len(runs) == 1
    (shown,) = runs
    most = max(np.abs(drifting_maps(4, 16, 16)(e, b)[1]).max() for e, b in film.cells)
    assert shown == pytest.approx((-float(most), float(most)))


@pytest.mark.parametrize(
    ("options", "columns"),
    [
        ({"view": "cam"}, ["input", "conv2"]),
        ({"view": "components", "layers": "conv*"}, ["input", "conv1", "conv2"]),
        ({"view": "attention"}, ["input", *[f"head {head}" for head in range(4)]]),
        (
            {"view": "maps", "layers": "conv2", "channels": "5,1"},
            ["input", "channel 5", "channel 1"],
        ),
        (
            {"view": "overlay", "layers": "conv1", "input": False},
            [f"channel {n}" for n in range(4)],
        ),
    ],
)
def test_columns_are_layers_heads_or_channels(
    looking: Path, tmp_path: Path, options: dict, columns: list[str]
) -> None:
    made = replay.animate(looking, f"{tmp_path}/out.mp4", grid_of_probes=True, **options)
    film = grid_of(looking, **options)
    assert made.frames == 6
    assert (made.height, made.width) == film.size
    assert film._tiles[0].labels == columns
    assert film.panels[0].mosaic.count == 3 * len(columns)


def test_parts_rendered_side_by_side_are_the_same(looking: Path, tmp_path: Path) -> None:
    for jobs in (1, 2):
        options = {"view": "components", "layers": "all", "grid_of_probes": True, "jobs": jobs}
        replay.animate(looking, f"{tmp_path}/{jobs}/", **options)
    pairs = zip(frames_of(tmp_path / "1"), frames_of(tmp_path / "2"), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)
    assert pickle.loads(pickle.dumps(grid_of(looking, view="cam"))).size


def test_what_does_not_fit_a_frame_is_left_out_and_said(tmp_path: Path) -> None:
    pictures = [np.random.default_rng(n).standard_normal((3, 64, 64)) for n in range(40)]
    layers = {f"conv{n}": drifting_maps(3, 4, 4, n) for n in range(6)}
    path = write_recording(
        tmp_path / "run.h5",
        layers,
        epochs=1,
        batches=2,
        image=(3, 64, 64),
        probes=[(picture, layers) for picture in pictures],
    )
    made = replay.animate(
        path,
        f"{tmp_path}/out/",
        preset="paper",
        view="components",
        layers="all",
        grid_of_probes=True,
    )
    assert made.width <= 1000
    assert made.height <= 1000
    (note,) = [note for note in made.notes if "fixed images" in note]
    assert "of 40 fixed images" in note
    whole = grid_of(path, view="components", layers="conv0")
    assert whole.shown == 40
    assert not whole.notes


def test_a_batch_without_a_map_and_a_damaged_one_are_empty_tiles(tmp_path: Path) -> None:
    path = write_looking(tmp_path / "run.h5")
    with h5py.File(path, "r+") as file:
        file["probe/1/cam/checksums/conv2"][0, 1] = 0
        file["probe/0/maps/conv2"][1, 0, 0, 0, 0] += 1
    made = replay.animate(path, f"{tmp_path}/out/", view="cam", grid_of_probes=True)
    film, frames = grid_of(path, view="cam"), frames_of(tmp_path / "out")

    def is_empty(frame: int, place: int) -> bool:
        return bool((tile_of(frames[frame], film, place)[2:-2, 2:-2] == 255).all())

    assert [is_empty(frame, 3) for frame in range(6)] == [False, True, False, False, False, False]
    assert is_empty(2, 1)
    assert not is_empty(3, 1)
    assert any("damaged" in remark for remark in made.remarks)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_other_formats_hold_it_below_their_size(looking: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out{suffix}"
    made = replay.animate(looking, out, view="cam", grid_of_probes=True, max_mb=0.5)
    assert out.stat().st_size <= 500_000
    with Image.open(out) as image:
        assert image.n_frames == made.frames


def test_without_captions_there_are_only_tiles(looking: Path, tmp_path: Path) -> None:
    replay.animate(looking, f"{tmp_path}/out/", view="cam", grid_of_probes=True, captions=False)
    frame = frames_of(tmp_path / "out")[0]
    film = grid_of(looking, view="cam", captions=False)
    tile = film.panels[0].mosaic.tile[1]
    assert frame.shape[1] in range(4 * tile, 4 * tile + 80)  # two layers of two tiles


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"probe": 0}, OptionError, "shows all fixed images"),
        ({"view": "gradient"}, OptionError, "expected one of maps, cam"),
        ({"view": "cam", "layers": "conv1"}, SelectionError, "conv1"),
    ],
)
def test_what_cannot_be_shown_is_one_line(
    looking: Path, tmp_path: Path, options: dict, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as raised:
        replay.animate(looking, tmp_path / "out.mp4", grid_of_probes=True, **options)
    assert "\n" not in str(raised.value)


def test_a_recording_without_fixed_images_says_so(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "run.h5", {"conv1": drifting_maps(3, 8, 8)})
    with pytest.raises(SelectionError, match="no fixed image"):
        replay.animate(path, tmp_path / "out.mp4", grid_of_probes=True)
    assert not (tmp_path / "out.mp4").exists()
