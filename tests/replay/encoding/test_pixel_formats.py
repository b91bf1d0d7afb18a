"""What is converted of a frame is what a conversion of the whole frame would be."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from samples import drifting_maps, write_recording

import replay
from replay.encoding.pixel_formats import as_colours, as_indices, as_yuv
from replay.encoding.quantize import quantize
from replay.film.comparison_film import ComparisonFilm
from replay.film.film import Film
from replay.options import ComparisonOptions, FilmOptions
from replay.raster.frame import Frame, Overlay
from replay.raster.palette import Palette
from replay.recording import Recording

FILMS: dict[str, tuple[tuple[str, ...], FilmOptions]] = {
    "zoom 1": (("conv",), FilmOptions(zoom=1)),
    "zoom 2": (("conv",), FilmOptions(zoom=2)),
    "zoom 2, dark": (("conv",), FilmOptions(zoom=2, theme="dark", cmap="viridis")),
    "zoom 3": (("conv",), FilmOptions(zoom=3, cmap="RdBu_r")),
    "several layers": (("conv", "late", "big"), FilmOptions(cmap="magma")),
    "shrunk": (("big",), FilmOptions(bounds=(420, 400))),
    "a range for each frame": (("conv", "late"), FilmOptions(scale="frame")),
    "no captions": (("conv", "late"), FilmOptions(captions=False)),
    "no input": (("late",), FilmOptions(input=False)),
    "kernels": (
        ("conv",),
        FilmOptions(show=("kernels", "difference", "histogram"), cmap="viridis", zoom=2),
    ),
    "gray kernels": (("late",), FilmOptions(show=("kernels", "difference:previous"))),
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs: NaN and infinity, missing and damaged frames, images of three sizes."""
    folder = tmp_path_factory.mktemp("runs")
    waves, late = drifting_maps(6, 33, 31), drifting_maps(5, 9, 7, seed=3)

    def holes(epoch: int, batch: int) -> np.ndarray:
        maps = waves(epoch, batch)
        if batch % 3 == 0:
            maps[1, 4:6], maps[2, 7] = np.nan, np.inf
        return maps

    def images(epoch: int, batch: int) -> np.ndarray:
        shape = [(3, 32, 32), (3, 20, 27), (3, 31, 40)][batch % 3]
        return np.random.default_rng((epoch, batch)).uniform(0, 1, shape).astype("f2")

    def kernels(*shape: int) -> Any:
        return lambda e, b: np.random.default_rng((e, b)).standard_normal(shape).astype("f2")

    layers = {
        "conv": holes,
        "late": lambda e, b: None if (e == 0 and b < 2) or b == 4 else late(e, b),
        "big": drifting_maps(3, 300, 211),
    }
    fields = {
        "loss": lambda e, b: 2 / (1 + e * 6 + b) if b != 2 else float("nan"),
        "label": lambda e, b: b % 4,
    }
    first = write_recording(
        folder / "a.h5",
        layers,
        batches=6,
        images=images,
        fields=fields,
        kernels={"conv": kernels(6, 3, 3, 3), "late": kernels(5, 4, 3, 3)},
    )
    with h5py.File(first, "r+") as file:
        file["checksums/conv"][1, 2] += 1
    second = write_recording(
        folder / "b.h5", {"conv": drifting_maps(6, 33, 31, seed=4)}, batches=6, images=images
    )
    return first, second


def whole(frames: Iterator[Frame]) -> Iterator[Frame]:
    """The same frames, nothing said of where they differ."""
    return (replace(frame, changed=None) for frame in frames)


def rgb(frame: Frame, palette: Palette) -> np.ndarray:
    """A frame in red, green and blue, uint8 (H, W, 3)."""
    image = palette.table[frame.plane]
    for picture in frame.pictures:
        block = np.kron(picture.pixels, np.ones((picture.zoom, picture.zoom, 1), np.uint8))
        height, width = block.shape[:2]
        image[picture.top :, picture.left :][:height, :width] = block
    return image


