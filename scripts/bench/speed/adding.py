"""What is on by default, or on request, adds to a film, to a training and to its end: a line each.

What attention, gradients and class activation add is measured by `attending` and `activating`.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import probing
import torch
from rendering import make, timed
from table import Line, ratio, run

import replay

_PROBE = 1.02  # of a step: the about 2 % of a run's time
_PACK = 200  # MB a second, on two cores


def lines(quick: bool) -> Iterator[Line]:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "run.h5"
        make(path, 12, 128, 60 if quick else 300)
        yield from scales(path, 3 if quick else 9)
        yield from packing(path, 2 if quick else 5)
    yield from probe(*((30, 3) if quick else (60, 9)))


def scales(path: Path, rounds: int) -> Iterator[Line]:
    """Films on ranges of their own against those on one range, by turns."""
    out = path.with_suffix(".mp4")

    def film(scale: str) -> float:
        return timed(lambda: replay.animate(path, out, scale=scale, overwrite=True))

    names = "run", "map", "adaptive"
    taken: dict[str, list[float]] = {name: [] for name in names}
    film("run")
    for number in range(rounds):
        for name in names if number % 2 else names[::-1]:
            taken[name].append(film(name))
    words = "mp4, 12 maps of 128×128: time with"
    for name, other, what in (
        ("map", "run", "each map on its own range, with a gain bar / on that of the run"),
        ("adaptive", "map", "ranges as steady as the image is / each map by itself"),
    ):
        pairs = zip(taken[name], taken[other], strict=True)
        yield ratio(f"{words} {what}", [a / b for a, b in pairs])


def packing(path: Path, rounds: int) -> Iterator[Line]:
    """What packs a recording when its training has ended, or afterwards; steps have none of it."""
    filter = "zstd" if importlib.util.find_spec("hdf5plugin") else "gzip"
    out = path.with_name("packed.h5")
    speeds = []
    for _ in range(rounds):
        started = time.perf_counter()
        packed = replay.pack(path, out, filter=filter, overwrite=True)
        speeds.append(packed.bytes_before / 1e6 / (time.perf_counter() - started))
    target = _PACK if filter == "zstd" else None
    what = f"pack, 16 bits, {filter}: megabytes a second"
    yield ratio(what, speeds, target=target, best="least")


def probe(steps: int, turns: int) -> Iterator[Line]:
    """The fixed image that `record run` and `record train` show by default."""
    threads = torch.get_num_threads()
    try:
        found = probing.measure("tiny, 16 of 128x128", steps, turns)
    finally:
        torch.set_num_threads(threads)
    what = "recorded with a fixed image / without, processor's time: tiny, 128×128, batch 16"
    yield ratio(what, found, target=_PROBE)


if __name__ == "__main__":
    sys.exit(run(lines, "adding", __doc__.splitlines()[0]))
