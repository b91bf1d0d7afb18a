"""Where output goes, and how it is written: beside its name first, renamed when it is whole.

`replacing` does so for any file. For animations there is the interface of a sink, which turns
frames into a file, and `encode`, the loop that feeds every sink: frames are converted into what
the sink takes, the size of the file is watched, and progress is reported. A format is one file
in `replay.encoding` with a class of `begin`, `write` and `finish`, and a line in its `formats`.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from replay.formatting import format_count
from replay.overwriting import choose_place
from replay.raster.frame import Frame
from replay.raster.palette import Palette
from replay.schema import EncodeError, OptionError, OutputError
from replay.schema.errors import why_not_written
from replay.schema.suggestions import did_you_mean, unknown
from replay.schema.unfinished import remove_folder, unfinished_path

unfinished_files: set[str] = set()  # what this process writes beside its name


def check_suffix(path: Path, suffixes: Sequence[str]) -> str:
    """Returns the file name's suffix in lower case.

    Raises:
        OutputError: The suffix is none of those that are known.
    """
    suffix = path.suffix.lower()
    if suffix not in suffixes:
        known = ", ".join(suffixes)
        meant = did_you_mean(suffix, suffixes)
        raise OutputError(
            f"cannot tell a format from {path}: expected a name that ends in {known}{meant}"
        )
    return suffix


def check_writable(path: Path) -> None:
    """Checks, before anything is rendered, that files can be made in the folder of a path.

    Raises:
        OutputError: There is no such folder, or nobody may write to it.
    """
    path = choose_place(path)
    folder = path.absolute().parent
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror} in {folder}") from error


@contextmanager
def replacing(path: Path, *, folder: bool = False) -> Iterator[Path]:
    """Yields a hidden path beside `path` to write to, which takes its place if all goes well.

    Whatever stood there before is untouched until then, and nothing half-written is left behind.

    Args:
        path: Where the result goes; of a link, what it leads to is replaced.
        folder: Whether it is a folder, which must be new or empty, instead of a file.

    Yields:
        An empty file, or an empty folder, with the same suffix as `path`.

    Raises:
        OutputError: The folder around it is missing or not writable, `path` is itself a folder, or
            the disk is full.
    """
    path = choose_place(path)
    if not folder and path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder; expected a file name")
    unfinished = unfinished_path(path)
    unfinished_files.add(str(unfinished))
    try:
        if folder:
            unfinished.mkdir()
        else:
            unfinished.touch(exist_ok=False)
        yield unfinished
        if folder and path.is_dir():
            path.rmdir()  # it is empty; on Windows a folder cannot replace another
        os.replace(unfinished, path)
    except (ConnectionError, TimeoutError):  # these speak of an executor, not of this disk
        raise
    except (OSError, RuntimeError) as error:  # HDF5 raises either where it cannot write
        raise OutputError(f"cannot write {path}: {why_not_written(error)}") from error
    finally:
        unfinished_files.discard(str(unfinished))
        if folder:
            remove_folder(unfinished)
        else:
            with suppress(OSError):
                unfinished.unlink()


HIGHEST_CRF = {"h264": 51, "av1": 63, "vp9": 63, "prores": -1}  # -1: it has none
_CHECK_EVERY = 16  # frames

Pixels = TypeVar("Pixels")
TakenPixels = TypeVar("TakenPixels", contravariant=True)


@dataclass(frozen=True)
class EncodeOptions:
    """How an animation is encoded.

    Attributes:
        fps: Frames a second, from `choose_fps`.
        codec: One of those of the format, of a video.
        crf: Quality of a video, 0 the best, up to 51 (h264) or 63 (av1, vp9); None for the usual.
        limit: Bytes that the file, or all files of a folder, may have; None for any number.
        quality: Of a WebP, 1 to 100; None for an exact one.
        calm: Whether the frame rate is lowered where the animation would flash.

    Raises:
        OptionError: The codec is unknown, or the crf is out of its range.
    """

    fps: float
    codec: str = "h264"
    crf: int | None = None
    limit: int | None = None
    calm: bool = False
    quality: int | None = None

    def __post_init__(self) -> None:
        if self.codec not in HIGHEST_CRF:
            raise OptionError(unknown("codec", self.codec, list(HIGHEST_CRF)))
        highest = HIGHEST_CRF[self.codec]
        if self.crf is not None and not 0 <= self.crf <= highest:
            expected = f"0 to {highest}" if highest >= 0 else "none"
            raise OptionError(f"crf {self.crf}: expected {expected} for {self.codec}")


class LimitError(EncodeError):
    """The file would be larger than it may be: of so many `bytes` after about so many `frames`."""

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
        codecs: Those that it can have, the usual one first; none where there is nothing to choose.
        frame_rate: The frame rate next to a given one that the format can have.
        frames_alone: Whether frames are compressed without regard to the frames before them.
        retime: Gives a file another frame rate, without encoding it anew: called with its path,
            the frame rate that it has and the one that it gets; None where files have none.
        usual_mb: The largest size in MB (10^6 bytes) where none is asked for; None for any.
    """

    name: str
    suffixes: tuple[str, ...]
    sink: Callable[[], Sink[Pixels]]
    pixels: Callable[[Iterable[Frame], Palette, tuple[int, int]], Iterator[Pixels]]
    join: Callable[[Sequence[Path], Path], None]
    levels: int = 240
    part_frames: int = 10
    codecs: tuple[str, ...] = ()
    frames_alone: bool = False
    frame_rate: Callable[[float], float] = float
    retime: Callable[[Path, float, float], None] | None = None
    usual_mb: float | None = None

    def choose_codec(self, codec: str | None) -> str:
        """Returns the codec that is asked for, or the usual one; raises OptionError for others."""
        known = self.codecs or tuple(HIGHEST_CRF)
        if codec is not None and codec not in known:
            raise OptionError(unknown(f"codec of a {self.suffixes[0]}", codec, known))
        return codec or known[0]

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
        """The name of the format: `mp4`, `gif`, `webp`, `apng`, `folder`, `webm` or `mov`."""
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
    final_fps: Callable[[], float] | None = None,
) -> int:
    """Writes all frames to the target, or leaves nothing behind.

    Args:
        frames: All of one size.
        target: From `choose_target`.
        palette: The colours of the frames' indices.
        size: Height and width of a frame, both even.
        options: How to encode.
        progress: Called after each frame with the number of frames done.
        final_fps: Called after the last frame, for the frame rate that the file shall have.

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
        if final_fps is not None:
            retime(unfinished, target.format, options.fps, final_fps())
        output.check_size(written)
    return written


def retime(path: Path, format: Format[Any], fps: float, new: float) -> None:
    """Gives a whole file another frame rate, if it is another and the format has one."""
    if new != fps and format.retime is not None:
        format.retime(path, fps, new)


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


def choose_target(out: str | os.PathLike[str], formats: Sequence[Format[Any]]) -> Target:
    """Reads the format from the suffix, and makes sure that the target can be written.

    Args:
        out: A path with a format's suffix, or ending in `/`, a new or empty folder for PNG frames.
        formats: Those that there are, `replay.encoding.formats.FORMATS`.

    Raises:
        OutputError: An unknown suffix, a folder that is missing or read-only, or not such a file.
    """
    text = os.fspath(out)
    path = Path(text)
    suffix = "/" if text.endswith(("/", os.sep)) else path.suffix.lower()
    known = [each for format in formats for each in format.suffixes]
    if suffix not in known:
        raise OutputError(
            f"unknown suffix {path.suffix!r} of {path}; "
            f"expected {', '.join(each for each in known if each != '/')}, "
            f"or a folder ending in / for numbered PNG frames{did_you_mean(suffix, known)}"
        )
    chosen = next(format for format in formats if suffix in format.suffixes)
    if chosen.is_folder:
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise OutputError(f"{path} exists; expected a folder that is new or empty")
    elif path.exists() and not path.is_file():
        raise OutputError(f"{path} exists and is not a file")
    check_writable(path)
    return Target(path, chosen)
