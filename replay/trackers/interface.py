"""What a tracker is: it takes numbers by step and files of three kinds, each in its own type."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

PREFIX = "mapreel/"
"""What the names of all that is pushed begin with: a run may have a `loss` of its own."""

FILM, SHEET, PAGE, SCALARS = "film", "sheet", "page", "scalars"
PARTS = (FILM, SHEET, PAGE, SCALARS)


@dataclass(frozen=True)
class Point:
    """The numbers that were kept with one batch.

    Attributes:
        step: The batches trained before it.
        time: Unix time in seconds; None where the recording has none.
        values: By name.
    """

    step: int
    time: float | None
    values: Mapping[str, float]


@dataclass(frozen=True)
class File:
    """A file to be pushed.

    Attributes:
        kind: `film`, `sheet` or `page`.
        name: What it is called in the tracker, without the prefix: its kind, for a sheet of
            several layers with the layer.
        path: The file.
        step: The step of the last batch that it shows.
        caption: What it shows, in words; may be empty.
    """

    kind: str
    name: str
    path: Path
    step: int
    caption: str = ""


@dataclass(frozen=True)
class RunFacts:
    """What a run of a tracker is told of the recording when it begins.

    Attributes:
        name: What to call it: the recording's name.
        facts: What is known of the training, JSON-ready.
    """

    name: str
    facts: Mapping[str, Any] = field(default_factory=dict)


class Tracker(ABC):
    """A run of a tracker that takes what is pushed.

    Attributes:
        film_suffix: The format in which it shows films.
    """

    film_suffix: ClassVar[str] = ".mp4"

    @classmethod
    @abstractmethod
    def begin(cls, value: str, about: RunFacts) -> Tracker:
        """Begins a run of its own, beside any that is active in this process.

        Args:
            value: The folder, project, address or repository; empty for the tracker's own choice.
            about: What it is of.
        """

    @classmethod
    def attach(cls, run: Any = None) -> Tracker | None:
        """Returns a run that somebody else has begun, and will end; None where there is none.

        Args:
            run: The tracker's own object; by default the run that is active in this process.
        """
        return None

    def log(
        self,
        points: Sequence[Point],
        files: Sequence[File],
        taken: Callable[[File], None] | None = None,
    ) -> None:
        """Takes numbers and files in the order of their steps, which some trackers do not leave.

        Args:
            points: The numbers.
            files: The files.
            taken: Called with each file once it was taken.
        """
        left = list(points)
        for file in sorted(files, key=lambda file: file.step):
            before = [point for point in left if point.step <= file.step]
            left = left[len(before) :]
            self.log_points(before)
            self.log_file(file)
            if taken is not None:
                taken(file)
        self.log_points(left)

    @abstractmethod
    def log_points(self, points: Sequence[Point]) -> None:
        """Takes numbers, in the order of their steps."""

    @abstractmethod
    def log_file(self, file: File) -> None:
        """Takes a file, which is deleted some time after `close`."""

    @abstractmethod
    def close(self) -> str:
        """Ends what was begun, once everything was taken; returns where it is, in words."""
