"""How the page is laid out: it fits on screens and paper, says what it shows, and is open to all."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path

import firefox
import numpy as np
import pytest
from browser import EXECUTABLE, Browser, Tab
from page_tabs import READY, SCREENS, axe_findings, choose, complaints, frame, pixels_of
from pages import frame_of, read
from samples import drifting_maps, write_recording

from replay.webpage.document import canvas_pixels, page

chromium = pytest.mark.skipif(
    EXECUTABLE is None, reason="no Chromium here: the page was not opened in a browser"
)
SHOWN = "[...document.querySelectorAll('.map')].map((e) => e.dataset.channel).join()"


def strong_and_faint(epoch: int, batch: int) -> np.ndarray:
    maps = drifting_maps(12, 64, 64)(epoch, batch) * np.logspace(0, -4, 12)[:, None, None]
    maps[3] = 0.25
    return maps


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three epochs of a network with a fixed image, and layers of three sizes."""
    layers = {
        "conv1": drifting_maps(12, 64, 64),
        "encoder.stages.0.layer.0.convolution": drifting_maps(32, 16, 16, 1),
        "encoder.stages.0.layer.1.convolution": drifting_maps(64, 6, 6, 2),
        "mixed": strong_and_faint,
    }
    fixed = {name: maps(0, 0) for name, maps in layers.items()}
    return write_recording(
        tmp_path_factory.mktemp("look") / "run.h5",
        layers,
        epochs=3,
        batches=5,
        fields={"label": lambda e, b: b % 2, "prediction": lambda e, b: 1},
        probes=[
            (
                np.linspace(-1, 1, 3 * 32 * 32).reshape(3, 32, 32),
                {name: lambda e, b, m=m: m * (1 + e + 0.1 * b) for name, m in fixed.items()},
            )
        ],
        meta={
            "model": "tiny",
            "dataset": "photos",
            "epochs": 3,
            "batches": 5,
            "batch_size": 16,
            "lr": 0.01,
            "seed": 4,
            "classes": ["cat", "dog"],
            "probe": [{"label": 0}],
        },
    )


@pytest.fixture(scope="module")
def out(path: Path) -> Path:
    return page(path).path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


def opened(browser: Browser, out: Path, fragment: str = "", **look: int) -> Tab:
    tab = browser.open(out.as_uri() + fragment, **look)
    tab.wait(READY)
    return tab


def box(tab: Tab, selector: str) -> dict[str, float]:
    return tab.run(
        f"(() => {{ const b = document.querySelector({json.dumps(selector)})"
        ".getBoundingClientRect(); return {left: b.left, right: b.right, top: b.top,"
        "bottom: b.bottom}; })()"
    )


@chromium
@pytest.mark.parametrize("screen", SCREENS)
def test_fit_fits(browser: Browser, out: Path, screen: str) -> None:
    width, height, density = SCREENS[screen]
    tab = opened(browser, out, width=width, height=height, density=density, mobile=width < 500)
    for layer, maps in ((0, 12), (1, 32), (2, 64)):
        choose(tab, "layer", str(layer))
        area, bar = box(tab, "#maps"), box(tab, "#transport")
        tiles = tab.run(
            "[...document.querySelectorAll('.map')].map((e) => e.getBoundingClientRect())"
            ".map((b) => [b.left, b.top, b.right, b.bottom])"
        )
        assert len(tiles) == maps
        least, most = np.min(tiles, axis=0), np.max(tiles, axis=0)
        assert least[0] >= area["left"] - 0.5
        assert most[2] <= min(width, area["right"]) + 0.5
        assert least[1] >= area["top"] - 0.5
        assert most[3] <= min(area["bottom"], bar["top"]) + 0.5  # not below the bar
        assert bar["bottom"] <= height + 0.5
        if layer == 0:  # and uses the room: no wider column or row would fit
            assert max(most[2] - least[0], 0) > 0.6 * (area["right"] - area["left"]) or (
                most[3] - least[1] > 0.6 * (area["bottom"] - area["top"])
            )
    assert tab.run("document.documentElement.scrollWidth") == width
    assert tab.run("document.documentElement.scrollHeight") <= height
    assert complaints(tab) == []


