"""How small a recording becomes, how fast that is, and what it costs to read it afterwards.

Without a recording it makes one, of the built-in network with what its convolutions and ReLUs put
out. Ratios are of the maps alone, float16 to what is in the file. Speeds are of the whole command,
by turns with each other; a frame at random is read with its checksum compared.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
from table import ROOT, Line, ratio, show

import replay

RATIOS = {16: {"maps": 1.3, "after ReLU": 2.2}, 8: {"maps": 2.0, "after ReLU": 3.7}}
MEGABYTES_A_SECOND = 200  # with zstd, on two cores
ANIMATE = 0.8  # of the speed from the raw file
MILLISECONDS = 3.0  # of a frame at random


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recording", nargs="?", type=Path, help="by default one is made")
    parser.add_argument("--quick", action="store_true", help="shorter, and less certain")
    parser.add_argument("--strict", action="store_true", help="exit code 1 if a target is missed")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = asked.recording or record(Path(folder) / "run.h5", asked.quick)
        good = show(lines(path, Path(folder), asked.quick), "scripts/bench/pack")
    return 1 if asked.strict and not good else 0


def record(path: Path, quick: bool) -> Path:
    command = [sys.executable, "-m", "record", "train", "-o", str(path), "--quiet"]
    command += ["--layers", "Conv2d", "ReLU", "--epochs", "1" if quick else "4"]
    subprocess.run(command, check=True, cwd=ROOT)
    return path


def lines(path: Path, folder: Path, quick: bool) -> Iterator[Line]:
    filters = ["gzip", "zstd"] if importlib.util.find_spec("hdf5plugin") else ["gzip"]
    if "zstd" not in filters:
        yield Line("zstd", None, note="hdf5plugin is not installed")
    packed: dict[tuple[int, str], Path] = {}
    for bits in (16, 8):
        for name in filters:
            small = folder / f"small{bits}{name}.h5"
            seconds, of_cores = [], []
            for _ in range(1 if quick or name == "gzip" else 3):
                before, used = time.perf_counter(), time.process_time()
                result = replay.pack(path, small, bits=bits, filter=name, overwrite=True)
                seconds.append(time.perf_counter() - before)
                of_cores.append(time.process_time() - used)
            packed[bits, name] = small
            speed = result.bytes_before / 1e6 / min(seconds)
            target = MEGABYTES_A_SECOND if name == "zstd" else None
            note = f"{result.bytes_before / 1e6 / min(of_cores):.0f} MB in a second of one core"
            yield Line(f"pack, {bits} bits, {name}", speed, " MB/s", target, "least", note)
            if not replay.verify(small):
                yield Line(f"verify, {bits} bits, {name}: problems", 1, "", 0)
            for what, found in ratios(path, small).items():
                # The goals of what is lossless are those of gzip: zstd gives less, and is faster.
                goal = RATIOS[bits][what] if bits == 8 or name == "gzip" else None
                yield Line(f"{what}, {bits} bits, {name}", found, " times", goal, "least")
    for (bits, name), small in packed.items():
        at_random = milliseconds(small, 50 if quick else 200)
        note = f"slowest tenth from {statistics.quantiles(at_random, n=10)[-1]:.2f} ms"
        what = f"a frame at random, {bits} bits, {name}"
        yield Line(what, statistics.median(at_random), " ms", MILLISECONDS, note=note)
    for (bits, name), small in packed.items():
        pairs = [(film(path, folder), film(small, folder)) for _ in range(1 if quick else 3)]
        what = f"animate from {bits} bits, {name}, against raw"
        yield ratio(what, [a / b for a, b in pairs], target=ANIMATE, best="least")


def ratios(path: Path, small: Path) -> dict[str, float]:
    """Bytes of the maps against those in the packed file: before a ReLU and after it."""
    sizes: dict[str, list[int]] = {}
    with replay.open(path) as run, h5py.File(small) as file:
        for name in run.layers:
            layer = run[name].layer
            after = layer.module.startswith("ReLU")
            of = sizes.setdefault("after ReLU" if after else "maps", [0, 0])
            values = file["maps"][name][0, 0].size
            of[0] += values * 2 * len(run[name].frames)
            of[1] += file["maps"][name].id.get_storage_size()
            if f"maps16/{name}" in file:
                of[1] += file["maps16"][name].id.get_storage_size()
    return {what: before / after for what, (before, after) in sizes.items()}


def milliseconds(path: Path, times: int) -> list[float]:
    """What it takes to read a frame of any layer, epoch and batch."""
    found = []
    with replay.open(path) as run:
        for name in run.layers:
            run[name].checksums()
        chosen = random.Random(0)
        for _ in range(times):
            series = run[chosen.choice(run.layers)]
            at = chosen.choice(series.frames)
            before = time.perf_counter()
            _ = series[at]
            found.append(1000 * (time.perf_counter() - before))
    return found


def film(path: Path, folder: Path) -> float:
    """Seconds of a film in a process of its own, as one makes it."""
    out = folder / "film.mp4"
    command = [sys.executable, "-m", "replay", "animate", str(path), "-o", str(out), "--overwrite"]
    before = time.perf_counter()
    subprocess.run([*command, "--quiet"], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return time.perf_counter() - before


if __name__ == "__main__":
    sys.exit(main())
