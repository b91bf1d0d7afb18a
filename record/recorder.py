"""The context manager that a training loop holds, and what its `track` returns."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from record.capture.capture import Capture
from record.capture.phase import BROKEN, IDLE, OPEN, CaptureListener
from record.capture.probe import Probe
from record.formatting import format_count
from record.modules.names import unwrap
from record.modules.selection import Patterns, find_layers
from record.options import check_options
from record.paths import check_source, check_target
from record.protocol.layout import BatchLayout
from record.reporting import Problems, warn
from record.schedule.budget import Budget, parse_bytes
from record.schedule.choice import BatchChoice
from record.schedule.schedule import Schedule
from record.session.frame_sender import FrameSender
from record.session.metadata import rank_and_world, root_attributes
from record.session.model_checks import ModelChecks
from record.session.progress import FORWARDS, STEPS, Progress
from record.transport.courier import Courier
from record.transport.startup import await_own_writer
from record.transport.weakcall import weakly
from replay import schema
from replay.schema import OptionError

T = TypeVar("T")
_EVERY_EPOCH = 1 << 40  # beyond all epochs: a recording to go on with keeps them


class Tracked(Generic[T]):
    """What `Recorder.track` returns: the same batches, each pass an epoch.

    Args:
        progress: Its methods are called for each pass and each batch.
        batches: A DataLoader, or any iterable of batches.
    """

    def __init__(self, progress: Progress, batches: Iterable[T]) -> None:
        self._progress = progress
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[T]:
        progress, source = self._progress, object()
        try:
            length: int | None = len(self._batches)  # type: ignore[arg-type]
        except TypeError:
            length = None
        size = getattr(self._batches, "batch_size", None)
        epoch = progress.begin_epoch(length, size if isinstance(size, int) else None)
        for number, batch in enumerate(self._batches):
            progress.begin_loaded(source, epoch, number, batch)
            try:
                yield batch
            finally:  # also when the loop is left by break or by an exception
                progress.end_loaded(source)


class Recorder:
    """Records the feature maps of the first image of every batch while a model trains.

        with Recorder(model, "run.h5") as recorder:
            for epoch in range(epochs):
                for images, labels in recorder.track(loader):
                    loss = criterion(model(images), labels)
                    ...
                    recorder.log(loss=loss, label=labels[0])

    `track` marks where epochs and batches begin. Without it, call `epoch(i)` before an epoch and
    `step()` after each batch; without either, every training forward counts as a batch of
    epoch 0. Of each batch the first forward of `model` itself in training mode is recorded: an
    evaluation in between leaves no trace.

    Args:
        model: The network, also one wrapped by DistributedDataParallel or torch.compile.
        path: The recording to write, `run.h5`, say.
        layers: Names (`layer1.0.conv1`), globs (`layer1.*`) and class names (`ReLU`); None means
            those that `record.modules.defaults.default_layers` finds: convolutions and blocks.
        every: Records the batches 0, every, 2 * every ... of each epoch.
        overwrite: Replaces an existing file instead of refusing it.
        on_error: `warn`: a failure while training costs frames, which are counted, and a
            `RecordingWarning`. `raise`: it raises a `RecordingError` in the training loop.
        metadata: Kept in the file as JSON. `classes` (names by label), `mean` and `std` (of the
            input's normalisation, per channel) are used to show the recording.
        when_full: When the writer falls behind and the queue is full, training waits (`wait`),
            or the frame is given up and counted (`drop`).
        schedule: Which batches are recorded: `every=4`, `epochs=0:10:2`, `first=8` (batches of
            each epoch), `dense-early` (every batch at first, ever fewer later), joined by commas.
        budget: Bytes that the file may take, such as `"2GB"`: batches are left out so that the
            whole run fits, its last part included.
        epochs: How many epochs the run will have, if you know: a budget is then spread evenly,
            else most of it goes to the early batches.
        max_map: Maps that are larger in one direction are pooled (means of whole blocks) before
            they leave the device; the file says so.
        probe: Fixed images, (N, C, H, W) or (C, H, W), normalised as the network expects them.
            After each recorded batch the model sees them in evaluation mode; what its layers put
            out goes to `/probe/<n>`. Training flags, buffers and random states are restored.
        resume: Goes on with an existing recording: True behind its last recorded epoch, a number
            with that epoch, whose frames and later ones are replaced. `track` counts from there.
        durability: `fsync` has the file put on the disk at the end of each epoch and at least
            every 30 s, so that a loss of power spares it; `flush` leaves it to the system.
        batch_axis: Which axis of a layer's outputs counts the images of a batch, where sizes and
            modules do not tell: `{"encoder.*": 1}`, by names or globs; `input` is the model's
            input.
        ranks: Of a distributed run, `0`: rank 0 records. `all`: each rank records into a file of
            its own, `run.rank0.h5` and so on.

    Raises:
        OptionError: A pattern matches no layer, or an argument is out of range.
        OutputError: The file exists, or cannot be created.
        RecordingError: The writer process cannot be started.

    Attributes:
        path: The recording.
        layout: What one batch consists of; empty before the first recorded forward.
    """

    def __init__(
        self,
        model: nn.Module,
        path: str | os.PathLike[str],
        layers: Patterns = None,
        every: int = 1,
        overwrite: bool = False,
        on_error: str = "warn",
        metadata: dict[str, Any] | None = None,
        *,
        when_full: str = "wait",
        schedule: str | Schedule | None = None,
        budget: str | int | None = None,
        epochs: int | None = None,
        max_map: int | None = None,
        probe: torch.Tensor | None = None,
        ranks: str = "0",
        resume: bool | int = False,
        durability: str = "fsync",
        batch_axis: Mapping[str, int] | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise OptionError(f"model: expected a torch.nn.Module, found {type(model).__name__}")
        axes = check_options(
            every,
            max_map,
            resume,
            batch_axis,
            on_error=on_error,
            when_full=when_full,
            ranks=ranks,
            durability=durability,
        )
        root = unwrap(model)
        found = self._find_layers(root, layers)
        rank, world = rank_and_world()
        self.path = Path(path)
        if world > 1 and ranks == "all":
            self.path = self.path.with_name(f"{self.path.stem}.rank{rank}{self.path.suffix}")
        chosen = Schedule.parse(schedule, every)
        limit = None if budget is None else Budget(parse_bytes(budget), chosen, epochs)
        fixed = None if probe is None else Probe(probe)
        self._patterns = layers
        self._problems = problems = Problems(on_error == "raise", self._say)
        self._model: nn.Module | None = root  # which the hooks do not keep alive
        self._capture = capture = Capture(root, found, max_map, axes)
        capture.state.asks_autocast = fixed is not None
        self._checks = ModelChecks(capture, self._layers_now, fixed, problems)
        self._progress = Progress(capture.state, self._checks, problems)
        self._courier: Courier | None = None
        self._closed = world > 1 and ranks == "0" and rank != 0  # rank 0 records
        if self._closed:
            return
        await_own_writer(self.path)
        start: int | None = None  # the epoch to go on with
        if resume is not False:
            start = _EVERY_EPOCH if resume is True else int(resume)
            check_source(self.path)
        else:
            check_target(self.path, overwrite)
        meta: dict[str, Any] = {"schedule": chosen.to_text()}
        if world > 1:
            meta.update(rank=rank, world_size=world)
        if max_map is not None:
            meta["max_map"] = max_map
        if limit is not None:
            meta["budget"] = limit.limit
        if fixed is not None:
            meta["probe"] = [{} for _ in range(len(fixed))]
        attributes = root_attributes(root, world, {**meta, **(metadata or {})})
        self._courier = courier = Courier(
            self.path.absolute(), overwrite, attributes, when_full, problems.warn, start, durability
        )
        choice = BatchChoice(chosen, limit)
        self._sender = FrameSender(self.path, capture, courier, choice, problems)
        self._progress.sender = self._sender
        if start is not None:
            self._go_on(courier.opening, None if resume is True else start, limit)
        if fixed is not None:
            courier.set_probes(fixed.stored)
        try:
            capture.install(self._forward_listener())
        except BaseException:
            capture.remove()
            courier.close()
            raise
        self._progress.await_forward()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=weakly(self._let_parent_record))

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def layout(self) -> BatchLayout:
        """The layers with their shapes, as far as they have fired."""
        return self._capture.frames.layout

    @property
    def sent(self) -> int:
        """Batches handed to the writer so far."""
        return 0 if self._courier is None else self._courier.sent

    @property
    def committed(self) -> int:
        """Batches that a reader of the file can see."""
        return 0 if self._courier is None else self._courier.committed

    @property
    def dropped(self) -> int:
        """Batches given up because the queue was full."""
        return 0 if self._courier is None else self._courier.dropped

    @property
    def lost(self) -> int:
        """Batches and layer frames lost for any other reason."""
        return 0 if self._courier is None else self._courier.lost

    def track(self, batches: Iterable[T]) -> Tracked[T]:
        """Marks epochs and batches: each pass over the result is one epoch.

        Args:
            batches: A DataLoader, or any iterable of batches.

        Returns:
            An iterable of the same batches, with a length if `batches` has one.
        """
        return Tracked(self._progress, batches)

    def epoch(self, number: int) -> None:
        """Begins an epoch: for loops that do not use `track`.

        Args:
            number: The epoch, from 0.
        """
        self._progress.turn_to_epoch(int(number))

    def step(self) -> None:
        """Ends a batch: for loops that do not use `track`."""
        self._progress.end_step()

    def log(self, **values: Any) -> None:
        """Keeps numbers with the current batch: `log(loss=loss, lr=lr, label=labels[0])`.

        Args:
            **values: Numbers or tensors of one element, also on a GPU: nothing waits for them.
                `loss`, `lr`, `label` and `prediction` are shown at replay; any other name
                becomes a field of its own.
        """
        for name, value in values.items():
            if name in schema.RESERVED:
                self._problems.meet(f"log({name}=...): the recorder sets {name!r} itself")
                continue
            try:
                self._progress.log(name, as_number(value))
            except (TypeError, ValueError, RuntimeError):
                shape = tuple(getattr(value, "shape", ()))
                found = f"{type(value).__name__}{f' of shape {shape}' if shape else ''}"
                self._problems.meet(f"log({name}=...): expected one number, found {found}")

    def flush(self) -> bool:
        """Waits until all recorded batches are readable in the file: before a checkpoint, say.

        Returns:
            False where the writer has failed or stands still.
        """
        courier = self._courier
        return courier is not None and not self._closed and courier.flush()

    def close(self) -> None:
        """Ends the recording: removes the hooks and waits until the file is closed."""
        if self._closed:
            return
        self._closed = True
        capture, courier, problems = self._capture, self._courier, self._problems
        state, progress = capture.state, self._progress
        assert courier is not None
        if progress.mode == FORWARDS:
            if state.phase == OPEN:
                state.reset()
            elif state.traced:
                problems.warn(
                    "a compiled model does not tell its forwards apart: use track(), or step() "
                    "after each batch; only the last batch was recorded"
                )
            progress.finish()
        progress.close()
        broken = state.phase == BROKEN
        capture.remove()
        courier.close()
        self._sender.end()
        if self._checks.named_silent:
            self._checks.name_never_fired()
        else:
            problems.warn(f"nothing was recorded in {self.path}: {self._why_nothing(broken)}")
        if self.dropped or self.lost:
            problems.warn(
                f"{self.path}: {format_count(self.dropped, 'batch')} dropped (queue full), "
                f"{format_count(self.lost, 'frame')} lost",
            )

    def _why_nothing(self, broken: bool) -> str:
        """Says why nothing was recorded.

        Args:
            broken: Whether the last forward ended in an exception.
        """
        progress = self._progress
        return self._checks.why_nothing(broken, progress.copy_failed, progress.mode == STEPS)

    # What `record run` does in another way

    def _forward_listener(self) -> CaptureListener:
        """Returns what the hooks tell of forwards."""
        return self._progress

    def _find_layers(self, root: nn.Module, patterns: Patterns) -> dict[str, nn.Module]:
        """Returns the layers to record, by name."""
        return find_layers(root, patterns)

    def _say(self, text: str) -> None:
        """Warns the user."""
        warn(text)

    def _go_on(self, there: dict[str, int], epoch: int | None, budget: Budget | None) -> None:
        """Counts on from what the file holds: with an epoch, or with the one after its last."""
        progress = self._progress
        progress.epoch = progress.next_epoch = there["epoch"] + 1 if epoch is None else epoch
        progress.step = max(there["step"] + 1, progress.epoch * there["batches"])
        if budget is not None:
            budget.resume(there["frames"], progress.epoch, progress.step)

    def _layers_now(self, root: nn.Module) -> dict[str, nn.Module]:
        """Returns the layers to record of a model that has changed."""
        return self._find_layers(root, self._patterns)

    def _let_parent_record(self) -> None:
        """Records nothing more in a forked child: its frames are the parent's."""
        self._progress.renew_lock()
        self._capture.state.phase = IDLE
        self._sender.leave_to_parent()


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
