"""A range of a film's frames as a job of its own, small enough to be sent anywhere."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from replay.encode import Target, encode
from replay.flashes import Flashes
from replay.frames import Reel
from replay.schema import EncodeError

Cell = tuple[int, int]


@dataclass(frozen=True)
class Quality:
    """How an animation is encoded; see `replay.encode.encode`."""

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
class Done:
    """What became of a job: what it wrote, and what was damaged (see `Film.damage`)."""

    frames: int
    flashes: Flashes
    damaged: list[dict[tuple[int, int], str]]


def encode_cells(
    film: Reel,
    cells: Sequence[Cell],
    target: Target,
    quality: Quality,
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


def render_job(job: Job, tell: Callable[[int], None] | None = None) -> Done:
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
    return Done(written, flashes, film.damage())
