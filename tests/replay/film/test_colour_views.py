"""Class activation, components and channels over the input, in films that are decoded again."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import h5py
import imageio_ffmpeg
import matplotlib
import numpy as np
import pytest
from looking import LAYERS, write_looking
from PIL import Image
from samples import drifting_maps

import replay
from replay.film.comparison_film import ComparisonFilm
from replay.film.comparison_layout import ComparisonLayout
from replay.film.film import Film
from replay.maps.answers import Answers
from replay.maps.views import look_at
from replay.options import ComparisonOptions, FilmOptions
from replay.schema import OptionError, SelectionError


@pytest.fixture(scope="module")
def looking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_looking(tmp_path_factory.mktemp("views") / "run.h5")


def film_of(path: Path, probe: int | None = None, **options: object) -> Film:
    """The film of a view, to know where its tiles are."""
    run = replay.open(path)
    runs, chosen = look_at([run if probe is None else run.probe(probe)], FilmOptions(**options))
    return Film(runs, chosen)


def frames_of(folder: Path) -> list[np.ndarray]:
    """The frames of a folder of PNG, uint8 (H, W, 3)."""
    return [np.array(Image.open(each).convert("RGB")) for each in sorted(folder.glob("*.png"))]


def tile_of(frame: np.ndarray, film: Film, place: int = 0) -> np.ndarray:
    """One tile of a frame at a pixel for each of the picture's, uint8 (h, w, 3)."""
    mosaic, (top, left) = film.panels[0].mosaic, film.layout.mosaic_corners[0]
    y, x = mosaic.corner(place)
    height, width = mosaic.tile
    tile = frame[top + y : top + y + height, left + x : left + x + width]
    assert (tile[:: mosaic.zoom] == tile[mosaic.zoom - 1 :: mosaic.zoom]).all()
    return tile[:: mosaic.zoom, :: mosaic.zoom]


def picture_of(path: Path, probe: int) -> np.ndarray:
    """The fixed image in brightness, float (H, W); its mean and std are those of the file."""
    with h5py.File(path) as file:
        image = file[f"probe/{probe}/input"][:].astype(float)
        mean, std = (file["inputs"].attrs[name].astype(float) for name in ("mean", "std"))
    rgb = np.clip(image * std[:, None, None] + mean[:, None, None], 0, 1) * 255
    return np.tensordot([0.2126, 0.7152, 0.0722], rgb, 1)


def over(values: np.ndarray, gray: np.ndarray, high: float) -> np.ndarray:
    """A map from zero over a picture once more, independent of replay: float (H, W, 3)."""
    for axis in (0, 1):
        have, number = values.shape[axis], gray.shape[axis]
        places = (np.arange(number) + 0.5) * have / number - 0.5
        lines = np.moveaxis(values, axis, 0)
        flat = [np.interp(places, np.arange(have), line) for line in lines.reshape(have, -1).T]
        moved = np.array(flat).T.reshape(number, *lines.shape[1:])
        values = np.moveaxis(moved, 0, axis)
    strength = np.clip(values / high, 0, 1)
    colours = matplotlib.colormaps["plasma"](0.3 + 0.7 * strength)[..., :3] * 255
    opacity = 0.85 * np.minimum(strength / 0.6, 1)[..., None]
    return opacity * colours + (1 - opacity) * gray[..., None]


