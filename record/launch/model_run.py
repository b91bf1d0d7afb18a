"""A model that somebody's script trains, and the recording of it."""

from __future__ import annotations

import os
import weakref
from _thread import get_ident
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import Optimizer

from record.batching.backward_marks import Marks
from record.batching.deliveries import Item
from record.batching.held_frames import Frames
from record.batching.loaders import Loaders
from record.batching.state_machine import Batches, CapturedForward, Verdict
from record.capture.phase import BROKEN, CaptureListener
from record.capture.tensors import storages_of
from record.launch.closing_lines import Recorded
from record.modules.selection import Patterns, default_layers, find_layers
from record.recorder import Recorder, as_number
from record.reporting import say
from record.schedule.budget import Budget, parse_bytes
from record.schedule.choice import BatchChoice
from record.schedule.schedule import Schedule
from record.session.progress import STEPS, Progress


@dataclass(frozen=True)
class WatchOptions:
    """What `record run` was asked for; see `launchwords.py` for what the values mean."""

    output: str = "run.h5"
    layers: tuple[str, ...] | None = None
    every: int = 1
    schedule: str | None = None
    budget: str | None = None
    max_map: int | None = None
    batch_axis: dict[str, int] | None = None
    include_eval: bool = False
    ranks: str = "0"
    overwrite: bool = False
    command: tuple[str, ...] = ()


class ScriptRecorder(Recorder):
    """A recorder whose batches begin and end as the watcher says."""

    def __init__(self, root: nn.Module, path: Path, watched: TrainedModel, **options: Any) -> None:
        self._watched = watched
        super().__init__(root, path, **options)
        self._model = None  # the script drops its model when it likes
        self._progress.mode = STEPS

    def frames(self, options: WatchOptions) -> Frames:
        """What has the taps take captures, and sends those that are batches."""
        schedule = Schedule.parse(options.schedule, options.every)
        size = options.budget
        limit = None if size is None else Budget(parse_bytes(size), schedule)
        self._sender.choice = BatchChoice(schedule, limit)
        state = self._capture.state
        state.evaluation, state.counts_on = options.include_eval, True
        return Frames(self._capture, self._sender, self._checks, self._problems)

    def begin_forward(self, args: Any, kwargs: dict[str, Any], frame: FrameType | None) -> None:
        """Records a forward of the model whose own hook has come too late for it.

        Args:
            args: The positional arguments of the forward.
            kwargs: The keyword arguments of the forward.
            frame: The frame of the forward's call.
        """
        self._capture.begin_forward(args, kwargs, frame)

    def _why_nothing(self, broken: bool) -> str:
        silent = self._capture.frames.silent_layers
        if self._progress.copy_failed or broken or any(silent.values()):
            return super()._why_nothing(broken)
        return self._watched.why_nothing()

    def _listener(self) -> CaptureListener:
        return _ScriptListener(self._progress, self._watched)

    def _find_layers(self, root: nn.Module, patterns: Patterns) -> dict[str, nn.Module]:
        return default_layers(root) if patterns is None else find_layers(root, patterns)

    def _say(self, text: str) -> None:
        say(text)


class _ScriptListener:
    """Tells a script's model of its forwards, and the recorder of all else.

    Args:
        progress: The recorder's.
        watched: The model.
    """

    def __init__(self, progress: Progress, watched: TrainedModel) -> None:
        self._watched = watched
        self._process = os.getpid()  # a forked child is told nothing: the lock may be held
        self.collided, self.hook_failed, self.say = (
            progress.collided,
            progress.hook_failed,
            progress.say,
        )

    def forward_begins(self, training: bool, inputs: tuple[Any, dict[str, Any]]) -> None:
        """Tells the model that a forward begins."""
        if os.getpid() == self._process:
            with self._watched.lock:
                self._watched.forward(training, inputs)

    def forward_ended(self, output: Any) -> None:
        """Tells the model that a forward has ended."""
        if os.getpid() == self._process:
            with self._watched.lock:
                self._watched.ended(output)


