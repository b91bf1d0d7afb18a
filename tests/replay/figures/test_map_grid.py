import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image
from samples import drifting_maps, write_recording

import replay
from replay.figures import grid_layout
from replay.figures.map_grid import grid
from replay.maps.scaling import Scaler
from replay.raster.palette import colormap, enlarge, kernel_levels, reduce, unfinite_colors
from replay.schema import OptionError, OutputError, SelectionError


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(
        tmp_path_factory.mktemp("still") / "run.h5",
        {
            "conv1": drifting_maps(6, 24, 20),
            "deep": drifting_maps(512, 2, 2),
            "odd": lambda e, b: np.full((2, 3, 3), np.nan if b else 1, "f2"),
            "$x^2$%0A": drifting_maps(1, 4, 4),
        },
        epochs=3,
        kernels={"conv1": lambda e, b: drifting_maps(6, 3, 27)(e, b).reshape(6, 3, 3, 9)},
        fields={"label": lambda e, b: 1, "prediction": lambda e, b: 0},
        meta={"classes": ["cat", "dog"]},
    )


def places(page: np.ndarray, picture: np.ndarray) -> int:
    """How often the picture stands on the page, pixel for pixel."""
    height, width = picture.shape[:2]
    count = 0
    corners = np.argwhere((page == picture[0, 0]).all(-1))
    for y, x in corners:
        count += np.array_equal(page[y : y + height, x : x + width], picture)
    return count


@pytest.mark.parametrize(("dpi", "scale"), [(72, "adaptive"), (110, "run"), (90, "map")])
def test_every_map_pixel_is_a_block_of_its_exact_colour(
    path: Path, tmp_path: Path, dpi: int, scale: str
) -> None:
    made = grid(path, tmp_path / "a.png", layer="conv1", dpi=dpi, cmap="viridis", scale=scale)
    page = np.asarray(Image.open(made.path).convert("RGB"))
    assert page.shape[:2] == (made.height, made.width)
    assert (made.bytes, made.path) == (made.path.stat().st_size, tmp_path / "a.png")
    with replay.open(path) as run:
        scaler = Scaler(run["conv1"], run.frames, range(6), scale, count=254)  # of the whole run
        levels = scaler.levels(2, 3, run["conv1"][2, 3])
    colours = colormap("viridis", 254)
    blocks = [
        block for block in range(1, 12) if places(page, enlarge(colours[levels[0]], block)) == 1
    ]
    assert len(blocks) == 1
    for channel in range(1, 6):
        assert places(page, enlarge(colours[levels[channel]], blocks[0])) == 1


def test_equal_figures_are_equal_to_the_byte_and_settings_stay(path: Path, tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    for suffix in (".png", ".pdf", ".svg"):
        one, two = (
            grid(path, tmp_path / f"{name}{suffix}", epochs="0,2", kernels=True, theme="dark")
            for name in "ab"
        )
        assert one.path.read_bytes() == two.path.read_bytes()
    assert dict(matplotlib.rcParams) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"{name}.{suffix}" for name in "ab" for suffix in ("pdf", "png", "svg")
    ]


def test_text_stays_text_and_says_what_is_shown(path: Path, tmp_path: Path) -> None:
    svg = grid(path, tmp_path / "a.svg", epochs=[0, 2], kernels=True).path.read_text()
    words = re.findall(r"<text [^>]*>([^<]*)</text>", svg)
    for word in ("conv1", "epoch 0", "epoch 2", "batch 3", "label dog", "predicted cat"):
        assert word in words
    assert [word for word in words if word.isdigit() and word != "0"] == list("12345") * 2
    said = " ".join(words)
    assert "activation, each map on its own range, 1–99 % of its values" in said
    assert "bar: that range against the layer's largest (log)" in said
    assert {"low", "high"} <= set(words)
    assert any(word.startswith("kernels in RGB: gray is 0") for word in words)
    assert svg.count('id="map"') or svg.count("<image") >= 12
    pdf = grid(path, tmp_path / "a.pdf").path.read_bytes()
    assert b"/Subtype /CIDFontType2" in pdf or b"/Subtype /TrueType" in pdf
    assert b"/Type3" not in pdf


def test_what_is_not_finite_is_counted(path: Path, tmp_path: Path) -> None:
    made = grid(path, tmp_path / "a.svg", layer="odd")
    assert "18 NaN" in made.path.read_text()
    page = grid(path, tmp_path / "a.png", layer="odd").path
    nan = unfinite_colors("gray")[0]
    assert (np.asarray(Image.open(page).convert("RGB")) == nan).all(-1).sum() > 18


