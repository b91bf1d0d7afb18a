"""Frames a second of `replay.animate`, against the encoder alone and other ways to the same video.

(a) the same encoder with the same settings fed with ready frames from memory; (b) matplotlib's
FuncAnimation; (c) imageio's default writer, with a colormap looked up for each frame; for GIF
Pillow, which quantises each frame. All show the same maps, by turns in one run, one process;
ratios of neighbours, their median.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from table import ROOT, Line, ratio, run

import replay
from record import Writer
from replay.encoding.ffmpeg import find_ffmpeg
from replay.encoding.formats import FORMATS
from replay.encoding.pixel_formats import Indexed, as_colours
from replay.film.film import Film
from replay.options import FilmOptions
from replay.output import EncodeOptions, choose_target, encode

sys.path.insert(0, str(ROOT / "tests"))
matplotlib.use("Agg")

FPS = 20.0


def make(path: Path, channels: int, side: int, frames: int) -> None:
    """Has the recorder's own writer write it, whose files lie as those of a training do."""
    from samples import drifting_maps, smooth_image

    maps = drifting_maps(channels, side, side)
    images = np.stack([smooth_image(seed, 3, 64, 0.5, 0.25) for seed in range(1 + frames)])
    known = {"mean": [0.5] * 3, "std": [0.25] * 3}
    with Writer(path, known, probe=images[:1], batches=frames, quiet=True) as writer:
        for batch in range(frames):
            found = maps(0, batch)
            writer.write(
                epoch=0,
                batch=batch,
                maps={"conv": found},
                probe_maps={"conv": found[None]},
                input=images[1 + batch],
                loss=2.3 * 0.9**batch,
            )


