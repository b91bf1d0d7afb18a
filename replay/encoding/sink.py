"""The interface of a sink, which turns frames into a file, and the loop that feeds every sink.

A format is one file with a class of three methods, `begin`, `write` and `finish`, and one line in
`replay.encoding.formats`. Everything that the formats have in common happens in `encode`: frames
are converted into what the sink takes, a file is written beside its target and renamed when it is
whole, its size is watched, and progress is reported.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from replay.formatting import format_count
from replay.output import replacing
from replay.raster.frame import Frame
from replay.raster.palette import Palette
from replay.schema import EncodeError, OptionError

HIGHEST_CRF = {"h264": 51, "av1": 63}
_CHECK_EVERY = 16  # frames

Pixels = TypeVar("Pixels")
TakenPixels = TypeVar("TakenPixels", contravariant=True)


@dataclass(frozen=True)
class EncodeOptions:
    """How an animation is encoded.

    Attributes:
        fps: Frames a second, from `choose_fps`.
        codec: `h264` or `av1`; for MP4.
        crf: Quality of an MP4, 0 the best, up to 51 (h264) or 63 (av1); default 18 and 30.
        limit: Bytes that the file, or all files of a folder, may have; None for any number.

    Raises:
        OptionError: The codec is unknown, or the crf is out of its range.
    """

    fps: float
    codec: str = "h264"
    crf: int | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.codec not in HIGHEST_CRF:
            expected = " or ".join(HIGHEST_CRF)
            raise OptionError(f"unknown codec {self.codec!r}; expected {expected}")
        highest = HIGHEST_CRF[self.codec]
        if self.crf is not None and not 0 <= self.crf <= highest:
            raise OptionError(f"crf {self.crf}: expected 0 to {highest} for {self.codec}")


class LimitError(EncodeError):
    """The file would be larger than it may be.

    Attributes:
        bytes: Its size when that was found.
        frames: Number of frames that it then held, or a few more.
    """

    def __init__(self, size: int, frames: int, limit: int) -> None:
        super().__init__(
            f"{size:,} bytes after {format_count(frames, 'frame')}; expected at most {limit:,}"
        )
        self.bytes, self.frames = size, frames


@dataclass
class Output:
    """Where a sink writes to, and how much it may write.

    Attributes:
        path: An empty file, or an empty folder, that becomes the target when it is whole.
        resources: What a sink enters here ends when the writing ends, also when it fails.
        limit: Bytes that may be written; None for any number.
        counted_bytes: The sum of all calls of `count_frame`.
        counted_frames: Number of those calls.
    """

    path: Path
    resources: contextlib.ExitStack
    limit: int | None = None
    counted_bytes: int = 0
    counted_frames: int = 0

    def count_frame(self, size: int) -> None:
        """Counts the bytes of a frame, for a sink that knows them before the file has them.

        The size of the file is watched in any case; a sink that counts ends at the first frame
        that is too much.

        Raises:
            LimitError: They are more than the file may have.
        """
        self.counted_bytes += size
        self.counted_frames += 1
        if self.limit is not None and self.counted_bytes > self.limit:
            raise LimitError(self.counted_bytes, self.counted_frames, self.limit)

    def check_size(self, frames: int) -> None:
        """Compares the size of the file, which has so many frames or a few less, with the limit.

        Raises:
            LimitError: The file is larger.
        """
        if self.limit is not None and (size := size_of(self.path)) > self.limit:
            raise LimitError(size, frames, self.limit)


class Sink(Protocol[TakenPixels]):
    """Turns the frames of one animation into a file, or into the files of a folder."""

    def begin(
        self, output: Output, palette: Palette, size: tuple[int, int], options: EncodeOptions
    ) -> None:
        """Makes everything ready for the first frame.

        Args:
            output: Where to write.
            palette: The colours of the frames' indices.
            size: Height and width of every frame, both even.
            options: How to encode.
        """

    def write(self, pixels: TakenPixels) -> None:
        """Takes the next frame, in the form that the format's `pixels` gives.

        The buffers are filled with another frame after this call: what is needed later is copied.

        Raises:
            EncodeError: The encoder failed.
        """

    def finish(self) -> None:
        """Writes what is left, so that the file is whole; called once, after the last frame.

        Raises:
            EncodeError: The encoder failed.
        """


@dataclass(frozen=True)
class Format(Generic[Pixels]):
    """What must be known of a format.

    Attributes:
        name: One word, as a message has it.
        suffixes: What a path of this format ends in; `/` for a folder.
        sink: The class that writes it.
        pixels: Converts frames into what the sink takes; one of `replay.encoding.pixel_formats`.
        join: Writes one animation with all frames of several files to a path. It may raise
            IndexError or struct.error where one of them is cut off.
        levels: Entries of the palette that the format leaves to the colormap.
        part_frames: Parts that are encoded by themselves have a multiple of so many frames, the
            last one so many or more.
        process_pays_from: Number of frames from which it pays to start a process; None where the
            encoder uses all cores by itself.
        frame_rate: The frame rate next to a given one that the format can have.
    """

    name: str
    suffixes: tuple[str, ...]
    sink: Callable[[], Sink[Pixels]]
    pixels: Callable[[Iterable[Frame], Palette, tuple[int, int]], Iterator[Pixels]]
    join: Callable[[Sequence[Path], Path], None]
    levels: int = 240
    part_frames: int = 10
    process_pays_from: int | None = None
    frame_rate: Callable[[float], float] = float

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of files instead of one file."""
        return "/" in self.suffixes


