"""Two recordings side by side as a moving picture: `replay.compare`."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import replace

from replay.film.comparison_film import ComparisonFilm
from replay.idle_options import check_given
from replay.maps.runs import open_runs
from replay.option_values import AUTO, Numbers, either, gather
from replay.options import ComparisonRequest
from replay.overwriting import check_replaceable
from replay.recording import Recording
from replay.rendering.animation import Animation, open_target, render, summarize
from replay.rendering.presets import choose_out


def compare(
    a: Recording | str | os.PathLike[str],
    b: Recording | str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    difference: bool = False,
    difference_cmap: str = "RdBu_r",
    layers: str | Sequence[str] | None = None,
    channels: Numbers = None,
    epochs: Numbers = None,
    batches: Numbers = None,
    epoch: Numbers = None,
    batch: Numbers = None,
    layer: str | Sequence[str] | None = None,
    scale: str = "adaptive",
    clip: tuple[float, float] | None = None,
    symmetric: bool = False,
    cmap: str = "gray",
    fps: float | None = None,
    zoom: int | None = None,
    columns: int | None = None,
    title: str | None = None,
    input: bool = True,
    theme: str = "light",
    codec: str | None = None,
    crf: int | None = None,
    quality: int | str = AUTO,
    slices: Numbers = "middle",
    tokens: str = "auto",
    probe: int | None = None,
    view: str = "maps",
    query: str | int | tuple[int, int] | None = None,
    cam_method: str = "grad-cam",
    jobs: int | None = None,
    executor: Executor | None = None,
    max_mb: float | str | None = AUTO,
    preset: str | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Animation:
    """Renders two runs side by side, aligned by epoch and batch.

        compare("sgd.h5", "adam.h5", "compare.mp4")
        compare("sgd.h5", "adam.h5", "compare.gif", layers="conv2", difference=True)

    At the left stands run a, at the right run b: the same layers, channels and tiles. What is
    shown are the epochs and batches that both have; what was left out is a remark. Where both saw
    the same image in every frame that is looked at (16 of them), it is shown once.

    Args:
        a: An open recording, or the path of one.
        b: The other one.
        out: Where to, as in `replay.animate`. Default: `a-b.mp4` beside `a.h5`.
        difference: Adds a third panel, b - a, computed in float32, on a scale of its own that is
            symmetric around zero.
        difference_cmap: Its colormap: any of matplotlib's; diverging ones are meant for it.
        layers: As in `replay.animate`, of those that both runs have. Default: the first one.
        channels: As in `replay.animate`; `top:16` are those that vary most in both.
        epochs: Which epochs, of those that both have.
        batches: Which batches of each epoch.
        epoch: Another name of `epochs`.
        batch: Another name of `batches`.
        layer: Another name of `layers`.
        scale: As in `replay.animate`: with `adaptive` or `map` each run has its own ranges, with
            `run`, `epoch`, `frame` or `channel` both share one. The difference always has one
            range: `frame` with `map`, `run` with `adaptive`.
        clip: An explicit (low, high) for both runs; the difference keeps a measured one.
        symmetric: Widens the range of the runs to be symmetric around zero.
        cmap: Any registered matplotlib colormap. It has 237 of its colours, a GIF 165; with a
            difference 120 and 84, and the difference 117 and 81.
        fps: Frames a second, as in `replay.animate`.
        zoom: Pixels, in each direction, for a pixel of a map.
        columns: Maps in a row of each panel.
        title: A heading; the runs and the layer are named below it.
        input: Whether the input pictures are shown.
        theme: `light` or `dark`.
        codec: Of a video, as in `replay.animate`.
        crf: Quality of an MP4 or WebM, as in `replay.animate`.
        quality: Of a WebP, as in `replay.animate`.
        slices: Of a volume, as in `replay.animate`.
        tokens: As in `replay.animate`.
        probe: The number of a fixed image, whose maps are shown.
        view: `maps`, or another view, as in `replay.animate`.
        query: Of attention, as in `replay.animate`.
        cam_method: Of class activation, as in `replay.animate`.
        jobs: Processes that render, as in `replay.animate`.
        executor: Renders instead, as in `replay.animate`.
        max_mb: Largest size in MB, as in `replay.animate`.
        preset: `github`, `slack`, `slides` or `paper`, as in `replay.animate`.
        overwrite: Whether a file may be replaced that mapreel has not made, as in `replay.animate`.
        progress: Called with (frames done, frames in all) after each frame or part.

    Returns:
        What was written.

    Raises:
        FileError: A recording cannot be read.
        SelectionError: The runs have no such layer or no batch in common, or the layer's maps are
            not of the same shape in both.
        OptionError: An option that cannot be used.
        OutputError: The target cannot be written; found before anything is rendered.
        EncodeError: The encoder failed; the target is as it was before.
    """
    check_given(locals())
    epochs = either("epochs", epochs, "epoch", epoch)
    batches = either("batches", batches, "batch", batch)
    layers = either("layers", layers, "layer", layer)
    request = gather(ComparisonRequest, locals())
    started = time.monotonic()
    with open_runs([a, b], probe) as runs:
        first, second = (run.path for run in runs)
        path = first.with_name(f"{first.stem}-{second.stem}.mp4") if out is None else out
        if preset is not None:
            path = choose_out(request, first.with_name(f"{first.stem}-{second.stem}.h5"))
        if view != "maps":
            from replay.maps.views import look_at

            runs, film = look_at(runs, request.film)
            request = replace(request, film=film)
        target = open_target(path, runs, "one of the recordings")
        replaced = check_replaceable([target.path], overwrite)
        request = replace(request, film=replace(request.film, levels=target.levels))
        rendered = render(functools.partial(ComparisonFilm, runs), request, target)
    return summarize(rendered, target, started, replaced)
