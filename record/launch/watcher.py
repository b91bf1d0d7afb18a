"""Watches torch while somebody's script trains: which models, which batches, which losses.

Nothing of the script is known beforehand. What tells:

- an optimizer is created: its parameters are those that will be trained (`finding`);
- a module is called in training mode that owns some of them: it, or what contains it and owns
  more of them, is a root, and gets a recording (`watched`);
- loaders hand out batches, forwards consume them, backward passes and steps follow (`batches`).

Nothing here may stop or change the script: every callback swallows its errors and says so once.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import os
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Concatenate, ParamSpec

import torch
from torch import nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from record.batching.deliveries import Item
from record.batching.loaders import Loaders
from record.launch.closing_lines import Recorded, Tally, summary
from record.launch.finder import Finder
from record.launch.model_run import TrainedModel, WatchOptions
from record.launch.ownership import owned, trained
from record.launch.torch_events import TorchEvents, scalar_loss
from record.modules.selection import unwrap
from record.reporting import say
from record.session.metadata import rank_and_world
from replay.schema import OutputError, RecordingError

_REMEMBERED = 4096  # items that a model may have been given before it was found
_MOST_NAMES = 100_000  # of recordings beside each other

P = ParamSpec("P")


def _attempted(
    method: Callable[Concatenate[Watcher, P], None],
) -> Callable[Concatenate[Watcher, P], None]:
    """What goes wrong in the method is said once and never reaches the script."""

    @functools.wraps(method)
    def call(watcher: Watcher, /, *args: P.args, **kwargs: P.kwargs) -> None:
        watcher._attempt(method, watcher, *args, **kwargs)

    return call


def _guarded(
    method: Callable[Concatenate[Watcher, P], None],
) -> Callable[Concatenate[Watcher, P], None]:
    """The same; and while a recording is just beginning, nothing is the script's doing."""

    @functools.wraps(method)
    def call(watcher: Watcher, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if not watcher._busy:
            watcher._attempt(method, watcher, *args, **kwargs)

    return call


class Watcher:
    """Finds the models that a script trains, and records each into a file of its own.

    Args:
        options: What was asked for.
        spawned: Whether this process was started by the script (multiprocessing's spawn).
    """

    def __init__(self, options: WatchOptions, spawned: bool = False) -> None:
        self.options = options
        self._spawned = spawned
        self._models: list[TrainedModel] = []
        self._gone = False  # whether the script has dropped one of them
        self._recorded: list[Recorded] = []
        self._names: collections.Counter[str] = collections.Counter()  # of models, in their order
        self._owners: dict[
            int, list[TrainedModel]
        ] = {}  # models, by optimizer's id; none is out of date
        self._reasons: list[str] = []  # why a model is not recorded
        self._loaders = Loaders()
        self._items: collections.deque[Item] = collections.deque(maxlen=_REMEMBERED)
        self._made = 0  # when the last optimizer was, by `deliveries.clock`
        self._finder = Finder(self.called, options.include_eval)
        self._events = TorchEvents(self)
        self._unwrap_compiled: Callable[[], None] = lambda: None  # see `_watch_compiled_modules`
        self._process = os.getpid()
        self._busy = False
        self._said: set[str] = set()

    def install(self) -> None:
        """Begins to watch."""
        self._events.install()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)
        if self.options.include_eval:
            self._finder.start()

    def close(self) -> None:
        """Ends all recordings and stops watching."""
        self._finder.stop()
        self._events.remove()
        self._unwrap_compiled()
        if os.getpid() != self._process:
            return
        for watched in self._models:
            self._attempt(self._close, watched)
        self._models = []

    def report(self) -> None:
        """Says what was recorded, or why nothing was."""
        if os.getpid() != self._process:
            return
        rank, world = rank_and_world()
        silent = world > 1 and self.options.ranks == "0" and rank != 0
        tally = Tally()
        for line in summary(self._recorded):
            say(line)
        recorded = sum(bool(one.batches) for one in self._recorded)
        told = bool(self._recorded) and not self._reasons  # by each recording, when it closed
        if not (recorded or told or silent or self._spawned or tally.total()):
            say(f"nothing was recorded: {self._why_nothing()}")
        tally.add(recorded)

    def _why_nothing(self) -> str:
        finder = self._finder
        if self._reasons:
            return "; ".join(dict.fromkeys(self._reasons))
        if not finder.optimizers:
            return (
                "the script made no torch optimizer in this process, so that nothing says which "
                "model is trained (--include-eval records a model that is only called)"
            )
        if not finder.has_stepped:
            return "no module with parameters of its optimizer was called in training mode"
        return (
            "its optimizer stepped, but no module that owns its parameters was called in training "
            "mode (model.train())"
        )

    # What happens in torch, as `torchevents.Listener` has it

    def _attempt(self, call: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        """Calls it; what goes wrong is said once and never reaches the script."""
        if os.getpid() != self._process:
            return
        try:
            with self._loaders.lock:
                call(*args, **kwargs)
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            text = (
                reason if isinstance(error, RecordingError) else f"{type(error).__name__}: {reason}"
            )
            if text not in self._said:
                self._said.add(text)
                say(f"{text}; the script goes on")

    @_guarded
    def optimizer_made(self, optimizer: Any) -> None:
        """A model may have to be looked for."""
        self._let_go()
        self._owners.pop(id(optimizer), None)
        self._made = self._loaders.deliveries.clock
        self._finder.optimizer_made(optimizer)

    @_attempted
    def loader_begun(self, loader: Any, iterator: Any) -> None:
        """Notes the pass, also in the thread that begins a recording."""
        self._loaders.begin(loader, iterator)

    @_attempted
    def fetched(self, iterator: Any, batch: Any) -> None:
        """Tells the models."""
        item = self._loaders.fetched(iterator, batch)
        if item is None:
            return
        self._items.append(item)
        for watched in self._models:
            watched.fetched(item)

    @_attempted
    def exhausted(self, iterator: Any) -> None:
        """Notes it."""
        self._loaders.ended(iterator)

    @_guarded
    def backward(self, tensors: Any) -> None:
        """Tells the models, unless it is checkpointing's, within another one."""
        if torch._C._current_graph_task_id() == -1:
            self._let_go()
            loss = scalar_loss(tensors)
            for watched in self._models:
                watched.backward_begins(loss)

    @_guarded
    def went_back(self) -> None:
        """Tells the models."""
        if torch._C._current_graph_task_id() == -1:
            for watched in self._models:
                watched.went_back()

    @_guarded
    def differentiating(self, outputs: Any, inputs: Any) -> None:
        """Tells the models."""
        if torch._C._current_graph_task_id() == -1:
            loss = scalar_loss(outputs)
            for watched in self._models:
                watched.backward_begins(loss)

    @_guarded
    def differentiated(self, outputs: Any, inputs: Any, keeps: bool) -> None:
        """Tells the models: for one whose parameters are asked for, it is a backward pass."""
        if torch._C._current_graph_task_id() == -1:
            by = {id(one) for one in ([inputs] if isinstance(inputs, torch.Tensor) else inputs)}
            for watched in self._models:
                if by & watched.own:
                    watched.went_back()
                else:
                    watched.differentiated(keeps)

    @_guarded
    def step_begins(self, optimizer: Any) -> None:
        """Tells the models whose parameters it has."""
        for watched in self._models_of(optimizer):
            watched.step_begins(optimizer)

    @_guarded
    def stepped(self, optimizer: Any) -> None:
        """Tells the models whose parameters it has, or looks for the one that has them."""
        for watched in self._models_of(optimizer):
            watched.stepped(optimizer)
        if self._finder.searching:
            root = self._finder.root_stepped(optimizer)
            if root is not None:
                self._adopt(root)
                self._finder.stop_if_done()

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Torch warns of hooks on all modules when it wraps one: there are none meanwhile."""
        with self._finder.paused():
            yield
        self._watch_compiled_modules()

    def running(self, module: nn.Module, args: Any, kwargs: dict[str, Any], call: Any) -> Any:
        """Tells of a compiled module that its forward begins and ends: its graph has no hooks."""
        if self._finder.searching:
            self.called(module, args, kwargs, None)
        watched = self._watched(unwrap(module))
        if watched is not None:
            self._attempt(watched.forward, module.training, (args, kwargs))
        with self._finder.paused():
            output = call(*args, **kwargs)
        if watched is not None:
            self._attempt(watched.ended, output)
        return output

    @_guarded
    def called(
        self, module: nn.Module, args: Any, kwargs: dict[str, Any], frame: FrameType | None
    ) -> None:
        """A module is about to run, seen from outside: of nested ones the outermost first."""
        root = self._finder.root_of(module)
        if root is None:
            return
        watched = self._adopt(root)
        self._finder.stop_if_done()
        if watched is not None and root is module and root._compiled_call_impl is None:
            # Its own hook comes too late for this call.
            watched.recorder.begin_forward(args, kwargs, frame)

    @_guarded
    def _watch_compiled_modules(self) -> None:
        """Is told of calls of what torch.compile made: hooks on all modules would not do."""
        kind: Any = torch._dynamo.OptimizedModule
        if kind.__dict__.get("_mapreel"):
            return
        original = kind.__call__

        @functools.wraps(original)
        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling():
                return original(module, *args, **kwargs)
            return self.running(module, args, kwargs, functools.partial(original, module))

        inherited = "__call__" not in kind.__dict__
        kind.__call__, kind._mapreel = call, True

        def undo() -> None:
            if inherited:
                del kind.__call__
            else:
                kind.__call__ = original
            del kind._mapreel

        self._unwrap_compiled = undo

    # The models

    def _watched(self, root: nn.Module) -> TrainedModel | None:
        return next((watched for watched in self._models if watched.root is root), None)

    def _models_of(self, optimizer: Any) -> list[TrainedModel]:
        """Those whose parameters it has."""
        owners = self._owners.get(id(optimizer))
        if owners is None:
            mine = trained(optimizer)
            owners = [watched for watched in self._models if mine & watched.own]
            self._owners[id(optimizer)] = owners
        return owners

    def _adopt(self, root: nn.Module) -> TrainedModel | None:
        """Begins a recording of a model; why it cannot be recorded is said once."""
        self._let_go()
        own = owned(root)
        self._finder.covered.add(root.parameters())
        self._busy = True
        try:
            watched = self._record(root)
            if watched.recorder._closed:  # of another rank
                return None
            self._models.append(watched)
            self._owners.clear()
            for reference in self._finder.optimizers:
                optimizer = reference()
                if optimizer is not None and own & trained(optimizer):
                    watched.optimizer = reference
            for item in list(self._items):  # without what earlier trainings have left
                if item.source.goes_on or item.time > self._made:
                    watched.fetched(item)
            return watched
        except RecordingError as error:
            self._reasons.append(f"{type(root).__name__}: {error}")
            say(f"{type(root).__name__} is not recorded: {error}")
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            self._reasons.append(f"{type(root).__name__}: {type(error).__name__}: {reason}")
            say(f"{type(root).__name__} is not recorded: {self._reasons[-1]}")
        finally:
            self._busy = False
        return None

    def _record(self, root: nn.Module) -> TrainedModel:
        """A recording into the file asked for, or beside it for another model or process.

        The first model's goes where it was asked for. Others of the same class are numbered from
        2, in their order; those of another class have its name.
        """
        options = self.options
        wanted = Path(options.output)
        kind = type(root).__name__
        if self._names and kind != next(iter(self._names)):
            name = "".join(c if c.isalnum() or c in "-_" else "_" for c in kind)
            wanted = wanted.with_name(f"{wanted.stem}.{name}{wanted.suffix}")
        self._names[kind] += 1
        alone = rank_and_world()[1] == 1
        for number in range(self._names[kind], _MOST_NAMES):
            path = wanted
            if number > 1:
                path = wanted.with_name(f"{wanted.stem}.{number}{wanted.suffix}")
            try:
                overwrite = options.overwrite and not (self._spawned and alone)
                return TrainedModel(
                    root, path, options, overwrite, self._loaders, self._drop, self._is_single
                )
            except OutputError:
                if not (self._spawned and alone and path.exists()):
                    raise
                self._names[kind] = number + 1
        raise OutputError(f"no free name beside {wanted}")

    def _is_single(self) -> bool:
        """Whether one model is trained, and no other looked for."""
        return len(self._models) == 1 and not self._finder.searching

    def _drop(self, reference: weakref.ref[Any]) -> None:
        """The script has dropped a model: its recording is closed at the next event."""
        self._gone = True

    def _let_go(self) -> None:
        """Closes the recordings of models that the script has dropped."""
        if not self._gone:
            return
        self._gone = False
        gone = [watched for watched in self._models if watched.root is None]
        self._models = [watched for watched in self._models if watched.root is not None]
        self._owners.clear()
        for watched in gone:
            self._close(watched)

    def _close(self, watched: TrainedModel) -> None:
        try:
            watched.close()
        finally:
            self._recorded.append(watched.summary())

    # Odds and ends

    def _forked(self) -> None:
        """In a forked child: recording is the parent's; a training here is not recorded."""
        if self._events.installed and os.getpid() != self._process:
            register_optimizer_step_post_hook(self._warn_of_fork)

    def _warn_of_fork(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if "fork" not in self._said:
            self._said.add("fork")
            say(
                "training in a forked process is not recorded: start it with the spawn method "
                "or with torchrun"
            )
