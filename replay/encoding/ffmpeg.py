"""Frames to files: MP4, GIF, WebP, animated PNG, numbered PNGs. With `gif` all that knows a codec.

All but GIF go through one ffmpeg, that of imageio-ffmpeg or the one named by IMAGEIO_FFMPEG_EXE.
Frames reach it in the form that costs least: YUV planes looked up from palette indices for MP4,
32-bit colours for the rest. A file is written beside its target and renamed when it is whole.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO

import imageio_ffmpeg

from replay.encoding.gif import TRAILER, blocks
from replay.encoding.pixel_formats import Bytes, as_colours, as_indices, as_yuv
from replay.encoding.target import LimitError, Target, size_of
from replay.output import replacing
from replay.raster.frame import Frame
from replay.raster.palette import Palette
from replay.schema import EncodeError, OptionError

CODECS = ("h264", "av1")
_WATCH_EVERY = 16  # frames
_CRF = {"h264": (18, 51), "av1": (30, 63)}  # default, highest


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
        with replacing(target.path) as unfinished, contextlib.closing(made):
            return _write_blocks(made, unfinished, progress, limit)
    converted = _CONVERTERS[target.kind](frames, palette, size)
    with replacing(target.path, folder=target.kind == "folder") as unfinished:
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
