"""Attention and gradients in films and figures, decoded and compared with what was recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from looking import GRID, PREFIX, all_rows, class_rows, exponent, gradient, write_looking
from PIL import Image
from samples import drifting_maps, write_recording

import replay
from replay.__main__ import main
from replay.film.film import Film
from replay.maps.views import look_at
from replay.options import FilmOptions
from replay.schema import OptionError, RecordingError, SelectionError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_looking(tmp_path / "run.h5")


def frames_of(folder: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(each).convert("RGB")) for each in sorted(folder.glob("*.png"))]


def tiles_of(path: Path, folder: Path, cell: tuple[int, int], **options: Any) -> list[np.ndarray]:
    """The tiles of one frame of a film, one pixel for each of a map, uint8 (H, W, 3)."""
    zoom = 4
    chosen: dict[str, Any] = {"captions": False, "input": False, "zoom": zoom, **options}
    replay.animate(path, f"{folder}/", **chosen)
    with replay.open(path) as run:
        shown = run if chosen.get("probe") is None else run.probe(chosen["probe"])
        plain = {k: v for k, v in chosen.items() if k not in ("probe", "fps")}
        runs, film_options = look_at([shown], FilmOptions(**plain))
        film = Film(runs, film_options)
        place = film.cells.index(cell)
        (corner,), panel = film.layout.mosaic_corners, film.panels[0]
        picture, found = frames_of(folder)[place], []
        for number in range(panel.mosaic.count):
            y, x = panel.mosaic.corner(number)
            height, width = panel.mosaic.tile
            tile = picture[corner[0] + y :, corner[1] + x :][:height, :width]
            found.append(tile[::zoom, ::zoom])
            assert (tile == np.kron(found[-1], np.ones((zoom, zoom, 1), np.uint8))).all()
    return found


def brightest(tile: np.ndarray) -> tuple[int, int]:
    row, column = np.unravel_index(tile[..., 0].argmax(), tile.shape[:2])
    return int(row), int(column)


def right_place(row: np.ndarray) -> tuple[int, int]:
    return tuple(int(n) for n in divmod(int(row[PREFIX:].argmax()), GRID[1]))  # type: ignore[return-value]


def test_the_attention_of_each_head_is_a_map(path: Path, tmp_path: Path) -> None:
    tiles = tiles_of(path, tmp_path / "film", (1, 1), view="attention", scale="map")
    rows = class_rows()(1, 1)
    assert len(tiles) == len(rows) == 4
    for tile, row in zip(tiles, rows, strict=True):
        values = row[PREFIX:].reshape(GRID).astype("f8")
        shown = (values - values.min()) / (values.max() - values.min())
        assert np.abs(tile[..., 0] / 255 - shown).max() < 0.01
        assert brightest(tile) == right_place(row)


def test_the_attention_of_a_fixed_image(path: Path, tmp_path: Path) -> None:
    tiles = tiles_of(path, tmp_path / "film", (2, 0), view="attention", probe=1, scale="map")
    for tile, row in zip(tiles, class_rows(1)(2, 0), strict=True):
        assert brightest(tile) == right_place(row)


@pytest.mark.parametrize(
    ("query", "of"),
    [(None, 0), ("class", 0), (12, 12), ("2,3", 1 + 2 * 8 + 3), ((7, -1), 64), (-1, 64)],
)
def test_a_query_of_full_attention(tmp_path: Path, query: Any, of: int) -> None:
    full = write_looking(tmp_path / "run.h5", full=True, epochs=1, batches=1, probes=0)
    (tmp_path / "film").mkdir()
    options = {"view": "attention", "scale": "map", "query": query}
    tiles = tiles_of(full, tmp_path / "film", (0, 0), **options)
    for tile, row in zip(tiles, all_rows()(0, 0)[:, of], strict=True):
        assert brightest(tile) == right_place(row)


def shown_by(path: Path, **options: Any) -> tuple[Any, FilmOptions]:
    run = replay.open(path)
    (shown,), chosen = look_at([run], FilmOptions(**options))
    return shown, chosen


def test_the_mean_and_all_of_full_attention(tmp_path: Path) -> None:
    full = write_looking(tmp_path / "run.h5", full=True, epochs=1, batches=1, probes=0)
    rows = all_rows()(0, 0).astype("f4")
    shown, options = shown_by(full, view="attention", query="mean")
    assert options.layers == "blocks.1.attn"  # the last one
    expected = rows.mean(axis=1)[:, PREFIX:].reshape(4, *GRID)
    np.testing.assert_allclose(shown["blocks.1.attn"][0, 0], expected, rtol=1e-3)
    shown, _ = shown_by(full, view="attention", query="all")
    np.testing.assert_array_equal(shown["blocks.1.attn"][0, 0], rows)


def test_without_an_image_there_is_a_signal_or_a_matrix(tmp_path: Path) -> None:
    text = {"image": None, "grid": None, "probes": 0}
    shown, _ = shown_by(write_looking(tmp_path / "a.h5", **text), view="attention")
    series = shown["blocks.0.attn"] if "blocks.0.attn" in shown else shown["blocks.1.attn"]
    assert series.layer.axes == "CL"
    np.testing.assert_array_equal(series[0, 1], class_rows()(0, 1))
    shown, _ = shown_by(write_looking(tmp_path / "b.h5", full=True, **text), view="attention")
    assert shown["blocks.1.attn"].layer.shape == (4, 65, 65)
    assert "all tokens (down) to all (across)" in shown["blocks.1.attn"].layer.note


def test_tokens_can_be_shown_in_a_row(path: Path) -> None:
    shown, _ = shown_by(path, view="attention", tokens="strip")
    assert shown["blocks.1.attn"].layer.shape == (4, 65)


def test_the_caption_says_what_the_class_token_gets(path: Path) -> None:
    shown, _ = shown_by(path, view="attention")
    series = shown["blocks.1.attn"]
    assert series.layer.note == "attention of the class token"
    share = class_rows()(1, 0)[:, 0].astype("f8").mean()
    assert series.remark((1, 0)) == f"class token {100 * share:.0f} %"


@pytest.mark.parametrize(
    ("query", "error", "words"),
    [
        ("5", OptionError, "class token only"),
        ("nose", OptionError, "its row and column such as 3,4"),
        ("mean", OptionError, "class token only"),
    ],
)
def test_a_query_that_was_not_recorded(
    path: Path, query: str, error: type[RecordingError], words: str
) -> None:
    with pytest.raises(error, match=words):
        shown_by(path, view="attention", query=query)


@pytest.mark.parametrize("query", ["65", "8,0", "-66", "0,-9"])
def test_a_query_that_there_is_not(tmp_path: Path, query: str) -> None:
    full = write_looking(tmp_path / "run.h5", full=True, probes=0)
    with pytest.raises(SelectionError, match="65 tokens, 8×8 of the image"):
        shown_by(full, view="attention", query=query)


def test_gradients_are_symmetric_around_zero(path: Path, tmp_path: Path) -> None:
    tiles = tiles_of(path, tmp_path / "film", (2, 1), view="gradient", layers="conv2", scale="map")
    true = gradient("conv2", 2, 1)
    for tile, values in zip(tiles, true, strict=True):
        strong = np.abs(values) > 0.3 * np.abs(values).max()
        red, blue = tile[..., 0].astype(int), tile[..., 2].astype(int)
        assert ((red > blue) == (values > 0))[strong].all()


@pytest.mark.parametrize("scale", ["run", "epoch", "frame", "channel"])
def test_gradients_of_a_run_have_one_scale_in_real_numbers(path: Path, scale: str) -> None:
    shown, options = shown_by(path, view="gradient", layers="conv1", scale=scale)
    film = Film([shown], options)
    series = shown["conv1"]
    for cell in series.frames:
        values = series[cell].astype("f8") * series.unit
        np.testing.assert_allclose(values, gradient("conv1", *cell), rtol=1e-3, atol=1e-16)
    if scale in ("run", "frame"):
        reach = film.map_sections[0].draw(
            film.layout.plane, film.layout.mosaic_corners[0], (0, 0), film.palette
        )[0]
        assert reach is not None
        largest = np.abs(gradient("conv1", 0, 0)).max()
        assert 0.7 * largest < reach.high <= 1.01 * largest
        assert reach.low == -reach.high


def test_a_clip_of_gradients_is_in_real_numbers(path: Path) -> None:
    shown, options = shown_by(path, view="gradient", layers="conv1", clip=(-1e-5, 2e-5))
    unit = shown["conv1"].unit
    assert options.clip is not None
    np.testing.assert_allclose(np.array(options.clip) * unit, (-1e-5, 2e-5))
    assert np.isfinite(shown["conv1"][0, 0]).all()


def test_the_caption_says_the_largest_gradient(path: Path) -> None:
    shown, _ = shown_by(path, view="gradient", layers="conv1")
    largest = np.abs(gradient("conv1", 1, 1)).max()
    said = shown["conv1"].remark((1, 1))
    assert float(said.removeprefix("largest ±").replace("−", "-")) == pytest.approx(
        largest, rel=0.01
    )
    assert exponent(1, 1) == -27
    assert "gradient of the loss" in shown["conv1"].layer.note


def test_a_colormap_that_was_asked_for(path: Path) -> None:
    assert shown_by(path, view="gradient")[1].cmap == "RdBu_r"
    assert shown_by(path, view="gradient", cmap="PiYG")[1].cmap == "PiYG"


def test_a_damaged_frame_is_marked(path: Path, tmp_path: Path) -> None:
    import h5py

    with h5py.File(path, "r+") as file:
        file["attention/maps/blocks.1.attn"][1, 0, 2, 3] = 0.9
        file["gradients/exponents/conv1"][0, 1] = 30_000
    for view in ("attention", "gradient"):
        made = replay.animate(path, tmp_path / f"{view}.mp4", view=view)
        assert any("damaged" in remark for remark in made.remarks), made.remarks


def test_figures_and_films_of_every_view(path: Path, tmp_path: Path) -> None:
    for view in ("attention", "gradient"):
        for make, name in (
            (replay.animate, "film.gif"),
            (replay.grid, "grid.png"),
            (replay.sheet, "sheet.pdf"),
        ):
            out = tmp_path / f"{view}-{name}"
            make(path, out, view=view)  # type: ignore[operator]
            assert out.stat().st_size > 1000
        replay.compare(path, path, tmp_path / f"{view}.mp4", view=view, difference=True)
        made = replay.animate(path, tmp_path / f"{view}.mp4", view=view, jobs=2)
        assert view in made.alt


def test_drawing_into_axes(path: Path) -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    image = replay.draw(path, axes, view="gradient", layer="conv1", epoch=0, batch=0, scale="frame")
    reach = np.abs(gradient("conv1", 0, 0)).max()
    assert image.norm.vmax == pytest.approx(reach, rel=0.1)
    values = image.get_array()
    assert np.abs(values).max() == pytest.approx(reach, rel=0.01)
    replay.draw(path, axes, view="attention", epoch=0)


def test_the_command_line(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(path), "--show", "attention", "-o", str(tmp_path / "a.gif"), "--quiet"]
    assert main(["animate", *words]) == 0
    assert main(["animate", *words, "--layer", "conv1"]) == 2
    assert "no attention of 'conv1'" in capsys.readouterr().err
    plain = write_recording(tmp_path / "plain.h5", {"conv1": drifting_maps(2, 4, 4)})
    assert main(["grid", str(plain), "--show", "gradient"]) == 2
    said = capsys.readouterr().err
    assert "no gradients in" in said
    assert "--gradients" in said
    assert main(["animate", str(path), "--show", "maps", "-o", str(tmp_path / "m.gif")]) == 0


def test_maps_are_what_they_were(path: Path, tmp_path: Path) -> None:
    bare = write_looking(tmp_path / "bare.h5", attention=False, gradients=False)
    for one, other in ((path, bare),):
        replay.animate(one, tmp_path / "one.mp4")
        replay.animate(other, tmp_path / "other.mp4", view="maps")
        assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "other.mp4").read_bytes()


@pytest.mark.parametrize("view", ["attention", "gradient"])
def test_comparisons_say_below_the_maps_what_films_do(
    path: Path, tmp_path: Path, view: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn(name: str) -> np.ndarray:
        out = tmp_path / name
        replay.compare(path, path, out, view=view, difference=False, epochs=1, batches=0)
        return np.array(Image.open(out).convert("L"))

    said = drawn("a.png")
    monkeypatch.setattr("replay.maps.attention_view.AttentionSeries.remark", lambda *_: "")
    monkeypatch.setattr("replay.maps.gradient_view.GradientSeries.remark", lambda *_: "")
    rows, columns = np.nonzero(said != drawn("b.png"))
    assert rows.min() > said.shape[0] * 0.8  # below the maps,
    assert columns.min() < said.shape[1] * 0.5 < columns.max()  # of either run
