"""The page in a real browser: opened from disk, used with mouse and keys, compared to the pixel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from browser import EXECUTABLE, Browser, Tab
from page_tabs import READY, choose, complaints, frame, manifest_of, pixels_of
from pages import frame_of, is_told, read
from samples import convolve, drifting_maps, smooth_image, write_recording

import replay
from replay.options import SCALES
from replay.raster.palette import Range
from replay.webpage.document import canvas_pixels, page

pytestmark = pytest.mark.skipif(
    EXECUTABLE is None, reason="no Chromium here: the page was not opened in a browser"
)

HOSTILE = "</script><img src=x onerror=alert(1)>"


def broken(epoch: int, batch: int) -> np.ndarray:
    maps = drifting_maps(6, 9, 14, seed=3)(epoch, batch)
    maps[1, 2, 3], maps[2, 3, 4] = np.nan, np.inf
    return maps


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(
        tmp_path_factory.mktemp("page") / "run.h5",
        {"conv1": drifting_maps(5, 24, 20), HOSTILE.replace("/", "%2F"): broken},
        modules={HOSTILE.replace("/", "%2F"): f"ReLU({HOSTILE})"},
        kernels={"conv1": lambda e, b: np.random.default_rng(e).normal(size=(5, 3, 3, 3))},
        epochs=3,
        batches=5,
        fields={"label": lambda e, b: 0, "prediction": lambda e, b: b % 2},
        meta={"classes": [HOSTILE, "dog"]},
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture
def tab(browser: Browser, path: Path) -> Iterator[Tab]:
    out = page(path).path
    tab = browser.open(out.as_uri())
    tab.wait(READY)
    yield tab
    assert complaints(tab) == []
    requests = [event["request"]["url"] for event in tab.events("Network.requestWillBeSent")]
    assert [url for url in requests if not url.startswith("data:")] == [out.as_uri()]


def maps_of(tab: Tab, channels: int) -> np.ndarray:
    """What the maps' canvases hold, uint8 (C, H, W, 3); all of it opaque."""
    shown = [pixels_of(tab, f'.map[data-channel="{c}"] canvas') for c in range(channels)]
    assert all((each[..., 3] == 255).all() for each in shown)
    return np.stack(shown)[..., :3]


def expected(
    path: Path,
    place: int,
    layer: int = 0,
    scale: str = "adaptive",
    cmap: str = "gray",
    symmetric: bool = False,
    source: int = 0,
) -> np.ndarray:
    """What Python computes from the page's blocks, which the recording is compared with."""
    about, reader = read(path.with_suffix(".html"))
    one = about["sources"][source]
    part = one["layers"][layer]
    cell = one["frames"]["epoch"][place], one["frames"]["batch"][place]
    block = frame_of(about, reader.blocks, layer, place, source)
    if part["step"] == 1 and one["key"] == "first":
        with replay.open(path) as recording:
            maps = recording[recording.layers[layer]][cell].astype("f8")
        off = np.abs(np.nan_to_num(block.values - maps, posinf=0, neginf=0))
        assert (off <= block.stored.step[:, None, None] * 0.51).all()
    ranges = {
        "adaptive": block.bounds,
        "map": block.extremes,
        "run": Range(*part["run"]),
        "epoch": Range(*part["epochs"][str(cell[0])]),
        "frame": Range(*part["frame"][place]),
        "channel": np.array(part["channel"]),
    }
    return canvas_pixels(block, ranges[scale], cmap, symmetric)


def test_the_last_frame_and_every_other_one_to_the_pixel(tab: Tab, path: Path) -> None:
    assert frame(tab) == 14
    assert (maps_of(tab, 5) == expected(path, 14)).all()
    for place in range(15):
        choose(tab, "slider", str(place))
        assert frame(tab) == place
        assert (maps_of(tab, 5) == expected(path, place)).all()
    spoken = tab.run("document.querySelector('#slider').getAttribute('aria-valuetext')")
    assert "epoch 2, batch 4, loss 0.526" in spoken
    assert tab.run("document.querySelector('#status').textContent") == (
        "epoch 2 of 0–2batch 4 of 0–4loss 0.526"
    )