class TrainedModel:
    """One model that is trained: what happens to it, told to `Batches`, and its frames.

    Args:
        root: The model, which is not kept alive.
        path: The recording.
        options: What was asked for.
        overwrite: Whether an existing file is replaced.
        loaders: The script's.
        gone: Called once the script has dropped the model.
        alone: Whether no other model is trained that could be given what this one puts out.

    Attributes:
        name: The model's class.
        own: Its parameters, by id.
        optimizer: The last that stepped.
        lock: Held while it is told of something.
    """

    def __init__(
        self,
        root: nn.Module,
        path: Path,
        options: WatchOptions,
        overwrite: bool,
        loaders: Loaders,
        gone: Callable[[Any], None],
        alone: Callable[[], bool],
    ) -> None:
        self.name = type(root).__name__
        self.own = {id(parameter) for parameter in root.parameters()}
        self.optimizer: Callable[[], Optimizer | None] = lambda: None
        self._root = weakref.ref(root, gone)
        self._loaders = loaders
        self._alone = alone
        self.lock = loaders.lock
        self._include_eval = options.include_eval
        self._graded: Callable[[], Any] = lambda: None  # a parameter that is trained
        self._learns = False  # whether a forward with gradients was seen
        self._forwards = 0  # in training mode
        self._backwards = 0
        self._ended_badly = False
        self._loss: Any = None  # of the backward that runs
        self._marks = Marks()
        self._current: CapturedForward | None = None  # that the forward which runs is recorded in
        self._blind: CapturedForward | None = None  # of forwards without gradients
        self._evaluation: CapturedForward | None = (
            None  # the last one of a forward in evaluation mode
        )
        self._consumed: Mapping[Any, int] = {}
        self._inputs: Mapping[int, Any] = {}  # of the open capture, by where they lie
        self.recorder = ScriptRecorder(
            root,
            path,
            self,
            layers=options.layers,
            every=options.every,
            schedule=options.schedule,
            budget=options.budget,
            max_map=options.max_map,
            batch_axis=options.batch_axis,
            ranks=options.ranks,
            overwrite=overwrite,
            metadata={"command": list(options.command)},
        )
        self.path = self.recorder.path
        if self.recorder._closed:  # of another rank
            return
        self._taps = self.recorder._capture.state
        self.frames = self.recorder.frames(options)
        self.batches = Batches(loaders.deliveries, self._settle)
        self.frames.batches = self.batches
        self._taps.pending = True

    @property
    def root(self) -> nn.Module | None:
        """The model; None once the script has dropped it."""
        return self._root()

    @property
    def doubts(self) -> list[str]:
        """Why its epochs may be others than the script's, in words."""
        return list(self.batches.epochs.doubts)

    # What happens

    def fetched(self, item: Item) -> None:
        """A loader handed out an item."""
        self.batches.fetched(item)
        self._taps.pending = True

    def forward(self, training: bool, inputs: tuple[Any, dict[str, Any]]) -> None:
        """A forward of the model, or of a part that is called directly, begins."""
        taps = self._taps
        self._current = None
        memory = storages_of(inputs)
        items = self._loaders.items_in(memory)
        if not training:
            taps.pending = True
            if self._include_eval:
                self._evaluate(items)
            else:
                self.batches.looked(items, get_ident())
            return
        self._forwards += 1
        # A look at samples in between, without gradients though in training mode, is no batch.
        graded, frozen = torch.is_grad_enabled(), not self._has_gradients()
        self._learns = self._learns or (graded and not frozen)
        if (frozen or (not graded and self._learns)) and not self._include_eval:
            self._consumed = {}
            self.frames.skip()
            return
        self._settle_evaluation()
        last = self.batches.open
        if last is not None and (self._marks.are_gone(last) or (graded and last is self._blind)):
            self.batches.ended(last)
        again = not self._inputs.keys().isdisjoint(memory)
        made_of = self._loaders.made_of(memory)
        verdict = self.batches.forward(items, get_ident(), again, made_of)
        capture = self.batches.open
        assert capture is not None
        self._consumed = capture.items
        taps.pending = False
        if verdict is Verdict.SKIP:
            self.frames.skip()
            return
        self._current = capture
        self._blind = None if graded else capture
        if verdict is Verdict.NEW:
            self._inputs = memory
            self._begin(capture)
        else:
            self._inputs = {**self._inputs, **memory}
            self.frames.join(capture)

    def ended(self, output: Any) -> None:
        """The model's own forward has ended."""
        self._taps.pending = True
        if self._evaluation is not None:
            self._settle_evaluation()
            return
        if self.root is None or not self._forwards:
            return
        if not self._alone():
            self._loaders.put_out(output, self._consumed, self._loaders.deliveries.clock)
        if self._current is not None:
            self._marks.put_on(output, self._current)

    def backward_begins(self, loss: Any) -> None:
        """A backward pass begins, of this loss if it is a single number."""
        if self._taps.traced:
            self._adopt_traced()
        self._marks.begin()
        self._loss = None if loss is None or not self.batches.waiting else as_number(loss)
        if self._taps.traced:  # the next forward writes into the same place, reported or not
            self.frames.put_aside()
            self._taps.reset()

    def went_back(self) -> None:
        """It has ended, or an optimizer steps within it."""
        waiting = self.batches.waiting
        if not waiting:
            return
        through = self._marks.passed(waiting)
        loss = self._loss
        self.batches.backward(loss, through)
        self._backwards += 1
        for capture in waiting:
            if capture.trained and capture.loss is loss and loss is not None:
                self.frames.log(capture, loss=loss)
        self._taps.pending = True

    def differentiated(self, keeps: bool) -> None:
        """A gradient by something else than the parameters was asked for.

        Args:
            keeps: Whether a backward can still go through the same graph.
        """
        if not keeps:
            for capture in self._marks.passed(self.batches.waiting) or ():
                self.batches.ended(capture)
        self._taps.pending = True

    def step_begins(self, optimizer: Optimizer) -> None:
        """An optimizer that owns parameters of the model begins to step."""
        self.batches.step_begins(id(optimizer))

    def stepped(self, optimizer: Optimizer) -> None:
        """It has stepped."""
        self.optimizer = weakref.ref(optimizer)
        self.frames.lr = optimizer.param_groups[0].get("lr")
        if torch._C._current_graph_task_id() != -1:
            self.went_back()
        self.batches.stepped(id(optimizer))
        self._taps.pending = True

    def close(self) -> None:
        """Ends the recording."""
        self._ended_badly = self._taps.phase == BROKEN
        self._settle_evaluation()
        self.batches.close()
        self.recorder.close()

    def summary(self) -> Recorded:
        """What was recorded."""
        recorder = self.recorder
        batches = recorder.committed
        layers = sum(layer.probe is None for layer in recorder.layout.layers)
        return Recorded(self.name, self.path, batches, layers, self.doubts)

    def why_nothing(self) -> str:
        """Why there is no batch, in words."""
        if self._ended_badly and not self._backwards:
            return "its forward ended in an exception"
        if not self._forwards:
            return "the model itself was never called in training mode (model.train())"
        if not self._backwards:
            return "no backward pass went through its forwards"
        if self.frames.lost:
            return "no forward that was trained on could be told from the others"
        return "no optimizer stepped behind its backward passes"

    # In between

    def _begin(self, capture: CapturedForward) -> None:
        leader = next(iter(capture.items), None)
        length = None if leader is None or self._include_eval else leader.length
        self.frames.begin(capture, self._loaders.loaded(capture.items), length)
        if self._include_eval:
            self.frames.log(capture, training=1.0)

    def _settle(self, capture: CapturedForward, place: Any) -> None:
        self._marks.forget(capture)
        self.frames.settle(capture, place)

    def _has_gradients(self) -> bool:
        known = self._graded()
        if known is not None and known.requires_grad:
            return True
        root = self.root
        found = [] if root is None else [p for p in root.parameters() if p.requires_grad]
        if found:
            self._graded = weakref.ref(found[0])
        return bool(found)

    def _evaluate(self, items: Sequence[Item]) -> None:
        """A forward in evaluation mode begins, which is a batch like any other."""
        self._settle_evaluation()
        while self.batches.waiting:
            self.batches.make_room()
        self.batches.forward(items, get_ident())
        capture = self.batches.open
        assert capture is not None
        if capture in self.batches.waiting:
            capture.trained = True
            self.frames.begin(capture, None, None)
            self.frames.log(capture, training=0.0)
            self._evaluation = capture

    def _settle_evaluation(self) -> None:
        if self._evaluation is not None:
            self._evaluation = None
            while self.batches.waiting:
                self.batches.make_room()
            self.batches.open = None

    def _adopt_traced(self) -> None:
        """Begins a capture of a compiled forward that nobody saw begin."""
        pending = [capture for capture in self.batches.waiting if not capture.trained]
        if not pending and self._taps.fired:
            self.batches.forward((), get_ident())
            capture = self.batches.open
            if capture is not None and capture in self.batches.waiting and not capture.trained:
                self.frames.adopt(capture)
                self._inputs = {}
