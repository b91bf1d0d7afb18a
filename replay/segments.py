"""Renders ranges of a film beside each other, and joins what comes out.

`render` is what `animate` calls. With one job it is `encode`; with several, each renders a range of
the frames in a process of its own, on this machine or wherever an executor runs it. A job is a path
and two numbers: the film lies in a file beside the target, and whoever renders opens the recording
for himself.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from replay.encode import Target, beside, encode, ffmpeg
from replay.frames import Film
from replay.schema import EncodeError, OptionError, RecordingError
from replay.splice import join

# An H.264 stream has a whole picture every 250 frames anyway, so a cut there costs nothing.
_STEP = {"mp4": 250, "gif": 25, "webp": 10, "apng": 10, "folder": 10}
_PARTS = 32  # at most, where the number of workers is not known
# MP4 and PNG encoders use all cores by themselves, and a process takes half a second to start.
_PAYS = {"gif": 150, "webp": 20, "apng": 20}  # frames from which a process of its own pays

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Quality:
    """How an animation is encoded; see `replay.encode.encode`."""

    fps: float
    codec: str = "h264"
    crf: int | None = None


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
class Done:
    """What became of a job: its number of frames, and what was damaged (see `Film.damage`)."""

    frames: int
    damaged: list[dict[tuple[int, int], str]]


def render(
    film: Film,
    target: Target,
    quality: Quality,
    progress: Progress | None = None,
    jobs: int | None = None,
    executor: Executor | None = None,
) -> int:
    """Writes a film to the target, or leaves nothing behind.

    Args:
        film: What to show.
        target: From `choose_target`.
        quality: How.
        progress: Called with (frames done, frames in all).
        jobs: Processes that render; None for as many as pay.
        executor: Renders instead of processes of this machine. Its workers see the recording and
            the target's folder under the same paths.

    Returns:
        Number of frames written.

    Raises:
        OptionError: Fewer than one job, or both jobs and an executor.
        EncodeError: An encoder or a worker failed; the target is as it was before.
    """
    total = len(film.cells)
    if jobs is not None and executor is not None:
        raise OptionError("jobs or an executor: expected one of them, found both")
    if jobs is not None and jobs < 1:
        raise OptionError(f"jobs {jobs}: expected 1 or more")
    step = _STEP[target.kind]
    if executor is None:
        jobs = _choose_jobs(target.kind, total) if jobs is None else jobs
        parts = min(jobs, total // step)
    else:
        parts = min(_PARTS, total // step)
    if parts < 2 and executor is None:
        tell = None if progress is None else lambda done: progress(done, total)
        return encode(
            film.frames(),
            target,
            film.palette,
            film.size,
            quality.fps,
            quality.codec,
            quality.crf,
            tell,
        )
    cuts = _cut(total, max(1, parts), step)
    if executor is not None:
        return _render_parts(film, target, quality, progress, cuts, executor, render_job)
    with ThreadPoolExecutor(len(cuts)) as threads:
        return _render_parts(film, target, quality, progress, cuts, threads, _run_process)


def _choose_jobs(kind: str, total: int) -> int:
    if kind not in _PAYS:
        return 1
    with contextlib.suppress(AttributeError):  # not on every system
        return max(1, min(len(os.sched_getaffinity(0)), total // _PAYS[kind]))
    return max(1, min(os.cpu_count() or 1, total // _PAYS[kind]))


def _cut(total: int, parts: int, step: int) -> list[tuple[int, int]]:
    """(start, stop) of each part; cuts are at multiples of `step`."""
    edges = [round(total * part / parts / step) * step for part in range(parts)]
    return list(zip(edges, [*edges[1:], total], strict=True))


def _render_parts(
    film: Film,
    target: Target,
    quality: Quality,
    progress: Progress | None,
    cuts: list[tuple[int, int]],
    executor: Executor,
    work: Callable[[Job], Done],
) -> int:
    total = len(film.cells)
    with beside(target) as unfinished, _folder(target) as folder:
        plan = folder / "plan"
        plan.write_bytes(pickle.dumps((film, Target(target.path, target.kind, 0), quality)))
        suffix = "" if target.kind == "folder" else f".{target.kind}"
        jobs = [
            Job(plan, *cut, folder / f"part{number:04}{suffix}") for number, cut in enumerate(cuts)
        ]
        pending: dict[Future[Done], Job] = {}
        done = 0
        try:
            for job in jobs:
                pending[executor.submit(work, job)] = job
            for future in _in_time(pending):
                result = future.result()
                done += result.frames
                film.note_damage(result.damaged)
                if progress is not None:
                    progress(done, total)
        except BaseException as error:
            for future in pending:
                future.cancel()
            if isinstance(error, (RecordingError, KeyboardInterrupt)):
                raise
            raise EncodeError(f"a worker failed: {_line(error)}") from error
        missing = [job.out.name for job in jobs if not job.out.exists()]
        if missing:
            raise EncodeError(
                f"{missing[0]} is not there: the workers need {target.path.absolute().parent} "
                "under this path"
            )
        if target.kind == "folder":
            pictures = [picture for job in jobs for picture in sorted(job.out.iterdir())]
            for number, picture in enumerate(pictures):
                picture.rename(unfinished / f"{number:06d}.png")
        else:
            join([job.out for job in jobs], unfinished, target.kind, ffmpeg())
    return done


def _in_time(pending: dict[Future[Done], Job]) -> Iterator[Future[Done]]:
    """The futures as they end; in their order where they are of an engine's own kind."""
    if all(isinstance(future, Future) for future in pending):
        yield from as_completed(pending)
    else:
        yield from pending


def render_job(job: Job) -> Done:
    """Renders a range of frames; what a worker runs.

    Raises:
        RecordingError: The recording cannot be read here, or the encoder failed.
    """
    try:
        film, target, quality = pickle.loads(job.plan.read_bytes())
    except OSError as error:
        raise EncodeError(f"a worker cannot read {job.plan}: {error.strerror}") from error
    frames = encode(
        film.frames(film.cells[job.start : job.stop]),
        Target(job.out, target.kind, target.levels),
        film.palette,
        film.size,
        quality.fps,
        quality.codec,
        quality.crf,
    )
    return Done(frames, film.damage())


def _run_process(job: Job) -> Done:
    """Renders a range of frames in a new process, which does not import the caller's script."""
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "replay.segments"],
        input=pickle.dumps(job),
        capture_output=True,
        cwd=root,
    )
    try:
        result = pickle.loads(done.stdout)
    except Exception:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = words[-1] if words else f"exit code {done.returncode}"
        raise EncodeError(f"a rendering process failed: {reason}") from None
    if isinstance(result, RecordingError):
        raise result
    assert isinstance(result, Done)
    return result


def _serve() -> None:
    job = pickle.loads(sys.stdin.buffer.read())
    result: Done | RecordingError
    try:
        result = render_job(job)
    except RecordingError as error:
        result = error
    sys.stdout.buffer.write(pickle.dumps(result))


@contextlib.contextmanager
def _folder(target: Target) -> Iterator[Path]:
    """A folder for the parts, on the target's disk."""
    parent = target.path.absolute().parent
    folder = Path(tempfile.mkdtemp(prefix=f".{target.path.name[:80]}.", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


if __name__ == "__main__":
    from replay.segments import _serve as serve  # so that what is pickled names this room

    serve()
