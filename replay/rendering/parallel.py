"""Renders a film to a file: in this process, or in parts side by side that are then joined.

With one worker `render_to` encodes the frames here; with several, each renders a range of them in
a process of its own, on this machine or wherever an executor runs it. A job is a path and two
numbers: the film lies in a file beside the target, and a worker opens the recording for itself.
"""

from __future__ import annotations

import contextlib
import pickle
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from replay.encoding.formats import join
from replay.output import (
    EncodeOptions,
    Format,
    LimitError,
    Target,
    replacing,
    retime,
    size_of,
)
from replay.raster.frame import FrameSource
from replay.rendering.accessibility import Flashes, encode_watched
from replay.rendering.jobs import Job, JobResult, render_job, start_processes
from replay.schema import Cell, EncodeError, OptionError, RecordingError
from replay.schema.unfinished import temporary_folder

_MAX_PARTS = 32  # where the number of workers is not known
_REMOVALS = 20  # attempts to remove the folder of the parts, a tenth of a second apart

Progress = Callable[[int, int], None]
Pool = tuple[Executor, Callable[[Job], JobResult]]


@dataclass(frozen=True)
class Workers:
    """How many processes render, or which executor does.

    Attributes:
        jobs: Processes of this machine; None for one, since every encoder uses all cores.
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

    def split(self, format: Format[Any], total: int) -> list[tuple[int, int]]:
        """Returns (start, stop) of each part of so many frames; none if nothing is to be split."""
        step = format.part_frames
        if self.executor is not None:
            return _split(total, max(1, min(_MAX_PARTS, total // step)), step)
        parts = min(self.jobs or 1, total // step)
        return _split(total, parts, step) if parts > 1 else []


def render_to(
    film: FrameSource,
    cells: Sequence[Cell],
    target: Target,
    options: EncodeOptions,
    workers: Workers,
    progress: Progress | None = None,
) -> tuple[int, Flashes]:
    """Writes frames of a film to the target, or leaves nothing behind.

    Args:
        film: What draws the frames.
        cells: The (epoch, batch) of the frames, of those of the film.
        target: From `choose_target`.
        options: How to encode.
        workers: What renders.
        progress: Called with (frames done, frames in all).

    Returns:
        Number of frames written, and the flashes in them.

    Raises:
        LimitError: It becomes larger than it may be; the target is as it was before.
        EncodeError: An encoder or a worker failed; the target is as it was before.
    """
    total = len(cells)
    ranges = workers.split(target.format, total)
    if not ranges:
        return encode_watched(film, cells, target, options, progress)
    if workers.executor is not None:
        pool: contextlib.AbstractContextManager[Pool]
        pool = contextlib.nullcontext((workers.executor, render_job))
        return _ParallelRender(film, cells, target, options, ranges, progress).render(pool)
    # The processes report each frame themselves.
    pool = start_processes(len(ranges), total, progress)
    return _ParallelRender(film, cells, target, options, ranges, None).render(pool)


def _split(total: int, parts: int, step: int) -> list[tuple[int, int]]:
    """Returns (start, stop) of each part; they begin at multiples of `step`."""
    edges = [round(total * part / parts / step) * step for part in range(parts)]
    return list(zip(edges, [*edges[1:], total], strict=True))


@dataclass(frozen=True)
class _ParallelRender:
    """A film that is rendered in parts; see `render_to`.

    Attributes:
        ranges: (start, stop) of each part.
        progress: Called when a part is done; None where the frames are reported elsewhere.
    """

    film: FrameSource
    cells: Sequence[Cell]
    target: Target
    options: EncodeOptions
    ranges: list[tuple[int, int]]
    progress: Progress | None

    def render(self, pool: contextlib.AbstractContextManager[Pool]) -> tuple[int, Flashes]:
        """Has each part rendered by the pool, and joins them."""
        target, limit = self.target, self.options.limit
        with (
            replacing(target.path, folder=target.format.is_folder) as unfinished,
            _folder_beside(target.path) as folder,
        ):
            plan = folder / "plan"
            # What has a limit is the whole, not a part.
            options = replace(self.options, limit=None)
            plan.write_bytes(pickle.dumps((self.film, list(self.cells), target, options)))
            suffix = "" if target.format.is_folder else f".{target.kind}"
            jobs = [
                Job(plan, start, stop, folder / f"part{number:04}{suffix}")
                for number, (start, stop) in enumerate(self.ranges)
            ]
            with pool as (executor, work):  # which ends before the folder is removed
                done, flashes = self._collect(executor, work, jobs)
            missing = [job.out.name for job in jobs if not job.out.exists()]
            if missing:
                raise EncodeError(
                    f"{missing[0]} is not there: the workers need "
                    f"{target.path.absolute().parent} under this path"
                )
            join([job.out for job in jobs], unfinished, target.format)
            retime(unfinished, target.format, self.options.fps, flashes.settle(target.format))
            if limit is not None and (size := size_of(unfinished)) > limit:
                raise LimitError(size, done, limit)
        return done, flashes

    def _collect(
        self, executor: Executor, work: Callable[[Job], JobResult], jobs: list[Job]
    ) -> tuple[int, Flashes]:
        """Has the executor do the jobs, and adds up what they give."""
        pending: dict[Future[JobResult], Job] = {}
        done, flashes = 0, Flashes(self.film.palette, self.options)
        try:
            for job in jobs:
                pending[executor.submit(work, job)] = job
            for future in _as_completed(pending):
                result = future.result()
                done += result.frames
                flashes.merge(result.flashes, pending[future].start / self.options.fps)
                self.film.note_findings(result.findings)
                if self.progress is not None:
                    self.progress(done, len(self.cells))
        except BaseException as error:
            for future in pending:
                future.cancel()
            if isinstance(error, (RecordingError, KeyboardInterrupt)):
                raise
            raise EncodeError(f"a worker failed: {_first_line(error)}") from error
        return done, flashes


def _as_completed(pending: dict[Future[JobResult], Job]) -> Iterator[Future[JobResult]]:
    """Yields the futures as they end; in their order where they are of an engine's own class."""
    if all(isinstance(future, Future) for future in pending):
        yield from as_completed(pending)
    else:
        yield from pending


@contextlib.contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    """Yields a temporary folder for the parts, on the disk of the target."""
    with temporary_folder(path.absolute()) as folder:
        try:
            yield folder
        finally:
            for _ in range(_REMOVALS):  # an encoder whose worker was killed may be about to end
                shutil.rmtree(folder, ignore_errors=True)
                if not folder.exists():
                    break
                time.sleep(0.1)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