def test_each_frame_of_a_cam_film_shows_its_map_over_the_input(
    looking: Path, tmp_path: Path
) -> None:
    made = replay.animate(looking, f"{tmp_path}/out/", view="cam", probe=1, scale="map")
    assert made.frames == 6
    film, gray = film_of(looking, 1, view="cam", scale="map"), picture_of(looking, 1)
    assert (made.height, made.width) == film.size
    with replay.open(looking) as run:
        cam = run.cam(probe=1)
        for cell, frame in zip(film.cells, frames_of(tmp_path / "out"), strict=True):
            values = cam[cell].astype(float)
            expected = over(values, gray, values.max())
            assert np.abs(tile_of(frame, film) - expected).max() < 4
            assert np.abs(expected - gray[..., None]).max() > 100


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp"])
def test_every_format_shows_the_same_pictures(looking: Path, tmp_path: Path, suffix: str) -> None:
    replay.animate(looking, f"{tmp_path}/whole/", view="cam", probe=0)
    out = tmp_path / f"out{suffix}"
    replay.animate(looking, out, view="cam", probe=0)
    film, whole = film_of(looking, 0, view="cam"), frames_of(tmp_path / "whole")
    if suffix == ".mp4":
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(out), "-f", "rawvideo"]
        raw = subprocess.run([*command, "-pix_fmt", "rgb24", "-"], capture_output=True, check=True)
        found = list(np.frombuffer(raw.stdout, np.uint8).reshape(-1, *film.size, 3))
    else:
        found = []
        with Image.open(out) as image:
            for number in range(6):
                image.seek(number)
                found.append(np.array(image.convert("RGB")))
    assert len(found) == 6
    least = {".mp4": 6, ".gif": 6, ".webp": 0.01}[suffix]
    (top, left), (height, width) = film.layout.mosaic_corners[0], film.panels[0].mosaic.tile
    for mine, theirs in zip(found, whole, strict=True):
        box = slice(top, top + height), slice(left, left + width)
        assert np.abs(mine[box].astype(int) - theirs[box]).mean() < least


def test_the_bar_has_the_numbers_of_the_frame(looking: Path) -> None:
    film = film_of(looking, 0, view="cam", scale="map")
    with replay.open(looking) as run:
        for cell in film.cells:
            ((shown, _),) = [
                section.draw(film.layout.plane, film.layout.mosaic_corners[0], cell, film.palette)
                for section in film.sections
            ]
            assert shown is not None
            assert (shown.low, shown.high) == (0, pytest.approx(run.cam()[cell].max()))
    entries = film.palette.table[: film.palette.levels]
    assert entries[0].tolist() == [128, 128, 128]  # nothing, over a middle gray
    assert entries[-1, 0] > entries[-1, 2] + 100  # yellow


def test_components_have_the_same_colours_in_every_part_and_choice_of_frames(
    looking: Path, tmp_path: Path
) -> None:
    options = {"view": "components", "layers": "conv2", "probe": 0}
    replay.animate(looking, f"{tmp_path}/one/", jobs=1, **options)
    replay.animate(looking, f"{tmp_path}/two/", jobs=2, **options)
    replay.animate(looking, f"{tmp_path}/last/", epochs=2, **options)
    film = film_of(looking, 0, view="components", layers="conv2")
    one, two, last = (frames_of(tmp_path / name) for name in ("one", "two", "last"))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert len(last) == 2
    for mine, theirs in zip(last, one[4:], strict=True):
        assert np.array_equal(tile_of(mine, film), tile_of(theirs, film))
    assert "red" in film.panels[0].details
    assert "6 channels, 8×8" in film.panels[0].details


