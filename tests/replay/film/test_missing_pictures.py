"""Kernels and pictures that some frames do not have: crossed out or blank, and said."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from pages import facts_of, read
from samples import drifting_maps, write_recording

import replay
from replay.__main__ import main
from replay.figures.batch import input_pictures
from replay.film.film import Film
from replay.maps.input_picture import InputPicture
from replay.maps.runs import RunSet
from replay.options import FilmOptions
from replay.raster.frame import Frame
from replay.raster.palette import no_picture
from replay.recording import info
from replay.schema import SelectionError
from replay.webpage.document import page
from replay.webpage.live import Live

GONE = (1, 2)
Cell = tuple[int, int]


def kernels_of(inputs: int) -> Any:
    def kernels(epoch: int, batch: int) -> np.ndarray | None:
        random = np.random.default_rng((epoch, batch))
        return None if (epoch, batch) == GONE else random.standard_normal((2, inputs, 3, 3))

    return kernels


def picture(epoch: int, batch: int) -> np.ndarray | None:
    random = np.random.default_rng((epoch, batch))
    return None if (epoch, batch) == GONE else random.random((3, 16, 16))


def write(path: Path, inputs: int = 1, **options: Any) -> Path:
    options = {"images": picture, "kernels": {"a": kernels_of(inputs)}, **options}
    return write_recording(path, {"a": drifting_maps(2, 8, 8)}, **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "run.h5")


def frames(
    run: replay.Recording, **options: Any
) -> tuple[Film, dict[Cell, Frame], dict[Cell, list]]:
    """The film, copies of its frames, and the words that were written for each."""
    film = Film(run, FilmOptions(layers=["a"], **options))
    said: dict[Cell, list] = {}
    pen = film.layout._pen
    refill = pen.refill

    def heard(slot: Any, *parts: Any, **options: Any) -> None:
        said[now[0]] += [text for text, _ in parts]
        refill(slot, *parts, **options)

    pen.refill = heard  # type: ignore[method-assign]
    found, now = {}, [film.cells[0]]
    for cell in film.cells:
        now[0], said[cell] = cell, []
        (frame,) = film.frames([cell])
        found[cell] = Frame(frame.plane.copy(), frame.pictures, frame.changed, frame.plain)
    return film, found, said


@pytest.mark.parametrize("inputs", [1, 3, 5])
def test_a_film_leaves_kernels_blank_and_says_so(tmp_path: Path, inputs: int) -> None:
    with replay.open(write(tmp_path / "run.h5", inputs)) as run:
        film, found, said = frames(run, show=("kernels",), input=False)
        section = film.sections[1]
        (top, left), mosaic = film.layout.mosaic_corners[1], section.panel.mosaic
        for cell, frame in found.items():
            y, x = mosaic.corner(0)
            height, width = mosaic.tile
            tile = frame.plane[top + y :, left + x :][:height, :width]
            assert (len(frame.pictures) > 0) == (inputs == 3 and cell != GONE)
            if inputs != 3:
                assert (len(np.unique(tile)) > 4) == (cell != GONE)
            assert ("NaN, or not recorded" in said[cell]) == (cell == GONE)


def test_a_film_crosses_out_a_picture_and_says_so(path: Path) -> None:
    with replay.open(path) as run:
        film, found, said = frames(run)
        source = film.inputs[0]
        assert source is not None
        for cell, frame in found.items():
            (overlay,) = frame.pictures
            crossed = np.array_equal(overlay.pixels, no_picture(*source.shape))
            assert crossed == (cell == GONE)
            assert ("no picture in this batch" in said[cell]) == (cell == GONE)


def test_a_damaged_picture_is_told_from_one_that_is_missing(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["inputs"][0, 1] = 0.25
    with replay.open(path) as run:
        shown = InputPicture(run, run.frames, 64)
        assert shown.problem(0, 1) == "damaged picture"
        assert shown.problem(*GONE) == "no picture in this batch"
        assert shown.problem(0, 0) == ""


def test_pictures_that_are_all_missing_or_black_are_no_trouble(tmp_path: Path) -> None:
    black = write(tmp_path / "black.h5", images=lambda e, b: np.zeros((3, 16, 16)))
    with replay.open(black) as run:
        shown = InputPicture(run, run.frames, 64)
        assert shown.problem(0, 0) == ""
        assert not shown.show(0, 0).any()
    with h5py.File(black, "r+") as file:
        file["inputs"][:] = np.nan
    with replay.open(black) as run:
        assert InputPicture(run, run.frames, 64).problem(0, 0)
        assert len(frames(run)[1]) == 8


def test_a_page_says_which_frames_lack_what(path: Path) -> None:
    (source,) = read(page(path).path)[0]["sources"]
    at = GONE[0] * 4 + GONE[1]
    assert [place for place, bare in enumerate(source["layers"][0]["bare"]) if bare] == [at]
    assert [place for place, word in enumerate(source["frames"]["unseen"]) if word] == [at]
    assert source["frames"]["unseen"][at] == "no picture in this batch"
    whole = write(path.with_name("whole.h5"), kernels={}, images=lambda e, b: np.ones((3, 8, 8)))
    (source,) = read(page(whole, overwrite=True).path)[0]["sources"]
    assert (source["layers"][0]["bare"], source["frames"]["unseen"]) == (None, None)


def test_a_page_of_two_runs_says_it_of_each(path: Path) -> None:
    whole = path.with_name("whole.h5")
    write(whole, images=lambda e, b: np.full((3, 16, 16), 0.5), run_id="f" * 32)
    (source,) = read(page([path, whole]).path)[0]["sources"]
    assert [bool(run["unseen"]) for run in source["runs"]] == [True, False]


def test_a_live_page_says_it_too(path: Path) -> None:
    live = Live(path)
    for place in range(8):
        block = live.block(f"s0-layer-0-{place}")
        assert block is not None
        assert facts_of(block)["bare"] == (place == 6)
    assert [bool(word) for word in live.frames(4)["unseen"]] == [False, False, True, False]
    assert live.block("s0-input-6") is not None
    live.close()


@pytest.mark.parametrize("kernels", [[], ["--kernels"]])
def test_figures_cross_out_and_say_so(path: Path, kernels: list[str]) -> None:
    out = path.with_name("grid.svg")
    batch = ["--epoch", "0,1", "--batch", "2"]
    assert main(["grid", str(path), *batch, *kernels, "-o", str(out)]) == 0
    text = out.read_text(encoding="utf-8")
    assert "no picture in this batch" in text
    words = "crossed out: NaN, or not recorded (epoch 1 batch 2)"
    assert (words in text) == bool(kernels)
    out = path.with_name("sheet.svg")
    assert main(["sheet", str(path), "--batch", "2", "-o", str(out)]) == 0
    assert "crossed out: no picture in this batch (epoch 1)" in out.read_text(encoding="utf-8")


def test_two_films_beside_each_other(path: Path) -> None:
    other = write(path.with_name("other.h5"), run_id="f" * 32)
    out = path.with_name("both.gif")
    assert main(["compare", str(path), str(other), "-o", str(out)]) == 0
    assert out.stat().st_size > 1000


def test_repairing_and_verifying_take_nothing_for_something(path: Path) -> None:
    assert main(["verify", str(path)]) == 0
    replay.repair(path, path.with_name("new.h5"))
    with h5py.File(path) as old, h5py.File(path.with_name("new.h5")) as new:
        for name in ("kernel_checksums/a", "batches/input_checksum"):
            np.testing.assert_array_equal(old[name][:], new[name][:])
            assert new[name][GONE] == 0
    assert main(["verify", str(path.with_name("new.h5"))]) == 0


def test_health_and_export_pass_over_it(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    last = (1, 3)  # what the change is measured to

    def kernels(epoch: int, batch: int) -> np.ndarray | None:
        return None if (epoch, batch) == last else np.full((2, 1, 3, 3), 1.0 + epoch)

    other = write(path.with_name("other.h5"), kernels={"a": kernels})
    with replay.open(other) as run:
        (found,) = replay.health(run).layers
        assert found.measure == "kernels"
        assert all(np.isfinite(change.value) for change in found.changes)
        assert json.loads(info.to_json(info.describe(run)))["layers"][0]["kernel"] == [2, 1, 3, 3]
    assert main(["export", str(path), "-o", str(path.with_name("a.npz"))]) == 0
    archive = np.load(path.with_name("a.npz"))
    blank = np.isnan(archive["input"]).all(axis=(1, 2, 3))
    assert np.flatnonzero(blank).tolist() == [6]
    assert "without an input picture, NaN: 1 frame" in capfd.readouterr().err


# Pictures of whole numbers.


@pytest.mark.parametrize(
    ("values", "white"),
    [
        ((0, 255), 255.0),  # bytes
        ((3, 250), 255.0),
        ((0, 40), 255.0),  # a dark one stays dark
        ((0.0, 1.0), 1.0),
        ((0.2, 0.7), 1.0),
    ],
)
def test_a_picture_that_was_never_normalised_is_as_it_was(
    tmp_path: Path, values: tuple[float, float], white: float
) -> None:
    low, high = values
    whole = isinstance(low, int)

    def image(epoch: int, batch: int) -> np.ndarray:
        ramp = np.linspace(low, high, 3 * 64)
        return (ramp.round() if whole else ramp).reshape(3, 8, 8)

    path = write(tmp_path / "run.h5", images=image)
    expected = np.rint(image(0, 0).astype("f2").astype("f4") / white * 255)
    with replay.open(path) as run:
        shown = InputPicture(run, run.frames, 8)
        np.testing.assert_array_equal(shown.show(0, 0), expected.transpose(1, 2, 0))
        _, found, _ = frames(run)
        (overlay,) = found[0, 0].pictures
        np.testing.assert_array_equal(overlay.pixels, expected.transpose(1, 2, 0))
        (of_figure,) = input_pictures(RunSet(run, list(run.layers)), True)
        np.testing.assert_array_equal(of_figure.show(0, 0), expected.transpose(1, 2, 0))


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_a_figure_has_the_picture_of_the_film(tmp_path: Path, channels: int) -> None:
    """It had a range of its own, and gray where a film has colours, or another channel."""
    make = np.random.default_rng(channels).normal
    path = write(tmp_path / "run.h5", images=lambda e, b: make(0, 1, (channels, 8, 8)))
    with replay.open(path) as run:
        _, found, _ = frames(run)
        (of_figure,) = input_pictures(RunSet(run, list(run.layers)), True)
        for cell in run.frames:
            (overlay,) = found[cell].pictures
            np.testing.assert_array_equal(of_figure.show(*cell), overlay.pixels)


@pytest.mark.parametrize("make", [replay.grid, replay.sheet])
def test_a_damaged_picture_costs_a_figure_no_other(tmp_path: Path, make: Any) -> None:
    """One frame's picture told the range of all, and none could be drawn."""
    images = {cell: picture(*cell) for cell in [(0, 0), (0, 1), (1, 0), (1, 1)]}
    path = write_recording(
        tmp_path / "run.h5",
        {"conv": drifting_maps(2, 8, 8)},
        batches=2,
        images=lambda e, b: images[e, b],
        fields={"input_checksum": lambda e, b: zlib.crc32(images[e, b].astype("<f2").tobytes())},
    )
    with h5py.File(path, "r+") as file:
        file["inputs"][0, 1] = 0.5
    drawn = make(path, tmp_path / "other.svg", epochs=1)
    assert "damaged picture" not in drawn.path.read_text()
    assert "damaged picture" in make(path, tmp_path / "own.svg", epochs=0).path.read_text()


