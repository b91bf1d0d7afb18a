"""The batches of a training loop, told to a recorder as they pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class Marks(Protocol):
    """Where epochs and batches begin and end."""

    def begin_epoch(self, batches: int | None) -> None:
        """The next epoch begins, of so many batches if that is known."""

    def begin_batch(self, batch: int) -> None:
        """A batch begins; from 0 in each epoch."""

    def end_batch(self) -> None:
        """It ends."""


class Tracked(Generic[T]):
    """What `Recorder.track` returns: the same batches, each pass an epoch.

    Args:
        marks: Is told.
        batches: A DataLoader, or any iterable of batches.
    """

    def __init__(self, marks: Marks, batches: Iterable[T]) -> None:
        self._marks = marks
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[T]:
        marks = self._marks
        try:
            length: int | None = len(self._batches)  # type: ignore[arg-type]
        except TypeError:
            length = None
        marks.begin_epoch(length)
        for number, batch in enumerate(self._batches):
            marks.begin_batch(number)
            try:
                yield batch
            finally:  # also when the loop is left by break or by an exception
                marks.end_batch()
