"""A recording as a moving picture: `replay.animate`, from its arguments to its result.

The arguments become one `RenderRequest`, its `FilmOptions` make a `Film`, `render_to` has the
film's frames encoded, and what was written is summarized in an `Animation`.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replay.encoding import formats
from replay.film.film import Film
from replay.film.overview import VIDEO_BOUNDS, make_within
from replay.formatting import format_bytes, format_count
from replay.html import player_html
from replay.idle_options import check_format_options, check_given
from replay.maps.runs import Recordings, open_runs
from replay.option_values import AUTO, Numbers, check_quality, either, gather
from replay.options import FilmOptions, RenderRequest
from replay.output import EncodeOptions, Target, choose_target, size_of
from replay.overwriting import check_replaceable
from replay.recording import Recording
from replay.rendering.accessibility import choose_fps, encode_watched
from replay.rendering.alt_text import describe
from replay.rendering.parallel import Workers, render_to
from replay.rendering.presets import choose_out
from replay.rendering.rendered import FilmT, Rendered
from replay.rendering.sidecars import sidecar_path, write_poster, write_text
from replay.rendering.size_limit import render_within_limit
from replay.schema import OutputError
from replay.schema.faces import choose, program

if TYPE_CHECKING:
    from replay.film.probe_grid import ProbeGridFilm


@dataclass(frozen=True)
class Animation:
    """What `animate` wrote.

    Attributes:
        path: The file, or the folder of numbered frames.
        frames: Number of frames.
        width: Pixels of a frame.
        height: Pixels of a frame.
        fps: Frames a second.
        bytes: Size of the file, or of all files in the folder.
        seconds: How long it took.
        remarks: What a reader should know: batches left out, recordings of different runs,
            what was given up for its size, flashes.
        replaced: Files that were there before.
        alt: What it shows, in two to four sentences, for those who cannot see it.
        chosen: The one of the remarks that says what was given up for its size; empty if nothing.
        notes: Those of the remarks that say what was chosen and can be chosen otherwise: that one,
            layers and maps for which the frame has no space, a lower frame rate than usual.
    """

    path: Path
    frames: int
    width: int
    height: int
    fps: float
    bytes: int
    seconds: float
    remarks: tuple[str, ...] = ()
    alt: str = field(default="", repr=False)
    replaced: tuple[Path, ...] = ()
    chosen: str = field(default="", repr=False)
    notes: tuple[str, ...] = field(default=(), repr=False)

    def __repr__(self) -> str:
        frames, size = format_count(self.frames, "frame"), format_bytes(self.bytes)
        shape = f"{self.width}×{self.height}, {self.fps:.3g} a second"
        remarks = f"; {format_count(len(self.remarks), 'remark')}" if self.remarks else ""
        return f"<Animation {str(self.path)!r}: {frames} of {shape}, {size}{remarks}>"

    def _repr_html_(self) -> str:
        """Plays in a notebook."""
        frames, size = format_count(self.frames, "frame"), format_bytes(self.bytes)
        return player_html(self.path, self.alt, f"{self.path.name}: {frames}, {size}")


def animate(
    recording: Recordings,
    out: str | os.PathLike[str] | None = None,
    *,
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
    captions: bool = True,
    theme: str = "light",
    codec: str | None = None,
    crf: int | None = None,
    quality: int | str = AUTO,
    slices: Numbers = "middle",
    tokens: str = "auto",
    probe: int | None = None,
    show: str | Sequence[str] = (),
    order: str = "number",
    view: str = "maps",
    query: str | int | tuple[int, int] | None = None,
    cam_method: str = "grad-cam",
    grid_of_probes: bool = False,
    jobs: int | None = None,
    executor: Executor | None = None,
    max_mb: float | str | None = AUTO,
    preset: str | None = None,
    overwrite: bool = False,
    alt: bool = False,
    poster: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Animation:
    """Renders feature maps as they develop while a network trains, one frame a recorded batch.

        animate("run.h5", "conv1.mp4")
        animate("run.h5", "conv2.gif", layers="conv2", channels="top:16", epochs="0:5", zoom=1)

    A pixel of a map becomes a whole block of equal pixels; maps too large for the frame are
    averaged over whole blocks instead, and the frame says so. Each map is shown on a range of
    its own that is as steady as the image is, and a gain bar beside its number says how wide that
    is, unless another scale is asked for. NaN and infinite values have colours of their own and
    are counted in the frame.

    Args:
        recording: An open recording, or the path of one. One whose writer is still at work, or
            was killed, is played as far as it is committed. Of several, as of the ranks of one
            run, each layer of each has a row; what is shown are the epochs and batches that
            all of them have.
        out: Where to. The suffix chooses the format: `.mp4`, `.webm` or `.mov` (ProRes, to be
            edited), `.gif`, `.webp`, `.png` or `.apng` (animated PNG); a path ending in `/` is a
            new or empty folder for numbered PNG frames. An existing file is replaced if mapreel
            made it, or with `overwrite`. Default: the recording's path with the suffix `.mp4`.
        layers: A name, a list of names, globs such as `layer1.*`, or `all`. Default: the first
            recorded layer. Several layers stand under one another in the same frame, each with
            its own scale and colour bar, and are made smaller (or averaged over blocks) so that
            the frame stays about as high as it is wide. More than seven stand side by side, too,
            in a frame of up to 3,840×2,160 pixels; of maps that would be too small to be seen the
            first ones are shown, and remarks say of what there was more.
        channels: Numbers of channels: `"0,3,8-11"`, `"0:12"`, `"top:16"` for those that vary
            most over the run, an int, a list or a slice; default all. Holds for every layer.
        epochs: Which epochs, in the same ways; numbers are zero-based, as everywhere.
        batches: Which batches of each epoch.
        epoch: Another name of `epochs`.
        batch: Another name of `batches`.
        layer: Another name of `layers`.
        scale: `adaptive` (each map on its own 1st to 99th percentile: where the image stays, the
            mean over nine frames around, so that nothing flickers; magnified at most 8 times
            against its channel's widest range within about an epoch), `map` (each map of each
            frame from its least to its greatest value), `run` (one range for all frames: the
            middle 99 % of the values), `epoch`, `frame` or `channel` (each channel its own, for
            all frames). With the first two, a bar shows each map's range against the layer's
            largest in the run, on a logarithmic scale from 1/1000; what is constant, or below
            that, is flat and marked.
        clip: An explicit (low, high) instead.
        symmetric: Widens the range to be symmetric around zero, as diverging colormaps need.
        cmap: Any registered matplotlib colormap. A GIF holds 168 of its colours, the other
            formats 240.
        fps: Frames a second. Default: so that it lasts about 25 seconds, between 4 and 30, or less
            where it would flash more than three times a second; a remark says so. In a GIF
            rounded to whole hundredths of a second, 50 at most.
        zoom: Pixels, in each direction, for a pixel of a map; default: such that the frame is
            about 1,000 to 1,400 pixels wide.
        columns: Maps in a row.
        title: A heading; the layer's name follows it.
        input: Whether the input picture is shown.
        captions: Without them, only maps and input picture are shown.
        theme: `light` or `dark`.
        codec: Of a video: `h264` (the default) or `av1` in an MP4, `vp9` (the default) or `av1` in
            a WebM, `prores` in a MOV.
        crf: Quality of an MP4 or WebM: 0 best, 51 (h264) or 63 (av1, vp9) worst; default 18, 30
            or 24.
        quality: Of a WebP: `exact`, or 1 to 100, which is lossy and smaller, 100 the best. Default:
            `auto`, exact if that is within the largest size, else as good as it allows.
        slices: Of a volume (C, D, H, W): the `middle` one, `all` of each map side by side, or
            numbers in the same ways as channels.
        tokens: How tokens (T, C) are shown: `square` (the first one left out if need be),
            `strip`, or `auto`, in the proportions of the input picture where they fill them.
        probe: The number of a fixed image, whose maps are shown instead of those of each batch's
            first image.
        show: What is shown beside the maps: `kernels` (of each map, with a range for the whole
            run), `difference` (what changed since the same batch of the first epoch, or since the
            first frame of a fixed image; in float32, symmetric around zero), `difference:previous`
            (since the frame before), `histogram` (the share of the values in 64 parts of the range)
            and `loss`, which is there anyway where one was logged; one, several, or a text with
            commas.
        order: Of the channels: `number`, or `similar`, with similar maps side by side in an order
            that holds for the whole run.
        view: `maps`, or what was recorded beside them: `attention` (where each head of a layer
            looks, in the proportions of the input picture, by default in the last layer) or
            `gradient` (of the loss, or of a fixed image's score, with respect to each map;
            symmetric around zero, in RdBu_r unless a colormap other than gray is asked for).
        query: Of attention of all tokens, whose is shown: the number of a token, its row and column
            (`"3,4"`), `class`, `mean` (over all) or `all` (a matrix for each head). Default: that
            of the class token, else the mean; without an image all.
        cam_method: Of class activation: `grad-cam`, `hirescam` or `gradient-x-activation`.
        grid_of_probes: Shows all fixed images at once, a row each with its class and what the
            network answers, and a column for each layer, head or channel: of `cam`, `attention`,
            `components`, or channels of `maps`, over the image. Where the frame has no space for
            all, the first ones, and a remark says so.
        jobs: Processes that render ranges of the frames, whose encoded parts are then joined.
            Default: one, since the encoders use all cores by themselves.
        executor: Renders the parts instead: any `concurrent.futures.Executor`, such as that of an
            engine (`dask.distributed.Client.get_executor()`), whose workers have this package and
            see the recordings and the target's folder under the same paths.
        max_mb: Largest size in MB (10^6 bytes). Default: `auto`, which is that of the preset, else
            10 for GIF, WebP and APNG, so that they can be shared, and none for videos and numbered
            PNG; None: any size. Where it is needed, quality (not beyond what still shows the maps),
            frames (evenly; the first and the last stay) and zoom are given up, but for what was
            asked for: `zoom`, `crf`, `quality`, `fps`, and with `batches` all frames. What was
            given up is a remark. The file is never larger, and nothing is replaced by one that is.
        preset: `github` (GIF or WebP, up to 10 MB and 1,000 pixels wide), `slack` (H.264, 8 MB,
            1,280×1,080), `slides` (H.264 of high quality, 50 MB, 1,920×1,080) or `paper` (a folder
            of at most 60 numbered PNG frames, 20 MB in all, 1,000×1,000). Sets the format, `out`
            if that is None, and what was not asked for otherwise.
        overwrite: Whether a file may be replaced that does not say that mapreel made it. One that
            does is replaced anyway, once the new one is whole, and so is an empty one.
        alt: Whether a text of what it shows is written beside it, `run.alt.txt` of `run.mp4`.
        poster: Whether a picture of the last frame is written beside it, `run.poster.png`.
        progress: Called with (frames done, frames in all) after each frame or part, and
            from the beginning if it has to be written once more to become smaller.

    Returns:
        What was written.

    Raises:
        FileError: The recording cannot be read.
        SelectionError: A layer, channel, epoch or batch that it does not hold.
        OptionError: An option that cannot be used, or a size that cannot be reached.
        OutputError: The target cannot be written; found before anything is rendered.
        EncodeError: The encoder failed; the target is as it was before.
    """
    check_given(locals())
    epochs = either("epochs", epochs, "epoch", epoch)
    batches = either("batches", batches, "batch", batch)
    layers = either("layers", layers, "layer", layer)
    request = gather(RenderRequest, locals())
    started = time.monotonic()
    with open_runs(recording, probe) as runs:
        if preset is not None:
            out = choose_out(request, runs[0].path)
        elif out is None:
            out = runs[0].path.with_suffix(".mp4")
        make: Callable[[FilmOptions], Film | ProbeGridFilm] = functools.partial(Film, runs)
        if grid_of_probes:
            from replay.film.probe_grid import open_grid

            make, film = open_grid(runs, request.film)
            request = replace(request, film=film)
        elif view != "maps":
            from replay.maps.views import look_at

            runs, film = look_at(runs, request.film)
            request, make = replace(request, film=film), functools.partial(Film, runs)
        target = open_target(out, runs, "the recording")
        folder = target.format.is_folder
        alt_path = sidecar_path(target.path, ".alt.txt", folder) if alt else None
        poster_path = sidecar_path(target.path, ".poster.png", folder) if poster else None
        beside = [each for each in (alt_path, poster_path) if each is not None]
        replaced = check_replaceable([target.path, *beside], overwrite)
        request = replace(request, film=replace(request.film, levels=target.levels))
        rendered = render(make, request, target)
        text = describe(rendered.film, rendered.cells, rendered.fps)
        if alt_path is not None:
            write_text(alt_path, text)
        if poster_path is not None:
            write_poster(poster_path, rendered.film, rendered.cells[-1])
    return summarize(rendered, target, started, replaced, text)


def open_target(out: str | os.PathLike[str], runs: Sequence[Recording], whose: str) -> Target:
    """Returns where an animation goes, once it is sure that it can be written there.

    Args:
        out: The path.
        runs: The recordings that it shows.
        whose: What they are called.

    Raises:
        OutputError: It cannot be written, or is one of the recordings.
    """
    target = choose_target(out, formats.FORMATS)
    if target.path.exists() and any(target.path.samefile(run.path) for run in runs):
        raise OutputError(f"{target.path} is {whose} itself")
    return target


def render(make: Callable[[Any], FilmT], request: RenderRequest, target: Target) -> Rendered[FilmT]:
    """Writes all frames of a film to the target, or leaves nothing behind.

    Args:
        make: Makes the film of its options.
        request: What was asked for.
        target: Where it goes.

    Raises:
        OptionError: An option that cannot be used, or a size that cannot be reached.
        EncodeError: The encoder failed; the target is as it was before.
    """
    quality = check_quality(request.quality)
    request = replace(request, quality=quality)
    check_format_options(request, target.format.suffixes[0], target.path.name)
    codec = target.format.choose_codec(request.codec)
    request = replace(request, codec=codec)
    most = target.format.usual_mb if request.max_mb == AUTO else request.max_mb
    if request.preset is not None or most is not None:
        return render_within_limit(make, request, target)
    largest = VIDEO_BOUNDS if target.format.codecs else None
    film, _ = make_within(make, request.film, largest)
    fps = choose_fps(request.fps, len(film.cells), target.format)
    options = EncodeOptions(
        fps,
        codec,
        request.crf,
        calm=request.fps is None,
        quality=quality if isinstance(quality, int) else None,
    )
    cells, progress = film.cells, request.progress
    if request.jobs is None and request.executor is None:
        frames, flashes = encode_watched(film, cells, target, options, progress)
    else:
        workers = Workers(request.jobs, request.executor)
        frames, flashes = render_to(film, cells, target, options, workers, progress)
    return Rendered(film, film.cells, flashes.fps, frames, flashes)


def summarize(
    rendered: Rendered[FilmT],
    target: Target,
    started: float,
    replaced: tuple[Path, ...],
    text: str = "",
) -> Animation:
    """Returns what a public function returns of an animation that was written.

    Args:
        rendered: The animation.
        target: Where it was written to.
        started: When the function was called, of `time.monotonic`.
        replaced: The files that were there before.
        text: What it shows, for those who cannot see it.
    """
    film = rendered.film
    height, width = film.size
    notes = tuple(filter(None, (*film.notes, rendered.given_up, rendered.flashes.note())))
    more = (*notes, rendered.flashes.remark())
    return Animation(
        path=target.path,
        frames=rendered.frames,
        width=width,
        height=height,
        fps=rendered.fps,
        bytes=size_of(target.path),
        seconds=time.monotonic() - started,
        remarks=(
            *film.remarks,
            *_damage_in_words(film.damaged),
            *filter(None, more),
        ),
        alt=text,
        replaced=replaced,
        chosen=rendered.given_up,
        notes=notes,
    )


def _damage_in_words(found: list[str]) -> list[str]:
    """Returns a remark on the damaged frames, if there are any."""
    if not found:
        return []
    verify = choose(f"'{program('replay')} verify'", "replay.verify")
    more = f" and {len(found) - 1} more: see {verify}" if len(found) > 1 else ""
    return [f"{found[0]}{more}; marked in the animation"]