def test_every_scale_and_colormap_to_the_pixel(tab: Tab, path: Path) -> None:
    choose(tab, "slider", "7")
    for layer, channels in ((0, 5), (1, 6)):
        choose(tab, "layer", str(layer))
        for scale in SCALES:
            for cmap, symmetric in (("gray", False), ("RdBu_r", True), ("viridis", False)):
                choose(tab, "scale", scale)
                choose(tab, "cmap", cmap)
                choose(tab, "symmetric", symmetric)
                want = expected(path, 7, layer, scale, cmap, symmetric)
                assert (maps_of(tab, channels) == want).all(), (layer, scale, cmap)
        low = tab.run("document.querySelector('#low').textContent")
        assert low == "low"  # of a channel; a run's is a number
        choose(tab, "scale", "run")
        low = tab.run("document.querySelector('#low').textContent")
        assert low.startswith("−") == (float(low.replace("−", "-")) < 0)
    assert tab.run("document.querySelector('#unfinite').textContent") == "■ 1 NaN■ 1 inf"
    assert "one scale for the whole run" in tab.run("document.body.innerText")


def test_the_input_picture_and_the_answers(tab: Tab, path: Path) -> None:
    from replay.maps.input_picture import InputPicture

    choose(tab, "slider", "8")
    with replay.open(path) as recording:
        picture = InputPicture(recording, recording.frames, 32).show(1, 3)
    assert (pixels_of(tab, "#input")[..., :3] == picture).all()
    assert tab.run("document.querySelector('#answers').textContent") == (
        f"label{HOSTILE}predicteddog"
    )


def test_names_from_the_file_are_text(tab: Tab) -> None:
    choose(tab, "layer", "1")
    assert tab.run("document.querySelector('#words b').textContent") == HOSTILE
    assert tab.run("document.querySelectorAll('img, body script[src]').length") == 0
    tab.click('.map[data-channel="1"]')
    tab.wait("document.querySelector('#dialog').open")
    assert tab.run("document.querySelector('#which').textContent") == f"Map 1 of {HOSTILE}"


def test_arrow_keys_home_end_and_whole_epochs(tab: Tab) -> None:
    for key, place in (
        ("Home", 0),
        ("ArrowRight", 1),
        ("ArrowRight", 2),
        ("ArrowLeft", 1),
        ("End", 14),
        ("ArrowRight", 14),
        ("Home", 0),
        ("ArrowLeft", 0),
    ):
        tab.press(key)
        assert frame(tab) == place
    assert "epoch 0, batch 0" in tab.run("document.querySelector('#live').textContent")
    for key, place in (("ArrowRight", 5), ("ArrowRight", 10), ("ArrowLeft", 5)):
        tab.press(key, shift=True)
        assert frame(tab) == place
    tab.run("document.querySelector('#slider').focus()")
    for key, place in (("ArrowRight", 6), ("PageUp", 10), ("PageDown", 5), ("Home", 0)):
        tab.press(key)
        assert frame(tab) == place


def test_space_plays_and_pauses_and_the_end_is_the_end(tab: Tab, path: Path) -> None:
    choose(tab, "speed", "30")
    choose(tab, "slider", "0")
    tab.run("document.activeElement.blur()")
    tab.press(" ")
    tab.wait("document.querySelector('#play').ariaLabel === 'Pause'")
    tab.wait("Number(document.querySelector('#maps').dataset.frame) >= 3")
    tab.press(" ")
    tab.wait("document.querySelector('#play').ariaLabel === 'Play'")
    place = frame(tab)
    assert 3 <= place < 14
    assert (maps_of(tab, 5) == expected(path, place)).all()
    assert tab.run("document.querySelector('#live').textContent").startswith("paused at epoch")
    tab.click("#play")
    tab.wait("document.querySelector('#maps').dataset.frame === '14'")
    tab.wait("document.querySelector('#play').ariaLabel === 'Play'")
    tab.click("#play")  # from the beginning
    tab.wait("Number(document.querySelector('#maps').dataset.frame) < 14")
    tab.press("ArrowLeft")
    tab.wait("document.querySelector('#play').ariaLabel === 'Play'")


def test_the_loss_curve_is_the_time_axis(tab: Tab) -> None:
    tab.click("#curve", across=0.5)
    assert frame(tab) == 7
    tab.click("#curve", across=0.999)
    assert frame(tab) == 14
    assert tab.run("document.querySelector('#dot').style.left") == "100%"