@chromium
@pytest.mark.parametrize("width", [905, 1000, 1160, 1440])
def test_two_images_stand_beside_each_other(browser: Browser, out: Path, width: int) -> None:
    tab = opened(browser, out, width=width, height=900)
    for row, count in (("sources", 2), ("views", 2)):
        buttons = [box(tab, f"#{row} button:nth-child({n + 1})") for n in range(count)]
        assert len({each["top"] for each in buttons}) == 1
        group = box(tab, f"#{row}")
        assert buttons[0]["left"] == group["left"]
        assert buttons[-1]["right"] <= group["right"] + 0.5
        assert buttons[0]["right"] < buttons[1]["left"]
    shown = tab.run(
        "[...document.querySelectorAll('.source')].map((e) => e.scrollWidth - e.clientWidth)"
    )
    assert max(shown) <= 0


@chromium
def test_a_phone_has_both_answers_and_the_ends_of_the_colours(browser: Browser, out: Path) -> None:
    tab = opened(browser, out, "#image=first", width=375, height=740, mobile=True)
    tab.run("document.querySelector('#answers dd').textContent = 'immunohistochemistry (93 %)'")
    assert tab.run("document.querySelectorAll('#answers dd').length") == 2
    caption = box(tab, "#picture figcaption")
    assert box(tab, "#answers dd:last-child")["bottom"] <= caption["bottom"]
    bar, low, high = box(tab, "#bar"), box(tab, "#low"), box(tab, "#high")
    assert low["left"] == bar["left"]
    assert high["right"] == bar["right"]
    assert low["top"] >= bar["bottom"]


@chromium
def test_the_head_says_what_the_run_was(browser: Browser, out: Path) -> None:
    tab = opened(browser, out)
    assert tab.run("document.querySelector('#name').textContent") == "run"
    assert tab.run("document.querySelector('#run-words').textContent") == (
        "tiny · photos · 3 epochs × 5 batches of 16 · lr 0.01 · seed 4"
    )
    assert tab.run("document.querySelector('#status').textContent").startswith(
        "epoch 2 of 0–2batch 4 of 0–4loss 0."
    )


@chromium
def test_it_opens_on_the_last_frame_of_the_fixed_image(browser: Browser, out: Path) -> None:
    tab = opened(browser, out)
    assert frame(tab) == 14
    assert tab.run("document.querySelector('[aria-pressed=true]').textContent") == "fixed image 0"
    assert tab.run("document.querySelector('#answers').textContent") == "labelcat"
    assert "held while the image stays" in tab.run(
        "document.querySelector('#scale-words').textContent"
    )
    about, reader = read(out)
    for source, place in ((1, 14), (0, 14), (0, 3), (1, 3)):
        tab.click(f'[data-source="{about["sources"][source]["key"]}"]')
        choose(tab, "slider", str(place))
        want = canvas_pixels(frame_of(about, reader.blocks, 0, place, source))
        for channel in (0, 11):
            found = pixels_of(tab, f'.map[data-channel="{channel}"] canvas')[..., :3]
            assert (found == want[channel]).all()
    tab.run("document.querySelector('.layer[data-layer=mixed]').click()")
    tab.wait(READY)
    tab.click('[data-source="first"]')  # another image, the same time and layer
    tab.wait(READY)
    assert frame(tab) == 3
    assert tab.run("document.querySelector('.layer[aria-current]').dataset.layer") == "mixed"
    assert tab.run("document.querySelector('#answers').textContent") == "labeldogpredicteddog"
    assert "held" not in tab.run("document.querySelector('#scale-words').textContent")
    assert complaints(tab) == []


