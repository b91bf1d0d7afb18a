"""A recording as a moving picture: the public face of frames.py and encode.py."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from replay.encode import choose_fps, choose_target, encode
from replay.frames import Film, Look
from replay.schema import OutputError
from replay.selection import Numbers
from replay.together import Recordings, choose_layers_of, opened


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
        remarks: What a reader should know: batches left out, recordings of different runs.
    """

    path: Path
    frames: int
    width: int
    height: int
    fps: float
    bytes: int
    seconds: float
    remarks: tuple[str, ...] = ()


def animate(
    recording: Recordings,
    out: str | os.PathLike[str] | None = None,
    *,
    layers: str | Sequence[str] | None = None,
    channels: Numbers = None,
    epochs: Numbers = None,
    batches: Numbers = None,
    scale: str = "run",
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
    codec: str = "h264",
    crf: int | None = None,
    slices: Numbers = "middle",
    tokens: str = "auto",
    probe: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Animation:
    """Renders feature maps as they develop while a network trains, one frame a recorded batch.

        animate("run.h5", "conv1.mp4")
        animate("run.h5", "conv2.gif", layers="conv2", channels="top:16", epochs="0:5", zoom=1)

    A pixel of a map becomes a whole block of equal pixels; maps too large for the frame are
    averaged over whole blocks instead, and the frame says so. One value range holds for the
    whole animation unless another scale is asked for. NaN and infinite values have colours of
    their own and are counted in the frame.

    Args:
        recording: An open recording, or the path of one. One whose writer is still at work, or
            was killed, is played as far as it is committed. Of several, as of the ranks of one
            run, each layer of each has a row, on one scale for all of them; what is shown are
            the epochs and batches that all of them have.
        out: Where to. The suffix chooses the format: `.mp4`, `.gif`, `.webp` (lossless), `.png`
            or `.apng` (animated PNG); a path ending in `/` is a new or empty folder for numbered
            PNG frames. An existing file is replaced, once the new one is whole. Default: the
            recording's path with the suffix `.mp4`.
        layers: A name, a list of names, globs such as `layer1.*`, or `all`. Default: the first
            recorded layer. Several layers stand under one another in the same frame, each with
            its own scale and colour bar, and are made smaller (or averaged over blocks) so that
            the frame stays about as high as it is wide; beyond some ten layers it grows.
        channels: Numbers of channels: `"0,3,8-11"`, `"0:12"`, `"top:16"` for those that vary
            most over the run, an int, a list or a slice; default all. Holds for every layer.
        epochs: Which epochs, in the same ways; numbers are zero-based, as everywhere.
        batches: Which batches of each epoch.
        scale: `run` (one range for all frames: the middle 99 % of the values), `epoch`, `frame`
            or `channel` (each channel its own, for all frames).
        clip: An explicit (low, high) instead.
        symmetric: Widens the range to be symmetric around zero, as diverging colormaps need.
        cmap: Any registered matplotlib colormap. A GIF holds 168 of its colours, the other
            formats 240.
        fps: Frames a second. Default: so that it lasts about 25 seconds, between 4 and 30. In a
            GIF rounded to whole hundredths of a second, 50 at most.
        zoom: Pixels, in each direction, for a pixel of a map; default: such that the frame is
            about 1,000 to 1,400 pixels wide.
        columns: Maps in a row.
        title: A heading; the layer's name follows it.
        input: Whether the input picture is shown.
        captions: Without them, only maps and input picture are shown.
        theme: `light` or `dark`.
        codec: `h264` or `av1`, for MP4.
        crf: Quality of an MP4: 0 best, 51 (h264) or 63 (av1) worst; default 18 or 30.
        slices: Of a volume (C, D, H, W): the `middle` one, `all` of each map side by side, or
            numbers in the same ways as channels.
        tokens: How tokens (T, C) are shown: `square` (the first one left out if need be),
            `strip`, or `auto`, in the proportions of the input picture where they fill them.
        probe: The number of a fixed image, whose maps are shown instead of those of each batch's
            first image.
        progress: Called with (frames done, frames in all) after each frame.

    Returns:
        What was written.

    Raises:
        FileError: The recording cannot be read.
        SelectionError: A layer, channel, epoch or batch that it does not hold.
        OptionError: An option that cannot be used.
        OutputError: The target cannot be written; found before anything is rendered.
        EncodeError: The encoder failed; the target is as it was before.
    """
    started = time.monotonic()
    with opened(recording, probe) as runs:
        target = choose_target(runs[0].path.with_suffix(".mp4") if out is None else out)
        if target.path.exists() and any(target.path.samefile(run.path) for run in runs):
            raise OutputError(f"{target.path} is the recording itself")
        look = Look(
            scale,
            clip,
            symmetric,
            cmap,
            zoom,
            columns,
            title,
            input,
            captions,
            theme,
            slices,
            tokens,
        )
        chosen = choose_layers_of(runs, layers)
        film = Film(runs, chosen, channels, epochs, batches, look, target.levels)
        total = len(film.cells)
        rate = choose_fps(fps, total, target.kind)
        written = encode(
            film.frames(),
            target,
            film.palette,
            film.size,
            rate,
            codec,
            crf,
            None if progress is None else lambda done: progress(done, total),
        )
    height, width = film.size
    return Animation(
        target.path,
        written,
        width,
        height,
        rate,
        size_of(target.path),
        time.monotonic() - started,
        (*film.remarks, *damage_in_words(film.damaged)),
    )


def size_of(path: Path) -> int:
    """Bytes of the file, or of all files in the folder."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.iterdir())
    return path.stat().st_size


def damage_in_words(found: list[str]) -> list[str]:
    """A remark on the damaged frames, if there are any."""
    if not found:
        return []
    more = f" and {len(found) - 1} more: see 'python -m replay verify'" if len(found) > 1 else ""
    return [f"{found[0]}{more}; marked in the animation"]
