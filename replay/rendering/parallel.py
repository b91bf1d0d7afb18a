"""Renders ranges of a film beside each other, and joins what comes out.

With one process `render_to` is `encode`; with several, each renders a range of the frames in a
process of its own, on this machine or wherever an executor runs it. A job is a path and two
numbers: the film lies in a file beside the target, and a worker opens the recording for itself.
"""

from __future__ import annotations

import contextlib
import pickle
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from replay.encoding.concat import concatenate
from replay.encoding.cores import cores
from replay.encoding.ffmpeg import ffmpeg
from replay.encoding.target import LimitError, Target, size_of
from replay.output import replacing
from replay.raster.frame import FrameSource
from replay.rendering.flashes import Flashes
from replay.rendering.jobs import (
    EncodeOptions,
    Job,
    JobResult,
    ProcessPool,
    encode_cells,
    render_job,
)
from replay.schema import Cell, EncodeError, OptionError, RecordingError

# An H.264 stream has a whole picture every 250 frames anyway, so a cut there costs nothing.
_STEP = {"mp4": 250, "gif": 25, "webp": 10, "apng": 10, "folder": 10}
_PARTS = 32  # at most, where the number of workers is not known
# The other encoders use all cores by themselves, and a process takes half a second to start.
_PAYS = {"webp": 20, "apng": 20}  # frames from which a process of its own pays

_TRIES = 20  # to remove the folder of the parts, a tenth of a second apart

Progress = Callable[[int, int], None]
Pool = tuple[Executor, Callable[[Job], JobResult]]


