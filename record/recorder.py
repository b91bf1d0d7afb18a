"""The context manager that a training loop holds; wires the taps to the courier."""

from __future__ import annotations

import datetime
import os
import platform
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from record import tap as tap_states
from record.courier import Courier, Parcel
from record.hostbuffer import HostBuffer, can_register
from record.layers import Patterns, find_layers, unwrap
from record.probe import Probe
from record.ranks import rank_and_world, run_id
from record.schedule import Budget, Schedule, parse_bytes
from record.staging import Staging
from record.taps import MAX_SHAPES, Taps, view
from record.target import check_source, check_target
from record.weakcall import weakly
from record.wire import FrameHeader, Layout
from replay import schema
from replay.schema import OptionError, RecordingError

T = TypeVar("T")
_EVERY_EPOCH = 1 << 40  # beyond all epochs: a recording to go on with keeps them


class RecordingWarning(UserWarning):
    """Something was not recorded; training is not affected."""


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
            every `nn.Conv2d`.
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
    ) -> None:
        if not isinstance(model, nn.Module):
            raise OptionError(f"model: expected a torch.nn.Module, found {type(model).__name__}")
        if not isinstance(every, int) or every < 1:
            raise OptionError(f"every: expected a whole number from 1, found {every!r}")
        _one_of("on_error", on_error, ("warn", "raise"))
        _one_of("when_full", when_full, ("wait", "drop"))
        _one_of("ranks", ranks, ("0", "all"))
        _one_of("durability", durability, ("flush", "fsync"))
        if not isinstance(resume, (bool, int)) or resume < 0:
            raise OptionError(f"resume: expected True, False or an epoch, found {resume!r}")
        if max_map is not None and (not isinstance(max_map, int) or max_map < 1):
            raise OptionError(f"max_map: expected a whole number from 1, found {max_map!r}")
        root = unwrap(model)
        found = self._find_layers(root, layers)
        rank, world = rank_and_world()
        self.path = Path(path)
        if world > 1 and ranks == "all":
            self.path = self.path.with_name(f"{self.path.stem}.rank{rank}{self.path.suffix}")
        self._schedule = Schedule.parse(schedule, every)
        self._budget = None
        if budget is not None:
            self._budget = Budget(parse_bytes(budget), self._schedule, epochs)
        self._probe = None if probe is None else Probe(probe)
        self._keep = False  # whether the current batch is recorded
        self._decided = (-1, -1, -1)  # for which epoch, batch and step that was decided
        self._on_error = on_error
        self._staging: Staging | None = None  # of a GPU's or a compiled model's maps
        self._host: HostBuffer | None = None
        self._values: dict[str, Any] = {}
        self._mode = "forwards"  # what separates batches: forwards, steps or track
        self._epoch = 0
        self._next_epoch = 0
        self._batch = 0
        self._step = 0
        self._batches: int | None = None
        self._forwarded = False
        self._checked_silence = False
        self._warned: set[str] = set()
        self._closed = False
        self._taps = Taps(root, found, self._on_forward, self._on_hook_error, max_map)
        self._taps.asks_autocast = self._probe is not None
        self._courier: Courier | None = None
        if world > 1 and ranks == "0" and rank != 0:
            self._closed = True  # rank 0 records; here nothing happens
            return
        start: int | None = None  # the epoch to go on with
        if resume is not False:
            start = _EVERY_EPOCH if resume is True else int(resume)
            check_source(self.path)
        else:
            check_target(self.path, overwrite)
        meta = {**_environment(root), "schedule": self._schedule.in_words()}
        if world > 1:
            meta.update(rank=rank, world_size=world)
        if max_map is not None:
            meta["max_map"] = max_map
        if self._budget is not None:
            meta["budget"] = self._budget.limit
        if self._probe is not None:
            meta["probe"] = [{} for _ in range(len(self._probe))]
        attributes = {
            "format": schema.FORMAT,
            "version": schema.VERSION,
            "run_id": run_id(world),
            "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "meta": schema.encode_meta({**meta, **(metadata or {})}),
        }
        self._courier = Courier(
            self.path.absolute(), overwrite, attributes, when_full, self._warn, start, durability
        )
        if start is not None:
            opening = self._courier.opening
            self._epoch = opening["epoch"] + 1 if resume is True else start
            self._next_epoch = self._epoch
            self._step = max(opening["step"] + 1, self._epoch * opening["batches"])
            if self._budget is not None:
                self._budget.resume(opening["frames"], self._epoch, self._step)
        if self._probe is not None:
            self._courier.set_probes(self._probe.stored)
        try:
            self._taps.install()
        except BaseException:
            self._taps.remove()
            self._courier.close()
            raise
        self._arm()
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
    def layout(self) -> Layout:
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
        return Tracked(self, batches)

    def epoch(self, number: int) -> None:
        """Begins an epoch: for loops that do not use `track`.

        Args:
            number: The epoch, from 0.
        """
        if self._mode == "forwards":
            self._finish_batch()
            self._mode = "steps"
        self._discard()
        self._next_epoch = self._epoch = int(number)
        self._batch = 0
        self._arm()

    def step(self) -> None:
        """Ends a batch: for loops that do not use `track`."""
        if self._mode == "track":
            return
        self._mode = "steps"
        self._finish_batch()
        self._arm()

    def log(self, **values: Any) -> None:
        """Keeps numbers with the current batch: `log(loss=loss, lr=lr, label=labels[0])`.

        Args:
            **values: Numbers or tensors of one element, also on a GPU: nothing waits for them.
                `loss`, `lr`, `label` and `prediction` are shown at replay; any other name
                becomes a field of its own.
        """
        for name, value in values.items():
            if name in schema.RESERVED:
                self._trouble(f"log({name}=...): the recorder sets {name!r} itself")
                continue
            try:
                self._values[name] = _number(value)
            except (TypeError, ValueError, RuntimeError):
                shape = tuple(getattr(value, "shape", ()))
                found = f"{type(value).__name__}{f' of shape {shape}' if shape else ''}"
                self._trouble(f"log({name}=...): expected one number, found {found}")

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
        if self._mode == "forwards":
            if self._taps.state == tap_states.OPEN:
                self._taps.reset()
            elif self._taps.traced:
                self._warn(
                    "a compiled model does not tell its forwards apart: use track(), or step() "
                    "after each batch; only the last batch was recorded"
                )
            self._finish_batch()
        opened = self._taps.opened
        self._taps.remove()
        courier = self._courier
        assert courier is not None
        courier.close()
        self._host = self._staging = None  # the memory of the frames is given back
        self._taps.point_at(None)
        silent = self._taps.silent
        if silent and self._checked_silence:
            self._warn(f"never fired, so not recorded: {_listed(silent)}", once=False)
        elif silent:
            self._warn(f"nothing was recorded in {self.path}: {self._why_nothing(opened)}")
        if self.dropped or self.lost:
            self._warn(
                f"{self.path}: {self.dropped} batches dropped (queue full), "
                f"{self.lost} frames lost",
            )

    def _why_nothing(self, opened: bool) -> str:
        if self._mode == "steps" and self._taps.fired:
            return "call step() at the end of each batch"
        if opened:
            return (
                "its parts are called directly, so that nobody can tell where a batch ends: use "
                "track(), or call step() after each batch"
            )
        return "the model itself was never called in training mode (model.train())"

    def _find_layers(self, root: nn.Module, patterns: Patterns) -> dict[str, nn.Module]:
        return find_layers(root, patterns)

    # From one batch to the next

    def _begin_epoch(self, batches: int | None) -> None:
        if self._mode != "track":
            self._discard()
            self._mode = "track"
        self._epoch = self._next_epoch
        self._next_epoch += 1
        self._batches = batches

    def _begin_batch(self, batch: int) -> None:
        self._batch = batch
        self._arm()

    def _end_batch(self) -> None:
        self._finish_batch()
        self._taps.state = tap_states.IDLE

    def _arm(self) -> None:
        """Makes the taps wait for the forward of the current batch, if it is to be recorded."""
        if self._closed:
            return
        self._values.clear()
        self._taps.state = tap_states.IDLE
        self._taps.reset()
        if not self._decide():
            return
        if self._host is None and self._taps.layout.size:
            self._host = self._take_buffer()
            if self._host is None:
                self._point_at(None)
                return
            self._stage(self._taps.input.device or self._device())
            if self._staging is not None:
                self._staging.turn()
        self._point_at(self._host)
        self._taps.state = tap_states.WAITING

    def _decide(self) -> bool:
        """Whether the current batch is recorded; a budget is asked once for each batch."""
        at = (self._epoch, self._batch, self._step)
        if at != self._decided:
            self._decided = at
            self._keep = self._schedule.keeps(*at)
            if self._keep and self._budget is not None:
                self._keep = self._budget.keeps()
                thinning = self._budget.take_thinning()
                if thinning > 1 and self._courier is not None:
                    self._courier.thin(thinning)
        return self._keep

    def _point_at(self, host: HostBuffer | None) -> None:
        """Gives the taps their slices: of the host buffer where nothing speaks against it."""
        if self._staging is not None:
            self._taps.point_at(self._staging.slices)
        elif host is None:
            self._taps.point_at(None)
        else:
            if host.slices is None:
                host.slices = self._taps.slices(host.tensor)
            self._taps.point_at(host.slices)

    def _on_forward(self, training: bool) -> None:
        """A forward of the model begins."""
        if training and self._mode == "forwards":
            if self._forwarded:
                self._finish_batch()
                self._arm()
            self._forwarded = True

    def _finish_batch(self) -> None:
        """Hands the current batch to the courier, if its forward was recorded."""
        taps = self._taps
        armed = taps.state != tap_states.IDLE
        ran = taps.fired and taps.state != tap_states.INSIDE
        if self._mode != "track" and not taps.fired and self._keep and armed:
            return  # a step without a forward is no batch
        self._forwarded = False
        if armed and ran and not self._has_failed(1):
            try:
                if self._probe is not None:
                    self._run_probe(self._probe)
                self._ship()
            except Exception as error:
                self._on_hook_error("frame", error)
            if not self._checked_silence:
                self._check_silence()
        taps.state = tap_states.IDLE
        self._batch += 1
        self._step += 1

    def _run_probe(self, probe: Probe) -> None:
        """Shows the fixed images to the model; without them the batch is still recorded."""
        try:
            probe.run(self._taps)
        except Exception as error:
            self._probe = None
            reason = " ".join(str(error).split())[:200]
            self._trouble(f"the probe was given up: {type(error).__name__}: {reason}")

    def _has_failed(self, lost: int = 0) -> bool:
        """Whether the writer takes no more frames; says so once, and counts what it costs."""
        courier = self._courier
        if courier is None or courier.failure is None:
            return False
        courier.lost += lost
        if self._on_error == "raise":
            raise RecordingError(f"recording to {self.path} ended: {courier.failure}")
        courier.check()
        return True

    def _ship(self) -> None:
        taps, courier = self._taps, self._courier
        assert courier is not None
        places: tuple[int, ...] = ()
        absent = 0
        if not taps.regular:
            places, absent = self._settle_odd()
        host = self._host
        if host is None:  # the queue was full, and the frame has been counted
            return
        arrived = None if self._staging is None else self._staging.carry_off(host)
        if arrived is None and any(isinstance(v, torch.Tensor) for v in self._values.values()):
            arrived = torch.cuda.synchronize  # logged from a GPU, of a model that is not on it
        header = FrameHeader(
            epoch=self._epoch,
            batch=self._batch,
            step=self._step,
            time=time.time(),
            missing=places,
            absent=absent,
            image=taps.image,
        )
        self._host = None
        courier.send(Parcel(host, header, self._values, arrived))
        self._values = {}

    def _settle_odd(self) -> tuple[tuple[int, ...], int]:
        """Brings the layout up to date with a batch that is not just as it says.

        Returns:
            Places in the layout without a frame, and the number of layers that were silent.
        """
        taps, courier = self._taps, self._courier
        assert courier is not None
        before = taps.layout
        if taps.extend():
            self._adopt_layout(before, self._device())
        if self._host is None:
            return (), 0
        taps.fill(self._host.tensor if self._staging is None else self._staging.buffer)
        places, absent, misfits = taps.missing()
        if misfits:
            courier.lost += len(misfits)
            self._trouble(
                f"more than {MAX_SHAPES} different shapes, so not recorded: "
                f"{_listed(list(dict.fromkeys(misfits)))}",
                key="misfits",
            )
        for port in taps.ports:
            if port.calls > tap_states.MAX_CALLS:
                self._warn(
                    f"{port.layer} is called more than {tap_states.MAX_CALLS} times in a batch: "
                    f"its first {tap_states.MAX_CALLS} calls are recorded",
                    key=f"calls {port.layer}",
                )
        return tuple(places), absent

    def _adopt_layout(self, before: Layout, device: torch.device) -> None:
        """Agrees on a new layout with the writer and moves the current batch into it."""
        layout, pinned = self._taps.layout, device.type == "cuda"
        filled = None if self._staging is None else self._staging.buffer
        if filled is None and self._host is not None:
            filled = self._host.tensor
        assert self._courier is not None
        self._courier.set_layout(
            layout,
            self._batches,
            lambda memory: HostBuffer(layout.size, pinned, memory),
            shared=not pinned or can_register(),
        )
        if self._budget is not None:
            self._plan_budget(self._budget, layout)
        self._staging = None
        self._host = self._take_buffer()
        if self._host is None:
            return
        self._stage(device)
        if filled is not None:
            target = self._host.tensor if self._staging is None else self._staging.buffer
            for part, old in before.places.items():
                view(target, layout.places[part]).copy_(view(filled, old))

    def _plan_budget(self, budget: Budget, layout: Layout) -> None:
        """Says so where the budget has no room for more than a batch or two."""
        if budget.plan(layout, self._batches) < 2:
            self._warn(
                f"a budget of {budget.limit:,} bytes has room for one or two batches of "
                f"{layout.nbytes:,} bytes: record fewer layers, or smaller maps with max_map"
            )

    def _stage(self, device: torch.device) -> None:
        """Makes the buffer in which a GPU's or a compiled model's maps are gathered."""
        if self._staging is None and (device.type != "cpu" or self._taps.traced):
            self._staging = Staging(self._taps, device)

    def _take_buffer(self) -> HostBuffer | None:
        assert self._courier is not None
        buffer = self._courier.buffer()
        if buffer is None:
            self._has_failed()
            return None
        assert isinstance(buffer, HostBuffer)
        return buffer

    def _device(self) -> torch.device:
        for tensor in self._taps.root.parameters():
            return tensor.device
        return torch.device("cpu")

    def _let_parent_record(self) -> None:
        """In a forked child: hands off the memory that the parent shares with the writer."""
        self._host = None
        self._taps.state = tap_states.IDLE
        if self._staging is None:
            self._taps.point_at(None)

    def _discard(self) -> None:
        """Forgets a forward that no step() has confirmed."""
        self._values.clear()
        self._taps.reset()
        self._taps.state = tap_states.IDLE

    # Trouble

    def _check_silence(self) -> None:
        self._checked_silence = True
        silent = self._taps.silent
        if silent:
            self._warn(f"did not fire in the first batch: {_listed(silent)}")

    def _on_hook_error(self, name: str, error: Exception) -> None:
        if self._courier is not None:
            self._courier.lost += 1
        if self._on_error == "raise":
            raise RecordingError(f"cannot record {name}: {error}") from error
        self._warn(f"cannot record {name}: {type(error).__name__}: {error}")

    def _trouble(self, text: str, key: str | None = None) -> None:
        if self._on_error == "raise":
            raise RecordingError(text)
        self._warn(text, key=key)

    def _warn(self, text: str, once: bool = True, key: str | None = None) -> None:
        """Warns; never raises, not even where warnings are errors: the training goes on."""
        key = key or text
        if once and key in self._warned:
            return
        self._warned.add(key)
        self._say(text)

    def _say(self, text: str) -> None:
        try:
            warnings.warn(text, RecordingWarning, stacklevel=3)
        except RecordingWarning:
            print(f"RecordingWarning: {text}", file=sys.stderr)


class Tracked(Generic[T]):
    """What `Recorder.track` returns: the same batches, each pass an epoch."""

    def __init__(self, recorder: Recorder, batches: Iterable[T]) -> None:
        self._recorder = recorder
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[T]:
        recorder = self._recorder
        try:
            length: int | None = len(self._batches)  # type: ignore[arg-type]
        except TypeError:
            length = None
        recorder._begin_epoch(length)
        for number, batch in enumerate(self._batches):
            recorder._begin_batch(number)
            try:
                yield batch
            finally:  # also when the loop is left by break or by an exception
                recorder._end_batch()


def _environment(model: nn.Module) -> dict[str, Any]:
    return {
        "command": [Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]],
        "versions": {
            "mapreel": _version(),
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
        "model": type(model).__name__,
        "parameters": sum(_size(p) for p in model.parameters()),
    }


def _version() -> str:
    from record import __version__

    return __version__


def _size(parameter: torch.Tensor) -> int:
    return 0 if isinstance(parameter, nn.parameter.UninitializedParameter) else parameter.numel()


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


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise OptionError(f"{name}: expected one of {', '.join(known)}, found {value!r}")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