@dataclass(frozen=True)
class Target:
    """Where an animation goes, and in which format.

    Attributes:
        path: The file, or the folder.
        format: What it becomes.
    """

    path: Path
    format: Format[Any]

    @property
    def kind(self) -> str:
        """The name of the format: `mp4`, `gif`, `webp`, `apng` or `folder`."""
        return self.format.name

    @property
    def levels(self) -> int:
        """Entries of the palette that the format leaves to the colormap."""
        return self.format.levels


def encode(
    frames: Iterable[Frame],
    target: Target,
    palette: Palette,
    size: tuple[int, int],
    options: EncodeOptions,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Writes all frames to the target, or leaves nothing behind.

    Args:
        frames: All of one size.
        target: From `choose_target`.
        palette: The colours of the frames' indices.
        size: Height and width of a frame, both even.
        options: How to encode.
        progress: Called after each frame with the number of frames done.

    Returns:
        Number of frames written.

    Raises:
        LimitError: It becomes larger than it may be; the target is as it was before.
        EncodeError: The encoder failed; the target is as it was before.
    """
    sink, written = target.format.sink(), 0
    with replacing(target.path, folder=target.format.is_folder) as unfinished:
        with contextlib.ExitStack() as resources:
            output = Output(unfinished, resources, options.limit)
            sink.begin(output, palette, size, options)
            for pixels in target.format.pixels(frames, palette, size):
                if written % _CHECK_EVERY == 0:
                    output.check_size(written)
                sink.write(pixels)
                written += 1
                if progress is not None:
                    progress(written)
            sink.finish()
        output.check_size(written)
    return written


def join(parts: Sequence[Path], path: Path, format: Format[Any]) -> None:
    """Writes one animation with all frames of its parts, in their order, without encoding anew.

    Args:
        parts: Files or folders of the same format, frame size, frame rate and options, each
            written by `encode`; at least one. Of several, each has at least two frames.
        path: The file or the empty folder to write to; the contents of a file are replaced.
        format: What they are.

    Raises:
        EncodeError: A part is not whole, or the joining failed.
    """
    if len(parts) == 1 and not format.is_folder:  # an APNG of one frame is a plain PNG
        shutil.copyfile(parts[0], path)
        return
    try:
        format.join(parts, path)
    except (IndexError, struct.error) as error:
        raise EncodeError(f"cannot join the parts of a {format.name}: one is cut off") from error


def size_of(path: Path) -> int:
    """Returns the bytes of a file, or of all files in a folder."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.iterdir())
    return path.stat().st_size


def available_cores() -> int:
    """Returns the number of processor cores that this process may use."""
    with contextlib.suppress(AttributeError):  # not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def choose_fps(fps: float | None, frames: int, format: Format[Any]) -> float:
    """Returns the frame rate that will be used.

    Args:
        fps: The one asked for; None for one at which the whole lasts about 25 seconds, with no
            fewer than 4 and no more than 30 frames a second.
        frames: Number of frames.
        format: What is written. A GIF counts in hundredths of a second and takes 50 at most.

    Raises:
        OptionError: Not a number above 0 and up to 240.
    """
    if fps is None:
        fps = float(min(30, max(4, round(frames / 25))))
    if not (math.isfinite(fps) and 0 < fps <= 240):
        raise OptionError(f"fps {fps:g}: expected a number above 0 and up to 240")
    return format.frame_rate(fps)
