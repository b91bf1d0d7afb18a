"""How much of each map one sees, on the scale of the run, on a scale of its own, and in between.

For each layer, and each epoch, the standard deviation of the levels (0 to 255) within each tile:
its median, and the share of tiles below 10 levels, which look flat. `run` is one range for the
layer, `map` the least and greatest value of each map (as `imshow` does), `adaptive` what
`replay.maps.adaptive` measures. Tiles that it marks as flat are counted by themselves. Of a fixed
image also how much its levels change from frame to frame in the last epoch.

    python scripts/bench/legibility/legible.py run.h5 [--every 6]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

import replay
from replay.maps.adaptive import AROUND, AdaptiveRanges, percentiles_of, steady
from replay.maps.axes import Maps, choose_maps
from replay.maps.scaling import Scaler
from replay.recording import Recording, Series
from replay.schema import Cell

LEVELS = 256
FLAT = 10  # levels
Tiles = npt.NDArray[np.float64]
Show = Callable[[int, npt.NDArray[np.float16]], tuple[Tiles, npt.NDArray[np.bool_]]]
"""Gives the levels of a frame's maps, float64 (C, S, H, W), and which of them are marked flat."""


def run_scale(maps: Maps, cells: Sequence[Cell]) -> Show:
    """Returns how the maps look under one range for the whole run."""
    scaler = Scaler(maps, cells, range(maps.channels), count=254)

    def show(place: int, frame: npt.NDArray[np.float16]) -> tuple[Tiles, npt.NDArray[np.bool_]]:
        levels = scaler.levels(*cells[place], frame).astype(float) * (LEVELS - 1) / 253
        return levels, np.zeros(len(frame), bool)

    return show


def map_scale(maps: Maps, cells: Sequence[Cell]) -> Show:
    """Returns how the maps look where each has its own least and greatest value."""

    def show(place: int, frame: npt.NDArray[np.float16]) -> tuple[Tiles, npt.NDArray[np.bool_]]:
        values = frame.astype(float)
        low, high = values.min(axis=(1, 2, 3)), values.max(axis=(1, 2, 3))
        return to_levels(values, low, high), high <= low

    return show


def adaptive_scale(maps: Maps, cells: Sequence[Cell]) -> Show:
    """Returns how the maps look on ranges that are as steady as the image is."""
    ranges = maps.series.ranges()
    widths = np.array([ranges[cell][:, 1] - ranges[cell][:, 0] for cell in cells])
    adaptive = AdaptiveRanges(widths, [epoch for epoch, _ in cells])
    stays = maps.series.probe_number is not None
    known: dict[int, npt.NDArray[np.float64]] = {}

    def percentiles(place: int) -> npt.NDArray[np.float64]:
        if place not in known:
            known[place] = percentiles_of(maps[cells[place]])
        return known[place]

    def show(place: int, frame: npt.NDArray[np.float16]) -> tuple[Tiles, npt.NDArray[np.bool_]]:
        around = range(max(0, place - AROUND), min(len(cells), place + AROUND + 1))
        shown = adaptive.show(
            place, steady([percentiles(each) for each in around]) if stays else percentiles(place)
        )
        return to_levels(frame.astype(float), *shown.bounds.T), shown.flat

    return show


def to_levels(values: Tiles, low: Tiles, high: Tiles) -> Tiles:
    """Returns values of (C, S, H, W) as levels, each channel between its low and its high."""
    width = np.where(high > low, high - low, 1.0)
    share = (values - low[:, None, None, None]) / width[:, None, None, None]
    levels: Tiles = np.rint(np.clip(share, 0, 1) * (LEVELS - 1))
    return levels


SCALES = {"run": run_scale, "adaptive": adaptive_scale, "map": map_scale}


def measure(series: Series, every: int) -> None:
    """Prints a line for each scale."""
    maps, cells = choose_maps(series), series.frames
    last = cells[-1][0]
    for name, make in SCALES.items():
        show = make(maps, cells)
        deviations: dict[int, list[float]] = {}
        changes: list[float] = []
        marked, before = 0, None
        for place, cell in enumerate(cells):
            in_last = series.probe_number is not None and cell[0] == last
            if place % every and not in_last:
                continue
            levels, flat = show(place, maps[cell])
            marked += int(flat.sum())
            deviations.setdefault(cell[0], []).extend(levels.std(axis=(1, 2, 3))[~flat])
            if in_last:
                if before is not None:
                    changes.append(float(np.abs(levels - before).mean()))
                before = levels
        tiles = np.concatenate([np.array(each) for each in deviations.values()])
        epochs = " ".join(f"{np.median(each):.1f}" for each in deviations.values() if each)
        moved = f"  last epoch moves {np.mean(changes):.3f}" if changes else ""
        print(
            f"{series.name:<10} {name:<9} median {np.median(tiles):5.1f}  "
            f"flat {(tiles < FLAT).mean():6.1%}  marked {marked:3}  by epoch {epochs}{moved}"
        )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("recording", type=Path)
    parser.add_argument("--every", type=int, default=6, help="measure every n-th frame (default 6)")
    options = parser.parse_args()
    with replay.open(options.recording) as run:
        shown: list[tuple[str, Recording]] = [("the first image of each batch", run)]
        shown += [(f"fixed image {number}", run.probe(number)) for number in range(run.probes)]
        for words, recording in shown:
            print(words)
            for name in recording.layers:
                measure(recording[name], options.every)


if __name__ == "__main__":
    main()