@dataclass(frozen=True)
class Workers:
    """Who renders.

    Attributes:
        jobs: Processes of this machine; None for as many as pay.
        executor: Renders instead. Its workers see the recordings and the target's folder under the
            same paths.

    Raises:
        OptionError: Fewer than one job, or both.
    """

    jobs: int | None = None
    executor: Executor | None = None

    def __post_init__(self) -> None:
        if self.jobs is not None and self.executor is not None:
            raise OptionError("jobs or an executor: expected one of them, found both")
        if self.jobs is not None and self.jobs < 1:
            raise OptionError(f"jobs {self.jobs}: expected 1 or more")

    def cut(self, kind: str, total: int) -> list[tuple[int, int]]:
        """(start, stop) of each part of so many frames; none where one process does it all."""
        step = _STEP[kind]
        if self.executor is not None:
            return _cut(total, max(1, min(_PARTS, total // step)), step)
        jobs = _choose_jobs(kind, total) if self.jobs is None else self.jobs
        parts = min(jobs, total // step)
        return _cut(total, parts, step) if parts > 1 else []


def render_to(
    film: FrameSource,
    cells: Sequence[Cell],
    target: Target,
    quality: EncodeOptions,
    crew: Workers,
    progress: Progress | None = None,
) -> tuple[int, Flashes]:
    """Writes frames of a film to the target, or leaves nothing behind.

    Args:
        film: What to show.
        cells: The (epoch, batch) to show, of those of the film.
        target: From `choose_target`.
        quality: How.
        crew: Who renders.
        progress: Called with (frames done, frames in all).

    Returns:
        Number of frames written, and what was found of flashes.

    Raises:
        LimitError: It becomes larger than it may be; the target is as it was before.
        EncodeError: An encoder or a worker failed; the target is as it was before.
    """
    total = len(cells)
    cuts = crew.cut(target.kind, total)
    if not cuts:
        tell = None if progress is None else lambda done: progress(done, total)
        return encode_cells(film, cells, target, quality, quality.limit, tell)
    parts = _ParallelRender(film, cells, target, quality, cuts, progress)
    if crew.executor is not None:
        return parts.render(contextlib.nullcontext((crew.executor, render_job)))
    return replace(parts, progress=None).render(_here(len(cuts), total, progress))


@contextlib.contextmanager
def _here(count: int, total: int, progress: Progress | None) -> Iterator[Pool]:
    """Processes of this machine; in the end none is at work any more."""
    with ThreadPoolExecutor(count) as threads, ProcessPool(total, progress) as processes:
        yield threads, processes.run


def _choose_jobs(kind: str, total: int) -> int:
    return max(1, min(cores(), total // _PAYS[kind])) if kind in _PAYS else 1


def _cut(total: int, parts: int, step: int) -> list[tuple[int, int]]:
    """(start, stop) of each part; cuts are at multiples of `step`."""
    edges = [round(total * part / parts / step) * step for part in range(parts)]
    return list(zip(edges, [*edges[1:], total], strict=True))


@dataclass(frozen=True)
class _ParallelRender:
    """A film that is rendered in parts."""

    film: FrameSource
    cells: Sequence[Cell]
    target: Target
    quality: EncodeOptions
    cuts: list[tuple[int, int]]
    progress: Progress | None

    def render(self, workers: contextlib.AbstractContextManager[Pool]) -> tuple[int, Flashes]:
        """Has each part rendered, and joins them."""
        target, limit = self.target, self.quality.limit
        with (
            replacing(target.path, folder=target.kind == "folder") as unfinished,
            _folder(target) as folder,
        ):
            plan = folder / "plan"
            plan.write_bytes(pickle.dumps((self.film, list(self.cells), target, self.quality)))
            suffix = "" if target.kind == "folder" else f".{target.kind}"
            jobs = [
                Job(plan, *cut, folder / f"part{number:04}{suffix}")
                for number, cut in enumerate(self.cuts)
            ]
            with workers as (executor, work):  # which ends before the folder is removed
                done, flashes = self._collect(executor, work, jobs)
            missing = [job.out.name for job in jobs if not job.out.exists()]
            if missing:
                raise EncodeError(
                    f"{missing[0]} is not there: the workers need "
                    f"{target.path.absolute().parent} under this path"
                )
            if target.kind == "folder":
                pictures = [picture for job in jobs for picture in sorted(job.out.iterdir())]
                for number, picture in enumerate(pictures):
                    picture.rename(unfinished / f"{number:06d}.png")
            else:
                concatenate([job.out for job in jobs], unfinished, target.kind, ffmpeg())
            if limit is not None and (size := size_of(unfinished)) > limit:
                raise LimitError(size, done, limit)
        return done, flashes

    def _collect(
        self, executor: Executor, work: Callable[[Job], JobResult], jobs: list[Job]
    ) -> tuple[int, Flashes]:
        pending: dict[Future[JobResult], Job] = {}
        done, flashes = 0, Flashes(self.film.palette, self.quality.fps)
        try:
            for job in jobs:
                pending[executor.submit(work, job)] = job
            for future in _in_time(pending):
                result = future.result()
                done += result.frames
                flashes.take(result.flashes, pending[future].start / self.quality.fps)
                self.film.note_damage(result.damaged)
                if self.progress is not None:
                    self.progress(done, len(self.cells))
        except BaseException as error:
            for future in pending:
                future.cancel()
            if isinstance(error, (RecordingError, KeyboardInterrupt)):
                raise
            raise EncodeError(f"a worker failed: {_line(error)}") from error
        return done, flashes


def _in_time(pending: dict[Future[JobResult], Job]) -> Iterator[Future[JobResult]]:
    """The futures as they end; in their order where they are of an engine's own kind."""
    if all(isinstance(future, Future) for future in pending):
        yield from as_completed(pending)
    else:
        yield from pending


@contextlib.contextmanager
def _folder(target: Target) -> Iterator[Path]:
    """A folder for the parts, on the target's disk."""
    parent = target.path.absolute().parent
    folder = Path(tempfile.mkdtemp(prefix=f".{target.path.name[:80]}.", dir=parent))
    try:
        yield folder
    finally:
        for _ in range(_TRIES):  # an encoder whose worker was ended may be about to end
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            time.sleep(0.1)


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
