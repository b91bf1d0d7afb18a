"""How fast a page is made, how soon it shows something, and how smoothly it scrubs in Chromium.

The page of the built-in run (300 frames, of the first images and of a fixed one) is made at its
default size; it and a page of 12 layers are opened from disk, and their slider is moved by a frame
for every frame of the screen, forwards and back. Beside the times between frames of the screen
stand those of the same page left alone, which tell how busy the machine is, and the processor time
of the page's main thread for each frame, which is that of a machine that does nothing else.

    python scripts/bench/speed/paging.py [--quick] [--strict] [--recording RUN.H5]
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from table import ROOT, Line, show, spread

sys.path.insert(0, str(ROOT / "tests"))

from browser import EXECUTABLE, Browser, Tab
from samples import drifting_maps, write_recording

import replay

SIZES = [(8, 64, 64), (12, 32, 32), (16, 16, 16)]  # of the maps of the 12 layers, four of each
FRAMES = 300
WATCH = """
    const look = (now) => document.querySelector("#maps")?.dataset.frame === undefined
        ? requestAnimationFrame(look) : (window.firstPicture = performance.now());
    requestAnimationFrame(look);
"""
SCRUB = """new Promise((done) => {
    const slider = document.querySelector("#slider"), maps = document.querySelector("#maps");
    const order = %s, times = [], shown = [];
    let at = 0, before = null;
    const step = (now) => {
        if (before !== null) times.push(now - before);
        before = now;
        shown.push(Number(maps.dataset.frame));
        if (at === order.length) return void done([times, shown]);
        if (order[at] !== null) {
            slider.value = order[at];
            slider.dispatchEvent(new Event("input", { bubbles: true }));
        }
        at++;
        requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
})"""


def train(path: Path) -> None:
    """Records the built-in run."""
    words = [sys.executable, "-m", "record", "train", "--probe", "1", "--quiet", "-o", str(path)]
    subprocess.run(words, check=True, cwd=ROOT)


def first_picture(browser: Browser, page: Path) -> float:
    """Milliseconds from asking for a page to its first maps on the screen."""
    tab = browser.open("about:blank")
    tab.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
    tab.call("Page.navigate", url=page.as_uri())
    tab.wait("window.firstPicture !== undefined && location.protocol === 'file:'", 60)
    found = float(tab.run("window.firstPicture"))
    tab.call("Page.close")
    return found


def worked(tab: Tab) -> float:
    """Seconds of processor time that the page's main thread has taken so far."""
    metrics = tab.call("Performance.getMetrics")["metrics"]
    return float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))


def percentile(times: list[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(share * len(times)))]


def scrub(browser: Browser, page: Path, words: str, count: int) -> Iterator[Line]:
    """Moves the slider by a frame for every frame of the screen, to and fro."""
    tab = browser.open(page.as_uri())
    tab.call("Performance.enable", timeDomain="threadTicks")
    tab.wait("document.querySelector('#maps').getAttribute('aria-busy') === 'false'", 60)
    last = int(tab.run("document.querySelector('#slider').max"))
    order = [*range(min(count, last + 1)), *range(min(count, last + 1) - 2, -1, -1)]
    alone, _ = tab.run(SCRUB % json.dumps([None] * 120))
    before = worked(tab)
    times, shown = tab.run(SCRUB % json.dumps(order))
    each = 1000 * (worked(tab) - before) / len(order)
    yield Line(
        f"{words}: time between frames of the screen while scrubbing, 95th percentile",
        percentile(times, 0.95),
        " ms",
        17,
        note=f"median {statistics.median(times):.1f} ms; left alone {percentile(alone, 0.95):.1f}",
    )
    painted = sum(a != b for a, b in itertools.pairwise(shown))
    share = painted / len(order)
    yield Line(f"{words}: of {len(order)} frames asked for, shown", 100 * share, " %", 95, "least")
    yield Line(f"{words}: the main thread's own time for a frame", each, " ms", 12)
    tab.call("Page.close")


def lines(quick: bool, recording: Path | None) -> Iterator[Line]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if recording is None:
            train(recording := folder / "run.h5")
        with replay.open(recording) as run:
            kinds = 1 + run.probes
        began, used = time.perf_counter(), time.process_time()
        demo = replay.page(recording, folder / "run.html")
        taken, used = time.perf_counter() - began, time.process_time() - used
        made = demo.frames * kinds
        what = f"page of {kinds} images of each of {demo.asked} frames, {len(demo.layers)} layers"
        yield Line(f"{what}: frames in it", demo.frames, "", demo.asked, "least")
        yield Line(f"{what}: size", demo.bytes / 1e6, " MB", 20)
        yield Line(
            f"{what}: frames a second",
            made / taken,
            "",
            100,
            "least",
            f"{taken:.1f} s; {used:.1f} s of this process",
        )
        if EXECUTABLE is None:
            yield Line("the page in Chromium", None, note="skipped: no Chromium here")
            return
        layers = {
            f"conv{place}": drifting_maps(*SIZES[place // 4], seed=place) for place in range(12)
        }
        path = write_recording(folder / "twelve.h5", layers, epochs=5, batches=FRAMES // 5)
        twelve = replay.page(path, folder / "twelve.html")
        with Browser() as browser:
            rounds = 3 if quick else 9
            opened = [first_picture(browser, demo.path) for _ in range(rounds)]
            yield Line(
                f"first maps of a page of {demo.bytes / 1e6:.0f} MB on the screen",
                statistics.median(opened),
                " ms",
                300,
                note=spread(opened).replace("pairs", "times"),
            )
            count = 100 if quick else FRAMES
            yield from scrub(browser, demo.path, "the built-in run", count)
            words = f"12 layers, {twelve.frames} frames, {twelve.bytes / 1e6:.0f} MB"
            yield from scrub(browser, twelve.path, words, count)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="shorter, and less certain")
    parser.add_argument("--strict", action="store_true", help="exit code 1 if a target is missed")
    parser.add_argument("--recording", type=Path, help="the built-in run, recorded with --probe 1")
    options = parser.parse_args()
    command = f"scripts/bench/page{' --quick' * options.quick}"
    good = show(lines(options.quick, options.recording), command)
    return 1 if options.strict and not good else 0


if __name__ == "__main__":
    sys.exit(main())
