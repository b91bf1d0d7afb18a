"""A page of two runs in a real browser: both runs' canvases, to the pixel, under one slider."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import EXECUTABLE, Browser, Tab
from page_tabs import READY, choose, complaints, frame, manifest_of, pixels_of
from pages import frame_of, read
from samples import drifting_maps, write_recording

import replay
from replay.maps.input_picture import InputPicture
from replay.raster.palette import Range
from replay.webpage.document import canvas_pixels, page
from replay.webpage.frame_block import FrameBlock
from replay.webpage.manifest import color_table

pytestmark = pytest.mark.skipif(
    EXECUTABLE is None, reason="no Chromium here: the page was not opened in a browser"
)

HOSTILE = "<img src=x onerror=alert(1)>"


def run(folder: Path, name: str, seed: int, **options: object) -> Path:
    maps = drifting_maps(4, 10, 14, seed=seed)
    settings = {
        "run_id": f"{seed:032x}",
        "fields": {"loss": lambda e, b: seed + b / 4, "prediction": lambda e, b: seed % 2},
        "meta": {"classes": ["cat", HOSTILE]},
        "kernels": {"conv1": lambda e, b: np.full((4, 3, 3, 3), seed / 9)},
        **options,
    }
    layers = {"conv1": lambda e, b: maps(e, b) * seed, "conv2": drifting_maps(2, 4, 4, seed)}
    return write_recording(folder / f"{name}.h5", layers, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("pair")
    images = drifting_maps(3, 32, 32, seed=9)
    a = run(folder, "a", 1, batches=5)
    return a, run(folder, f"b{HOSTILE}", 3, epochs=3, images=images)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture
def tab(browser: Browser, paths: tuple[Path, Path]) -> Iterator[Tab]:
    result = page(paths)
    assert result.notes == ("left out 6 batches that not every recording has",)
    tab = browser.open(result.path.as_uri())
    tab.wait(READY)
    yield tab
    assert complaints(tab) == []


def shown(tab: Tab, run: int, channels: int) -> np.ndarray:
    selector = '.map[data-run="{}"][data-channel="{}"] canvas'
    return np.stack([pixels_of(tab, selector.format(run, c))[..., :3] for c in range(channels)])


def blocks_of(paths: tuple[Path, Path], run: int, place: int, layer: str) -> FrameBlock:
    about, reader = read(paths[0].with_suffix(".html"))
    return frame_of(about, reader.blocks, 2 * ["conv1", "conv2"].index(layer) + run, place)


def expected(
    paths: tuple[Path, Path], run: int, place: int, layer: str, scale: str = "adaptive"
) -> np.ndarray:
    part = manifest_of(paths[0].with_suffix(".html"))["sources"][0]["layers"]
    part = part[2 * ["conv1", "conv2"].index(layer) + run]
    block = blocks_of(paths, run, place, layer)
    ranges = {"adaptive": None, "run": Range(*part["run"]), "frame": Range(*part["frame"][place])}
    return canvas_pixels(block, ranges[scale])


def test_the_slider_sets_both_runs_to_the_pixel(tab: Tab, paths: tuple[Path, Path]) -> None:
    with replay.open(paths[0]) as a, replay.open(paths[1]) as b:
        cells = [cell for cell in a.frames if cell in b.frames]
        values = np.stack([[r["conv1"][cell] for cell in cells] for r in (a, b)]).astype("f4")
        pictures = [InputPicture(r, cells, 32) for r in (a, b)]
        about = manifest_of(paths[0].with_suffix(".html"))["sources"][0]
        for part in about["layers"][:2]:
            np.testing.assert_allclose(part["run"], np.percentile(values, (0.5, 99.5)), rtol=1e-6)
        for place, cell in enumerate(cells):
            choose(tab, "slider", str(place))
            assert frame(tab) == place
            for number, name in enumerate(("#input", "#input-b")):
                assert (shown(tab, number, 4) == expected(paths, number, place, "conv1")).all()
                assert (pixels_of(tab, name)[..., :3] == pictures[number].show(*cell)).all()
    assert tab.run("document.querySelector('#facts-1').textContent") == (
        f"loss 3.75predicted {HOSTILE}"
    )
    assert tab.run("document.querySelectorAll('#curve .done').length") == 2
    assert tab.run("document.querySelectorAll('img').length") == 0


def test_another_layer_scale_and_an_enlarged_map_of_the_second_run(
    tab: Tab, paths: tuple[Path, Path]
) -> None:
    options = "[...document.querySelector('#layer').options].map((o) => o.textContent).join()"
    assert tab.run(options) == "conv1,conv2"
    tab.run("document.querySelector('#layer').selectedIndex = 1")
    choose(tab, "layer", "2")
    choose(tab, "scale", "frame")
    choose(tab, "slider", "5")
    for number in (0, 1):
        assert (shown(tab, number, 2) == expected(paths, number, 5, "conv2", "frame")).all()
    part = manifest_of(paths[0].with_suffix(".html"))["sources"][0]["layers"]
    assert part[2]["frame"] == part[3]["frame"]  # one range for both runs
    choose(tab, "layer", "0")
    choose(tab, "scale", "adaptive")
    tab.run('document.querySelector(\'.map[data-run="1"][data-channel="2"]\').click()')
    tab.wait(f"document.querySelector('#dialog').open && {READY}")
    name = paths[1].stem
    assert tab.run("document.querySelector('#which').textContent") == f"Map 2 of conv1, {name}"
    want = expected(paths, 1, 5, "conv1")
    assert (pixels_of(tab, "#enlarged")[..., :3] == want[2]).all()
    tab.press("ArrowDown")
    tab.wait(f"document.querySelector('#which').textContent.startsWith('Map 3') && {READY}")
    assert (pixels_of(tab, "#enlarged")[..., :3] == want[3]).all()
    tab.press("Escape")
    tab.wait("document.activeElement.dataset.run === '1'")


def test_the_difference_is_symmetric_and_each_run_on_ranges_of_its_own(
    tab: Tab, paths: tuple[Path, Path]
) -> None:
    choose(tab, "slider", "5")
    choose(tab, "difference", True)
    a, b = (blocks_of(paths, run, 5, "conv1") for run in (0, 1))
    assert (a.bounds != b.bounds).all()
    for channel in range(4):
        more = b.values[channel] - a.values[channel]
        sizes = np.sort(np.abs(more), axis=None)
        width = max(np.diff(each.bounds[channel])[0] for each in (a, b))
        reach = max(sizes[int(0.99 * (sizes.size - 1))], width / 8)
        level = np.clip(np.floor((more + reach) / (2 * reach) * 253 + 0.5), 0, 253).astype(int)
        selector = f'.map[data-run="difference"][data-channel="{channel}"] canvas'
        found = pixels_of(tab, selector)[..., :3]
        assert (found == color_table("RdBu_r")[level]).all()
        words = tab.run(f"document.querySelector('{selector}').getAttribute('aria-label')")
        assert words.startswith(f"Difference of map {channel} of conv1 at epoch")
    assert "difference=1" in tab.run("location.hash")
    for number in (0, 1):
        assert (shown(tab, number, 4) == expected(paths, number, 5, "conv1")).all()
    choose(tab, "difference", False)
    assert tab.run("document.querySelectorAll('[data-run=difference]').length") == 0


def test_runs_that_saw_the_same_share_the_picture_and_the_size(
    browser: Browser, tmp_path: Path
) -> None:
    paths = run(tmp_path, "a", 1), run(tmp_path, "b", 2)
    tab = browser.open(page(paths).path.as_uri(), 360, 740, density=2, mobile=True)
    tab.wait(READY)
    assert tab.run("document.querySelector('#picture-b').hidden")
    assert "of both runs" in tab.run("document.querySelector('#picture').innerText")
    assert tab.run("document.documentElement.scrollWidth") == 360
    large = [
        write_recording(
            tmp_path / f"{seed}.h5", {"conv1": drifting_maps(6, 64, 64, seed)}, batches=20
        )
        for seed in (1, 2)
    ]
    result = page(large, max_mb=0.2)
    assert result.bytes <= 200_000
    one = manifest_of(result.path)["sources"][0]
    first, second = one["layers"]
    assert first["shape"] == second["shape"] != [64, 64]
    tab = browser.open(result.path.as_uri())
    tab.wait(READY)
    paths = (large[0], large[1])
    last = len(one["frames"]["epoch"]) - 1
    for number in (0, 1):
        want = expected(paths, number, last, "conv1")
        assert (shown(tab, number, 6) == want).all()
    assert complaints(tab) == []


def test_fixed_images_of_two_runs(browser: Browser, tmp_path: Path) -> None:
    picture = np.linspace(-1, 1, 3 * 16 * 16).reshape(3, 16, 16)
    made = []
    for seed in (1, 2):
        fixed = drifting_maps(4, 10, 14, seed)(0, 0)
        probes = [(picture, {"conv1": lambda e, b, m=fixed: m * (1 + e + 0.1 * b)})]
        made.append(run(tmp_path, f"run{seed}", seed, probes=probes))
    result = page(made)
    about, reader = read(result.path)
    assert [source["key"] for source in about["sources"]] == ["first", "probe-0"]
    tab = browser.open(result.path.as_uri())
    tab.wait(READY)
    assert "fixed image 0, evaluation mode, of both runs" in tab.run("document.body.innerText")
    for number in (0, 1):
        want = canvas_pixels(frame_of(about, reader.blocks, number, 7, source=1))
        assert (shown(tab, number, 4) == want).all()
    assert complaints(tab) == []


def test_what_a_page_does_not_show(paths: tuple[Path, Path], tmp_path: Path) -> None:
    other = run(tmp_path, "other", 2)
    wide = write_recording(
        tmp_path / "wide.h5", {"conv1": drifting_maps(4, 9, 9), "conv3": drifting_maps(1, 2, 2)}
    )
    with pytest.raises(replay.RecordingError, match="expected one recording or two, found 3"):
        page([*paths, other])
    with pytest.raises(
        replay.RecordingError, match="'conv1' has frames of 4x10x14 in .* and 4x9x9"
    ):
        page([other, wide])
    with pytest.raises(replay.RecordingError, match="'conv3' is in .*wide.h5 and not in"):
        page([other, wide], layers="conv3")
    assert not other.with_suffix(".html").exists()
