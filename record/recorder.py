"""The context manager that a training loop holds; wires the taps to the courier."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch import nn

from record.capture.capture import Capture
from record.capture.phase import BROKEN, IDLE, OPEN
from record.capture.probe import Probe
from record.formatting import format_count
from record.modules.selection import Patterns, find_layers, unwrap
from record.paths import check_source, check_target
from record.protocol.layout import BatchLayout
from record.reporting import Problems, listed, warn
from record.schedule.budget import Budget, parse_bytes
from record.schedule.schedule import Schedule
from record.session.frame_sender import FrameSender
from record.session.metadata import describe, rank_and_world
from record.session.progress import FORWARDS, STEPS, Progress
from record.session.tracked import Tracked
from record.transport.courier import Courier, await_own
from record.transport.weakcall import weakly
from replay import schema
from replay.schema import OptionError

T = TypeVar("T")
_EVERY_EPOCH = 1 << 40  # beyond all epochs: a recording to go on with keeps them


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
        on_error: `warn`: trouble while training costs frames, which are counted, and a
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
        _check_options(model, every, max_map, resume)
        _one_of("on_error", on_error, ("warn", "raise"))
        _one_of("when_full", when_full, ("wait", "drop"))
        _one_of("ranks", ranks, ("0", "all"))
        _one_of("durability", durability, ("flush", "fsync"))
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
        self._counting = threading.Lock()  # several threads may train
        self._failed = False  # whether a hook could not do its work
        self._trouble = Problems(on_error == "raise", self._say)
        self._progress = Progress(chosen, limit, fixed, self._trouble, self._lose, self._layers_now)
        self._model: nn.Module | None = root  # which the hooks do not keep alive
        self._taps = Capture(root, found, _Ears(self), max_map, _axes(batch_axis))
        self._progress.taps = self._taps
        self._taps.asks_autocast = fixed is not None
        self._courier: Courier | None = None
        self._closed = world > 1 and ranks == "0" and rank != 0  # rank 0 records
        if self._closed:
            return
        await_own(self.path)
        start: int | None = None  # the epoch to go on with
        if resume is not False:
            start = _EVERY_EPOCH if resume is True else int(resume)
            check_source(self.path)
        else:
            check_target(self.path, overwrite)
        meta: dict[str, Any] = {"schedule": chosen.in_words()}
        if world > 1:
            meta.update(rank=rank, world_size=world)
        if max_map is not None:
            meta["max_map"] = max_map
        if limit is not None:
            meta["budget"] = limit.limit
        if fixed is not None:
            meta["probe"] = [{} for _ in range(len(fixed))]
        attributes = describe(root, world, {**meta, **(metadata or {})})
        self._courier = courier = Courier(
            self.path.absolute(),
            overwrite,
            attributes,
            when_full,
            self._trouble.warn,
            start,
            durability,
        )
        self._shipping = FrameSender(self.path, self._taps, courier, limit, self._trouble)
        self._progress.shipping = self._shipping
        if start is not None:
            self._go_on(courier.opening, None if resume is True else start, limit)
        if fixed is not None:
            courier.set_probes(fixed.stored)
        try:
            self._taps.install()
        except BaseException:
            self._taps.remove()
            courier.close()
            raise
        self._progress.arm()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=weakly(self, "_let_parent_record"))

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
        return self._taps.layout

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
                self._trouble.meet(f"log({name}=...): the recorder sets {name!r} itself")
                continue
            try:
                self._progress.log(name, _number(value))
            except (TypeError, ValueError, RuntimeError):
                shape = tuple(getattr(value, "shape", ()))
                found = f"{type(value).__name__}{f' of shape {shape}' if shape else ''}"
                self._trouble.meet(f"log({name}=...): expected one number, found {found}")

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
        taps, courier, trouble = self._taps, self._courier, self._trouble
        assert courier is not None
        if self._progress.mode == FORWARDS:
            if taps.state == OPEN:
                taps.reset()
            elif taps.traced:
                trouble.warn(
                    "a compiled model does not tell its forwards apart: use track(), or step() "
                    "after each batch; only the last batch was recorded"
                )
            self._progress.finish()
        self._progress.close()
        self._progress.shipping = None
        opened, self._broken = taps.opened, taps.state == BROKEN
        taps.remove()
        courier.close()
        self._shipping.end()
        silent = taps.silent
        if self._progress.checked_silence:
            quiet = [name for name, what in silent.items() if not what]
            if quiet:
                trouble.warn(f"never fired in a recorded forward, so not recorded: {listed(quiet)}")
        else:
            trouble.warn(f"nothing was recorded in {self.path}: {self._why_nothing(opened)}")
        if self.dropped or self.lost:
            trouble.warn(
                f"{self.path}: {format_count(self.dropped, 'batch')} dropped (queue full), "
                f"{format_count(self.lost, 'frame')} lost",
            )

    def _why_nothing(self, opened: bool) -> str:
        if self._failed:
            return "what its layers put out could not be copied, as was said"
        odd = {name: what for name, what in self._taps.silent.items() if what}
        if odd:
            return f"its layers put out nothing that can be recorded: {listed(_in_words(odd))}"
        if self._broken:
            return "its forward ended in an exception"
        if self._progress.mode == STEPS and self._taps.fired:
            return "call step() at the end of each batch"
        if opened:
            return (
                "its parts are called directly, so that nobody can tell where a batch ends: use "
                "track(), or call step() after each batch"
            )
        return "the model itself was never called in training mode (model.train())"

    def _find_layers(self, root: nn.Module, patterns: Patterns) -> dict[str, nn.Module]:
        return find_layers(root, patterns)

    def _go_on(self, there: dict[str, int], epoch: int | None, budget: Budget | None) -> None:
        """Counts on from what the file holds: with an epoch, or behind its last one."""
        progress = self._progress
        progress.epoch = progress.next_epoch = there["epoch"] + 1 if epoch is None else epoch
        progress.step = max(there["step"] + 1, progress.epoch * there["batches"])
        if budget is not None:
            budget.resume(there["frames"], progress.epoch, progress.step)

    def _layers_now(self, root: nn.Module) -> dict[str, nn.Module]:
        """The layers to record of a model that has changed."""
        return self._find_layers(root, self._patterns)

    def _on_forward(self, training: bool, inputs: tuple[Any, dict[str, Any]]) -> None:
        """A forward of the model begins."""
        self._progress.forward_begins(training, inputs)

    def _on_forward_end(self, output: Any) -> None:
        """It has put this out."""

    def _on_hook_error(self, name: str, error: Exception) -> None:
        """Something could not be copied."""
        self._failed = True
        self._lose(1)
        self._trouble.fail(name, error)

    def _lose(self, frames: int) -> None:
        if self._courier is not None:
            with self._counting:
                self._courier.lost += frames

    def _say(self, text: str) -> None:
        """Tells the user of trouble."""
        warn(text)

    def _let_parent_record(self) -> None:
        """In a forked child, whose frames are the parent's."""
        self._progress.renew_lock()
        self._taps.state = IDLE
        self._shipping.leave_to_parent()


