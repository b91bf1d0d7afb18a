"""Components, and what lies over the input, in the page in a real browser: to the pixel."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import EXECUTABLE, Browser, Tab
from looking import IMAGE, write_looking
from page_tabs import READY, SCREENS, axe_findings, choose, complaints, manifest_of, pixels_of
from pages import bytes_of, frame_of, picture_of, read
from samples import drifting_maps, write_recording

from replay.maps.components import find_components
from replay.maps.planes import Planes
from replay.raster.palette import Range
from replay.recording import Recording
from replay.schema.token_grid import TokenGrid
from replay.webpage.components_data import PageBasis, component_pixels
from replay.webpage.document import page
from replay.webpage.over_input import over_pixels, over_range, usual_colors

pytestmark = pytest.mark.skipif(
    EXECUTABLE is None, reason="no Chromium here: the page was not opened in a browser"
)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("views") / "run.h5"
    write_looking(path, epochs=2, batches=2, probes=1)
    return page(path).path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


def opened(browser: Browser, out: Path, fragment: str, **look: int) -> Tab:
    tab = browser.open(f"{out.as_uri()}#{fragment}", **look)
    tab.wait(READY)
    return tab


def of_page(out: Path, key: str, name: str) -> tuple[dict, dict, int, int]:
    """The manifest, the blocks, and the places of a source and of its layer."""
    manifest, reader = read(out)
    source = next(i for i, each in enumerate(manifest["sources"]) if each["key"] == key)
    names = [each["name"] for each in manifest["sources"][source]["layers"]]
    return manifest, reader.blocks, source, names.index(name)


def basis_of(out: Path, key: str, name: str) -> PageBasis:
    manifest, blocks, source, layer = of_page(out, key, name)
    about = manifest["sources"][source]["layers"][layer]
    return PageBasis.unpack(bytes_of(blocks[about["components"]]), len(about["channels"]))


def three_colours(out: Path, key: str, name: str, frame: int) -> np.ndarray:
    manifest, blocks, source, layer = of_page(out, key, name)
    places = TokenGrid(*manifest["sources"][source]["layers"][layer]["places"])
    block = frame_of(manifest, blocks, layer, frame, source)
    return component_pixels(block, basis_of(out, key, name), places)


def over(out: Path, key: str, name: str, frame: int, place: int, signed: bool) -> np.ndarray:
    manifest, blocks, source, layer = of_page(out, key, name)
    one = manifest["sources"][source]
    places = TokenGrid(*one["layers"][layer]["places"])
    block = frame_of(manifest, blocks, layer, frame, source)
    picture = picture_of(manifest, blocks, 0 if one["input"]["fixed"] else frame, source)
    table = np.frombuffer(base64.b64decode(usual_colors()[signed]), np.uint8).reshape(-1, 3)
    shown = over_range(Range(*block.bounds[place]), signed)
    return over_pixels(block, place, places, picture, shown, table, one["smooth"])


@pytest.mark.parametrize("key", ["first", "probe-0"])
@pytest.mark.parametrize("name", ["conv1", "conv2", "blocks.0"])
def test_components_to_the_pixel(browser: Browser, out: Path, key: str, name: str) -> None:
    tab = opened(browser, out, f"image={key}-components&layer={name}&frame=0.1")
    shown = pixels_of(tab, "#maps canvas")
    assert (shown[..., 3] == 255).all()
    assert (shown[..., :3] == three_colours(out, key, name, 1)).all()
    assert len(np.unique(shown[..., :3].reshape(-1, 3), axis=0)) > 20
    words = basis_of(out, key, name).words
    assert words.startswith("red ")
    said = tab.run("document.getElementById('maps').querySelector('canvas').ariaLabel")
    assert said.startswith(f"Components of {name} at epoch 0, batch 1, loss ")
    assert said.endswith(f": {words}")
    assert tab.run("document.getElementById('low').textContent") == words.split(" of ")[0]
    for control in ("scale", "cmap", "channels", "symmetric"):
        assert tab.run(f"document.getElementById('{control}').disabled")
    assert complaints(tab) == []


def test_colours_are_those_of_films_and_mean_the_same_in_every_frame(out: Path) -> None:
    with Recording(out.with_suffix(".h5")) as run:
        planes = Planes(run["conv2"])
        components = find_components(lambda cell: planes[cell], run["conv2"].frames)
        for place, cell in enumerate(run["conv2"].frames):
            off = three_colours(out, "first", "conv2", place).astype(int) - components.colours(
                planes[cell]
            )
            assert np.abs(off).max() <= 6  # the page has 8 bits of each channel
            assert np.abs(off).mean() < 0.6
    assert basis_of(out, "first", "conv2").words == f"{components.in_words} of 6 channels"


@pytest.mark.parametrize(
    ("key", "name", "place", "signed"),
    [
        ("probe-0", "conv1", 2, True),
        ("first-attention", "blocks.1.attn", 1, False),
        ("probe-0-gradient", "conv1", 0, True),
        ("probe-0-cam", "conv2", 0, False),
    ],
)
def test_over_the_input_to_the_pixel(
    browser: Browser, out: Path, key: str, name: str, place: int, signed: bool
) -> None:
    tab = opened(browser, out, f"image={key}&layer={name}&frame=1.0&over=1")
    shown = pixels_of(tab, f'.map[data-channel="{place}"] canvas')
    assert shown.shape[:2] == IMAGE[1:]
    assert (shown[..., :3] == over(out, key, name, 2, place, signed)).all()
    saturation = np.ptp(shown[..., :3].astype(int), axis=2)
    assert saturation.min() <= 6  # where there is nothing it is the picture in gray
    assert saturation.max() > 60
    label = tab.run(f"document.querySelector('.map[data-channel=\"{place}\"] canvas').ariaLabel")
    assert "over the input, shown from " in label
    assert tab.run("document.getElementById('cmap').value") == "auto"
    tab.run(f"document.querySelector('.map[data-channel=\"{place}\"]').click()")
    tab.wait(f"document.querySelector('#dialog').open && {READY}")
    large = pixels_of(tab, "#enlarged")
    assert (large == shown).all()
    assert complaints(tab) == []


def test_a_button_and_a_key_lay_it_over_and_the_address_says_so(
    browser: Browser, out: Path
) -> None:
    tab = opened(browser, out, "image=probe-0&layer=conv1")
    plain = pixels_of(tab, ".map canvas")
    pressed = "document.getElementById('over').ariaPressed"
    assert tab.run(pressed) == "false"
    tab.press("o")
    tab.wait(f"{READY} && location.hash.includes('&over=1')")
    assert tab.run(pressed) == "true"
    assert pixels_of(tab, ".map canvas").shape[:2] == IMAGE[1:] != plain.shape[:2]
    choose(tab, "cmap", "viridis")  # what was chosen is kept for the view
    tab.click("#over")
    tab.wait(f"{READY} && !location.hash.includes('over=')")
    assert (pixels_of(tab, ".map canvas") == plain).all()
    assert tab.run("document.getElementById('cmap').value") == "gray"
    tab.press("o")
    tab.wait(f"{READY} && location.hash.includes('colours=viridis')")
    # Class activation lies over the input at first, and says where it does not.
    tab.run("document.querySelector('[data-source=\"probe-0-cam\"]').click()")
    tab.wait(f"{READY} && location.hash.includes('image=probe-0-cam')")
    assert tab.run(pressed) == "true"
    assert "over=" not in tab.run("location.hash")
    tab.press("o")
    tab.wait(f"{READY} && location.hash.includes('&over=0')")
    assert pixels_of(tab, ".map canvas").shape[:2] == (8, 8)
    # Components are of the layers that have places, and in the last one where a layer has none.
    tab.run("document.querySelector('[data-source=\"probe-0-components\"]').click()")
    tab.wait(f"{READY} && location.hash.includes('image=probe-0-components&layer=conv2')")
    assert tab.run("document.getElementById('over').hidden")
    assert tab.run("document.querySelectorAll('#layers button').length") >= 3
    assert complaints(tab) == []


def test_only_one_view(browser: Browser, out: Path, tmp_path: Path) -> None:
    path = out.with_suffix(".h5")
    for view, words in (("components", ["components"]), ("overlay", ["maps"])):
        made = page(path, tmp_path / f"{view}.html", view=view, probe=0).path
        (source,) = manifest_of(made)["sources"]
        assert (source["views"], source["over"]) == (words, view == "overlay")
        tab = opened(browser, made, "")
        assert tab.run("document.getElementById('views').hidden")
        assert (
            tab.run("document.getElementById('over').ariaPressed") == str(view == "overlay").lower()
        )
    heads = page(path, tmp_path / "heads.html", view="overlay", layers="blocks.1.attn").path
    assert [each["view"] for each in manifest_of(heads)["sources"]] == ["attention"] * 2
    assert manifest_of(page(path, tmp_path / "m.html", view="maps").path)["sources"][0][
        "views"
    ] == ["maps"]


def test_what_is_not_finite_has_the_colour_of_it(browser: Browser, tmp_path: Path) -> None:
    def broken(epoch: int, batch: int) -> np.ndarray:
        maps = drifting_maps(4, 8, 8)(epoch, batch)
        maps[1, 2, 3], maps[0, 5, 5] = np.nan, np.inf
        return maps

    made = page(write_recording(tmp_path / "run.h5", {"conv1": broken}, epochs=1, batches=3)).path
    tab = opened(browser, made, "image=first-components&layer=conv1")
    shown = pixels_of(tab, "#maps canvas")[..., :3]
    assert (shown == three_colours(made, "first", "conv1", 2)).all()
    assert (shown[2, 3] == shown[5, 5]).all()
    tab = opened(browser, made, "image=first&layer=conv1&over=1")
    for place in range(2):
        shown = pixels_of(tab, f'.map[data-channel="{place}"] canvas')[..., :3]
        assert (shown == over(made, "first", "conv1", 2, place, True)).all()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("screen", ["laptop", "phone"])
def test_axe_finds_nothing(browser: Browser, out: Path, screen: str, dark: bool) -> None:
    width, height, density = SCREENS[screen]
    for fragment in ("image=probe-0-components", "image=probe-0-cam", "image=first&over=1"):
        tab = opened(browser, out, fragment, width=width, height=height, density=density, dark=dark)
        assert axe_findings(tab) == []
        wide = tab.run("document.documentElement.scrollWidth")
        assert wide <= width


def test_of_many_images_one_is_chosen_from_a_list(browser: Browser, tmp_path: Path) -> None:
    path = write_looking(tmp_path / "run.h5", epochs=1, batches=2, probes=4)
    tab = opened(browser, page(path, layers="conv1", view="components").path, "")
    names = "[...document.querySelectorAll('#image option')].map((e) => e.textContent)"
    assert [name.partition(",")[0] for name in tab.run(names)] == [
        "first image",
        *(f"fixed image {n}" for n in range(4)),
    ]
    assert axe_findings(tab) == []
    choose(tab, "image", "fixed image 2")
    tab.wait("location.hash.includes('image=probe-2')")
    assert tab.run("document.getElementById('image').value") == "fixed image 2"
    assert complaints(tab) == []


def test_a_colormap_that_is_asked_for_is_that_of_the_only_view(
    browser: Browser, tmp_path: Path
) -> None:
    path = write_looking(tmp_path / "run.h5", epochs=1, batches=1, probes=1)

    def colormap(out: Path, fragment: str = "") -> str:
        shown = opened(browser, out, fragment).run("document.getElementById('cmap').value")
        return str(shown)

    usual = {"maps": "gray", "gradient": "RdBu_r", "cam": "auto", "overlay": "auto"}
    for view, cmap in usual.items():
        assert colormap(page(path, tmp_path / f"{view}.html", view=view).path) == cmap
        asked = page(path, tmp_path / f"{view}-asked.html", view=view, cmap="plasma").path
        assert colormap(asked) == "plasma"
    every = page(path, tmp_path / "all.html", cmap="plasma").path
    assert colormap(every, "image=first") == "plasma"
    assert colormap(every, "image=first-gradient") == "RdBu_r"  # which is of another kind
