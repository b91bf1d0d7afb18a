"""What an animation shows beside the maps, and in which order it shows them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image
from samples import drifting_maps, write_recording

import replay
from replay.__main__ import main
from replay.film.extras import HistogramSource
from replay.film.film import Film
from replay.maps.channel_order import order_channels
from replay.options import FilmOptions
from replay.raster.histogram import BINS, Histogram
from replay.schema import OptionError, SelectionError

SIZE = 8


def ramp(epoch: int, batch: int) -> np.ndarray:
    """Channel 0 grows with the epoch, 1 shrinks with the batch, 2 stays."""
    maps = np.zeros((3, SIZE, SIZE))
    maps[0] += epoch
    maps[1] -= 0.5 * batch
    maps[2] = np.linspace(-2, 2, SIZE)
    return maps.astype("f2")


def kernels(inputs: int) -> Any:
    def made(epoch: int, batch: int) -> np.ndarray:
        stack = np.zeros((3, inputs, 3, 3))
        stack[0, 0, 0, 0] = 1 + epoch  # of the first input, at a corner
        stack[1] = -0.5
        return stack.astype("f2")

    return made


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_recording(
        tmp_path / "run.h5",
        {"conv": ramp, "deep": ramp, "plain": ramp},
        epochs=3,
        batches=4,
        kernels={"conv": kernels(3), "deep": kernels(2)},
        fields={"loss": lambda e, b: 1.0 / (1 + e + b)},
    )


def pictures(folder: Path) -> list[np.ndarray]:
    return [np.array(Image.open(path).convert("RGB")) for path in sorted(folder.iterdir())]


def tile(film: Film, section: int, place: int, image: np.ndarray) -> np.ndarray:
    """The pixels of one tile, one for each of its values."""
    mosaic = film.sections[section].panel.mosaic
    top, left = film.layout.mosaic_corners[section]
    y, x = mosaic.corner(place)
    height, width = mosaic.tile
    return image[top + y : top + y + height, left + x : left + x + width][
        :: mosaic.zoom, :: mosaic.zoom
    ]


def diverging(value: float, reach: float, entries: int) -> np.ndarray:
    half = entries // 2
    place = half + round(np.clip(value / reach, -1, 1) * half)
    return np.array(matplotlib.colormaps["RdBu_r"](place / (entries - 1), bytes=True)[:3])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_difference_to_the_first_epoch(run: Path, tmp_path: Path, theme: str) -> None:
    made = replay.animate(run, f"{tmp_path}/out/", show="difference", theme=theme)
    options = FilmOptions(layers=["conv"], show=("difference",), theme=theme)
    with replay.open(run) as recording:
        film = Film(recording, options)
        reach = film.sections[1]._scaler.range_of(0, 0, np.zeros((3, 1, 8, 8), np.float32)).high
        entries = len(film.palette.differences)
        for image, (epoch, _) in zip(pictures(made.path), film.cells, strict=True):
            for place, change in ((0, epoch), (1, 0.0), (2, 0.0)):
                shown = tile(film, 1, place, image)
                assert shown.shape == (SIZE, SIZE, 3)
                assert (shown == diverging(change, reach, entries)).all(), (epoch, place)
    assert reach == 2.0
    assert pictures(made.path)[0].shape == (made.height, made.width, 3)


def test_a_batch_that_the_first_epoch_has_not_says_with_what_it_is_compared(
    tmp_path: Path,
) -> None:
    """It was compared with the first frame, under the words `same batch`."""
    path = write_recording(
        tmp_path / "run.h5",
        {"conv": ramp},
        epochs=2,
        batches=4,
        recorded=lambda e, b: e > 0 or b in (1, 3),
    )
    with replay.open(path) as recording:
        film = Film(recording, FilmOptions(layers=["conv"], show=("difference",)))
        change, (corner, plane) = (
            film.sections[1],
            (film.layout.mosaic_corners[1], film.layout.plane),
        )
        assert change.panel.details == "since epoch 0, same batch"
        said = {cell: change.draw(plane, corner, cell, film.palette)[1] for cell in film.cells}
    other = "since batch 1"
    assert [said[1, batch] for batch in range(4)] == [other, (0, 0), other, (0, 0)]
    assert {said[0, 1], said[0, 3]} == {(0, 0)}


def test_the_difference_to_the_frame_before(run: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"show": ["difference:previous"], "layers": "conv"}
    one = replay.animate(run, f"{tmp_path}/one/", jobs=1, **options)
    images = pictures(one.path)
    with replay.open(run) as recording:
        film = Film(recording, FilmOptions(layers=["conv"], show=("difference:previous",)))
        paper = film.palette.table[film.palette.paper]
        assert (tile(film, 1, 0, images[0])[1:-1, 1:-1] == paper).all()  # nothing before it
        middle = diverging(0, 1, len(film.palette.differences))
        assert (tile(film, 1, 2, images[5]) == middle).all()
        assert (tile(film, 1, 1, images[5]) != middle).any()
        assert (tile(film, 1, 0, images[4]) != middle).any()  # a new epoch
        assert (tile(film, 1, 0, images[5]) == middle).all()


def test_of_a_fixed_image_the_first_frame_is_the_reference(tmp_path: Path) -> None:
    path = write_recording(
        tmp_path / "run.h5",
        {"conv": ramp},
        epochs=2,
        batches=3,
        probes=[(np.zeros((3, 8, 8)), {"conv": ramp})],
    )
    with replay.open(path) as recording:
        film = Film(recording.probe(0), FilmOptions(layers=["conv"], show=("difference",)))
        words = film.sections[1].panel.details
        change = film.sections[1]._change
        assert words == "since epoch 0, batch 0"
        assert (change[1, 2][1] == -1.0).all()
        assert (change[1, 2][0] == 1.0).all()


def test_kernels_of_three_inputs_are_in_colour(run: Path, tmp_path: Path) -> None:
    made = replay.animate(run, f"{tmp_path}/out/", show="kernels")
    with replay.open(run) as recording:
        film = Film(recording, FilmOptions(layers=["conv"], show=("kernels",)))
        for image, (epoch, _) in zip(pictures(made.path), film.cells, strict=True):
            corner = tile(film, 1, 0, image)[0, 0]
            assert abs(corner[0] - 255 * (0.5 + (1 + epoch) / 6)) <= 0.51
            assert corner[1:].tolist() == [128, 128]
            assert (tile(film, 1, 1, image) == round(255 * (0.5 - 0.5 / 6))).all()
            assert (tile(film, 1, 2, image) == 128).all()  # zero
    assert "gray is 0" in film.sections[1].panel.details


def test_kernels_of_other_inputs_are_a_mean_in_a_diverging_colormap(
    run: Path, tmp_path: Path
) -> None:
    made = replay.animate(run, f"{tmp_path}/out/", layers="deep", show="kernels")
    with replay.open(run) as recording:
        film = Film(recording, FilmOptions(layers=["deep"], show=("kernels",)))
        entries = len(film.palette.differences)
        image = pictures(made.path)[-1]
        assert (tile(film, 1, 0, image)[0, 0] == diverging(1.5, 1.5, entries)).all()
        assert (tile(film, 1, 1, image) == diverging(-0.5, 1.5, entries)).all()
        assert (tile(film, 1, 2, image) == diverging(0, 1.5, entries)).all()
    assert "mean of 2 inputs" in film.sections[1].panel.details


def test_all_of_it_at_once_in_parts_and_in_every_order(run: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "layers": ["conv", "plain"],
        "show": "kernels,difference:previous,histogram,loss",
        "order": "similar",
        "scale": "frame",
        "batches": slice(0, 4),
    }
    one = replay.animate(run, f"{tmp_path}/one/", jobs=1, **options)
    with replay.open(run) as recording:
        shown = ("kernels", "difference:previous", "histogram", "loss")
        film = Film(
            recording,
            FilmOptions(layers=["conv", "plain"], show=shown, order="similar", scale="frame"),
        )
        assert len(film.sections) == 5  # `plain` has no kernels
        images = pictures(one.path)
        for number in (7, 2, 11):  # a frame does not depend on those before it
            frame = next(iter(film.frames(film.cells[number:])))
            shown_at = film.palette.table[frame.plane]
            for picture in frame.pictures:
                block = picture.pixels.repeat(picture.zoom, 0).repeat(picture.zoom, 1)
                height, width = block.shape[:2]
                shown_at[picture.top : picture.top + height, picture.left :][:, :width] = block
            np.testing.assert_array_equal(shown_at, images[number])


def test_the_histogram_counts_what_is_shown(tmp_path: Path) -> None:
    def maps(epoch: int, batch: int) -> np.ndarray:
        values = np.full((1, 10, 10), 0.1)
        values[0, :5] = 0.9
        values[0, 0] = [5, 5, -5, np.nan, np.inf, 0.9, 0.9, 0.9, 0.9, 0.9]
        return values.astype("f2")

    path = write_recording(tmp_path / "run.h5", {"conv": maps}, epochs=1, batches=2)
    with replay.open(path) as recording:
        film = Film(recording, FilmOptions(layers=["conv"], show=("histogram",), clip=(0.0, 1.0)))
        frame = next(film.frames())
        histogram = film.layout.histograms[0]
        top, left = histogram._top, histogram._left
        plot = frame.plane[top : top + Histogram.PLOT, left : left + histogram._width]
        heights = (plot == film.palette.solid("accent")).sum(axis=0)
        edges = histogram._edges
        # 98 finite values: 50 at 0.1, 45 at 0.9, two above, one below.
        assert histogram._peak == pytest.approx(50 / 98)
        for value, share in ((0.1, 50 / 98), (0.9, 45 / 98)):
            place = int(np.float16(value) * BINS)
            bar = heights[edges[place] : edges[place + 1] - 1]
            assert set(bar.tolist()) == {int(np.ceil(share / (50 / 98) * Histogram.PLOT))}
        assert (heights > 0).sum() <= 2 * (edges[1] - edges[0] + 1)
        shares = HistogramSource(film.map_sections[0], film.cells).shares((0, 0))
        assert shares is not None
        assert (shares[0], shares[-1]) == (pytest.approx(1 / 98), pytest.approx(2 / 98))


def test_similar_channels_stand_side_by_side(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    patterns = rng.standard_normal((4, 12, 12))
    family = rng.permutation(np.repeat(np.arange(4), 4))  # 16 channels of four kinds

    def maps(epoch: int, batch: int) -> np.ndarray:
        noise = np.random.default_rng((epoch, batch)).standard_normal((18, 12, 12))
        found = 0.2 * noise
        found[1:17] += patterns[family] * (1 + epoch)
        found[0] = 0.0  # dead
        found[17] = np.nan
        return found.astype("f2")

    path = write_recording(tmp_path / "run.h5", {"conv": maps}, epochs=3, batches=4)
    with replay.open(path) as recording:
        film = Film(recording, FilmOptions(layers=["conv"], order="similar"))
        channels = film.map_sections[0].channels
        kinds = [int(family[channel - 1]) for channel in channels[:16]]
        assert sum(a != b for a, b in itertools.pairwise(kinds)) == 3
        assert channels[16:] == [0, 17]
        assert film.panels[0].labels == [str(channel) for channel in channels]
        again = order_channels(film.map_sections[0].row.maps, range(18), film.cells, "similar")
        assert again == channels
        assert Film(recording, FilmOptions(layers=["conv"])).map_sections[0].channels == list(
            range(18)
        )


@pytest.mark.parametrize("scale", ["adaptive", "run", "epoch", "frame", "channel"])
def test_a_layer_without_a_frame_in_the_chosen_epochs_is_empty(tmp_path: Path, scale: str) -> None:
    """As of a branch that is trained later; it was an IndexError."""
    late = {"conv": ramp, "late": lambda e, b: ramp(e, b) if e else None}
    path = write_recording(tmp_path / "run.h5", late, epochs=2, kernels={"late": kernels(3)})
    options = {"layers": "all", "epochs": 0, "scale": scale}
    shown = "histogram,difference,kernels"
    made = replay.animate(path, tmp_path / "a.gif", show=shown, order="similar", **options)
    assert made.frames == 4
    assert replay.compare(path, path, tmp_path / "b.gif", difference=True, **options).frames == 4


def test_what_cannot_be_shown(run: Path, tmp_path: Path) -> None:
    quiet = write_recording(
        tmp_path / "quiet.h5",
        {"conv": drifting_maps(2, 6, 6)},
        fields={"loss": lambda e, b: np.nan},
    )
    out = tmp_path / "out.gif"
    for path, options, error, words in (
        (quiet, {"show": "loss"}, SelectionError, "no loss was logged in"),
        (quiet, {"show": "kernels"}, SelectionError, "no kernels of 'conv'"),
        (run, {"show": "nothing"}, OptionError, "cannot show 'nothing'; expected loss, kernels"),
        (run, {"show": "histogram", "captions": False}, OptionError, "stand among the captions"),
        (run, {"show": ("difference", "difference:previous")}, OptionError, "one of them"),
        (run, {"order": "random"}, OptionError, "expected one of number, similar"),
    ):
        with pytest.raises(error, match=words):
            replay.animate(path, out, **options)  # type: ignore[arg-type]
    assert not out.exists()


def test_the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.gif"
    words = ["animate", str(run), "-o", str(out), "--with", "kernels,difference"]
    assert main([*words, "--with", "histogram", "--order", "similar", "--no-input"]) == 0
    with Image.open(out) as image:
        assert image.n_frames == 12
    assert main(["animate", str(run), "-o", str(out), "--with", "colour"]) == 2
    assert "cannot show 'colour'" in capsys.readouterr().err