def test_a_map_enlarged_with_its_kernel_range_and_histogram(tab: Tab, path: Path) -> None:
    choose(tab, "slider", "0")
    tab.run("document.querySelector('.map[data-channel=\"2\"]').focus()")
    tab.press("Enter")
    tab.wait(f"document.querySelector('#dialog').open && {READY}")
    assert (pixels_of(tab, "#enlarged")[..., :3] == expected(path, 0)[2]).all()
    assert tab.run("document.querySelector('#which').textContent") == "Map 2 of conv1"
    with replay.open(path) as recording:
        from replay.raster.palette import kernel_levels, kernel_reach

        reach = max(kernel_reach(recording["conv1"].kernels(*cell)) for cell in recording.frames)
        shown, _ = kernel_levels(recording["conv1"].kernels(0, 0), reach)
        low, high = (f"{v:.3g}" for v in recording["conv1"].ranges()[0, 0, 2])
    assert (pixels_of(tab, "#kernel")[..., :3] == np.rint(shown[2] * 255)).all()
    said = tab.run("document.querySelector('#extremes-now').textContent").replace("−", "-")
    assert [float(part) for part in said.split(" … ")] == [float(low), float(high)]
    assert tab.run("document.querySelector('#histogram path').getAttribute('d').length") > 100

    tab.press("ArrowRight")  # frames
    assert frame(tab) == 1
    assert (pixels_of(tab, "#enlarged")[..., :3] == expected(path, 1)[2]).all()
    tab.press("ArrowDown")  # maps
    tab.wait("document.querySelector('#which').textContent === 'Map 3 of conv1'")
    tab.wait(READY)
    assert (pixels_of(tab, "#enlarged")[..., :3] == expected(path, 1)[3]).all()
    tab.click("#extremes", across=1.0 - 1e-3)
    assert frame(tab) == 14
    tab.press("Escape")
    tab.wait("!document.querySelector('#dialog').open")
    tab.wait("document.activeElement.dataset.channel === '3'")  # the one that was shown last


def test_channels_and_zoom(tab: Tab, path: Path) -> None:
    choose(tab, "channels", "3, 0-1")
    shown = "[...document.querySelectorAll('.map')].map((e) => e.dataset.channel).join()"
    assert tab.run(shown) == "3,0,1"
    assert (pixels_of(tab, '.map[data-channel="1"] canvas')[..., :3] == expected(path, 14)[1]).all()
    choose(tab, "channels", "9")
    assert tab.run("document.querySelector('#wrong').innerText") == (
        "no channel 9 here; there are 5, from 0 to 4"
    )
    assert tab.run("document.querySelector('#channels').getAttribute('aria-invalid')") == "true"
    choose(tab, "channels", "")
    assert tab.run(shown) == "0,1,2,3,4"
    assert tab.run("document.querySelector('#wrong').hidden")
    for zoom in ("1", "4"):
        choose(tab, "zoom", zoom)
        assert tab.run("document.querySelector('.map canvas').getBoundingClientRect().width") == (
            20 * int(zoom)
        )
        assert not tab.run("document.querySelector('#maps').classList.contains('smooth')")


@pytest.mark.parametrize(
    ("width", "height", "density"), [(360, 740, 3), (768, 1024, 2), (2560, 1300, 1)]
)
def test_no_screen_is_too_narrow(
    browser: Browser, path: Path, width: int, height: int, density: int
) -> None:
    tab = browser.open(page(path).path.as_uri(), width, height, density=density, mobile=width < 500)
    tab.wait(READY)
    assert tab.run("document.documentElement.scrollWidth") == width
    block = tab.run(
        "(() => { const c = document.querySelector('.map canvas');"
        "return c.getBoundingClientRect().width * devicePixelRatio / c.width; })()"
    )
    smooth = tab.run("document.querySelector('#maps').classList.contains('smooth')")
    assert smooth or block == pytest.approx(round(block), abs=1e-2)  # whole pixels of the screen
    tab.run("document.querySelector('.map').click()")
    tab.wait("document.querySelector('#dialog').open")
    assert tab.run("document.querySelector('#dialog').scrollWidth") <= width
    assert complaints(tab) == []


