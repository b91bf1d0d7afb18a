"""A recording into a tracker: `replay.push`, from its arguments to what was pushed."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

from replay.files.transfer import upload
from replay.formatting import format_bytes, format_count
from replay.maps.runs import open_runs
from replay.recording import Recording
from replay.schema import Cell, EncodeError, OptionError, RecordingError
from replay.schema.addresses import without_secrets
from replay.schema.destinations import COPY, Destination, read_destination
from replay.schema.suggestions import unknown
from replay.schema.unfinished import temporary_folder
from replay.trackers.content import Content, read_options
from replay.trackers.following import ended_epochs
from replay.trackers.handing_over import find_run
from replay.trackers.interface import PARTS, SCALARS, File, RunFacts, Tracker
from replay.trackers.registry import find_tracker
from replay.trackers.scalars import read_points
from replay.value_kinds import check_kinds

_A_COPY = "a copy of"


@dataclass(frozen=True)
class PushedFile:
    """A file as it was given to a tracker.

    Attributes:
        kind: `film`, `sheet` or `page`.
        name: What it is called there, behind `mapreel/`.
        step: The step of the last batch that it shows.
        bytes: Its size.
        sha256: Of its bytes, in hexadecimal digits.
    """

    kind: str
    name: str
    step: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Pushed:
    """What `push` has pushed.

    Attributes:
        to: Each destination, as it was asked for.
        where: Where it is now, in words: an address, a folder, a run.
        points: Number of batches whose numbers were pushed.
        files: The files, in the order in which they were pushed.
        seconds: How long it took.
        remarks: What a reader should know.
    """

    to: tuple[str, ...]
    where: tuple[str, ...]
    points: int
    files: tuple[PushedFile, ...]
    seconds: float
    remarks: tuple[str, ...] = field(default=(), repr=False)

    def __repr__(self) -> str:
        return f"<Pushed to {', '.join(self.to)}: {self.in_words()}>"

    def in_words(self) -> str:
        """Returns what was pushed, in words."""
        sizes = []
        for name in dict.fromkeys(each.name for each in self.files):
            found = [each.bytes for each in self.files if each.name == name]
            times = f" ({len(found)} times)" if len(found) > 1 else ""
            sizes.append(f"{name} {format_bytes(found[-1])}{times}")
        if self.points:
            sizes.append(f"numbers of {format_count(self.points, 'batch')}")
        if any(where.startswith(_A_COPY) for where in self.where):
            sizes.append("the recording")
        return ", ".join(sizes) or "nothing"


def push(
    recording: Recording | str | PathLike[str],
    to: Any,
    *,
    only: str | Sequence[str] | None = None,
    follow: bool = False,
    gif: bool = False,
    progress: Callable[[int, int], None] | None = None,
    sending: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Pushed:
    """Pushes a recording's film, sheet, page and numbers into an experiment tracker.

        push("run.h5", to="tensorboard=runs")
        push("run.h5", to="wandb=my-project", layers="conv1", follow=True)

    Each goes in the tracker's own type, under names that begin with `mapreel/`; where there is no
    video, the film is a GIF. The steps are those of the recording: the batches trained before.

    Args:
        recording: An open recording, or its path; also one that is being written.
        to: `tensorboard=DIR`, `wandb` or `wandb=PROJECT`, `mlflow` or `mlflow=URI`, `aim` or
            `aim=REPO`, `trackio=PROJECT`, `folder=DIR`: a run of its own there, online or offline
            as the tracker itself is told to be. Or a run of wandb, mlflow, aim or trackio, which
            goes on. Or an address, `s3://bucket/run.h5`, to which the recording itself is copied.
            Or several of these.
        only: What is pushed: one or more of `film`, `sheet`, `page` and `scalars`; default all.
        follow: Whether it is pushed at the end of each epoch while the training goes on, until the
            recording is closed.
        gif: Whether the film is a GIF also where a tracker has video.
        progress: Called with (frames done, frames in all) of each film.
        sending: Called with (bytes done, bytes in all) of what a tracker or an address takes.
        **options: Those of `animate`, which hold for the sheet and the page, too, where they have
            them (`layers`, `channels`, `epochs`, `probe`, `scale`, ...), by either of their names;
            and `rows` of the sheet.

    Returns:
        What was pushed, and where it is.

    Raises:
        OptionError: A tracker that is unknown or not installed, or another option that cannot be
            used.
        FileError: The recording cannot be read.
        EncodeError: The tracker did not take it.
    """
    check_kinds(locals())
    started = time.monotonic()
    chosen = read_options(options)
    kinds = _choose_kinds(only)
    given = [to] if isinstance(to, (str, PathLike)) or not isinstance(to, Sequence) else list(to)
    destinations = [read_destination(each) for each in given]
    copies = [each.value for each in destinations if each.tracker == COPY]
    destinations = [each for each in destinations if each.tracker != COPY]
    for each in destinations:
        find_tracker(each)  # says that it is not there before anything is made
    if not destinations and not copies:
        raise OptionError("push: no tracker was given")
    pushed: list[PushedFile] = []
    points, where = 0, list[str]()
    with open_runs(recording) as (run,), temporary_folder() as folder:
        content = Content(run, folder, chosen, progress)
        trackers: list[Tracker] = []
        try:
            epochs = ended_epochs(run, content.remarks.append) if follow else _all_at_once(run)
            for new, last in epochs:
                if not destinations:
                    continue
                content.forget(last)
                trackers = trackers or [_open(each, run) for each in destinations]
                for tracker in trackers:
                    files = content.files(kinds, ".gif" if gif else tracker.film_suffix)
                    with _errors_of(tracker):
                        points_of_it = read_points(run, new) if SCALARS in kinds else []
                        tracker.log(points_of_it, files, _sent(files, sending))
                    pushed += [_describe(file) for file in files]
                points += len(new) if SCALARS in kinds else 0
            copied = [upload(run.path, address, sending) for address in copies]
        finally:
            for tracker in trackers:
                with _errors_of(tracker):
                    where.append(without_secrets(tracker.close()))
    names = tuple(map(str, [*destinations, *(name for name, _ in copied)]))
    where += [f"{_A_COPY} {format_bytes(size)}" for _, size in copied]
    seconds = time.monotonic() - started
    return Pushed(names, tuple(where), points, tuple(pushed), seconds, tuple(content.remarks))


def _sent(
    files: Sequence[File], sending: Callable[[int, int], None] | None
) -> Callable[[File], None] | None:
    """Returns what counts the bytes of files that a tracker took, and says so from the first on."""
    if sending is None or not files:
        return None
    done, total = 0, sum(file.path.stat().st_size for file in files)
    sending(0, total)

    def taken(file: File) -> None:
        nonlocal done
        done += file.path.stat().st_size
        sending(done, total)

    return taken


def _all_at_once(run: Recording) -> Iterator[tuple[list[Cell], None]]:
    run.require_frames()
    yield run.frames, None


def _describe(file: File) -> PushedFile:
    data = file.path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    return PushedFile(file.kind, file.name, file.step, len(data), digest)


def _choose_kinds(only: str | Sequence[str] | None) -> list[str]:
    """Returns what is pushed, in the order of PARTS.

    Raises:
        OptionError: There is no such thing.
    """
    if only is None:
        return list(PARTS)
    words = only.replace(" ", "").split(",") if isinstance(only, str) else list(only)
    for word in words:
        if word not in PARTS:
            raise OptionError(unknown("part", word, PARTS))
    return [part for part in PARTS if part in words]


def _open(destination: Destination, run: Recording) -> Tracker:
    if destination.run is not None:
        return find_run(destination)
    kind = find_tracker(destination)
    facts = {"run_id": run.run_id, "created": run.created, **run.meta}
    with _errors_of(kind):
        return kind.begin(destination.value, RunFacts(run.path.stem, facts))


@contextmanager
def _errors_of(tracker: Tracker | type[Tracker]) -> Iterator[None]:
    """Turns what a tracker's package raises into one line; what it prints goes to stderr.

    Raises:
        EncodeError: It raised something.
    """
    kind = tracker if isinstance(tracker, type) else type(tracker)
    name = kind.__module__.rpartition(".")[2]
    try:
        with redirect_stdout(sys.stderr):
            yield
    except RecordingError:
        raise
    except Exception as error:  # whatever another package may raise
        words = (str(error).strip().splitlines() or [""])[0]
        raise EncodeError(f"{name} did not take it: {type(error).__name__}: {words}") from error
