"""What a page shows of a layer in a batch in which it put out nothing: no NaN, and no strength."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from browser import EXECUTABLE, Browser, Tab
from page_tabs import READY, complaints, frame, pixels_of
from samples import drifting_maps, write_recording

from replay.webpage.document import page

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="there is no Chromium")

TEXT = "document.querySelector('{}').innerText"
MARKS = "[...document.querySelectorAll('.map .mark')].map((each) => each.textContent)"
BARS = "[...document.querySelectorAll('.map .gain')].map((each) => each.hidden)"
LABELS = (
    "[...document.querySelectorAll('.map canvas')].map((each) => each.getAttribute('aria-label'))"
)


def write(path: Path, seed: int = 0) -> Path:
    usual, late = drifting_maps(3, 8, 8, seed=seed), drifting_maps(2, 6, 6, seed=seed + 1)

    def odd(epoch: int, batch: int) -> np.ndarray:
        made = drifting_maps(2, 6, 6, seed=seed + 2)(epoch, batch)
        made[0] = np.nan
        return made

    return write_recording(
        path,
        {"usual": usual, "late": lambda e, b: late(e, b) if e > 0 else None, "odd": odd},
        epochs=2,
        batches=2,
    )


def opened(browser: Browser, made: Path, state: str) -> Tab:
    tab = browser.open(f"{made.as_uri()}#{state}")
    tab.wait(READY)
    return tab


def tile(tab: Tab, place: int) -> np.ndarray:
    return pixels_of(tab, f".map:nth-of-type({place + 1}) canvas")


def test_a_layer_that_has_not_begun_is_empty_and_not_nan(tmp_path: Path) -> None:
    with Browser() as browser:
        made = page(write(tmp_path / "run.h5"), tmp_path / "a.html").path
        tab = opened(browser, made, "layer=late&frame=0.1")
        assert frame(tab) == 1
        assert tab.run(TEXT.format("#unfinite")) == "no frame in this batch"
        assert not tile(tab, 0)[..., 3].any()  # nothing is painted
        assert tab.run(MARKS) == ["", ""]
        assert tab.run(BARS) == [True, True]
        assert all(label.endswith(": no frame in this batch") for label in tab.run(LABELS))
        tab.run("document.querySelector('.map').click()")
        tab.wait("document.querySelector('#status-large').innerText.endsWith('in this batch')")
        assert tab.run(TEXT.format("#extremes-now")) == "no frame in this batch"
        tab = opened(browser, made, "layer=late&frame=1.0")
        assert tab.run(TEXT.format("#unfinite")) == ""
        assert tile(tab, 0)[..., 3].all()
        assert all(mark.startswith("×") for mark in tab.run(MARKS))
        tab = opened(browser, made, "layer=odd&frame=0.1")  # NaN is NaN, of no strength
        assert tab.run(TEXT.format("#unfinite")).endswith("36 NaN")
        marks = tab.run(MARKS)
        assert marks[0] == ""
        assert marks[1].startswith("×")
        assert complaints(tab) == []


def test_of_two_runs_the_one_without_a_frame_is_empty(tmp_path: Path) -> None:
    with Browser() as browser:
        one, two = write(tmp_path / "a.h5"), write(tmp_path / "b.h5", 5)
        made = page([one, two], tmp_path / "both.html").path
        tab = opened(browser, made, "layer=late&frame=0.1")
        assert tab.run(MARKS)[:4] == [""] * 4
        assert "no frame in this batch" in tab.run(TEXT.format("#facts-0"))
        assert "no frame in this batch" in tab.run(TEXT.format("#facts-1"))
        assert complaints(tab) == []


def test_a_white_map_of_one_pixel_has_an_outline(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 3).reshape(3, 1, 1).astype("<f2")
    path = write_recording(
        tmp_path / "run.h5", {"pool": lambda e, b: values, "conv": drifting_maps(2, 4, 4)}
    )
    style = "getComputedStyle(document.querySelector('.map canvas')).outlineStyle"
    with Browser() as browser:
        made = page(path, tmp_path / "a.html").path
        assert opened(browser, made, "layer=pool&scale=run").run(style) == "solid"
        assert opened(browser, made, "layer=conv&scale=run").run(style) == "none"
