"""Training in one process, the server in another, and a browser that watches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import EXECUTABLE, Browser, Tab

import replay
from replay.raster.palette import Range
from replay.webpage.document import canvas_pixels
from replay.webpage.frame_block import unpack_frame

pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(
    EXECUTABLE is None, reason="no Chromium here: the live page was not opened in a browser"
)

ROOT = Path(__file__).parents[2]
TRAINING = """
import sys, time, torch
from record import Recorder

model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU())
with Recorder(model, "run.h5") as recorder:
    for epoch in range(2):
        for batch in recorder.track([torch.randn(2, 3, 16, 16) for _ in range(int(sys.argv[1]))]):
            loss = model(batch).mean()
            recorder.log(loss=loss)
            time.sleep(0.25)
"""
AT_REST = "document.querySelector('#maps').getAttribute('aria-busy') === 'false'"
SHOWN = "Number(document.querySelector('#maps').dataset.frame ?? -1)"


def start(*words: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


@pytest.fixture
def training(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = start("-c", TRAINING, "14", folder=tmp_path)
    end = time.monotonic() + 60
    while not (tmp_path / "run.h5").exists():
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.05)
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def watched(
    training: subprocess.Popen[str], tmp_path: Path
) -> Iterator[tuple[Tab, subprocess.Popen[str]]]:
    time.sleep(0.3)
    server = start(
        "-m", "replay", "watch", "run.h5", "--port", "0", "--no-browser", folder=tmp_path
    )
    assert server.stdout is not None
    url = server.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:")
    with Browser() as browser:
        tab = browser.open(url)
        yield tab, server
        requests = {e["request"]["url"] for e in tab.events("Network.requestWillBeSent")}
        assert all(address.startswith((url, "data:")) for address in requests)
    server.kill()
    server.communicate()


def test_frames_turn_up_soon_and_are_exact(
    training: subprocess.Popen[str], watched: tuple[Tab, subprocess.Popen[str]], tmp_path: Path
) -> None:
    tab, server = watched
    tab.wait(f"{SHOWN} >= 1")
    path = tmp_path / "run.h5"
    delays = []
    seen = int(tab.run(SHOWN))
    while seen < 18:  # it follows
        tab.wait(f"{SHOWN} > {seen}")
        now, seen = time.time(), int(tab.run(SHOWN))
        with replay.open(path) as run:
            at = np.argwhere(run.order == seen + 1)[0]
            delays.append(now - run.batches["time"][tuple(at)])
    assert max(delays) < 10.0, delays  # usually below one; this machine may be busy
    assert tab.run("document.querySelector('#recording').textContent") == "recording"

    tab.press("Home")  # who looks back is left alone
    tab.wait(f"{SHOWN} === 0")
    before = int(tab.run("document.querySelector('#slider').max"))
    tab.wait(f"Number(document.querySelector('#slider').max) > {before}")
    assert tab.run(SHOWN) == 0
    tab.press("End")
    training.wait(60)
    tab.wait("document.querySelector('#recording').textContent === 'recording ended'")
    tab.wait(f"{SHOWN} === 27 && {AT_REST}")
    assert "epoch 1 of 0–1" in tab.run("document.querySelector('#status').textContent")

    # What is known of the run so far is the server's; pixels follow from its block.
    with urllib.request.urlopen(tab.run("location.origin") + "/block/s0-layer-0-27") as answer:
        body = answer.read()
    size = int.from_bytes(body[:4], "little")
    about = json.loads(body[4 : 4 + size])
    block = unpack_frame(body[4 + size :], (4, 16, 16), 1.0)
    with replay.open(path) as run:
        maps = run[run.layers[0]][1, 13].astype("f8")
    assert (np.abs(block.values - maps) <= block.stored.step[:, None, None] * 0.51).all()
    for scale, ranges in (("adaptive", None), ("run", Range(*about["run"]))):
        tab.run(
            f"(() => {{ const e = document.querySelector('#scale'); e.value = '{scale}';"
            "e.dispatchEvent(new Event('change')); })()"
        )
        tab.wait(AT_REST)
        want = canvas_pixels(block, ranges)
        for channel in range(4):
            shown = tab.run(
                f'(() => {{ const c = document.querySelector(\'.map[data-channel="{channel}"] '
                "canvas'); return [...c.getContext('2d').getImageData(0, 0, c.width, c.height)"
                ".data]; })()"
            )
            assert (np.array(shown).reshape(16, 16, 4)[..., :3] == want[channel]).all()

    tab.click('.map[data-channel="1"]')
    tab.wait(f"document.querySelector('#dialog').open && {AT_REST}")
    assert "in this frame" in tab.run("document.querySelector('#kernel-words').textContent")
    assert tab.events("Runtime.exceptionThrown") == []

    server.kill()
    tab.wait("document.querySelector('#recording').textContent === 'no connection'")
    assert "does not answer" in tab.run("document.querySelector('#wrong').textContent")
