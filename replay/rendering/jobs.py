"""A range of a film's frames as a job of its own, and the processes that render such jobs."""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from replay.output import Target, encode
from replay.rendering.accessibility import Flashes
from replay.schema import EncodeError, RecordingError


@dataclass(frozen=True)
class Job:
    """A range of a film's frames to render: small, and good in any process.

    Attributes:
        plan: A file with the film, its frames, the target and the options, pickled.
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
    """What a job wrote and found.

    Attributes:
        frames: Number of frames written.
        flashes: The flashes in them.
        findings: What was met in them; see `FrameSource.findings`.
    """

    frames: int
    flashes: Flashes
    findings: list[dict[tuple[int, int], str | tuple[int, int]]]


def render_job(job: Job, progress: Callable[[int], None] | None = None) -> JobResult:
    """Renders a range of frames; what a worker runs.

    Args:
        job: What to render.
        progress: Called after each frame with the number of frames done.

    Raises:
        RecordingError: The recording cannot be read here, or the encoder failed.
    """
    try:
        film, cells, target, options = pickle.loads(job.plan.read_bytes())
    except OSError as error:
        raise EncodeError(f"a worker cannot read {job.plan}: {error.strerror}") from error
    flashes = Flashes(film.palette, options)
    before = min(job.start, round(options.fps))  # what may flash together with the first ones
    frames = flashes.watch(film.frames(cells[job.start - before : job.stop]), before)
    out = Target(job.out, target.format)
    written = encode(frames, out, film.palette, film.size, options, progress)
    return JobResult(written, flashes, film.findings())


class ProcessPool:
    """Runs each job in a new process; none of them imports the caller's script.

    Args:
        total: Frames in all.
        progress: Called with (frames done, frames in all) after each frame.
    """

    def __init__(self, total: int, progress: Callable[[int, int], None] | None) -> None:
        self._total, self._progress = total, progress
        self._lock = threading.Lock()
        self._done = 0
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def stop(self) -> None:
        """Kills the processes that are still at work, and starts no more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.kill()

    def run(self, job: Job) -> JobResult:
        """Renders a range of frames in a new process.

        Raises:
            RecordingError: What the job raised there, or the process ended without a result.
        """
        with tempfile.TemporaryFile() as messages:
            with self._start(messages) as process:
                assert process.stdin is not None
                assert process.stdout is not None
                with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
                    pipe.write(pickle.dumps(job))
                for line in process.stdout:
                    if line == b"\n":
                        break
                    self._count_frame()
                answer = process.stdout.read()
            with self._lock:
                self._running.discard(process)
            messages.seek(0)
            lines = messages.read().decode("utf-8", "replace").strip().splitlines()
        try:
            result = pickle.loads(answer)
        except Exception:
            reason = lines[-1] if lines else f"exit code {process.returncode}"
            raise EncodeError(f"a rendering process failed: {reason}") from None
        if isinstance(result, RecordingError):
            raise result
        assert isinstance(result, JobResult)
        return result

    def _start(self, messages: IO[bytes]) -> subprocess.Popen[bytes]:
        root = Path(__file__).resolve().parents[2]
        with self._lock:
            if self._stopped:
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

    def _count_frame(self) -> None:
        with self._lock:
            self._done += 1
            if self._progress is not None and not self._stopped:
                self._progress(self._done, self._total)


@contextlib.contextmanager
def start_processes(
    count: int, total: int, progress: Callable[[int, int], None] | None
) -> Iterator[tuple[ThreadPoolExecutor, Callable[[Job], JobResult]]]:
    """Yields an executor that waits for processes of this machine, and what it is to run.

    At the end no process is at work any more.

    Args:
        count: Processes at a time.
        total: Frames in all.
        progress: Called with (frames done, frames in all) after each frame.
    """
    processes = ProcessPool(total, progress)
    with ThreadPoolExecutor(count) as threads:
        try:
            yield threads, processes.run
        finally:
            processes.stop()


def run_worker() -> None:
    """Renders the job of standard input, and writes a line for each frame and then the result."""
    out = sys.stdout.buffer

    def report(done: int) -> None:
        out.write(b"%d\n" % done)
        out.flush()

    job = pickle.loads(sys.stdin.buffer.read())
    result: JobResult | RecordingError
    try:
        result = render_job(job, report)
    except RecordingError as error:
        result = error
    out.write(b"\n" + pickle.dumps(result))


if __name__ == "__main__":
    from replay.rendering import jobs  # what is pickled here must be found under that name

    jobs.run_worker()