@chromium
def test_the_address_says_what_is_shown_and_shows_it_again(browser: Browser, out: Path) -> None:
    tab = opened(browser, out)
    assert tab.run("location.hash") == (
        "#image=probe-0&layer=conv1&frame=2.4&scale=adaptive&colours=gray"
    )
    tab.click('[data-source="first"]')
    choose(tab, "layer", "1")
    choose(tab, "slider", "7")
    choose(tab, "channels", "3, 8-9")
    choose(tab, "scale", "epoch")
    choose(tab, "cmap", "magma")
    choose(tab, "symmetric", True)
    choose(tab, "zoom", "6")
    address = tab.run("location.hash")
    assert address == (
        "#image=first&layer=encoder.stages.0.layer.0.convolution&frame=1.2&channels=3,8-9"
        "&scale=epoch&colours=magma&symmetric=1&zoom=6"
    )
    again = opened(browser, out, address)
    assert frame(again) == 7
    assert again.run(SHOWN) == "3,8,9"
    for selector in (".map canvas", '.map[data-channel="9"] canvas', "#input"):
        assert (pixels_of(again, selector) == pixels_of(tab, selector)).all()
    assert again.run("document.querySelector('.map canvas').getBoundingClientRect().width") == 96
    assert again.run("location.hash") == address
    again.run("location.hash = '#image=probe-0&layer=mixed&frame=0.1&map=2'")
    again.wait("document.querySelector('#dialog').open")
    again.wait("document.querySelector('#maps').dataset.frame === '1'")
    assert again.run("document.querySelector('#which').textContent") == "Map 2 of mixed"
    nonsense = opened(browser, out, "#image=none&layer=none&frame=99&channels=x&scale=none&map=77")
    assert frame(nonsense) == 14
    assert "cannot read channels" in nonsense.run("document.querySelector('#wrong').textContent")
    for each in (tab, again, nonsense):
        assert complaints(each) == []


SCRUB = (
    "(() => { const e = document.querySelector('#slider'); e.value = %d;"
    "for (const kind of %s) e.dispatchEvent(new Event(kind, {bubbles: true})); })()"
)


@chromium
def test_the_address_is_written_when_a_hand_that_scrubs_lets_go(
    browser: Browser, out: Path
) -> None:
    """A browser takes longer over an address than over all maps of a frame."""
    tab = opened(browser, out)
    before = tab.run("location.hash")
    for place in (3, 4, 8):
        tab.run(SCRUB % (place, ["input"]))
        tab.wait(f"document.querySelector('#maps').dataset.frame === '{place}'")
    assert tab.run("location.hash") == before
    tab.run(SCRUB % (8, ["change"]))
    assert "frame=1.3" in tab.run("location.hash")
    assert complaints(tab) == []


@chromium
def test_the_first_picture_does_not_wait_for_the_rest_of_the_page(
    browser: Browser, out: Path, tmp_path: Path
) -> None:
    whole = out.read_bytes()
    script = whole.index(b"</script>", whole.index(b'"use strict"')) + len(b"</script>")
    assert len(whole) - script > 5 * 3 * 4 * 1000  # nearly all of what it holds is behind it
    part = tmp_path / "part.html"
    part.write_bytes(whole[:script])
    tab, entire = (opened(browser, each) for each in (part, out))
    assert frame(tab) == 14
    for selector in (".map canvas", '.map[data-channel="9"] canvas', "#input"):
        assert (pixels_of(tab, selector) == pixels_of(entire, selector)).all()


@chromium
def test_a_map_without_a_finite_value_has_no_strength(browser: Browser, tmp_path: Path) -> None:
    fields = {"loss": lambda e, b: 1.0}
    layers = {"c": lambda e, b: np.full((2, 8, 8), [[[np.nan]], [[np.inf]]])}
    path = write_recording(tmp_path / "run.h5", layers, fields=fields)
    tab = opened(browser, page(path).path)
    for scale in ("adaptive", "map", "channel"):
        choose(tab, "scale", scale)
        said = tab.run(
            "[...document.querySelectorAll('.map')].map((e) => "
            "[e.querySelector('.mark').textContent, e.querySelector('canvas').ariaLabel])"
        )
        assert [mark for mark, _ in said] == ["", ""]
        assert not [words for _, words in said if "largest" in words]


