"""Layers that are no 2-D convolution: what of them is shown, pixel for pixel, and what is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from samples import drifting_maps, write_recording

import replay
from replay.__main__ import main
from replay.figures.canvas import Canvas
from replay.film.film import Film
from replay.maps.axes import choose_maps, layout_of
from replay.options import FilmOptions
from replay.raster.arrangement import Space, arrange
from replay.raster.palette import colormap
from replay.recording import info, info_text
from replay.schema import Layer, OptionError, RecordingError, SelectionError


def noise(*shape: int) -> Callable[[int, int], np.ndarray]:
    return lambda e, b: np.random.default_rng((e, b)).standard_normal(shape).astype("f2")


def record(path: Path, maps: Callable[[int, int], np.ndarray], axes: str, **options: Any) -> Path:
    return write_recording(path / "run.h5", {"a": maps}, axes={"a": axes}, batches=2, **options)


def tiles(film: Film, part: int = 0) -> list[np.ndarray]:
    """The indices of each tile, all of its pixels; blocks are checked to be blocks."""
    mosaic = film.panels[part].mosaic
    top, left = film.layout.mosaic_corners[part]
    height, width = mosaic.tile
    corners = (mosaic.corner(place) for place in range(mosaic.count))
    return [
        film.layout.plane[top + y : top + y + height, left + x : left + x + width]
        for y, x in corners
    ]


def levels(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint((values.astype(float) + 2) / 4 * 239), 0, 239).astype(np.uint8)


CASES: list[tuple[str, tuple[int, ...], dict[str, Any], Callable[[np.ndarray], np.ndarray], str]] = [
    ("CHW", (3, 5, 4), {}, lambda f: f, "3 maps of 5×4"),
    ("HWC", (5, 4, 3), {}, lambda f: f.transpose(2, 0, 1), "3 maps of 5×4"),
    ("CL", (3, 7), {}, lambda f: f[:, None], "3 maps of 1×7"),
    ("CDHW", (3, 6, 5, 4), {}, lambda f: f[:, 3], "3 maps of 5×4, middle slice 3 of 6"),
    ("DHWC", (6, 5, 4, 3), {"slices": "0"}, lambda f: f[0].transpose(2, 0, 1), "3 maps of 5×4, slice 0 of 6"),
    ("CDHW", (2, 3, 5, 4), {"slices": "all"}, lambda f: f.reshape(6, 5, 4), "2 maps of 5×4, all 3 slices (map·slice)"),
    ("CDHW", (2, 9, 5, 4), {"slices": "-1,2"}, lambda f: f[:, [8, 2]].reshape(4, 5, 4), "2 maps of 5×4, slices 8, 2 of 9 (map·slice)"),
    ("TC", (9, 4), {}, lambda f: f.T.reshape(4, 3, 3), "4 maps, tokens as 3×3"),
    ("TC", (10, 4), {}, lambda f: f[1:].T.reshape(4, 3, 3), "4 maps, tokens as 3×3, class token left out"),
    ("TC", (11, 4), {}, lambda f: f.T[:, None], "4 maps of 1×11, tokens in a row"),
    ("TC", (9, 4), {"tokens": "strip"}, lambda f: f.T[:, None], "4 maps of 1×9, tokens in a row"),
    ("C", (12,), {}, lambda f: f.reshape(1, 3, 4), "1 map of 3×4"),
]  # fmt: skip


@pytest.mark.parametrize(("axes", "shape", "options", "expected", "words"), CASES)
def test_every_pixel_is_that_of_the_frame(
    tmp_path: Path,
    axes: str,
    shape: tuple[int, ...],
    options: dict[str, Any],
    expected: Callable[[np.ndarray], np.ndarray],
    words: str,
) -> None:
    path = record(tmp_path, noise(*shape), axes)
    with replay.open(path) as run:
        film = Film(run, FilmOptions(layers=["a"], clip=(-2, 2), **options))
        assert film.panels[0].details.endswith(words)
        for (e, b), _ in zip(film.cells, film.frames(), strict=True):
            right = levels(expected(run["a"][e, b]))
            shown = tiles(film)
            assert len(shown) == len(right)
            for tile, pixels in zip(shown, right, strict=True):
                down, across = tile.shape[0] // pixels.shape[0], tile.shape[1] // pixels.shape[1]
                assert down >= 8 if pixels.shape[0] == 1 else down == across
                np.testing.assert_array_equal(tile, pixels.repeat(down, 0).repeat(across, 1))


RECORDED: list[tuple[tuple[int, int], int, Callable[[np.ndarray], np.ndarray], str]] = [
    ((3, 3), 9, lambda f: f.T.reshape(4, 3, 3), "tokens as 3×3"),
    ((3, 3), 14, lambda f: f[5:].T.reshape(4, 3, 3), "tokens as 3×3, first 5 tokens left out"),
    ((2, 4), 9, lambda f: f[1:].T.reshape(4, 2, 4), "tokens as 2×4, class token left out"),
    ((0, 0), 9, lambda f: f.T[:, None], "4 maps of 1×9, tokens in a row"),
    ((1, 9), 9, lambda f: f.T.reshape(4, 3, 3), "tokens as 3×3"),  # no picture: guessed
    ((5, 5), 9, lambda f: f.T.reshape(4, 3, 3), "tokens as 3×3"),  # does not fit: likewise
    ((-3, 0), 9, lambda f: f.T.reshape(4, 3, 3), "tokens as 3×3"),
]


@pytest.mark.parametrize(("grid", "count", "expected", "words"), RECORDED)
def test_tokens_stand_where_the_file_says(
    tmp_path: Path,
    grid: tuple[int, int],
    count: int,
    expected: Callable[[np.ndarray], np.ndarray],
    words: str,
) -> None:
    path = record(tmp_path, noise(count, 4), "TC")
    with h5py.File(path, "r+") as file:
        file["maps/a"].attrs["grid"] = np.array(grid)
    with replay.open(path) as run:
        film = Film(run, FilmOptions(layers=["a"], clip=(-2, 2)))
        assert film.panels[0].details.endswith(words)
        for (e, b), _ in zip(film.cells, film.frames(), strict=True):
            right = levels(expected(run["a"][e, b]))
            for tile, pixels in zip(tiles(film), right, strict=True):
                down, across = tile.shape[0] // pixels.shape[0], tile.shape[1] // pixels.shape[1]
                np.testing.assert_array_equal(tile, pixels.repeat(down, 0).repeat(across, 1))


def test_what_stands_nowhere_lies_over_no_picture(tmp_path: Path) -> None:
    path = record(tmp_path, noise(9, 4), "TC")
    out = tmp_path / "a.gif"
    assert replay.animate(path, out, view="overlay").frames
    assert replay.animate(path, out, view="components").frames
    with h5py.File(path, "r+") as file:
        file["maps/a"].attrs["grid"] = np.array([0, 0])
    with pytest.raises(RecordingError, match="no places in the input"):
        replay.animate(path, out, view="overlay")


@pytest.mark.parametrize(("axes", "shape", "options", "expected", "words"), CASES)
def test_a_figure_has_the_same_pixels(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    axes: str,
    shape: tuple[int, ...],
    options: dict[str, Any],
    expected: Callable[[np.ndarray], np.ndarray],
    words: str,
) -> None:
    drawn: list[np.ndarray] = []
    draw = Canvas.picture

    def picture(self: Canvas, x: int, y: int, pixels: np.ndarray, **how: bool) -> None:
        if how.get("map"):
            drawn.append(pixels[..., 0])
        draw(self, x, y, pixels, **how)

    monkeypatch.setattr(Canvas, "picture", picture)
    path = record(tmp_path, noise(*shape), axes)
    made = replay.grid(path, tmp_path / "a.svg", clip=(-2, 2), dpi=72, **options)
    assert words in made.path.read_text()
    with replay.open(path) as run:
        right = expected(run["a"][1, 1])
    assert len(drawn) == len(right)
    gray = colormap("gray", 254)[:, 0]
    for tile, values in zip(drawn, right, strict=True):
        pixels = gray[np.clip(np.rint((values.astype(float) + 2) / 4 * 253), 0, 253).astype(int)]
        down, across = tile.shape[0] // pixels.shape[0], tile.shape[1] // pixels.shape[1]
        assert down >= 8 if pixels.shape[0] == 1 else down == across
        np.testing.assert_array_equal(tile, pixels.repeat(down, 0).repeat(across, 1))


def tokens_of(count: int) -> Layer:
    return Layer("vit", "", (count, 8), axes="TC")


@pytest.mark.parametrize(
    ("count", "tokens", "image", "places", "left_out"),
    [
        (196, "auto", (3, 224, 224), (14, 14), 0),
        (197, "auto", (3, 224, 224), (14, 14), 1),
        (197, "auto", None, (1, 197), 0),
        (197, "square", None, (14, 14), 1),
        (197, "strip", (3, 224, 224), (1, 197), 0),
        (197, "auto", (1, 16000), (1, 197), 0),
        (198, "auto", (3, 224, 224), (1, 198), 0),
        (140, "auto", (3, 224, 160), (14, 10), 0),
        (141, "auto", (3, 160, 224), (10, 14), 1),
        (144, "auto", (3, 144, 256), (9, 16), 0),  # and not 12 x 12, which it would also fill
        (144, "square", (3, 144, 256), (12, 12), 0),
        (1, "auto", (3, 8, 8), (1, 1), 0),
        (2, "auto", (3, 8, 8), (1, 2), 0),
        (5, "auto", (3, 8, 8), (2, 2), 1),
    ],
)
def test_tokens_stand_as_in_the_picture(
    count: int,
    tokens: str,
    image: tuple[int, ...] | None,
    places: tuple[int, int],
    left_out: int,
) -> None:
    layout = layout_of(tokens_of(count), None, tokens, image)
    assert (layout.places, layout.left_out) == (places, left_out)
    assert layout.shape == (8, 1, *places)


def test_tokens_that_form_no_square_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="'vit' has 140 tokens, which form no square"):
        layout_of(tokens_of(140), None, "square")
    with pytest.raises(OptionError, match="expected one of auto, square, strip"):
        layout_of(tokens_of(4), None, "round")
    path = record(tmp_path, noise(11, 2), "TC")
    assert main(["animate", str(path), "--tokens", "square"]) == 2
    with pytest.raises(OptionError, match="11 tokens"):
        replay.grid(path, tokens="square")
    assert [p.name for p in tmp_path.iterdir()] == ["run.h5"]


def test_slices_that_are_not_there_are_refused(tmp_path: Path) -> None:
    path = record(tmp_path, noise(2, 3, 4, 5), "CDHW")
    with replay.open(path) as run:
        assert choose_maps(run["a"], "0:2").layout.slices == (0, 1)
        assert choose_maps(run["a"], [2, 0]).layout.slices == (2, 0)
        with pytest.raises(SelectionError, match="no slice 3; there: 0-2"):
            choose_maps(run["a"], "3")
        with pytest.raises(OptionError, match="cannot read slice 'some'"):
            choose_maps(run["a"], "some")


def test_pooled_values_are_said_to_be_means(tmp_path: Path) -> None:
    for place, (axes, shape, words) in enumerate(
        [("CHW", (2, 4, 4), "4×4"), ("CL", (2, 9), "4"), ("DHWC", (3, 4, 4, 2), "4×4×4")]
    ):
        path = write_recording(
            tmp_path / f"{place}.h5", {"a": noise(*shape)}, axes={"a": axes}, pooled={"a": 4}
        )
        with replay.open(path) as run:
            assert (
                Film(run, FilmOptions(layers=["a"]))
                .panels[0]
                .details.endswith(f", means of {words}")
            )
            text = info_text.format_info(info.describe(run))
            assert f"{axes}, means of {words.replace('×', 'x')}  8 " in text
            document = json.loads(info.to_json(info.describe(run)))["layers"][0]
            assert (document["axes"], document["pooled"], document["frames"]) == (axes, 4, 8)


def test_slices_of_a_map_share_its_scale_and_its_number(tmp_path: Path) -> None:
    def maps(epoch: int, batch: int) -> np.ndarray:
        volume = noise(2, 3, 6, 6)(epoch, batch)
        volume[1] *= 10
        return volume

    path = record(tmp_path, maps, "CDHW")
    with replay.open(path) as run:
        film = Film(run, FilmOptions(layers=["a"], channels=[1, 0], scale="channel", slices="all"))
        assert film.panels[0].labels == ["1·0", "1·1", "1·2", "0·0", "0·1", "0·2"]
        assert film.panels[0].mosaic.columns in (1, 3, 6)
        next(film.frames())
        spreads = [tile[tile < 240].std() for tile in tiles(film)]
        assert max(spreads) < 1.5 * min(spreads)
    made = replay.animate(path, tmp_path / "a.gif", slices="all", channels="top:1")
    assert made.frames == 4


@pytest.mark.parametrize(("count", "width"), [(1, 16000), (12, 128), (64, 64), (512, 250), (3, 2)])
def test_strips_can_be_read(count: int, width: int) -> None:
    room = Space(1072, 860, beside=328, above=120, least=560)
    mosaic = arrange(count, 1, width, room)
    assert 8 <= mosaic.tile[0] <= max(48, mosaic.zoom)
    assert mosaic.width <= room.width
    assert mosaic.height <= 1.3 * room.height
    assert arrange(count, 1, 1, room).strip == 0  # a value is no strip


def test_frames_are_maps_where_nothing_is_asked_for() -> None:
    for axes, shape, shown in [
        ("HWC", (4, 5, 3), (3, 4, 5)),
        ("TC", (9, 3), (3, 1, 9)),
        ("DHWC", (2, 4, 5, 3), (3, 4, 5)),
        ("CHW", (3, 4, 5), (3, 4, 5)),
        ("CDHW", (3, 9, 4, 5), (3, 4, 5)),
        ("CL", (3, 5), (3, 1, 5)),
        ("C", (12,), (1, 3, 4)),
        ("", (2, 2, 2, 2, 2), (1, 4, 8)),
    ]:
        layout = layout_of(Layer("a", "", shape, axes=axes))
        maps = layout.apply(np.zeros(shape, np.float16))  # (C, S, H, W)
        assert layout.shape == maps.shape
        assert maps[:, 0].shape == shown


def test_kernels_stand_beside_the_maps_of_a_signal(tmp_path: Path) -> None:
    path = record(tmp_path, noise(4, 30), "CL", kernels={"a": noise(4, 2, 5)})
    made = replay.grid(path, tmp_path / "a.svg", kernels=True, dpi=72)
    assert "kernels, mean of 2 inputs" in made.path.read_text()


def test_frames_of_another_shape_are_a_layer_of_their_own(tmp_path: Path) -> None:
    large, small = drifting_maps(2, 8, 8), drifting_maps(2, 6, 5)
    path = write_recording(
        tmp_path / "run.h5",
        {
            "conv1": lambda e, b: large(e, b) if b % 2 == 0 else None,
            "conv1@2x6x5": lambda e, b: small(e, b) if b % 2 else None,
        },
        images=lambda e, b: np.zeros((3, 8, 8) if b % 2 == 0 else (3, 6, 5), "f2"),
    )
    with replay.open(path) as run:
        film = Film(run, FilmOptions(layers=["conv1@2x6x5"]))
        assert film.cells == [(0, 1), (0, 3), (1, 1), (1, 3)]
        assert Film(run, FilmOptions(layers=["conv1"], batches="-1")).cells == [(0, 2), (1, 2)]
        with pytest.raises(SelectionError, match="no batch 1; there: 0, 2"):
            Film(run, FilmOptions(layers=["conv1"], batches=1))
        both = Film(run, FilmOptions(layers=["conv1", "conv1@2x6x5"], clip=(-2, 2)))
        assert len(both.cells) == 8
        sizes = set()
        for (e, b), frame in zip(both.cells, both.frames(), strict=True):
            sizes.add(frame.pictures[0].pixels.shape[:2])
            empty, there = tiles(both, 1 - b % 2), tiles(both, b % 2)
            assert all((tile[1:-1, 1:-1] == both.palette.paper).all() for tile in empty)
            right = levels((small if b % 2 else large)(e, b))
            for tile, pixels in zip(there, right, strict=True):
                zoom = tile.shape[0] // pixels.shape[0]
                np.testing.assert_array_equal(tile, pixels.repeat(zoom, 0).repeat(zoom, 1))
        assert sizes == {(8, 8), (6, 5)}
        assert len({picture.zoom for frame in both.frames() for picture in frame.pictures}) == 1
    made = replay.grid(path, tmp_path / "a.svg", layer="conv1@2x6x5", epochs="0,1", dpi=72)
    assert "batch 3" in made.path.read_text()
    with pytest.raises(SelectionError, match="no batch 2 in epoch 1 .* recorded: 1, 3"):
        replay.grid(path, layer="conv1@2x6x5", batch=2)
    assert replay.animate(path, tmp_path / "a.mp4", layers="all").frames == 8