@pytest.mark.parametrize(
    ("low", "high", "whole"), [(-2.1, 2.6, False), (0, 7, True), (0.0, 90.5, False), (-4, 9, True)]
)
def test_other_pictures_keep_one_measured_range(
    tmp_path: Path, low: float, high: float, whole: bool
) -> None:
    def image(epoch: int, batch: int) -> np.ndarray:
        ramp = np.linspace(low, high, 3 * 64)
        return (ramp.round() if whole else ramp).reshape(3, 8, 8)

    with replay.open(write(tmp_path / "run.h5", images=image)) as run:
        shown = InputPicture(run, run.frames, 8).show(0, 0)
    assert (shown.min(), shown.max()) == (0, 255)


def test_nothing_lies_over_an_input_that_was_not_recorded(tmp_path: Path) -> None:
    """It lay over plain gray, under a heading that says `over the input`."""
    path = write_recording(tmp_path / "run.h5", {"conv": drifting_maps(3, 8, 8)}, image=None)
    expected = r"no input picture in .*run\.h5, over which a map could lie; view='maps' shows it"
    for make, name in (
        (replay.animate, "a.gif"),
        (replay.grid, "a.png"),
        (replay.sheet, "a.svg"),
        (replay.page, "a.html"),
    ):
        with pytest.raises(SelectionError, match=expected):
            make(path, tmp_path / name, view="overlay")
    assert [each.name for each in tmp_path.iterdir()] == ["run.h5"]
