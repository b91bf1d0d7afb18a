"""An ffmpeg process that takes frames: the one of imageio-ffmpeg, or that of IMAGEIO_FFMPEG_EXE."""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import IO

import imageio_ffmpeg

from replay.encoding.pixel_formats import Bytes
from replay.output import EncodeOptions, Output
from replay.raster.palette import Palette
from replay.schema import EncodeError
from replay.schema.faces import spell

_QUIET = ("-hide_banner", "-loglevel", "error", "-y")


class FfmpegSink:
    """A sink whose frames are encoded by ffmpeg; a subclass says into what.

    Attributes:
        pixel_format: The name that ffmpeg has for what `write` takes.
        arguments: What ffmpeg is told about the output, apart from its path and its encoder.
        encoders: By the name of a codec, what chooses its encoder, and the usual quality (crf);
            empty where the format has one encoder, which is among the arguments.
    """

    path: Path
    pixel_format: str
    arguments: Sequence[str]
    encoders: Mapping[str, tuple[Sequence[str], int]] = MappingProxyType({})

    def begin(
        self, output: Output, palette: Palette, size: tuple[int, int], options: EncodeOptions
    ) -> None:
        """Starts ffmpeg.

        Raises:
            EncodeError: There is none, or it cannot be started.
        """
        self.path = output.path
        height, width = size
        encoder: Sequence[str] = ()
        if self.encoders:
            chosen, crf = self.encoders[options.codec]
            encoder = (*chosen, "-crf", str(crf if options.crf is None else options.crf))
        folder = output.path if output.path.is_dir() else None
        arguments = [
            *("-f", "rawvideo", "-pixel_format", self.pixel_format),
            *("-video_size", f"{width}x{height}"),
            *("-framerate", str(Fraction(options.fps).limit_denominator(10_000)), "-i", "pipe:0"),
            *encoder,
            *self.arguments,
            # In a folder the names are relative to it: its own path may have a percent sign.
            "%06d.png" if folder is not None else f"file:{output.path.absolute()}",
        ]
        self._process = output.resources.enter_context(_start_ffmpeg(arguments, folder))

    def write(self, pixels: Iterable[Bytes]) -> None:
        """Hands over a frame, as arrays that follow one another."""
        self._process.write(pixels)

    def finish(self) -> None:
        """Waits until ffmpeg has written the rest."""
        self._process.finish()


class FfmpegProcess:
    """An ffmpeg process that reads its standard input.

    Args:
        process: The process.
        messages: The file to which it writes what it has to say, so that no pipe can fill up.
    """

    def __init__(self, process: subprocess.Popen[bytes], messages: IO[bytes]) -> None:
        assert process.stdin is not None
        self._process, self._messages, self._stdin = process, messages, process.stdin

    def write(self, arrays: Iterable[Bytes]) -> None:
        """Writes arrays to its input.

        Raises:
            EncodeError: It has ended before.
        """
        try:
            for array in arrays:
                self._stdin.write(array.data)
        except BrokenPipeError:  # what it said is more telling
            self._process.wait()
            raise self._failure() from None

    def finish(self) -> None:
        """Ends its input, and waits for its end.

        Raises:
            EncodeError: It failed.
        """
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        if self._process.wait() != 0:
            raise self._failure()

    def _failure(self) -> EncodeError:
        self._messages.seek(0)
        said = self._messages.read()
        if missing := re.search(rb"Unknown encoder '([\w-]+)'", said):
            return EncodeError(
                f"this ffmpeg has no encoder {missing[1].decode()}; choose another "
                f"{spell('codec')} or format, or name another ffmpeg in IMAGEIO_FFMPEG_EXE"
            )
        return EncodeError(f"ffmpeg failed: {_last_line(said, 'it said nothing')}")


@contextlib.contextmanager
def _start_ffmpeg(arguments: Sequence[str], folder: Path | None) -> Iterator[FfmpegProcess]:
    """Starts ffmpeg in a folder, and ends it if it has not ended by itself."""
    command = [find_ffmpeg(), *_QUIET, *arguments]
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
        try:
            yield FfmpegProcess(process, messages)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            with contextlib.suppress(OSError):
                if process.stdin is not None:
                    process.stdin.close()


def concatenate(parts: Sequence[Path], path: Path, arguments: Sequence[str]) -> None:
    """Joins files that ffmpeg can join without decoding them.

    Args:
        parts: The files, in their order.
        path: The file to write.
        arguments: What ffmpeg is told about the output.

    Raises:
        EncodeError: There is no ffmpeg, or it failed.
    """
    lines = ["ffconcat version 1.0"]
    for part in parts:
        quoted = str(part.absolute()).replace("'", "'\\''")
        lines.append(f"file 'file:{quoted}'")
    command = [
        *(find_ffmpeg(), *_QUIET, "-xerror"),  # or a part that is cut off is said, and forgiven
        *("-f", "concat", "-safe", "0", "-protocol_whitelist", "file,pipe", "-i", "pipe:0"),
        *("-c", "copy", *arguments, f"file:{path.absolute()}"),
    ]
    done = subprocess.run(command, input="\n".join(lines).encode(), capture_output=True)
    if done.returncode != 0:
        raise EncodeError(f"ffmpeg failed to join parts: {_last_line(done.stderr, 'no reason')}")


def copy_streams(source: Path, path: Path, arguments: Sequence[str]) -> None:
    """Writes the pictures of a file to another one without decoding them.

    Args:
        source: The file.
        path: The file to write.
        arguments: What ffmpeg is told about the output.

    Raises:
        EncodeError: There is no ffmpeg, or it failed.
    """
    places = f"file:{source.absolute()}", f"file:{path.absolute()}"
    command = [find_ffmpeg(), *_QUIET, "-i", places[0], "-c", "copy", *arguments, places[1]]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode != 0:
        raise EncodeError(f"ffmpeg failed to copy: {_last_line(done.stderr, 'no reason')}")


def find_ffmpeg() -> str:
    """Returns the path of the program.

    Raises:
        EncodeError: There is none.
    """
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise EncodeError(
            "there is no ffmpeg; install one, or name it in IMAGEIO_FFMPEG_EXE"
        ) from error


def _last_line(messages: bytes, default: str) -> str:
    lines = messages.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else default