def timed(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def film_of(recording: Any, kind: str, zoom: int, frames: int, probe: int | None = None) -> Film:
    """What animate would make of it."""
    if probe is not None:
        recording = recording.probe(probe)
    levels = choose_target(recording.path.with_name(f"ready.{kind}"), FORMATS).levels
    return Film(
        recording, FilmOptions(layers=["conv"], batches=slice(0, frames), levels=levels, zoom=zoom)
    )


def encoder(film: Film, out: Path) -> Callable[[], int]:
    """The encoder as animate calls it, with all frames in memory as it takes them."""
    target = choose_target(out, FORMATS)
    pixels = target.format.pixels(film.frames(), film.palette, film.size)
    ready = [copied(each) for each in pixels]
    fed = replace(target, format=replace(target.format, pixels=lambda *_: iter(ready)))
    return lambda: encode((), fed, film.palette, film.size, EncodeOptions(FPS))


def copied(pixels: Any) -> Any:
    """What a sink takes, kept while the next frame is made."""
    if isinstance(pixels, Indexed):
        return replace(pixels, colours=pixels.colours.copy())
    return [part.copy() for part in pixels]


def colours(film: Film, count: int) -> list[np.ndarray]:
    """Frames in red, green and blue."""
    found = []
    for number, parts in enumerate(as_colours(film.frames(), film.palette, film.size)):
        found.append(np.ascontiguousarray(parts[0][..., 2::-1]))
        if number + 1 == count:
            break
    return found


def func_animation(film: Film, path: Path, frames: int, preset: str, axes_shown: bool) -> None:
    """Each map with imshow, as a script would; the same preset of the same encoder.

    Args:
        film: Has the maps, and their range.
        path: The video.
        frames: How many.
        preset: The encoder's.
        axes_shown: Whether axes are drawn, as they come, or are hidden.
    """
    from matplotlib import pyplot as plt
    from matplotlib.animation import FFMpegWriter, FuncAnimation

    matplotlib.rcParams["animation.ffmpeg_path"] = find_ffmpeg()
    series = film.map_sections[0].row.maps
    first = series[film.cells[0]].astype("f4")
    low, high = float(first.min()), float(first.max())  # one range, as a script would have it
    count = series.channels
    height, width = film.size
    figure, axes = plt.subplots(-(-count // 8) if count > 12 else 3, 8 if count > 12 else 4)
    figure.set_size_inches(width / 100, height / 100)
    shown = [
        ax.imshow(picture, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        for ax, picture in zip(axes.ravel(), series[film.cells[0]][:, 0], strict=False)
    ]

    if not axes_shown:
        for ax in axes.ravel():
            ax.set_axis_off()

    def update(number: int) -> list[Any]:
        for image, picture in zip(shown, series[film.cells[number]][:, 0], strict=True):
            image.set_data(picture)
        return shown

    writer = FFMpegWriter(fps=FPS, codec="libx264", extra_args=["-preset", preset, "-crf", "18"])
    FuncAnimation(figure, update, frames=frames).save(path, writer=writer, dpi=100)
    plt.close(figure)


def imageio_writer(film: Film, path: Path, frames: int) -> None:
    import imageio.v2 as imageio

    table = film.palette.table
    with imageio.get_writer(path, fps=FPS, macro_block_size=2) as writer:
        for number, frame in enumerate(film.frames()):
            writer.append_data(table[frame.plane])
            if number + 1 == frames:
                break


def pillow(pictures: list[np.ndarray], path: Path) -> None:
    from PIL import Image

    first, *rest = (Image.fromarray(picture).quantize(256) for picture in pictures)
    first.save(path, save_all=True, append_images=rest, duration=50, loop=0)


def lines(quick: bool) -> Iterator[Line]:
    rounds = 4 if quick else 9
    for channels, side, zoom in ((12, 128, 2), (64, 56, 1)):
        frames = 100 if quick else 300
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "run.h5"
            make(path, channels, side, frames)
            words = f"{channels} maps of {side}×{side}, zoom {zoom}"
            for kind in ("mp4", "gif"):
                yield from compare(path, kind, zoom, frames, rounds, words)
            yield from compare_fixed(path, zoom, frames, rounds, words)
            if channels == 12:
                yield from formats(path, zoom, frames // 4, 2 if quick else 5, words)


FORMATS_SHOWN: tuple[tuple[str, str, dict[str, Any], float | None], ...] = (
    ("webp, exact", "webp", {"quality": "exact"}, 25),
    ("webp, quality 80", "webp", {"quality": 80}, 25),
    ("webp by default, all included that finds what fits 10 MB", "webp", {"max_mb": "auto"}, 25),
    ("apng", "png", {}, 25),
    ("webm, VP9", "webm", {}, None),
    ("webm, AV1", "webm", {"codec": "av1"}, None),
    ("mov, ProRes 4444", "mov", {}, None),
)
"""What a line says, the suffix, options of animate, and frames a second at least."""


def formats(path: Path, zoom: int, frames: int, rounds: int, words: str) -> Iterator[Line]:
    """Frames a second and megabytes of the formats that kept people waiting, and of new ones."""
    for what, suffix, options, target in FORMATS_SHOWN:
        found, size = [], 0
        for _ in range(rounds):
            given: dict[str, Any] = {"max_mb": None, **options}
            made = replay.animate(
                path,
                path.with_name(f"out.{suffix}"),
                zoom=zoom,
                fps=FPS,
                batches=slice(0, frames),
                **given,
            )
            found.append(made.frames / made.seconds)
            size = made.bytes
        each = size / made.frames / 1000
        yield ratio(
            f"{what}, {words}: frames a second ({each:.0f} kB each)",
            found,
            target=target,
            best="least",
        )


def compare_fixed(path: Path, zoom: int, frames: int, rounds: int, words: str) -> Iterator[Line]:
    """A GIF of a fixed image, whose colours are chosen once."""
    out = path.with_name("out.gif")
    ratios = []
    with replay.open(path) as recording:
        alone = encoder(film_of(recording, "gif", zoom, frames, 0), out)
        for number in range(rounds):
            turns = (
                lambda: replay.animate(
                    path, out, zoom=zoom, fps=FPS, batches=slice(0, frames), max_mb=None, probe=0
                ),
                alone,
            )
            taken = {turn: timed(turns[turn]) for turn in ((0, 1) if number % 2 else (1, 0))}
            ratios.append(taken[1] / taken[0])
    what = f"gif of a fixed image, {words}: of the encoder's own speed"
    yield ratio(what, ratios, target=0.85, best="least")


def compare(
    path: Path, kind: str, zoom: int, frames: int, rounds: int, words: str
) -> Iterator[Line]:
    out = path.with_name(f"out.{kind}")
    few = max(8, frames // 8)  # of the slow ways
    slow_rounds = 1 if rounds < 9 else 3  # a round of them takes half a minute
    ours, ratios, funcs, hidden, defaults, pillows, floors = [], [], [], [], [], [], []
    with replay.open(path) as recording:
        film = film_of(recording, kind, zoom, frames)
        width, height = film.size[::-1]
        alone = encoder(film, out)
        for number in range(rounds):
            turns = (
                lambda: replay.animate(
                    path,
                    out,
                    zoom=zoom,
                    fps=FPS,
                    batches=slice(0, frames),
                    max_mb=None,
                    overwrite=True,  # another way has just written there
                ),
                alone,
            )
            order = (0, 1) if number % 2 else (1, 0)
            taken = {turn: timed(turns[turn]) for turn in order}
            ours.append(frames / taken[0])
            ratios.append(taken[1] / taken[0])
            each = taken[0] / frames
            if kind == "mp4" and number < slow_rounds:
                for axes_shown, kept in ((True, funcs), (False, hidden)):
                    took = timed(
                        lambda shown=axes_shown: func_animation(film, out, few, "veryfast", shown)
                    )
                    kept.append(took / few / each)
                defaults.append(timed(lambda: imageio_writer(film, out, few)) / few / each)
            if kind == "gif" and number < slow_rounds:
                pictures = colours(film, few)
                took = timed(lambda shown=pictures: pillow(shown, out)) / few
                pillows.append(took / each)
                floors.append(took * frames / taken[1])
        assert not film.damaged, "every frame was read"
    yield ratio(f"{kind}, {words}, frames of {width}×{height}: frames a second", ours)
    target = 0.8 if zoom == 1 else 0.85
    what = f"{kind}, {words}: of the encoder's own speed"
    yield ratio(what, ratios, target=target, best="least")
    if funcs:
        other = f"FuncAnimation, matplotlib {matplotlib.__version__}"
        what = f"{kind}, {words}: times as fast as {other}, axes as they come"
        yield ratio(what, funcs, target=8, best="least")
        yield ratio(f"{kind}, {words}: times as fast as {other}, axes hidden", hidden)
        yield ratio(f"{kind}, {words}: times as fast as imageio's default", defaults)
    if pillows:
        what = f"{kind}, {words}: times as fast as Pillow's quantising writer"
        yield ratio(what, pillows, target=8, best="least")
        yield ratio(f"{kind}, {words}: the encoder alone, times that writer", floors)


if __name__ == "__main__":
    sys.exit(run(lines, "render", __doc__.splitlines()[0]))
