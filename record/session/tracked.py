"""The batches of a training loop, told to a recorder as they pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


class Marks(Protocol):
    """What is told where epochs and batches begin and end."""

    def begin_epoch(self, batches: int | None, images: int | None) -> int:
        """The next epoch begins; returns its number.

        Args:
            batches: How many it has, if that is known.
            images: How many images each of them has, but maybe the last, if that is known.
        """

    def begin_loaded(self, source: object, epoch: int, batch: int, loaded: Any) -> None:
        """A pass hands out a batch, from 0 in each epoch."""

    def end_loaded(self, source: object) -> None:
        """The pass's batch ends."""


class Tracked(Generic[T]):
    """What `Recorder.track` returns: the same batches, each pass an epoch.

    Args:
        marks: Hears of each pass and of its batches.
        batches: A DataLoader, or any iterable of batches.
    """

    def __init__(self, marks: Marks, batches: Iterable[T]) -> None:
        self._marks = marks
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[T]:
        marks, source = self._marks, object()
        try:
            length: int | None = len(self._batches)  # type: ignore[arg-type]
        except TypeError:
            length = None
        size = getattr(self._batches, "batch_size", None)
        epoch = marks.begin_epoch(length, size if isinstance(size, int) else None)
        for number, batch in enumerate(self._batches):
            marks.begin_loaded(source, epoch, number, batch)
            try:
                yield batch
            finally:  # also when the loop is left by break or by an exception
                marks.end_loaded(source)
