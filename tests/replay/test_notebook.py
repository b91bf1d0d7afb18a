"""What recordings and animations show of themselves, and maps in one's own figure."""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from looking import write_looking
from samples import drifting_maps, write_recording
from strict_html import Strict

import replay
from replay.schema import OptionError, SelectionError, encode_name

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_recording(
        tmp_path / "run.h5",
        {"conv1": drifting_maps(12, 32, 32), "conv2": drifting_maps(4, 8, 8)},
        epochs=2,
        batches=3,
        fields={"loss": lambda e, b: 2.0 - e - 0.1 * b},
    )


def test_a_recording_shows_a_table_and_a_poster(path: Path) -> None:
    with replay.open(path) as run:
        assert repr(run) == (f"<Recording '{path}': conv1, conv2; 2 epochs, 2 layers, 6 frames>")
        page = Strict(run._repr_html_())
        assert page.open == []
        for word in ("run.h5", "6 frames · 2 epochs · loss 2.00 to 0.800", "conv1", "12x32x32"):
            assert word in page.words
        assert "conv1, epoch 1, batch 2" in page.words
        picture = page.picture()
        assert 300 < picture.width <= 640
        assert len(np.unique(np.array(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50
        probe = Strict(run._repr_html_())
        assert [tag for tag, _ in probe.tags].count("tr") == 3


def test_names_are_escaped_and_the_size_is_bounded(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\x1b[31m"
    layers = {encode_name(evil): drifting_maps(2, 6, 6)}
    layers.update({f"layer{number}": drifting_maps(1, 2, 2) for number in range(200)})
    path = write_recording(tmp_path / "run.h5", layers, epochs=1, batches=1, image=None)
    with replay.open(path) as run:
        text = run._repr_html_()
    assert "<script" not in text
    assert "\x1b" not in text
    page = Strict(text)
    assert page.open == []
    assert "and 189 more" in page.words
    assert len(text) < 300_000


def test_a_large_poster_is_made_smaller(tmp_path: Path) -> None:
    def noise(epoch: int, batch: int) -> np.ndarray:
        return np.random.default_rng(batch).standard_normal((64, 200, 200)).astype("f2")

    path = write_recording(tmp_path / "run.h5", {"conv": noise}, epochs=1, batches=1, image=None)
    with replay.open(path) as run:
        assert len(run._repr_html_()) < 300_000


def test_what_is_damaged_empty_or_closed_raises_nothing(tmp_path: Path, path: Path) -> None:
    import h5py

    with h5py.File(path, "r+") as file:
        file["checksums/conv1"][1, 2] += 1
    run = replay.open(path)
    assert "conv1" in Strict(run._repr_html_()).words
    run.close()
    assert Strict(run._repr_html_()).open == []
    empty = write_recording(
        tmp_path / "empty.h5", {"conv": drifting_maps(1, 2, 2)}, recorded=lambda e, b: False
    )
    with replay.open(empty) as run:
        assert "no frame yet" in run._repr_html_()


@pytest.mark.parametrize(
    ("name", "tag", "kind"),
    [
        ("run.mp4", "video", "video/mp4"),
        ("run.gif", "img", "image/gif"),
        ("run/", "img", "image/png"),
    ],
)
def test_an_animation_plays(path: Path, tmp_path: Path, name: str, tag: str, kind: str) -> None:
    made = replay.animate(path, f"{tmp_path}/{name}", zoom=1)
    page = Strict(made._repr_html_())
    assert page.open == []
    shown = next(attributes for found, attributes in page.tags if found == tag)
    head, _, data = str(shown["src"]).partition(",")
    assert head == f"data:{kind};base64"
    file = made.path if made.path.is_file() else sorted(made.path.iterdir())[-1]
    assert base64.b64decode(data) == file.read_bytes()
    assert str(shown.get("alt") or shown["aria-label"]).startswith("Animation")
    if tag == "video":
        assert {"controls", "loop", "muted", "playsinline"} <= shown.keys()
        made.path.unlink()
        assert "no longer there" in made._repr_html_()


def test_a_large_animation_is_named_instead(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = replay.animate(path, tmp_path / "run.gif", zoom=1)
    monkeypatch.setattr("replay.html._EMBEDDED_BYTES", 100)
    assert "too large to be shown here" in made._repr_html_()


def test_draw_shows_the_values_of_the_file(path: Path) -> None:
    figure, ax = plt.subplots()
    with replay.open(path) as run:
        image = replay.draw(run, ax, layer="conv2", epoch=0, batch=1, columns=2, scale="run")
        maps = run["conv2"][0, 1].astype("f4")
        everything = np.concatenate([run["conv2"][at].ravel() for at in run.frames]).astype("f4")
    values: Any = image.get_array()
    assert image.axes is ax
    assert ax.get_title() == "conv2, epoch 0, batch 1"
    found = values.compressed()
    assert sorted(found.tolist()) == sorted(maps.ravel().tolist())
    np.testing.assert_array_equal(values[:8, :8], maps[0])
    np.testing.assert_array_equal(values[-8:, -8:], maps[3])
    assert values.mask[:, 8].all()  # between the maps
    np.testing.assert_allclose(image.get_clim(), np.percentile(everything, (0.5, 99.5)), rtol=1e-3)
    bar = figure.colorbar(image)
    assert bar.vmin == image.norm.vmin
    figure.canvas.draw()
    plt.close(figure)


@pytest.mark.parametrize("scale", ["adaptive", "map", "channel"])
def test_draw_shows_each_map_on_a_range_of_its_own(path: Path, scale: str) -> None:
    figure, ax = plt.subplots()
    with replay.open(path) as run:
        image = replay.draw(run, ax, layer="conv2", epoch=0, batch=1, columns=2, scale=scale)
        maps = run["conv2"][0, 1].astype("f8")
        all_maps = np.stack([run["conv2"][at] for at in run.frames], axis=1).astype("f8")
    values: Any = image.get_array()
    assert image.get_clim() == (0.0, 1.0)
    for place, where in ((0, np.s_[:8, :8]), (3, np.s_[-8:, -8:])):
        low, high = {
            "map": (maps[place].min(), maps[place].max()),
            "adaptive": np.percentile(maps[place], (1, 99)),
            "channel": np.percentile(all_maps[place], (0.5, 99.5)),
        }[scale]
        np.testing.assert_allclose(values[where], (maps[place] - low) / (high - low), atol=2e-3)
    bar = figure.colorbar(image)
    figure.canvas.draw()
    assert [each.get_text() for each in bar.ax.get_yticklabels()] == ["low", "high"]
    assert len(ax.patches) == (0 if scale == "channel" else 2 * len(maps))  # gain bars
    left, top, right, bottom = ax.axis()[0], ax.axis()[3], ax.axis()[1], ax.axis()[2]
    for patch in ax.patches:
        assert left <= patch.get_x() <= patch.get_x() + patch.get_width() <= right
        assert top <= patch.get_y() < bottom
    plt.close(figure)


def test_draw_shows_a_faint_map_by_itself(tmp_path: Path) -> None:
    strength = np.array([1.0, 1e-5])[:, None, None]
    waves = drifting_maps(2, 8, 8)
    path = write_recording(tmp_path / "run.h5", {"conv": lambda e, b: waves(e, b) * strength})
    _, ax = plt.subplots()
    image = replay.draw(path, ax, epoch=0, batch=1, columns=1, scale="map")
    maps = (waves(0, 1) * strength).astype("f2").astype("f8")[1]
    values: Any = image.get_array()
    expected = (maps - maps.min()) / np.ptp(maps)
    np.testing.assert_allclose(values[-8:, -8:], expected, atol=3e-3)
    plt.close("all")


def test_draw_marks_what_is_not_finite(tmp_path: Path) -> None:
    def maps(epoch: int, batch: int) -> np.ndarray:
        found = np.ones((1, 4, 4), "f2")
        found[0, 0, 0], found[0, 1, 1] = np.nan, np.inf
        return found

    path = write_recording(tmp_path / "run.h5", {"conv": maps})
    _, ax = plt.subplots(figsize=(4, 4), dpi=100)
    ax.set_title("mine")
    replay.draw(path, ax, channels=0, clip=(0, 2))
    marks = ax.images[1].get_array()
    assert marks is not None
    assert (np.asarray(marks)[..., 3] > 0).sum() == 2
    assert np.asarray(marks)[0, 0].tolist() != np.asarray(marks)[1, 1].tolist()
    assert ax.get_title() == "mine"
    assert replay.draw(path, channels=0).axes is plt.gca()
    plt.close("all")


def test_what_cannot_be_drawn(path: Path) -> None:
    for options, error, words in (
        ({"scale": "all"}, OptionError, "expected one of adaptive, map, run"),
        ({"layer": "nothing"}, SelectionError, "no layer"),
        ({"epoch": 7}, SelectionError, "no epoch 7"),
        ({"columns": 0}, OptionError, "columns 0"),
        ({"cmap": "grey-ish"}, OptionError, "unknown colormap"),
    ):
        with pytest.raises(error, match=words):
            replay.draw(path, **options)  # type: ignore[arg-type]


def colours(text: str) -> np.ndarray:
    """The picture that some HTML shows, uint8 (H, W, 4), without its paper."""
    shown = np.array(Strict(text).picture().convert("RGBA"))
    rows, columns = np.nonzero(shown[..., 3])
    return shown[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def test_class_activation_shows_itself_over_its_image(tmp_path: Path) -> None:
    path = write_looking(tmp_path / "run.h5")
    with replay.open(path) as run:
        cams = [run.cam(), run.cam(probe=1), run.probe(0).cam("conv2", method="hirescam")]
        values = [cam[-1, -1] for cam in cams]
    texts = [cam._repr_html_() for cam in cams]  # also of a recording that is closed
    said = [Strict(str(text)).words for text in texts]
    assert "class activation · grad-cam · of the score of the label · 8x8 · 6 frames" in said[0]
    assert "fixed image 1" in said[1]
    assert "hirescam" in said[2]
    for text, value in zip(texts, values, strict=True):
        shown = colours(str(text))[..., :3].astype(int)
        assert "epoch 2, batch 1" in str(text)
        height, width = shown.shape[:2]
        rows = (np.arange(8) * height // 8 + height // 16)[:, None]
        across = np.arange(8) * width // 8 + width // 16
        spread = np.ptp(shown, axis=2)[rows, across]  # where nothing is, the picture is gray
        assert spread[value == value.max()].min() > 60
        assert (spread[value == 0] < 40).all()


def test_what_lies_beside_the_maps_shows_itself_and_not_the_maps(tmp_path: Path) -> None:
    path = write_looking(tmp_path / "run.h5")
    with replay.open(path) as run:
        weights = run.cam_weights("conv2", 0)
        stored = weights[-1, -1]
        of_weights = [str(each._repr_html_()) for each in (weights, run.beside("cam", 0))]
        of_gradients = [
            str(each._repr_html_()) for each in (run.gradient("conv1"), run.beside("gradients"))
        ]
        of_attention = [
            str(each._repr_html_())
            for each in (run.attention("blocks.0.attn"), run.beside("attention"))
        ]
    pairs = (of_weights, of_gradients, of_attention)
    words = ("class activation weights", "gradients", "attention")
    for (one, whole), word in zip(pairs, words, strict=True):
        assert word in Strict(one).words
        assert word in Strict(whole).words
        assert np.array_equal(colours(one), colours(whole))
        assert np.ptp(colours(one)[..., :3].astype(int), axis=(0, 1)).min() > 100
    shown = colours(of_weights[0])[..., :3].astype(int)  # two rows of three
    height, width = shown.shape[0] // 2, shown.shape[1] // 3
    found = [
        shown[row * height + height // 2, column * width + width // 2]
        for row in range(2)
        for column in range(3)
    ]
    redness = np.array([colour[0] - colour[2] for colour in found])
    assert (np.sign(redness) == np.sign(stored)).all()


def test_the_fields_of_batches_are_a_line(tmp_path: Path) -> None:
    path = write_looking(tmp_path / "run.h5")
    with replay.open(path) as run:
        said = repr(run.batches), repr(run.probe(1).batches)
    assert said[0].startswith(f"<Fields of '{path}': ")
    assert "loss" in said[0]
    assert "and 6 more" in said[0]
    assert said[0].endswith("; each (3, 2), of epoch and batch>")
    assert said[1].startswith("<Fields of fixed image 1: ")
    assert "prediction" in said[1]


def test_the_tour_runs(tmp_path: Path) -> None:
    """docs/tour.ipynb, in an empty folder, with this Python."""
    nbformat = pytest.importorskip("nbformat")
    sys.path.insert(0, str(ROOT / "scripts" / "gallery_tools"))
    from tour import TOUR, execute

    notebook = nbformat.read(TOUR, as_version=4)
    committed = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    execute(notebook, str(tmp_path))
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert [len(found) for found in outputs] == [len(found) for found in committed]
    pages = [
        o.data["text/html"] for found in outputs for o in found if "text/html" in o.get("data", {})
    ]
    assert "<table>" in pages[0]
    assert "data:image/png" in pages[0]
    assert "<video controls" in pages[1]
    assert {"run.h5", "run.mp4", "sheet.png", "report.html"} <= {p.name for p in tmp_path.iterdir()}
    text = TOUR.read_text()
    assert len(text) < 1_500_000
    assert not re.search(r"/(home|root|tmp|work|opt|Users)/", text)


@pytest.mark.parametrize("scale", ["adaptive", "run"])
@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 15), (3, 3), (4, 4)])
def test_drawn_maps_of_few_values_are_outlined(
    tmp_path: Path, height: int, width: int, count: int, scale: str
) -> None:
    layers = {"conv1": drifting_maps(count, height, width)}
    path = write_recording(tmp_path / "run.h5", layers, epochs=1, batches=2)
    figure, ax = plt.subplots()
    image = replay.draw(path, ax, scale=scale)
    frames = [
        each
        for each in ax.patches
        if abs(each.get_width() - width) < 0.1 and abs(each.get_height() - height) < 0.1
    ]
    assert len(frames) == (count if height * width < 16 else 0)
    shown = ~np.ma.getmaskarray(image.get_array())
    for each in frames:
        left, top = (round(at + 0.5) for at in each.get_xy())
        assert shown[top : top + height, left : left + width].all()
    plt.close(figure)