@chromium
def test_gain_bars_and_marks_tell_how_strong_a_channel_is(browser: Browser, out: Path) -> None:
    tab = opened(browser, out, "#image=first&layer=mixed")
    about, reader = read(out)
    names = [layer["name"] for layer in about["sources"][0]["layers"]]
    block = frame_of(about, reader.blocks, names.index("mixed"), 14)
    largest = about["sources"][0]["layers"][names.index("mixed")]["largest"]
    gains = np.minimum(np.diff(block.bounds)[:, 0] / largest, 1)
    found = tab.run(
        "[...document.querySelectorAll('.map')].map((e) => ["
        "e.querySelector('.gain').hidden ? -1 : parseFloat(e.querySelector('.gain span').style.width),"
        "e.querySelector('.mark').textContent, e.querySelector('canvas').ariaLabel])"
    )
    marks = [mark for _, mark, _ in found]
    assert marks[3] == "constant"
    assert marks[0].startswith("×")
    faint = [place for place in range(12) if place != 3 and block.flat[place]]
    assert faint
    assert [place for place, mark in enumerate(marks) if mark == "faint"] == faint
    for place, (wide, _, words) in enumerate(found):
        want = 0 if block.flat[place] else 100 * (1 + np.log10(gains[place]) / 3)
        assert wide == pytest.approx(max(want, 0), abs=0.01)
        assert ("of the layer's largest" in words) == (not block.flat[place])
    choose(tab, "scale", "run")
    assert tab.run("document.querySelectorAll('.gain:not([hidden])').length") == 0
    choose(tab, "scale", "map")
    assert tab.run("document.querySelectorAll('.gain:not([hidden])').length") == 12


@chromium
def test_all_layers_stand_beside_the_one_that_is_shown(browser: Browser, out: Path) -> None:
    tab = opened(browser, out)
    about, reader = read(out)
    tab.wait(
        "[...document.querySelectorAll('.layer canvas')].every((c) => c.getContext('2d')"
        ".getImageData(5, 5, 1, 1).data[3] === 255)"
    )
    assert tab.run("document.querySelector('#layers-head').textContent") == "4 layers"
    texts = tab.run("[...document.querySelectorAll('.layer b')].map((e) => e.textContent)")
    whole = tab.run("[...document.querySelectorAll('.layer')].map((e) => e.title)")
    names = [layer["name"] for layer in about["sources"][0]["layers"]]
    assert len(set(texts)) == 4
    assert all(len(text) <= 30 for text in texts)
    assert all(title.startswith(name) for title, name in zip(whole, names, strict=True))
    # A thumbnail is the map itself, made as large as there is room for.
    block = frame_of(about, reader.blocks, 2, 14, source=1)
    small = canvas_pixels(block)[0]
    thumb = pixels_of(tab, ".layer[data-layer$='layer.1.convolution'] canvas")[:28, :28, :3]
    centres = (np.arange(6) * 28 / 6 + 28 / 12).astype(int)
    assert np.abs(thumb[centres][:, centres].astype(int) - small).max() <= 1
    tab.run("document.querySelectorAll('.layer')[1].click()")
    tab.wait(READY)
    assert tab.run(f"{SHOWN}.split(',').length") == 32
    assert complaints(tab) == []