class _Ears:
    """Hears for a recorder what the hooks tell."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def forward_begins(self, training: bool, inputs: tuple[Any, dict[str, Any]]) -> None:
        """A forward of the model begins."""
        self._recorder._on_forward(training, inputs)

    def forward_ended(self, output: Any) -> None:
        """It has put this out."""
        self._recorder._on_forward_end(output)

    def collided(self) -> None:
        """Two threads train the model at once."""
        self._recorder._progress.collided()

    def hook_failed(self, name: str, error: Exception) -> None:
        """Something could not be copied."""
        self._recorder._on_hook_error(name, error)

    def say(self, text: str, key: str | None = None) -> None:
        """Something is to be known of the recording."""
        self._recorder._trouble.warn(text, key)


def _check_options(model: Any, every: Any, max_map: Any, resume: Any) -> None:
    if not isinstance(model, nn.Module):
        raise OptionError(f"model: expected a torch.nn.Module, found {type(model).__name__}")
    if not isinstance(every, int) or every < 1:
        raise OptionError(f"every: expected a whole number from 1, found {every!r}")
    if not isinstance(resume, (bool, int)) or resume < 0:
        raise OptionError(f"resume: expected True, False or an epoch, found {resume!r}")
    if max_map is not None and (not isinstance(max_map, int) or max_map < 1):
        raise OptionError(f"max_map: expected a whole number from 1, found {max_map!r}")


def _number(value: Any) -> Any:
    """A float, or a tensor in main memory that a GPU will have filled in a moment."""
    if isinstance(value, torch.Tensor):
        if value.numel() != 1:
            raise ValueError
        value = value.detach().reshape(())
        if value.device.type == "cuda":
            target = torch.empty((), dtype=value.dtype, pin_memory=True)
            return target.copy_(value, non_blocking=True)
        return float(value)
    return float(value)


def _axes(batch_axis: Any) -> dict[str, int]:
    """The axes that the user has said, by globs of names."""
    given = {} if batch_axis is None else batch_axis
    if not isinstance(given, Mapping) or not all(
        isinstance(name, str) and type(axis) is int and axis >= 0 for name, axis in given.items()
    ):
        raise OptionError(
            'batch_axis: expected axes from 0 by layer, such as {"encoder.*": 1}, '
            f"found {batch_axis!r}"
        )
    return dict(given)


def _in_words(silent: Mapping[str, str]) -> list[str]:
    """Layers without a frame, and what they put out instead."""
    return [f"{name} ({what})" if what else name for name, what in silent.items()]


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise OptionError(f"{name}: expected one of {', '.join(known)}, found {value!r}")
