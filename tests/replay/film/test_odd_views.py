"""Views in colours of what is odd: nothing above zero, NaN and infinity, long and many tiles."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from looking import write_frames, write_looking
from PIL import Image
from samples import drifting_maps, write_recording

import replay
from replay.film.colour_section import ColourSection
from replay.film.film import Film
from replay.film.probe_grid import ProbeGridFilm, open_grid
from replay.maps.views import look_at
from replay.options import FilmOptions
from replay.raster.text import width_of
from replay.raster.widgets import SMALL
from replay.schema import OptionError, SelectionError

CELLS = [(e, b) for e in range(2) for b in range(2)]
Maps = Callable[[int, int], np.ndarray]


def write(
    path: Path, maps: Maps, image: tuple[int, int, int] = (3, 32, 32), also: str = ""
) -> Path:
    """A layer, perhaps another one, a fixed image of class 3, and weights of 1 for its class activation."""
    import h5py

    picture = np.random.default_rng(1).standard_normal(image)
    labels = {"probe0.label": lambda e, b: 3}
    layers = {name: maps for name in ("conv", also) if name}
    write_recording(
        path,
        layers,
        batches=2,
        image=image,
        probes=[(picture, layers)],
        fields=labels,
    )
    channels = len(maps(0, 0))
    about = {"axes": "C", "module": "Conv2d(3, 4, 3)", "of": "score of the label"}
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        file["probe/0"].attrs["label"] = 3
        ones: Maps = lambda e, b: np.ones(channels, "<f2")  # noqa: E731
        for name in layers:
            write_frames(file, "probe/0/cam/", name, ones, CELLS, about, lambda e, b: 0)
    return path


def of(value: float) -> Maps:
    return lambda e, b: np.full((4, 8, 8), value, "<f2")


def partly(*odd: float) -> Maps:
    def maps(e: int, b: int) -> np.ndarray:
        made = np.random.default_rng((e, b)).random((4, 8, 8)).astype("<f2") + 1
        for place, value in enumerate(odd):
            made[1, 2, place] = value
        return made

    return maps


def grid_of(path: Path, **options: object) -> ProbeGridFilm:
    make, chosen = open_grid([replay.open(path)], FilmOptions(grid_of_probes=True, **options))
    return make(chosen)


def texts_of(film: ProbeGridFilm) -> set[str]:
    for _ in film.frames(film.cells[:1]):
        held = {text for _, parts in film.layout.pen._held.values() for text, _ in parts}
    return held | film.layout.pen.texts


@pytest.mark.parametrize("command", ["grid", "sheet"])
@pytest.mark.parametrize("view", ["cam", "overlay"])
@pytest.mark.parametrize(
    ("maps", "words"),
    [
        (of(0), ["constant 0", "nothing above 0"]),
        (of(np.nan), ["no finite value", "NaN"]),
        (of(np.inf), ["no finite value", "infinite"]),
        (partly(np.nan, np.nan, np.inf), ["NaN"]),
    ],
    ids=["zero", "nan", "infinite", "partly"],
)
def test_a_figure_of_what_has_no_range(
    tmp_path: Path, command: str, view: str, maps: Maps, words: list[str]
) -> None:
    path = write(tmp_path / "run.h5", maps)
    made = getattr(replay, command)(path, tmp_path / "a.svg", view=view, probe=0)
    text = " ".join(re.findall(r">([^<]+)<", made.path.read_text()))
    if view == "cam" and "infinite" in words:  # what is not finite there is a NaN
        words = ["no finite value", "NaN"]
    for word in words:
        assert word in text
    if "no finite value" in words:
        assert "above 0" not in text


def test_class_activation_that_is_nowhere_above_zero(tmp_path: Path) -> None:
    path = write(tmp_path / "run.h5", of(-1))
    made = replay.grid(path, tmp_path / "a.svg", view="cam")
    assert "constant 0" in made.path.read_text()


@pytest.mark.parametrize(
    ("view", "words"),
    [
        ("overlay", "2 NaN, 1 infinite"),
        ("cam", "3 NaN"),
        ("components", "3 places with NaN or infinity"),
    ],
)
def test_what_is_not_finite_is_counted_in_films_and_grids(
    tmp_path: Path, view: str, words: str
) -> None:
    path = write(tmp_path / "run.h5", partly(np.nan, np.nan, np.inf))
    runs, options = look_at([replay.open(path).probe(0)], FilmOptions(view=view))
    film = Film(runs, options)
    for _ in film.frames(film.cells[:1]):
        held = [text for _, parts in film.layout.pen._held.values() for text, _ in parts]
    assert any(words in text for text in held)
    assert any(words in text for text in texts_of(grid_of(path, view=view)))


@pytest.mark.parametrize("view", ["cam", "overlay", "components"])
def test_values_at_the_end_of_float16_are_drawn(tmp_path: Path, view: str) -> None:
    def maps(e: int, b: int) -> np.ndarray:
        return np.random.default_rng((e, b)).choice([-65504, 65504], (4, 8, 8)).astype("<f2")

    path = write(tmp_path / "run.h5", maps)
    assert replay.animate(path, tmp_path / "a.gif", view=view, probe=0).frames == 4
    assert replay.sheet(path, tmp_path / "a.png", view=view).path.exists()


def test_ranges_of_both_signs_are_said_below_the_tiles(tmp_path: Path) -> None:
    both = texts_of(grid_of(write(tmp_path / "both.h5", drifting_maps(4, 8, 8)), view="maps"))
    assert "from − to + the number below each tile" in both
    assert sum(text.startswith("±") for text in both) == 4
    above = texts_of(grid_of(write(tmp_path / "above.h5", partly()), view="maps"))
    assert "0 to the number below each tile" in above
    assert not any(text.startswith("±") for text in above)


def test_a_number_below_a_tile_is_rounded_never_cut_off(tmp_path: Path) -> None:
    def maps(e: int, b: int) -> np.ndarray:
        return np.full((60, 4, 4), 0.0967, "<f2") * (1 + np.arange(60)[:, None, None]).astype("<f2")

    film = grid_of(write(tmp_path / "run.h5", maps), view="maps", channels="0:60")
    below: list[str] = []
    for _ in film.frames(film.cells[:1]):
        below = [_text_at(film, slot) for slots in film._heads._values for slot in slots if slot]
    wide = film.panels[0].mosaic.tile[1]
    assert len(below) == film.panels[0].mosaic.each - 1
    for place, text in enumerate(below):
        assert "…" not in text
        assert width_of(text, SMALL) <= wide
        if text:
            value = float(text.removeprefix("to "))
            assert value == pytest.approx(0.0967 * (1 + place), rel=0.35)
    assert all(below[:9])


def _text_at(film: ProbeGridFilm, slot: object) -> str:
    _, parts = film.layout.pen._held.get(slot, (None, ()))
    return "".join(text for text, _ in parts)


@pytest.mark.parametrize(
    ("options", "most"),
    [({}, (2560, 1440)), ({"preset": "github"}, (1000, 1000)), ({"zoom": 4}, (2560, 1440))],
)
def test_columns_that_do_not_fit_a_frame_are_left_out_and_said(
    tmp_path: Path, options: dict, most: tuple[int, int]
) -> None:
    path = write(tmp_path / "run.h5", drifting_maps(600, 4, 4))
    made = replay.animate(
        path, tmp_path / "a.gif", grid_of_probes=True, channels="0:600", max_mb=None, **options
    )
    (note,) = [note for note in made.notes if "columns" in note]
    assert re.fullmatch(
        r"shows \d+ of 601 columns, which fill the frame; channels or layers? chooses others", note
    )
    assert (made.width, made.height) <= most
    few = replay.animate(path, tmp_path / "b.gif", grid_of_probes=True, channels="0:3")
    assert not few.notes


def test_a_class_without_a_name_is_said_to_be_one(tmp_path: Path) -> None:
    film = grid_of(write(tmp_path / "run.h5", partly()), view="cam")
    assert "class 3" in film.layout.pen.texts


@pytest.mark.parametrize("image", [(3, 8, 600), (3, 600, 8)])
@pytest.mark.parametrize("view", ["cam", "overlay"])
def test_pictures_far_longer_than_wide_fill_the_tiles_that_are_drawn_out(
    tmp_path: Path, image: tuple[int, int, int], view: str
) -> None:
    size = image[1] // 4, image[2] // 4
    path = write(tmp_path / "run.h5", drifting_maps(2, *size), image)
    replay.animate(path, f"{tmp_path}/out/", view=view, probe=0, theme="dark")
    runs, options = look_at([replay.open(path).probe(0)], FilmOptions(view=view, theme="dark"))
    film = Film(runs, options)
    assert isinstance(film.map_sections[0], ColourSection)
    mosaic, (top, left) = film.panels[0].mosaic, film.layout.mosaic_corners[0]
    assert mosaic.strip or mosaic.band
    frame = np.array(Image.open(sorted((tmp_path / "out").glob("*.png"))[0]).convert("RGB"))
    (y, x), (height, width) = mosaic.corner(0), mosaic.tile
    tile = frame[top + y : top + y + height, left + x : left + x + width].astype(int)
    assert min(height, width) > 40
    paper = film.palette.table[film.palette.paper].astype(int)[:3]
    assert (np.abs(tile - paper).sum(axis=2) < 6).mean() < 0.1


def test_a_caption_below_a_narrow_picture_is_words_not_letters(tmp_path: Path) -> None:
    path = write(tmp_path / "run.h5", drifting_maps(4, 30, 3), (3, 300, 4))
    made = replay.grid(path, tmp_path / "a.svg")
    assert ">input<" in made.path.read_text()


@pytest.mark.parametrize("clip", [(1, -1), (0, np.nan), (3, 3), (0, np.inf)])
@pytest.mark.parametrize("view", ["maps", "cam", "overlay", "components"])
def test_a_range_that_is_none_is_refused_in_every_view(
    tmp_path: Path, view: str, clip: tuple[float, float]
) -> None:
    path = write(tmp_path / "run.h5", partly())
    said = f"clip {clip[0]},{clip[1]}: expected two finite values"
    if view == "components":  # which have no range at all
        said = "clip has no effect with view='components'"
    for out, more in (("a.gif", {}), ("b.gif", {"grid_of_probes": True})):
        with pytest.raises(OptionError, match=re.escape(said)):
            replay.animate(path, tmp_path / out, view=view, clip=clip, **more)
    with pytest.raises(OptionError, match=re.escape(said)):
        replay.grid(path, tmp_path / "a.png", view=view, clip=clip)


def test_a_range_of_gradients_that_is_none_is_said_as_it_was_asked_for(tmp_path: Path) -> None:
    path = write_looking(tmp_path / "run.h5", epochs=1, batches=1)
    with pytest.raises(OptionError, match=re.escape("clip 3,nan: expected")):
        replay.animate(path, tmp_path / "a.gif", view="gradient", clip=(3, np.nan))


@pytest.mark.parametrize("view", ["cam", "components"])
def test_runs_are_compared_by_the_last_layer_that_both_have(tmp_path: Path, view: str) -> None:
    one = write(tmp_path / "one.h5", partly())
    more = write(tmp_path / "more.h5", partly(), also="late")
    for pair in ((one, more), (more, one)):
        made = replay.compare(*pair, tmp_path / "a.gif", view=view, probe=0, overwrite=True)
        assert made.frames == 4
    with pytest.raises(SelectionError, match=r"late.*one\.h5"):
        replay.compare(more, one, tmp_path / "b.gif", view=view, probe=0, layers="late")
    alone = replay.animate(more, tmp_path / "c.gif", view=view, alt=True)
    assert "late" in alone.alt