def yuv(image: np.ndarray) -> list[np.ndarray]:
    """ITU-R BT.709 in limited range, each sample rounded, then the mean of four."""
    red, green, blue = np.moveaxis(image.astype(np.float32), -1, 0)
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    u = np.rint(128 + (blue - y) * (224 / 255 / 1.8556)).astype(int)
    v = np.rint(128 + (red - y) * (224 / 255 / 1.5748)).astype(int)
    found = [np.rint(16 + y * (219 / 255))]
    for plane in (u, v):
        four = plane[0::2, 0::2] + plane[0::2, 1::2] + plane[1::2, 0::2] + plane[1::2, 1::2]
        found.append((four + 2) // 4)
    return found


def check(film: Film | ComparisonFilm, start: int = 0) -> None:
    cells, palette, size = film.cells[start:], film.palette, film.size
    changed = [frame.changed for frame in film.frames(cells)]
    assert changed[0] is None
    assert None not in changed[1:]
    planes = [
        [part.copy() for part in parts] for parts in as_yuv(film.frames(cells), palette, size)
    ]
    colours = [parts[0].copy() for parts in as_colours(film.frames(cells), palette, size)]
    number = -1
    for number, frame in enumerate(whole(film.frames(cells))):
        image = rgb(frame, palette)
        for top, left, bottom, right in frame.plain:
            entries = frame.plane[top:bottom, left:right]
            assert ((entries < palette.levels) | (entries == palette.paper)).all()
        np.testing.assert_array_equal(colours[number][..., 2::-1], image)
        for plane, right in zip(planes[number], yuv(image), strict=True):
            np.testing.assert_array_equal(plane, right)
    assert number == len(planes) - 1 == len(cells) - 1


@pytest.mark.parametrize("name", FILMS)
def test_a_film_is_converted_to_every_pixel(paths: tuple[Path, Path], name: str) -> None:
    layers, options = FILMS[name]
    with replay.open(paths[0]) as run:
        film = Film(run, replace(options, layers=layers))
        check(film)
        check(film, 5)


def test_of_finite_maps_a_frame_says_that_they_are_plain(paths: tuple[Path, Path]) -> None:
    with replay.open(paths[0]) as run:
        film = Film(run, FilmOptions(layers=["conv"]))
        tiles = film.panels[0].mosaic.boxes(*film.layout.mosaic_corners[0])
        for (epoch, batch), frame in zip(film.cells, film.frames(), strict=True):
            marked = batch % 3 == 0 or (epoch, batch) == (1, 2)  # not finite, or damaged
            assert list(frame.plain) == ([] if marked else tiles)


def test_a_comparison_is_converted_to_every_pixel(paths: tuple[Path, Path]) -> None:
    with replay.open(paths[0]) as a, replay.open(paths[1]) as b:
        for difference in (False, True):
            check(
                ComparisonFilm(
                    [a, b],
                    ComparisonOptions(
                        layers=["conv"],
                        difference=difference,
                        difference_cmap="PuOr",
                        cmap="viridis",
                    ),
                )
            )


def test_frames_of_two_calls_do_not_rely_on_each_other(paths: tuple[Path, Path]) -> None:
    """One plane is drawn on by both, so what was on it before is not what a call gave before."""
    with replay.open(paths[0]) as run:
        film = Film(run, FilmOptions(layers=["conv"]))
        alone = [parts[0].copy() for parts in as_colours(film.frames(), film.palette, film.size)]
        one, other = (as_colours(film.frames(), film.palette, film.size) for _ in range(2))
        next(other)
        for number, ((first,), (second,)) in enumerate(
            (([p.copy() for p in a], b) for a, b in zip(one, other, strict=False))
        ):
            np.testing.assert_array_equal(first, alone[number])
            np.testing.assert_array_equal(second, alone[number + 1])


def pictures(place: tuple[int, int], zoom: int) -> Iterator[Frame]:
    """Pictures of changing size over an unchanging plane: what is below comes back."""
    rng = np.random.default_rng(5)
    plane = rng.integers(0, 184, (64, 70), dtype=np.uint8)
    for number, (height, width) in enumerate([(9, 7), (5, 8), (9, 7), (2, 3), (0, 0), (4, 4)]):
        shown = (Overlay(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), *place, zoom),)
        yield Frame(plane, shown if height else (), None if number == 0 else ())


@pytest.mark.parametrize(
    ("place", "zoom"), list(itertools.product([(6, 8), (7, 9), (6, 9)], [1, 2, 3, 4]))
)
def test_pictures_lie_where_they_should(place: tuple[int, int], zoom: int) -> None:
    palette = Palette("gray", 168)
    made = zip(
        pictures(place, zoom),
        as_yuv(pictures(place, zoom), palette, (64, 70)),
        as_indices(pictures(place, zoom), palette, (64, 70)),
        strict=True,
    )
    seen = np.zeros((64, 70, 3), np.uint8)
    for frame, planes, indexed in made:
        image = rgb(frame, palette)
        for plane, right in zip(planes, yuv(image), strict=True):
            np.testing.assert_array_equal(plane, right)
        top, left, bottom, right = indexed.box
        seen[top:bottom, left:right] = indexed.colours[indexed.plane]  # as a player does
        np.testing.assert_array_equal(seen, image)  # so few pixels that each has its colour


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("cmap", ["gray", "viridis"])
def test_every_entry_has_its_colour(theme: str, cmap: str) -> None:
    """Also where the colormap is gray and a box of it is taken to need no look-up of colours."""
    palette = Palette(cmap, 168, theme)

    def frames() -> Iterator[Frame]:
        plane = np.zeros((64, 64), np.uint8)
        yield Frame(plane)
        for entry in range(palette.free):
            plane[8:12, 9:13] = entry
            plane[8, 9] = 0
            yield Frame(plane, (), ((8, 9, 12, 13),))

    for frame, planes in zip(frames(), as_yuv(frames(), palette, (64, 64)), strict=True):
        for plane, right in zip(planes, yuv(palette.table[frame.plane]), strict=True):
            np.testing.assert_array_equal(plane, right)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("cmap", ["gray", "viridis"])
