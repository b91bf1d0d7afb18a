"""What a training loop has of the recorder: the batches that it tracks, the numbers it logs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import torch

from record.reporting import Problems
from record.session.progress import Progress
from replay import schema

T = TypeVar("T")


class Tracked(Generic[T]):
    """What `Recorder.track` returns: the same batches, each pass an epoch.

    Args:
        progress: Its methods are called for each pass and each batch.
        batches: A DataLoader, or any iterable of batches.
        on_pass: Called when a pass begins.
    """

    def __init__(
        self, progress: Progress, batches: Iterable[T], on_pass: Callable[[], None]
    ) -> None:
        self._progress = progress
        self._batches = batches
        self._on_pass = on_pass

    def __len__(self) -> int:
        return len(self._batches)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return f"Tracked({self._batches!r})"

    def __iter__(self) -> Iterator[T]:
        self._on_pass()
        progress, source = self._progress, object()
        try:
            length: int | None = len(self._batches)  # type: ignore[arg-type]
        except TypeError:
            length = None
        size = getattr(self._batches, "batch_size", None)
        epoch = progress.begin_epoch(length, size if isinstance(size, int) else None)
        try:
            for number, batch in enumerate(self._batches):
                progress.begin_loaded(source, epoch, number, batch)
                try:
                    yield batch
                finally:  # also when the loop is left by break or by an exception
                    progress.end_loaded(source)
        finally:
            progress.end_loaded(source)  # the pass itself


def log_numbers(values: Mapping[str, Any], progress: Progress, problems: Problems) -> None:
    """Keeps numbers with the current batch.

    Args:
        values: The numbers by name, as `Recorder.log` takes them.
        progress: Takes them.
        problems: Told of what is no number, and of names that are taken.
    """
    for name, value in values.items():
        if name in schema.RESERVED:
            problems.meet(f"log({name}=...): the recorder sets {name!r} itself")
            continue
        try:
            progress.log(name, as_number(value))
        except (TypeError, ValueError, RuntimeError):
            shape = tuple(getattr(value, "shape", ()))
            found = f"{type(value).__name__}{f' of shape {shape}' if shape else ''}"
            problems.meet(f"log({name}=...): expected one number, found {found}")


def as_number(value: Any) -> Any:
    """Returns a logged value as a float; from a GPU as a tensor that will be filled in a moment.

    Args:
        value: A number, or a tensor of one element.

    Raises:
        ValueError: The tensor has more or less than one element, or the value is no number.
        TypeError: The value is no number.
    """
    if isinstance(value, torch.Tensor):
        if value.numel() != 1:
            raise ValueError
        value = value.detach().reshape(())
        if value.device.type == "cuda":
            target = torch.empty((), dtype=value.dtype, pin_memory=True)
            return target.copy_(value, non_blocking=True)
        return float(value)
    return float(value)