def test_odd_names_and_titles_are_only_text(path: Path, tmp_path: Path) -> None:
    assert "$x^2$·" in grid(path, tmp_path / "a.svg", layer="$x^2$\n").path.read_text()
    grid(path, tmp_path / "a.png", title="漢字 " + "long " * 100, dpi=72, input=False)


def test_many_small_maps_are_numbered_by_row(path: Path, tmp_path: Path) -> None:
    svg = grid(path, tmp_path / "a.svg", layer="deep", dpi=72).path.read_text()
    assert re.search(r">0–\d+</text>", svg)
    assert svg.count("<image") >= 512


def test_each_channel_on_its_own_scale_says_its_range(path: Path, tmp_path: Path) -> None:
    svg = grid(path, tmp_path / "a.svg", scale="channel").path.read_text()
    assert len(re.findall(r">\d\s+−[\d.]+ … [\d.]+</text>", svg)) == 6


def test_default_name_stands_beside_the_recording(path: Path) -> None:
    made = grid(path)
    assert made.path == path.with_name("run-grid.png")
    made.path.unlink()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"out": "a.jpg"}, OutputError, r"ends in \.png, \.pdf, \.svg"),
        ({"out": "nowhere/a.png"}, OutputError, "no such folder"),
        ({"out": "folder.png"}, OutputError, "it is a folder"),
        ({"cmap": "virdis"}, OptionError, "viridis"),
        ({"theme": "blue"}, OptionError, "one of light, dark"),
        ({"scale": "all"}, OptionError, "expected one of"),
        ({"dpi": 0}, OptionError, "dpi"),
        ({"layer": "x"}, SelectionError, "recorded: conv1, deep"),
        ({"epochs": 3}, SelectionError, "there: 0-2"),
        ({"batch": 4}, SelectionError, "recorded: 0-3"),
        ({"channels": "6"}, SelectionError, "there: 0-5"),
        ({"layer": "deep", "kernels": True}, SelectionError, "no kernels"),
        ({"dpi": 72, "epochs": [0] * 500}, OptionError, "too large"),
    ],
)
def test_what_cannot_be_drawn_leaves_nothing(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, object],
    error: type[Exception],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "old.png").write_bytes(b"old")
    with pytest.raises(error, match=words):
        grid(path, overwrite=True, **{"out": "old.png", **options})  # type: ignore[arg-type]
    assert (tmp_path / "old.png").read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.png", "old.png"]


@pytest.mark.parametrize("count", [1, 2, 7, 12, 64, 65, 512, 2048])
@pytest.mark.parametrize("size", [1, 2, 7, 56, 128, 224])
def test_cells_never_overlap_and_fit_where_they_can(count: int, size: int) -> None:
    cells = grid_layout.arrange(count, (size, size), 1100, 1, 200, 25, (3, 3) if size > 2 else None)
    assert cells.columns * cells.rows >= count
    assert cells.map_size == (size * cells.zoom, size * cells.zoom)
    assert cells.width <= 1100 or cells.zoom == 1
    right = cells.place(cells.columns - 1)[0] + cells.cell_size[1]
    assert right == cells.width


def test_pictures() -> None:
    assert reduce(
        enlarge(np.arange(12, dtype=np.uint8).reshape(2, 2, 3), 3), 3
    ).ravel().tolist() == (list(range(12)))
    kernels = np.array([[[[1, -1]], [[0, 0]], [[-1, np.nan]]]], "f2")  # (1, 3, 1, 2)
    shown, words = kernel_levels(kernels, 1.0)
    assert (shown.shape, words) == ((1, 1, 2, 3), "kernels in RGB")
    assert shown[0, 0].tolist() == [[1, 0.5, 0], [0, 0.5, 0.5]]
    assert kernel_levels(kernels[:, :2], 1.0)[1] == "kernels, mean of 2 inputs"


def test_a_fixed_image_has_the_kernels_of_the_run_beside_its_maps(tmp_path: Path) -> None:
    """As in a film: they were said not to be kept."""
    maps = drifting_maps(3, 8, 8)
    made = write_recording(
        tmp_path / "fixed.h5",
        {"conv": maps},
        probes=[(np.zeros((3, 8, 8)), {"conv": maps})],
        kernels={"conv": lambda e, b: np.full((3, 3, 3, 3), 1.0 + e)},
    )
    texts = [
        grid(made, tmp_path / f"{probe}.svg", epoch=1, kernels=True, probe=probe).path.read_text()
        for probe in (None, 0)
    ]
    assert all("kernels in RGB: gray is 0, ends ±2" in text for text in texts)