def test_a_figure_has_the_colours_of_the_film(looking: Path, tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    options = {"view": "components", "probe": 0}
    replay.animate(looking, f"{tmp_path}/out/", layers="conv2", **options)
    film = film_of(looking, 0, view="components", layers="conv2")
    with replay.open(looking) as run:
        _, ax = plt.subplots()
        drawn = replay.draw(run, ax=ax, layer="conv2", epoch=1, batch=1, **options)
        plt.close()
    pixels = np.asarray(drawn.get_array())[..., :3]
    assert np.array_equal(pixels, tile_of(frames_of(tmp_path / "out")[3], film))


def test_tokens_have_components_where_they_stand(looking: Path) -> None:
    film = film_of(looking, 0, view="components", layers="blocks.0")
    assert film.map_sections[0].row.maps.size == (8, 8)
    assert "10 channels, 8×8" in film.panels[0].details


def test_layers_of_one_picture_each_stand_side_by_side(looking: Path) -> None:
    film = film_of(looking, 0, view="components", layers="all")
    tops = {top for top, _ in film.layout.mosaic_corners}
    assert len(film.layout.mosaic_corners) == 3
    assert len(tops) == 1
    run = replay.open(looking).probe(0)
    (bases,), _ = look_at([run], FilmOptions(view="components", layers="all"))
    totals = [round(100 * sum(bases[name].components.shares)) for name in bases.layers]
    assert film.scale.endswith(f": {totals[0]}, {totals[1]} and {totals[2]} % of the variance")
    assert "the shares are" in film_of(looking, 0, view="components", layers="blocks.0").scale


def test_channels_lie_over_the_input_in_a_colormap_of_both_signs(
    looking: Path, tmp_path: Path
) -> None:
    options = {"view": "overlay", "layers": "conv1", "channels": "2,0", "scale": "map"}
    replay.animate(looking, f"{tmp_path}/out/", probe=0, **options)
    film = film_of(looking, 0, **options)
    assert film.panels[0].labels == ["channel 2", "channel 0"]
    frame = frames_of(tmp_path / "out")[-1]
    values = drifting_maps(*LAYERS["conv1"])(2, 1)[2].astype(float)
    blocks = values.repeat(2, 0).repeat(2, 1)  # 16 places over 32 pixels
    tile = tile_of(frame, film).astype(int)
    strong = np.abs(blocks) > 0.5 * np.abs(values).max()
    assert ((tile[..., 0] > tile[..., 2]) == (blocks > 0))[strong].all()
    assert strong.sum() > 100


def test_attention_lies_over_the_input_under_the_name_of_its_layer(looking: Path) -> None:
    film = film_of(looking, 0, view="overlay", layers="blocks.0.attn")
    assert film.panels[0].labels == [f"head {head}" for head in range(4)]
    assert film.quantity == "attention"


def test_one_range_for_the_run_is_the_same_in_every_frame(looking: Path) -> None:
    film = film_of(looking, 0, view="overlay", layers="conv1", scale="run")
    section = film.map_sections[0]
    corner = film.layout.mosaic_corners[0]
    ranges = {section.draw(film.layout.plane, corner, cell, film.palette)[0] for cell in film.cells}
    (shown,) = ranges
    assert shown is not None
    most = max(np.abs(drifting_maps(*LAYERS["conv1"])(e, b)).max() for e, b in film.cells)
    assert shown.high == pytest.approx(float(most))
    assert shown.low == -shown.high


def test_two_runs_stand_side_by_side_on_one_scale(looking: Path, tmp_path: Path) -> None:
    other = write_looking(tmp_path / "other.h5", epochs=2)
    options = {"view": "overlay", "layers": "conv1", "channels": 1, "scale": "run", "probe": 0}
    replay.compare(looking, other, f"{tmp_path}/out/", **options)
    frame = frames_of(tmp_path / "out")[-1].astype(int)
    with replay.open(looking) as a, replay.open(other) as b:
        runs, chosen = look_at([a.probe(0), b.probe(0)], FilmOptions(**options))
        film = ComparisonFilm(runs, ComparisonOptions(layers=chosen.layers, clip=(0, 1)))
        left, right = film.layout.mosaic_corners[0][:2]
        height, width = film.panels[0].mosaic.tile
        assert runs[0]["conv1"].shown((1, 1)) == runs[1]["conv1"].shown((1, 1))
    tiles = [frame[y : y + height, x : x + width] for y, x in (left, right)]
    assert np.array_equal(*tiles)  # the frames that both have are the same
    assert np.abs(tiles[0][..., 0] - tiles[0][..., 2]).max() > 60
    with pytest.raises(OptionError, match="pictures in colours"):
        replay.compare(looking, other, tmp_path / "x.mp4", difference=True, **options)


@pytest.mark.parametrize(
    ("view", "scale"), [("cam", "adaptive"), ("cam", "run"), ("gradient", "run")]
)
def test_each_of_two_runs_is_told_its_own_answers(
    looking: Path, monkeypatch: pytest.MonkeyPatch, view: str, scale: str
) -> None:
    """Where both share a scale, run b was told what the network of run a had answered."""
    said: list[list[str]] = []
    update = ComparisonLayout.update

    def note(self: ComparisonLayout, *given: Any) -> None:
        said.append(given[3][0])  # of the only layer, by run
        update(self, *given)

    monkeypatch.setattr(ComparisonLayout, "update", note)

    def told(*probes: int) -> list[list[str]]:
        said.clear()
        with replay.open(looking) as run:
            options = ComparisonOptions(view=view, scale=scale)
            images = [run.probe(number) for number in probes]
            shown, options = look_at(images, options)
            list(ComparisonFilm(shown, options).frames())
        return [*zip(*said, strict=True)]

    one, other = told(0, 1)
    assert one != other
    assert told(1, 0) == [other, one]


def test_a_damaged_map_is_said_and_the_others_are_shown(tmp_path: Path) -> None:
    path = write_looking(tmp_path / "run.h5")
    with h5py.File(path, "r+") as file:
        file["probe/0/maps/conv2"][1, 1, 0, 0, 0] += 1
    made = replay.animate(path, f"{tmp_path}/out/", view="cam", probe=0)
    assert any("damaged" in remark for remark in made.remarks)
    frames, film = frames_of(tmp_path / "out"), film_of(path, 0, view="cam")
    (top, left), (height, width) = film.layout.mosaic_corners[0], film.panels[0].mosaic.tile
    means = [f[top + 1 : top + height - 1, left + 1 : left + width - 1].mean() for f in frames]
    assert means[3] == 255  # paper
    assert max(means[:3] + means[4:]) < 230


def test_what_it_shows_is_told_in_words(looking: Path, tmp_path: Path) -> None:
    made = replay.animate(looking, tmp_path / "out.mp4", view="cam", probe=0)
    assert "the class activation of a layer" in made.alt
    assert "Grad-CAM of the score of the label, 8×8, bilinear over the input" in made.alt
    assert "colormap gray" not in made.alt


@pytest.mark.parametrize(
    ("classes", "words"),
    [(["cat", "dog", "owl"], r"(cat|dog|owl) 0\.\d\d"), (None, r"class \d 0\.\d\d")],
)
def test_a_class_without_a_name_is_no_number_beside_its_probability(
    tmp_path: Path, classes: list[str] | None, words: str
) -> None:
    path = write_looking(tmp_path / "run.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["meta"] = json.dumps({"classes": classes} if classes else {})
    with replay.open(path) as run:
        answers = Answers(run.probe(0))
        assert re.match(words, answers.in_words((0, 0)))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"view": "cam", "layers": "conv9"}, SelectionError, "conv9"),
        ({"view": "cam", "show": "kernels"}, OptionError, "goes with maps"),
        ({"view": "cam", "cam_method": "gradcam"}, OptionError, "grad-cam"),
        ({"view": "overlay", "layers": "conv1", "channels": 9}, SelectionError, "channel 9"),
        ({"view": "cams"}, OptionError, "cam"),
    ],
)
def test_what_cannot_be_shown_is_one_line(
    looking: Path, tmp_path: Path, options: dict, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as raised:
        replay.animate(looking, tmp_path / "out.mp4", probe=0, **options)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out.mp4").exists()


def test_a_recording_without_any_says_what_it_has_and_how_to_record_it(tmp_path: Path) -> None:
    path = write_looking(tmp_path / "run.h5", gradients=False)
    with pytest.raises(SelectionError, match=r"maps of 3 layers, attention of 2.*Recorder\(cam="):
        replay.animate(path, tmp_path / "out.mp4", view="cam")