@pytest.mark.parametrize("box", [(8, 8, 12, 14), (9, 8, 12, 14), (8, 7, 12, 14), (8, 8, 12, 13)])
def test_what_is_plain_does_not_hide_the_colours_beside_it(
    theme: str, cmap: str, box: tuple[int, int, int, int]
) -> None:
    palette = Palette(cmap, 240, theme)
    top, left, bottom, right = box
    rng = np.random.default_rng(3)

    def frames() -> Iterator[Frame]:
        plane = np.full((64, 64), palette.nan, np.uint8)
        for number in range(3):
            shown = rng.integers(0, palette.levels, (bottom - top, right - left), dtype=np.uint8)
            shown[0, 0] = palette.paper
            plane[top:bottom, left:right] = shown
            yield Frame(plane, (), (box,) if number else None, (box,))

    planes = as_yuv((last := frame for frame in frames()), palette, (64, 64))
    for parts in planes:
        for plane, expected in zip(parts, yuv(palette.table[last.plane]), strict=True):
            np.testing.assert_array_equal(plane, expected)


@pytest.mark.parametrize("side", [32, 64, 224])
@pytest.mark.parametrize("kind", ["as it is", "dark", "brown", "gray"])
def test_few_colours_are_nearer_to_a_picture_than_median_cut(side: int, kind: str) -> None:
    from skimage.data import astronaut

    picture = np.asarray(Image.fromarray(astronaut()[:256, :256]).resize((side, side)))
    if kind == "dark":
        picture = picture // 6
    if kind == "brown":
        picture = (picture[..., 1:2] * np.array([1.0, 0.9, 0.7])).astype(np.uint8)
    if kind == "gray":
        picture = np.repeat(picture[..., 1:2], 3, axis=2)
    places, colours = quantize(picture.reshape(-1, 3), 72)
    assert len(colours) <= 72
    cut = Image.fromarray(picture).quantize(72, Image.Quantize.MEDIANCUT).convert("RGB")

    def distance(shown: np.ndarray) -> float:
        return float(np.square(shown.astype(float) - picture).mean())

    shown = colours[places].reshape(picture.shape)
    assert distance(shown) < distance(np.asarray(cut))
    far = np.square(picture.reshape(-1, 1, 3).astype(int) - colours.astype(int)).sum(axis=2)
    found, least = far[np.arange(len(far)), places], far.min(axis=1)
    if side < 100 or kind in ("dark", "gray"):
        np.testing.assert_array_equal(found, least)
    else:  # pixels that are nearly alike are taken together: they lie up to sqrt(12) from a middle
        assert (np.sqrt(found) <= np.sqrt(least) + 2 * np.sqrt(12)).all()


@pytest.mark.parametrize("number", [2, 60, 72])
def test_as_many_colours_as_there_may_be_are_kept(number: int) -> None:
    """Also where they are nearly alike: 72 within 8 of each other fall into one cube or two."""
    near = np.stack(np.unravel_index(np.arange(72), (8, 8, 8)), axis=1).astype(np.uint8) + 100
    pixels = near[np.arange(4 * number) % number]
    places, colours = quantize(pixels, 72)
    assert len(colours) == number
    np.testing.assert_array_equal(colours[places], pixels)


def test_one_colour_is_one_colour() -> None:
    places, colours = quantize(np.full((9, 3), 77, np.uint8), 72)
    np.testing.assert_array_equal(colours[places], np.full((9, 3), 77))


def test_a_film_that_was_sent_elsewhere_draws_the_same(paths: tuple[Path, Path]) -> None:
    import pickle

    with replay.open(paths[0]) as run:
        film = Film(run, FilmOptions(layers=["conv"], scale="run"))
        sent = pickle.loads(pickle.dumps(film))
        scaler = sent.map_sections[0].scaler
        assert scaler._ranges  # measured once, before it was sent
        for mine, theirs in zip(
            as_colours(film.frames(), film.palette, film.size),
            as_colours(sent.frames(), sent.palette, sent.size),
            strict=True,
        ):
            np.testing.assert_array_equal(mine[0], theirs[0])


def test_a_recording_is_asked_for_the_names_of_its_fields_once(
    paths: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Recording(paths[0]) as run:
        fields = run.batches
        assert run.batches is fields
        run.refresh()
        assert run.batches is not fields
        assert set(run.batches) == set(fields)