@chromium
def test_a_signal_is_no_hairline_beside_the_others(browser: Browser, tmp_path: Path) -> None:
    layers = {"wide": drifting_maps(3, 1, 400), "tall": drifting_maps(3, 400, 1)}
    write_recording(tmp_path / "run.h5", layers, epochs=1, batches=1)
    tab = opened(browser, page(tmp_path / "run.h5").path)
    for place, axis in ((1, 1), (2, 0)):
        canvas = f"#layers li:nth-child({place}) canvas"
        ink = (
            f"document.querySelector('{canvas}').getContext('2d').getImageData(3, 3, 1, 1).data[3]"
        )
        tab.wait(ink)
        opaque = pixels_of(tab, canvas)[:, :28, 3] > 0
        assert opaque.any(axis=axis).sum() == 8
        assert opaque.any(axis=1 - axis).sum() == 28


@chromium
def test_what_is_printed_is_the_frame_that_is_shown(browser: Browser, out: Path) -> None:
    tab = opened(browser, out)
    tab.call("Emulation.setEmulatedMedia", media="print")
    for selector, there in (
        ("header", True),
        ("#input", True),
        (".map:last-child canvas", True),
        ("#scale-words", True),
        ("#transport", False),
        ("#side", False),
        ("#sources", False),
        ("#more", False),
    ):
        assert there == tab.run(f"document.querySelector('{selector}').offsetParent !== null"), (
            selector
        )
    assert "epoch 2" in tab.run("document.querySelector('#status').innerText")
    tab.call("Emulation.setEmulatedMedia", media="")
    paper = tab.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)
    pdf = base64.b64decode(paper["data"])
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 1
    images = re.findall(rb"/Subtype\s*/Image", pdf)
    assert len(images) >= 13  # every map, and the input


@chromium
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("screen", ["laptop", "phone"])
def test_axe_finds_nothing(browser: Browser, out: Path, screen: str, dark: bool) -> None:
    width, height, density = SCREENS[screen]
    tab = opened(browser, out, width=width, height=height, density=density, dark=dark)
    assert axe_findings(tab) == []
    if screen == "phone":
        tab.click("#more")
        assert tab.run("document.querySelector('#side').offsetParent !== null")
        assert axe_findings(tab) == []
        tab.click("#more")
    tab.run("document.querySelector('.map').click()")
    tab.wait("document.querySelector('#dialog').open")
    tab.wait(READY)
    assert axe_findings(tab) == []


@chromium
def test_landmarks(browser: Browser, out: Path) -> None:
    tab = opened(browser, out)
    tab.call("Accessibility.enable")
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    roles = [node.get("role", {}).get("value") for node in nodes if not node.get("ignored")]
    for role in ("banner", "main", "navigation", "contentinfo"):
        assert roles.count(role) == 1
    outside = tab.run(
        "[...document.body.children].filter((e) => !e.matches("
        "'header, main, nav, footer, dialog, script')).map((e) => e.outerHTML)"
    )
    assert outside == []


@pytest.mark.skipif(
    firefox.EXECUTABLE is None, reason="no Firefox here: the page was not opened in it"
)
def test_the_same_in_firefox(out: Path) -> None:
    about, reader = read(out)
    want = canvas_pixels(frame_of(about, reader.blocks, 0, 14, source=1))
    with firefox.Firefox() as other:
        other.open(out.as_uri())
        other.wait(READY)
        assert other.run("location.hash").startswith("#image=probe-0&layer=conv1&frame=2.4")
        assert other.run("document.querySelector('#wrong').textContent") == ""
        for channel in (0, 11):
            found = other.run(
                f'(() => {{ const c = document.querySelector(\'.map[data-channel="{channel}"] '
                "canvas'); return [...c.getContext('2d').getImageData(0, 0, 64, 64).data]; })()"
            )
            assert (np.array(found).reshape(64, 64, 4)[..., :3] == want[channel]).all()
        other.run("document.querySelectorAll('.layer')[3].click()")
        other.wait(READY)
        assert other.run("document.querySelectorAll('.map').length") == 12
        assert other.run("document.querySelectorAll('.flat').length") >= 2
        other.run("document.querySelector('.map').click()")
        other.wait("document.querySelector('#dialog').open")
        other.wait(READY)
        assert other.run("document.querySelector('#histogram path').getAttribute('d').length") > 50
