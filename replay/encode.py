"""Frames to files: MP4, GIF, WebP, animated PNG, numbered PNGs. With `gif` all that knows a codec.

All but GIF go through one ffmpeg, that of imageio-ffmpeg or the one named by IMAGEIO_FFMPEG_EXE.
Frames reach it in the form that costs least: YUV planes looked up from palette indices for MP4,
32-bit colours for the rest. A file is written beside its target and renamed when it is whole.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO

import imageio_ffmpeg

from replay.colours import Palette
from replay.frames import Frame
from replay.gif import TRAILER, blocks
from replay.pixels import Bytes, as_colours, as_indices, as_yuv
from replay.schema import EncodeError, OptionError, OutputError
from replay.words import count

CODECS = ("h264", "av1")
SUFFIXES = (".mp4", ".gif", ".webp", ".png", ".apng")
_WATCH_EVERY = 16  # frames
_GIF_LEVELS = 168  # 16 more for text and lines; 72 remain for the input picture
_CRF = {"h264": (18, 51), "av1": (30, 63)}  # default, highest


class LimitError(EncodeError):
    """The file would be larger than it may be.

    Attributes:
        bytes: Its size when that was found.
        frames: Number of frames that it then held, or a few more.
    """

    def __init__(self, size: int, frames: int, limit: int) -> None:
        super().__init__(
            f"{size:,} bytes after {count(frames, 'frame')}; expected at most {limit:,}"
        )
        self.bytes, self.frames = size, frames


@dataclass(frozen=True)
class Target:
    """Where an animation goes, and as what.

    Attributes:
        path: The file, or the folder of numbered PNG frames.
        kind: `mp4`, `gif`, `webp`, `apng` or `folder`.
        levels: Entries of the palette that the format leaves to the colormap.
    """

    path: Path
    kind: str
    levels: int


def choose_target(out: str | os.PathLike[str]) -> Target:
    """Reads the format from the suffix, and makes sure that the target can be written.

    Args:
        out: A path ending in `.mp4`, `.gif`, `.webp`, `.png` or `.apng`, or in `/` for a folder
            of numbered PNG frames, which must be new or empty.

    Raises:
        OutputError: An unknown suffix, a folder that is missing or read-only, or a target that
            is something else than such a file.
    """
    text = os.fspath(out)
    path = Path(text)
    if text.endswith(("/", os.sep)):
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise OutputError(f"{path} exists; expected a folder that is new or empty")
        _check_folder(path.absolute().parent, path)
        return Target(path, "folder", 240)
    kind = path.suffix.lower().lstrip(".")
    if f".{kind}" not in SUFFIXES:
        raise OutputError(
            f"unknown suffix {path.suffix!r} of {path}; expected {', '.join(SUFFIXES)}, "
            "or a folder ending in / for numbered PNG frames"
        )
    if path.exists() and not path.is_file():
        raise OutputError(f"{path} exists and is not a file")
    _check_folder(path.absolute().parent, path)
    kind = "apng" if kind == "png" else kind
    return Target(path, kind, _GIF_LEVELS if kind == "gif" else 240)


def choose_fps(fps: float | None, frames: int, kind: str) -> float:
    """The frame rate that will be used.

    Args:
        fps: The one asked for; None for one at which the whole lasts about 25 seconds, with no
            fewer than 4 and no more than 30 frames a second.
        frames: Number of frames.
        kind: As in `Target`. A GIF counts in hundredths of a second and takes 50 at most.

    Raises:
        OptionError: Not a number above 0 and up to 240.
    """
    if fps is None:
        fps = float(min(30, max(4, round(frames / 25))))
    if not (math.isfinite(fps) and 0 < fps <= 240):
        raise OptionError(f"fps {fps:g}: expected a number above 0 and up to 240")
    return 100 / max(2, round(100 / fps)) if kind == "gif" else float(fps)


def encode(
    frames: Iterable[Frame],
    target: Target,
    palette: Palette,
    size: tuple[int, int],
    fps: float,
    codec: str = "h264",
    crf: int | None = None,
    progress: Callable[[int], None] | None = None,
    limit: int | None = None,
) -> int:
    """Writes all frames to the target, or leaves nothing behind.

    Args:
        frames: All of one size.
        target: From `choose_target`.
        palette: The colours of the frames' indices.
        size: Height and width of a frame, both even.
        fps: Frames a second, from `choose_fps`.
        codec: `h264` or `av1`; for MP4.
        crf: Quality of an MP4, 0 the best, up to 51 (h264) or 63 (av1); default 18 and 30.
        progress: Called with the number of frames done after each.
        limit: Bytes that the file, or all files of a folder, may have.

    Returns:
        Number of frames written.

    Raises:
        OptionError: An unknown codec, or a crf out of range.
        LimitError: It becomes larger than `limit`; the target is as it was before.
        EncodeError: The encoder failed; the target is as it was before.
    """
    height, width = size
    arguments = _arguments(target.kind, codec, crf)
    if target.kind == "gif":
        made = blocks(as_indices(frames, palette, size), size, fps)
        with beside(target) as unfinished, contextlib.closing(made):
            return _write_blocks(made, unfinished, progress, limit)
    converted = _CONVERTERS[target.kind](frames, palette, size)
    with beside(target) as unfinished:
        command = [
            *(ffmpeg(), "-hide_banner", "-loglevel", "error", "-y"),
            *("-f", "rawvideo", "-pixel_format", _PIXELS[target.kind]),
            *("-video_size", f"{width}x{height}"),
            *("-framerate", str(Fraction(fps).limit_denominator(10_000)), "-i", "pipe:0"),
            *arguments,
            "%06d.png" if target.kind == "folder" else f"file:{unfinished.absolute()}",
        ]
        folder = unfinished if target.kind == "folder" else None
        if limit is not None:
            converted = _watched(converted, unfinished, limit)
        written = _feed(command, converted, folder, progress)
        if limit is not None and (found := size_of(unfinished)) > limit:
            raise LimitError(found, written, limit)
        return written


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.iterdir())
    return path.stat().st_size


def _watched(chunks: Iterable[list[Bytes]], unfinished: Path, limit: int) -> Iterator[list[Bytes]]:
    """The same, as long as what is written has not outgrown the limit."""
    for number, frame in enumerate(chunks):
        if number % _WATCH_EVERY == 0 and (size := size_of(unfinished)) > limit:
            raise LimitError(size, number, limit)
        yield frame


def ffmpeg() -> str:
    """The program.

    Raises:
        EncodeError: There is none.
    """
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise EncodeError(
            "there is no ffmpeg; install one, or name it in IMAGEIO_FFMPEG_EXE"
        ) from error


def _arguments(kind: str, codec: str, crf: int | None) -> list[str]:
    """What ffmpeg is to make of the frames."""
    if codec not in CODECS:
        raise OptionError(f"unknown codec {codec!r}; expected {' or '.join(CODECS)}")
    default, highest = _CRF[codec]
    if crf is not None and not 0 <= crf <= highest:
        raise OptionError(f"crf {crf}: expected 0 to {highest} for {codec}")
    if kind == "mp4":
        encoder = {
            "h264": ["libx264", "-preset", "veryfast"],
            "av1": ["libsvtav1", "-preset", "10"],
        }[codec]
        tags = "range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
        return [
            *("-vf", f"setparams={tags}", "-c:v", *encoder, "-pix_fmt", "yuv420p"),
            *("-crf", str(default if crf is None else crf), "-movflags", "+faststart"),
            *("-f", "mp4"),
        ]
    return {
        "gif": [],  # it goes another way
        "webp": [
            *("-c:v", "libwebp_anim", "-lossless", "1", "-compression_level", "1"),
            *("-quality", "20"),  # of a lossless file: the effort
            *("-loop", "0", "-f", "webp"),
        ],
        "apng": ["-pix_fmt", "rgb24", "-plays", "0", "-f", "apng"],
        "folder": ["-pix_fmt", "rgb24", "-start_number", "0", "-f", "image2"],
    }[kind]


def _write_blocks(
    blocks: Iterable[tuple[bytes, bytes]],
    unfinished: Path,
    progress: Callable[[int], None] | None,
    limit: int | None,
) -> int:
    """Writes a GIF, a frame a block, as long as it does not outgrow the limit."""
    done = size = 0
    try:
        # It is there and empty. Opened with "wb" a file system may take it for one whose contents
        # are replaced (ext4 does), and has all of it written to the disk when it is closed.
        with unfinished.open("r+b") as file:
            for block in blocks:
                done, size = done + 1, size + sum(map(len, block))
                if limit is not None and size + len(TRAILER) > limit:
                    raise LimitError(size, done, limit)
                file.writelines(block)
                if progress is not None:
                    progress(done)
            file.write(TRAILER)
    except OSError as error:
        raise EncodeError(f"cannot write the GIF: {error.strerror}") from error
    return done


def _feed(
    command: list[str],
    chunks: Iterable[Iterable[Bytes]],
    folder: Path | None,
    progress: Callable[[int], None] | None,
) -> int:
    """Runs ffmpeg on what the chunks hold; its messages go to a file, so no pipe can fill up."""
    with tempfile.TemporaryFile() as messages:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=messages,
                cwd=folder,
            )
        except OSError as error:
            raise EncodeError(f"cannot start ffmpeg ({command[0]}): {error.strerror}") from error
        done = 0
        try:
            assert process.stdin is not None
            try:
                for frame in chunks:
                    for chunk in frame:
                        process.stdin.write(chunk.data)
                    done += 1
                    if progress is not None:
                        progress(done)
                process.stdin.close()
            except BrokenPipeError:
                pass  # ffmpeg has given up; what it said is more telling
            if process.wait() != 0:
                raise EncodeError(f"ffmpeg failed: {_last_line(messages)}")
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            with contextlib.suppress(OSError):
                if process.stdin is not None:
                    process.stdin.close()
    return done


@contextlib.contextmanager
def beside(target: Target) -> Iterator[Path]:
    """A hidden path in the target's folder; renamed to the target in the end, or removed."""
    parent, name = target.path.absolute().parent, target.path.name
    try:
        if target.kind == "folder":
            unfinished = Path(tempfile.mkdtemp(prefix=f".{name[:80]}.", dir=parent))
        else:
            handle, text = tempfile.mkstemp(prefix=f".{name[:80]}.", dir=parent)
            os.close(handle)
            unfinished = Path(text)
    except OSError as error:
        raise OutputError(f"cannot write to {parent}: {error.strerror}") from error
    try:
        yield unfinished
        mask = os.umask(0)
        os.umask(mask)
        unfinished.chmod((0o777 if unfinished.is_dir() else 0o666) & ~mask)
        try:
            if target.kind == "folder" and target.path.is_dir():
                target.path.rmdir()  # it is empty; on Windows a folder cannot replace another
            os.replace(unfinished, target.path)
        except OSError as error:
            raise OutputError(f"cannot write {target.path}: {error.strerror}") from error
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished, ignore_errors=True)
        else:
            unfinished.unlink(missing_ok=True)


def _check_folder(parent: Path, path: Path) -> None:
    if not parent.is_dir():
        raise OutputError(f"cannot write {path}: there is no folder {parent}")
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror} in {parent}") from error


def _last_line(messages: IO[bytes]) -> str:
    messages.seek(0)
    lines = messages.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"


_CONVERTERS = {
    "mp4": as_yuv,
    "webp": as_colours,
    "apng": as_colours,
    "folder": as_colours,
}
_PIXELS = {"mp4": "yuv420p", "webp": "bgra", "apng": "bgra", "folder": "bgra"}
