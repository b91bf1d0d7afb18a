"""Two runs side by side: what is aligned, and every pixel of a, b and b - a."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_lines import without_next
from matplotlib import colormaps
from PIL import Image
from samples import drifting_maps, write_recording

import replay
from replay.__main__ import main
from replay.film.comparison_film import ComparisonFilm
from replay.maps.scaling import Scaler
from replay.options import ComparisonOptions
from replay.schema import OptionError, OutputError, SelectionError


def run(folder: Path, name: str, seed: int, **options: Any) -> Path:
    maps = drifting_maps(3, 8, 6, seed=seed)
    layers = {"conv1": lambda e, b: maps(e, b) * (1 + seed), "conv2": drifting_maps(2, 4, 4, seed)}
    options = {
        "run_id": f"{seed:032x}",
        "fields": {
            "loss": lambda e, b: 1.0 + seed - b / 10,
            "label": lambda e, b: 0,
            "prediction": lambda e, b: seed % 2,
        },
        "meta": {"classes": ["cat", "dog"]},
        **options,
    }
    return write_recording(folder / f"{name}.h5", options.pop("layers", layers), **options)


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.chdir(tmp_path)
    return run(tmp_path, "a", 1), run(tmp_path, "b", 2)


def tiles(picture: np.ndarray, film: ComparisonFilm, layer: int, panel: int) -> np.ndarray:
    """A panel's tiles in a decoded frame, one pixel for each of the map's: uint8 (C, H, W, 3)."""
    mosaic = film.panels[layer].mosaic
    top, left = film.layout.mosaic_corners[layer][panel]
    found = []
    for place in range(mosaic.count):
        y, x = mosaic.corner(place)
        tile = picture[top + y :, left + x :][: mosaic.tile[0], : mosaic.tile[1]]
        small = tile[:: mosaic.zoom, :: mosaic.zoom]
        assert (tile == small.repeat(mosaic.zoom, 0).repeat(mosaic.zoom, 1)).all()
        found.append(small)
    return np.stack(found)


def colours(values: np.ndarray, low: float, high: float, cmap: str, count: int) -> np.ndarray:
    table = colormaps[cmap](np.linspace(0, 1, count), bytes=True)[:, :3]
    place = np.rint((values.astype("f8") - low) / (high - low) * (count - 1))
    return table[np.clip(place, 0, count - 1).astype(int)]


@pytest.mark.parametrize("suffix", ["/", ".png"])
def test_every_pixel_of_both_runs_and_of_their_difference(
    paths: tuple[Path, Path], tmp_path: Path, suffix: str
) -> None:
    made = replay.compare(
        *paths,
        f"out{suffix}",
        difference=True,
        layers="all",
        cmap="viridis",
        theme="dark",
        scale="run",
    )
    if suffix == "/":
        pictures = [np.array(Image.open(f).convert("RGB")) for f in sorted(made.path.iterdir())]
    else:
        with Image.open(made.path) as image:
            pictures = []
            for number in range(image.n_frames):
                image.seek(number)
                pictures.append(np.array(image.convert("RGB")))
    assert len(pictures) == made.frames == 8
    assert made.remarks == ()
    with replay.open(paths[0]) as a, replay.open(paths[1]) as b:
        options = ComparisonOptions(
            layers=["conv1", "conv2"],
            cmap="viridis",
            theme="dark",
            difference=True,
            scale="run",
        )
        film = ComparisonFilm([a, b], options)
        assert (made.height, made.width) == film.size
        for layer, name in enumerate(("conv1", "conv2")):
            values = np.stack([[r[name][cell] for cell in a.frames] for r in (a, b)]).astype("f4")
            low, high = np.percentile(values, (0.5, 99.5))
            change = values[1] - values[0]
            reach = np.abs(np.percentile(change, (0.5, 99.5))).max()
            for number, picture in enumerate(pictures):
                for panel in (0, 1):
                    want = colours(values[panel, number], low, high, "viridis", 120)
                    assert (tiles(picture, film, layer, panel) == want).all()
                want = colours(change[number], -reach, reach, "RdBu_r", 117)
                assert (tiles(picture, film, layer, 2) == want).all()


def test_only_what_both_runs_have_is_shown_and_aligned(tmp_path: Path) -> None:
    a = run(tmp_path, "long", 1, epochs=3, batches=5)
    b = run(tmp_path, "short", 2, epochs=2, batches=6, recorded=lambda e, b: b % 2 == 0)
    made = replay.compare(a, b, f"{tmp_path}/out/", scale="run")
    assert made.frames == 6
    assert made.remarks == ("left out 9 batches that not every recording has",)
    with replay.open(a) as first, replay.open(b) as second:
        options = ComparisonOptions(layers=["conv1"], scale="run")
        film = ComparisonFilm([first, second], options)
        assert film.cells == [(0, 0), (0, 2), (0, 4), (1, 0), (1, 2), (1, 4)]
        values = np.stack([[r["conv1"][cell] for cell in film.cells] for r in (first, second)])
        low, high = np.percentile(values.astype("f4"), (0.5, 99.5))
        for number, file in enumerate(sorted(made.path.iterdir())):
            picture = np.array(Image.open(file).convert("RGB"))
            for panel in (0, 1):
                want = colours(values[panel, number], low, high, "gray", 237)
                assert (tiles(picture, film, 0, panel) == want).all()
    c = run(tmp_path, "other", 3, recorded=lambda e, b: e == 0 and b == 3)
    with pytest.raises(SelectionError, match="no epoch and batch is in every recording"):
        replay.compare(b, c, tmp_path / "no.mp4")
    assert not (tmp_path / "no.mp4").exists()


@pytest.mark.parametrize("loss", [np.inf, -np.inf, np.nan])
def test_losses_without_a_difference_have_none(tmp_path: Path, loss: float) -> None:
    maps = {"conv1": drifting_maps(2, 6, 6)}
    fields = {"loss": lambda e, b: loss if b else 1.0}
    paths = [write_recording(tmp_path / f"{n}.h5", maps, fields=fields) for n in "ab"]
    made = replay.compare(*paths, tmp_path / "a.gif", difference=True)  # a warning is an error here
    assert made.frames == 8


def test_a_frame_depends_on_its_epoch_and_batch_only(paths: tuple[Path, Path]) -> None:
    for scale in ("adaptive", "map", "run", "epoch", "frame", "channel"):
        with replay.open(paths[0]) as a, replay.open(paths[1]) as b:
            options = ComparisonOptions(
                layers=["conv1"], scale=scale, difference=True, difference_cmap="PuOr"
            )
            planes = [frame.plane.copy() for frame in ComparisonFilm([a, b], options).frames()]
            film = ComparisonFilm([a, b], options)
            for place in (5, 2, 7):
                (frame,) = film.frames([film.cells[place]])
                assert (frame.plane == planes[place]).all(), scale


def test_values_that_are_not_finite_and_frames_that_are_damaged(tmp_path: Path) -> None:
    plain = drifting_maps(2, 4, 4)

    def broken(epoch: int, batch: int) -> np.ndarray:
        maps = plain(epoch, batch).copy()
        maps[0, 0, 0], maps[0, 0, 1], maps[1, 3, 3] = np.nan, np.inf, -65504
        return maps

    def infinite(epoch: int, batch: int) -> np.ndarray:
        maps = plain(epoch, batch).copy()
        maps[0, 0, 1], maps[0, 2, 2], maps[1, 3, 3] = np.inf, -np.inf, 65504
        return maps

    a = run(tmp_path, "a", 1, layers={"conv1": broken})
    b = run(tmp_path, "b", 2, layers={"conv1": infinite})
    with replay.open(b) as recording:
        stored = recording["conv1"][0, 2].tobytes()
    data = bytearray(b.read_bytes())
    assert data.count(stored) == 1
    data[data.find(stored) + 9] ^= 0x40
    b.write_bytes(data)
    with replay.open(a) as first, replay.open(b) as second:
        film = ComparisonFilm([first, second], ComparisonOptions(layers=["conv1"], difference=True))
        nan, inf = film.palette.nan, film.palette.inf
        frames = [frame.plane.copy() for frame in film.frames()]
        difference = tiles(frames[0], film, 0, 2)
        assert difference[0, 0, 0] == nan  # of NaN
        assert difference[0, 0, 1] == nan  # inf - inf
        assert difference[0, 2, 2] == inf
        assert difference[1, 3, 3] == film.palette.differences[-1]  # 131008: not inf, as in float16
        assert tiles(frames[0], film, 0, 1)[0, 2, 2] == inf
        blank = film.palette.paper
        for panel in (1, 2):
            mosaic = film.panels[0].mosaic
            top, left = film.layout.mosaic_corners[0][panel]
            tile = frames[2][top : top + mosaic.tile[0], left : left + mosaic.tile[1]]
            assert (tile[1:-1, 1:-1] == blank).all()
        assert (tiles(frames[2], film, 0, 0) != blank).all()
        assert len(film.damaged) == 1
    (remark,) = replay.compare(a, b, tmp_path / "x.gif", difference=True).remarks
    assert "b.h5" in remark
    assert "marked in the animation" in remark


def test_the_same_image_is_shown_once_and_others_beside_each_other(
    paths: tuple[Path, Path], tmp_path: Path
) -> None:
    other = run(tmp_path, "other", 3, images=lambda e, b: np.full((3, 8, 8), e + b / 10))
    without = run(tmp_path, "without", 3, image=None)
    for file, pictures, remark in (
        (paths[1], 1, []),
        (other, 2, ["the two runs saw different images"]),
        (without, 0, []),
    ):
        with replay.open(paths[0]) as a, replay.open(file) as b:
            film = ComparisonFilm([a, b], ComparisonOptions(layers=["conv1"], difference=True))
            assert [len(frame.pictures) for frame in film.frames()] == [pictures] * 8
            assert [said.split(",")[0] for said in film.remarks] == remark
            film = ComparisonFilm([a, b], ComparisonOptions(layers=["conv1"], input=False))
            assert [len(frame.pictures) for frame in film.frames()] == [0] * 8


@pytest.mark.parametrize("layers", [["conv1"], ["conv1", "conv2"]])
@pytest.mark.parametrize("difference", [None, "RdBu_r"])
def test_words_and_pictures_neither_overlap_nor_leave_the_frame(
    paths: tuple[Path, Path], tmp_path: Path, layers: list[str], difference: str | None
) -> None:
    other = run(tmp_path, "a-run-with-a-name-that-is-far-too-long" * 3, 3, image=(1, 40, 20))
    with replay.open(paths[0]) as a, replay.open(other) as b:
        film = ComparisonFilm(
            [a, b], ComparisonOptions(layers=layers, difference=difference, title="Title " * 40)
        )
        *_, frame = film.frames()
        boxes = [*film.layout.boxes]
        for picture in frame.pictures:
            rows, columns = (side * picture.zoom for side in picture.pixels.shape[:2])
            boxes.append((picture.top, picture.left, picture.top + rows, picture.left + columns))
        for places, part in zip(film.layout.mosaic_corners, film.panels, strict=True):
            for top, left in places:
                for place in range(part.mosaic.count):
                    y, x = part.mosaic.corner(place)
                    height, width = part.mosaic.tile
                    boxes.append((top + y, left + x, top + y + height, left + x + width))
        taken = np.zeros(film.size, np.uint8)
        for top, left, bottom, right in boxes:
            assert 0 <= top < bottom <= film.size[0]
            assert 0 <= left < right <= film.size[1]
            assert not taken[top + 1 : bottom - 1, left:right].any()
            taken[top + 1 : bottom - 1, left:right] = 1


def test_the_curves_are_told_apart_without_colours(paths: tuple[Path, Path]) -> None:
    with replay.open(paths[0]) as a, replay.open(paths[1]) as b:
        film = ComparisonFilm([a, b], ComparisonOptions(layers=["conv1"]))
        *_, frame = film.frames()
        curve = film.layout._curve
        assert curve is not None
        box = frame.plane[curve._top :, curve._left :][: curve.PLOT, : curve._width]
        gaps = [
            np.diff(np.flatnonzero((box == film.palette.solid(tone)).any(axis=0))).max()
            for tone in ("accent", "second")
        ]
        assert gaps[0] <= 2  # unbroken, but for what lies beneath the dashes
        assert gaps[1] > 3  # dashed


def test_layers_that_cannot_be_compared_are_refused(
    paths: tuple[Path, Path], tmp_path: Path
) -> None:
    wide = {"conv1": drifting_maps(3, 9, 6), "extra": drifting_maps(1, 2, 2)}
    other = run(tmp_path, "other", 3, layers=wide)
    alone = run(tmp_path, "alone", 4, layers={"fc": drifting_maps(1, 2, 2)})
    with pytest.raises(SelectionError, match="'conv1' has frames of 3x8x6 in .*a.h5 and of 3x9x6"):
        replay.compare(paths[0], other)
    with pytest.raises(SelectionError, match="'extra' is in .*other.h5 and not in .*a.h5"):
        replay.compare(paths[0], other, layers="extra")
    with pytest.raises(SelectionError, match=r"no layer is in both .*a.h5 has conv1, conv2; .*fc"):
        replay.compare(paths[0], alone)
    many = {f"block{n}": drifting_maps(1, 2, 2) for n in range(60)}
    with pytest.raises(SelectionError, match=r"block7 and 52 more$"):
        replay.compare(paths[0], run(tmp_path, "many", 5, layers=many))
    with pytest.raises(SelectionError, match="no layer 'conv9'"):
        replay.compare(*paths, layers="conv9")
    with pytest.raises(OutputError, match="one of the recordings"):
        replay.compare(paths[0], paths[1].rename(tmp_path / "b.mp4"), tmp_path / "b.mp4")
    with pytest.raises(OptionError, match="unknown colormap"):
        replay.compare(paths[0], paths[0], difference=True, difference_cmap="nothing")
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [*[".h5"] * 4, ".mp4"]
    shared = run(tmp_path, "shared", 5, layers={"conv2": drifting_maps(2, 4, 4), **wide})
    made = replay.compare(paths[0], shared, "c.gif", layers="conv2")
    assert made.frames == 8
    both = run(tmp_path, "both", 6, layers={"conv2": drifting_maps(2, 4, 4)})
    made = replay.compare(paths[0], both, "d.gif", layers="all")
    assert made.remarks == ("left out conv1: not in both recordings",)


def test_compare_on_the_command_line(
    paths: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "a.h5", "b.h5", "--quiet"]) == 0
    assert main(["compare", "--layer", "conv1", "conv2", "a.h5", "b.h5", "-o", "c.gif"]) == 0
    words = ["--difference", "--clip", "-1,1", "--channels", "0,2", "--scale", "epoch"]
    assert main(["compare", "a.h5", "b.h5", *words, "-o", "d.webp"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["a-b.mp4", "c.gif", "d.webp"]
    assert without_next(err) == ""
    with Image.open("c.gif") as image:
        assert image.n_frames == 8
    assert main(["compare", "a.h5"]) == 2
    assert "compare: expected two recordings, found 1" in capsys.readouterr().err
    assert main(["compare", "a.h5", "b.h5", "a.h5"]) == 2


def test_a_run_that_looks_flat_on_a_common_range_is_told_without_measuring_it_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def faint(epoch: int, batch: int) -> np.ndarray:
        return drifting_maps(3, 8, 8)(epoch, batch) * np.float16(0.02)

    a = write_recording(tmp_path / "a.h5", {"conv": drifting_maps(3, 8, 8)})
    b = write_recording(tmp_path / "b.h5", {"conv": faint})
    ranges: list[int] = []
    real = Scaler._range_of_all

    def counted(scaler: Scaler, epoch: int) -> object:
        ranges.append(len(scaler._ranges))
        return real(scaler, epoch)

    monkeypatch.setattr(Scaler, "_range_of_all", counted)
    with replay.open(a) as one, replay.open(b) as other:
        film = ComparisonFilm([one, other], ComparisonOptions(scale="run"))
        (remark,) = [each for each in film.remarks if "looks flat" in each]
        assert remark.startswith("conv of b spans 0.02 of the range of both runs")
        assert ranges.count(0) == 3  # of both, and of each
        list(film.frames())
        assert ranges.count(0) == 3
        plain = ComparisonFilm([one, other], ComparisonOptions(scale="adaptive"))
        assert not any("looks flat" in each for each in plain.remarks)