def test_light_dark_and_motion_follow_the_reader(browser: Browser, path: Path) -> None:
    out = page(path).path
    for dark, colour in ((False, "rgb(255, 255, 255)"), (True, "rgb(17, 19, 23)")):
        tab = browser.open(out.as_uri(), dark=dark, still=dark)
        tab.wait(READY)
        assert tab.run("getComputedStyle(document.documentElement).backgroundColor") == colour
        assert tab.run("document.querySelector('#speed').value") == ("2" if dark else "8")
        assert tab.run("document.querySelector('#play').ariaLabel") == "Play"


def test_everything_has_a_name_for_those_who_do_not_see(tab: Tab) -> None:
    tab.call("Accessibility.enable")
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    told = {"button", "slider", "combobox", "checkbox", "textbox", "image", "canvas"}
    nameless = [
        node
        for node in nodes
        if not node.get("ignored")
        and node.get("role", {}).get("value", "").lower() in told
        and not node.get("name", {}).get("value")
    ]
    assert nameless == []
    roles = {node.get("role", {}).get("value") for node in nodes if not node.get("ignored")}
    assert {"button", "slider", "combobox", "checkbox", "textbox"} <= roles


def test_a_thinned_and_averaged_page_says_so_and_shows_it(browser: Browser, tmp_path: Path) -> None:
    path = write_recording(
        tmp_path / "run.h5", {"conv1": drifting_maps(6, 64, 64)}, epochs=4, batches=20
    )
    result = page(path, max_mb=0.11)
    assert any("averaged" in note for note in result.notes)
    tab = browser.open(result.path.as_uri())
    tab.wait(READY)
    for note in result.notes:
        assert note in tab.run("document.querySelector('#notes').innerText")
    part = manifest_of(result.path)["sources"][0]
    assert part["layers"][0]["shape"] != [64, 64]
    last = len(part["frames"]["epoch"]) - 1
    assert (maps_of(tab, 6) == expected(path, last)).all()
    assert complaints(tab) == []


def test_many_maps_at_once(browser: Browser, tmp_path: Path) -> None:
    path = write_recording(
        tmp_path / "run.h5",
        {"conv": drifting_maps(300, 4, 4)},
        batches=2,
        fields={"loss": np.hypot},
    )
    tab = browser.open(page(path).path.as_uri())
    tab.wait(READY)
    assert tab.run("document.querySelectorAll('.map').length") == 256
    assert "The first 256 of 300 maps" in tab.run("document.querySelector('#shown').innerText")
    choose(tab, "channels", "290-299")
    assert tab.run("document.querySelectorAll('.map').length") == 10
    assert tab.run("document.querySelector('#shown').hidden")
    assert complaints(tab) == []


def test_maps_told_from_the_picture_to_the_pixel(browser: Browser, tmp_path: Path) -> None:
    mean, std, side = 0.485, 0.229, 128
    weights = np.random.default_rng(0).normal(size=(12, 3, 3, 3))
    held = smooth_image(99, 3, side, mean, std)

    def image(epoch: int, batch: int) -> np.ndarray:
        return smooth_image(batch, 3, side, mean, std)

    path = write_recording(
        tmp_path / "run.h5",
        {"conv1": lambda e, b: convolve(image(e, b), weights)},
        epochs=1,
        batches=8,
        images=image,
        probes=[(held, {"conv1": lambda e, b: convolve(held, weights * (1 + 0.1 * b))})],
    )
    with h5py.File(path, "r+") as file:
        for name in ("inputs", "probe/0/input"):
            file[name].attrs["mean"], file[name].attrs["std"] = np.full((2, 3), ((mean,), (std,)))
    limit = page(path).bytes / 1e6 * 0.6
    result = page(path, max_mb=limit, overwrite=True)
    about, reader = read(result.path)
    tab = browser.open(result.path.as_uri())
    tab.wait(READY)
    for source in (1, 0):
        tab.click(f'[data-source="{about["sources"][source]["key"]}"]')
        for place in (0, 7):
            assert is_told(reader.blocks, 0, place, source)
            choose(tab, "slider", str(place))
            block = frame_of(about, reader.blocks, 0, place, source)
            assert (maps_of(tab, 12) == canvas_pixels(block, block.bounds, "gray")).all()
    assert complaints(tab) == []
