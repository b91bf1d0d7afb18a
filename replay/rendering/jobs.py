"""A range of a film's frames as a job of its own, small enough to be sent anywhere."""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from replay.encoding.ffmpeg import encode
from replay.encoding.target import Target
from replay.raster.frame import FrameSource
from replay.rendering.flashes import Flashes
from replay.schema import Cell, EncodeError, RecordingError


@dataclass(frozen=True)
class EncodeOptions:
    """How an animation is encoded; see `replay.encoding.ffmpeg.encode`."""

    fps: float
    codec: str = "h264"
    crf: int | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Job:
    """A range of a film's frames, rendered by itself: small, and good in any process.

    Attributes:
        plan: A file with the film, as `render` made it.
        start: The first frame.
        stop: One past the last.
        out: The file to write, or the folder.
    """

    plan: Path
    start: int
    stop: int
    out: Path


@dataclass(frozen=True)
class JobResult:
    """What became of a job: what it wrote, and what was damaged (see `Film.damage`)."""

    frames: int
    flashes: Flashes
    damaged: list[dict[tuple[int, int], str]]


def encode_cells(
    film: FrameSource,
    cells: Sequence[Cell],
    target: Target,
    quality: EncodeOptions,
    limit: int | None = None,
    tell: Callable[[int], None] | None = None,
) -> tuple[int, Flashes]:
    """Encodes frames of a film in this process, and looks for flashes meanwhile."""
    flashes = Flashes(film.palette, quality.fps)
    written = encode(
        flashes.watch(film.frames(cells)),
        target,
        film.palette,
        film.size,
        quality.fps,
        quality.codec,
        quality.crf,
        tell,
        limit,
    )
    return written, flashes


def render_job(job: Job, tell: Callable[[int], None] | None = None) -> JobResult:
    """Renders a range of frames; what a worker runs. `tell` hears of each.

    Raises:
        RecordingError: The recording cannot be read here, or the encoder failed.
    """
    try:
        film, cells, target, quality = pickle.loads(job.plan.read_bytes())
    except OSError as error:
        raise EncodeError(f"a worker cannot read {job.plan}: {error.strerror}") from error
    out = Target(job.out, target.kind, target.levels)
    written, flashes = encode_cells(film, cells[job.start : job.stop], out, quality, None, tell)
    return JobResult(written, flashes, film.damage())


class ProcessPool:
    """Starts a process for each job; none of them imports the caller's script.

    Args:
        total: Frames in all.
        progress: Called with (frames done, frames in all) after each.
    """

    def __init__(self, total: int, progress: Callable[[int, int], None] | None) -> None:
        self._total, self._progress = total, progress
        self._lock = threading.Lock()
        self._done = 0
        self._running: set[subprocess.Popen[bytes]] = set()
        self._ended = False

    def __enter__(self) -> ProcessPool:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends those that are still at work: something has gone wrong."""
        with self._lock:
            self._ended = True
            for process in self._running:
                process.kill()

    def run(self, job: Job) -> JobResult:
        """Renders a range of frames in a new process."""
        with tempfile.TemporaryFile() as messages:
            process = self._start(messages)
            assert process.stdin is not None
            assert process.stdout is not None
            with process:
                with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
                    pipe.write(pickle.dumps(job))
                for line in process.stdout:
                    if line == b"\n":
                        break
                    self._count()
                answer = process.stdout.read()
            with self._lock:
                self._running.discard(process)
            messages.seek(0)
            words = messages.read().decode("utf-8", "replace").strip().splitlines()
        try:
            result = pickle.loads(answer)
        except Exception:
            reason = words[-1] if words else f"exit code {process.returncode}"
            raise EncodeError(f"a rendering process failed: {reason}") from None
        if isinstance(result, RecordingError):
            raise result
        assert isinstance(result, JobResult)
        return result

    def _start(self, messages: IO[bytes]) -> subprocess.Popen[bytes]:
        root = Path(__file__).resolve().parents[2]
        with self._lock:
            if self._ended:
                raise EncodeError("given up")
            process = subprocess.Popen(
                [sys.executable, "-m", "replay.rendering.jobs"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=messages,
                cwd=root,
            )
            self._running.add(process)
        return process

    def _count(self) -> None:
        with self._lock:
            self._done += 1
            if self._progress is not None and not self._ended:
                self._progress(self._done, self._total)


def _serve() -> None:
    out = sys.stdout.buffer

    def tell(done: int) -> None:
        out.write(b"%d\n" % done)
        out.flush()

    job = pickle.loads(sys.stdin.buffer.read())
    result: JobResult | RecordingError
    try:
        result = render_job(job, tell)
    except RecordingError as error:
        result = error
    out.write(b"\n" + pickle.dumps(result))


if __name__ == "__main__":
    from replay.rendering import jobs  # what is pickled here must be found under that name

    jobs._serve()
