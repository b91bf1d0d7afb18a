"""The context manager that a training loop holds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from record.capture.capture import Capture
from record.capture.phase import BROKEN, IDLE, OPEN, CaptureListener
from record.capture.probe import Probe
from record.formatting import format_count
from record.modules.names import unwrap
from record.modules.selection import Patterns, find_layers
from record.options import attention_kind, check_options, either
from record.paths import check_source, check_target, recording_path
from record.protocol.layout import BatchLayout
from record.reporting import Problems, say, warn
from record.schedule.budget import Budget, parse_bytes
from record.schedule.cadence import Cadence
from record.schedule.choice import BatchChoice
from record.schedule.schedule import Schedule
from record.session.after_close import closed_models
from record.session.frame_sender import FrameSender
from record.session.loop import Tracked, log_numbers
from record.session.metadata import rank_and_world, root_attributes
from record.session.model_checks import ModelChecks
from record.session.packing import pack_in_background
from record.session.probe_options import ProbeOptions, make_probe, probe_facts
from record.session.progress import FORWARDS, STEPS, Progress
from record.session.pushing import Push
from record.summary import GOES_ON, NO_EPOCHS, closing_line, recorder_html, recorder_text
from record.transport.courier import Courier
from record.transport.startup import await_own_writer
from record.transport.weakcall import weakly
from replay.schema import OptionError

T = TypeVar("T")
_EVERY_EPOCH = 1 << 40  # beyond all epochs: a recording to go on with keeps them


class Recorder:
    """Records the feature maps of the first image of every batch while a model trains.

        with Recorder(model, "run.h5", probe="first") as recorder:
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
        epochs: How many epochs the run will have: a budget is then spread evenly over it.
        epoch: The same as `epochs`.
        max_map: Maps that are larger in one direction are pooled (means of whole blocks) before
            they leave the device; the file says so.
        probe: Fixed images, (N, C, H, W) or (C, H, W), normalised as the network expects them.
            After each recorded batch the model sees them in evaluation mode; what its layers put
            out goes to `/probe/<n>`. Training flags, buffers and random states are restored.
            `first`: the first image of the first batch, where showing it can change nothing;
            `classes`: the first one of each class, where labels are beside the images.
        labels: The class of each of the fixed images that are given.
        cam: Keeps their class activation, of the last layer with positions (True) or of another.
        probe_share: How much of the run's time may be spent on that: 0.02, and without end, which
            is at each recorded batch, for images that are given.
        resume: Goes on with an existing recording: True behind its last recorded epoch, a number
            with that epoch, whose frames and later ones are replaced. `track` counts from there.
        durability: `fsync` has the file put on the disk at the end of each epoch and at least
            every 30 s, so that a loss of power spares it; `flush` leaves it to the system.
        batch_axis: Which axis of a layer's outputs counts the images of a batch, where sizes and
            modules do not tell: `{"encoder.*": 1}`, by names or globs; `input` is the model's
            input.
        gradients: Records the gradients with respect to the maps beside them: True, or names, globs
            and classes of recorded layers.
        quiet: Says nothing at the end but warnings; else one line says what was recorded.
        pack: Packs the file, losing nothing, when it is closed, in a process nobody waits for.
        attention: Records what attention looks at, for the same images: `cls` (or True) the class
            token's row of each head, or the mean over the queries where there is no class token;
            `full` the row of every query, which is much.
        ranks: Of a distributed run, `0`: rank 0 records. `all`: each rank records into a file of
            its own, `run.rank0.h5` and so on.
        push: `wandb`, `mlflow` or `trackio`: to the run that is active here when it is closed go
            film, sheet, page and numbers. Or such a run, one of Aim, `tensorboard=DIR`, ...

    Raises:
        OptionError: A pattern matches no layer, or an argument is out of range.
        OutputError: The file exists, or cannot be created.
        RecordingError: The writer process cannot be started.

    Attributes:
        path: The recording.
        layout: What one batch consists of; empty before the first recorded forward.
    """

    _notices_more = True  # whether it is said that the training goes on after the end

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
        epoch: int | None = None,
        max_map: int | None = None,
        probe: torch.Tensor | str | None = None,
        labels: Sequence[int | None] | torch.Tensor | None = None,
        cam: bool | str = False,
        probe_share: float | None = None,
        ranks: str = "0",
        resume: bool | int = False,
        durability: str = "fsync",
        batch_axis: Mapping[str, int] | None = None,
        gradients: Patterns | bool = None,
        quiet: bool = False,
        pack: bool = False,
        attention: bool | str = False,
        push: Any = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise OptionError(f"model: expected a torch.nn.Module, found {type(model).__name__}")
        choices = {"on_error": on_error, "when_full": when_full, "ranks": ranks}
        axes = check_options(every, max_map, resume, batch_axis, durability=durability, **choices)
        heads = attention_kind(attention)
        root = unwrap(model)
        found = self._find_layers(root, layers)
        rank, world = rank_and_world()
        self.path = recording_path(path)
        if world > 1 and ranks == "all":
            self.path = self.path.with_name(f"{self.path.stem}.rank{rank}{self.path.suffix}")
        chosen = Schedule.parse(schedule, every)
        epochs = either("epochs", epochs, "epoch", epoch)
        limit = None if budget is None else Budget(parse_bytes(budget), chosen, epochs)
        self._file = self.path.absolute()  # wherever the program goes meanwhile
        self._patterns = layers
        self._problems = problems = Problems(on_error == "raise", self._say)
        self._model: nn.Module | None = root  # which the hooks do not keep alive
        self._name = type(root).__name__
        self._capture = capture = Capture(root, found, max_map, axes, heads, gradients)
        asked = ProbeOptions(probe, labels, cam, probe_share, resume is False, metadata or {})
        fixed = make_probe(asked, capture, lambda *images: self._sender.send_probes(*images))
        cadence = None if probe_share is None else Cadence(probe_share)
        self._checks = ModelChecks(capture, self._layers_now, fixed, problems, cadence)
        self._progress = Progress(capture.state, self._checks, problems)
        self._courier: Courier | None = None
        self._quiet, self._pack = quiet, pack
        self._push = None if push is None else Push(push, problems.warn)
        self._closed = world > 1 and ranks == "0" and rank != 0  # rank 0 records
        if self._closed:
            return
        closed_models.forget(root)
        await_own_writer(self.path)
        start = None if resume is False else _EVERY_EPOCH if resume is True else int(resume)
        if start is None:  # the epoch to go on with
            check_target(self.path, overwrite)
        else:
            check_source(self.path)
        facts: dict[str, Any] = {
            "schedule": chosen.to_text(),
            "max_map": max_map,
            "budget": None if limit is None else limit.limit,
            "probe": probe_facts(fixed),
        }
        attributes = root_attributes(root, rank, world, facts, metadata or {})
        self._courier = courier = Courier(
            self.path.absolute(), overwrite, attributes, when_full, problems.warn, start, durability
        )
        choice = BatchChoice(chosen, limit)
        self._sender = FrameSender(self.path, capture, courier, choice, problems)
        self._progress.begin(self._sender)
        if start is not None:
            self._go_on(courier.opening, None if resume is True else start, limit)
        if isinstance(fixed, Probe):
            courier.set_probes(fixed.stored, fixed.labels)
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

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return recorder_text(self.path, self._name, self._state, self.layout)

    def _repr_html_(self) -> str:
        return recorder_html(self.path, self._name, self._state, self.layout)

    @property
    def _state(self) -> str:
        """How far the recording is, in words."""
        batches = format_count(self.sent, "batch")
        others = "rank 0 records" if self._courier is None else f"{batches}, closed"
        return others if self._closed else f"{batches}, recording"

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
        return Tracked(self._progress, batches, self._expect_open)

    def epoch(self, number: int) -> None:
        """Begins an epoch: for loops that do not use `track`.

        Args:
            number: The epoch, from 0.
        """
        self._expect_open()
        self._progress.turn_to_epoch(number)

    def step(self) -> None:
        """Ends a batch: for loops that do not use `track`."""
        self._expect_open()
        self._progress.end_step()

    def log(self, **values: Any) -> None:
        """Keeps numbers with the current batch: `log(loss=loss, lr=lr, label=labels[0])`.

        Args:
            **values: Numbers or tensors of one element, also on a GPU: nothing waits for them.
                `loss`, `lr`, `label` and `prediction` are shown at replay; any other name becomes
                a field of its own. Behind an epoch of `track` they are its last batch's.
        """
        self._expect_open()
        log_numbers(values, self._progress, self._problems)

    def flush(self) -> bool:
        """Waits until all recorded batches are readable in the file: before a checkpoint, say.

        Returns:
            False where the writer has failed or stands still.
        """
        self._progress.flush()
        return not (self._courier is None or self._closed) and self._courier.flush()

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
        if capture.attention is not None and (reason := capture.attention.why_none):
            problems.warn(f"no attention was recorded: {reason}")
        if self.dropped or self.lost:
            dropped = f"{format_count(self.dropped, 'batch')} dropped (queue full)"
            problems.warn(f"{self.path}: {dropped}, {format_count(self.lost, 'frame')} lost")
        self._say_end()
        if self._push is not None and self.committed:
            self._push.push(self._file, self._quiet)
        pack_in_background(self._file, self._pack and self.committed > 0)

    def _say_end(self) -> None:
        """Says what was recorded, in one line, and that no epoch was ever marked."""
        batches, model, self._model = self.committed, self._model, None  # nobody keeps it alive
        if model is not None and self._notices_more:
            closed_models.watch(model, self._say_closed)
        if batches and not self._quiet:
            lost, no_probe = self.dropped + self.lost, self._checks.why_no_probe
            say(closing_line(self._file, self._name, batches, self.layout, lost, no_probe))
            if self._progress.counts_one_epoch and batches > 1:
                say(f"all {batches:,} batches are in epoch 0, since {NO_EPOCHS}")

    def _expect_open(self) -> None:
        """Says so, once, where the recording is closed and the training goes on."""
        if self._closed and self._courier is not None:
            self._say_closed()

    def _say_closed(self) -> None:
        self._problems.warn(f"{self.path} is closed, and {GOES_ON}", "closed")

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
