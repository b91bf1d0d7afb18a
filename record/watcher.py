"""Watches torch while somebody's script trains: which models, which batches, which losses.

Nothing of the script is known beforehand. What tells:

- an optimizer is created: its parameters are those that will be trained;
- a module is called in training mode that owns some of them: it, or what contains it and owns
  more of them, is a root, and gets a recording;
- a DataLoader gives out a batch, an optimizer steps, a backward pass runs: batches begin and end.

A loader may run ahead, and several forwards may belong to one batch. So a batch begins with the
first training forward after its loader was asked for the next batch; without a loader, after an
optimizer step or a backward pass. Of a batch all forwards before its first backward are recorded.

Nothing here may stop or change the script: every callback swallows its errors and says so once.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import torch
from torch import nn
from torch.nn.modules import module as module_hooks
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook
from torch.utils.data import DataLoader

from record.layers import unwrap
from record.ownership import best_owner, outermost, owned, trained
from record.ranks import rank_and_world
from record.saying import say
from record.torchevents import TorchEvents, scalar_loss
from record.watched import Iteration, Watched, WatchOptions
from replay.schema import OutputError, RecordingError

_PATIENCE = 3  # steps of an optimizer after which nobody looks for its model any longer

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
        self._models: list[Watched] = []
        self._optimizers: list[weakref.ref[Optimizer]] = []
        self._steps: dict[int, int] = {}  # of each optimizer whose model is not yet known
        self._owners: dict[int, tuple[int, list[Watched]]] = {}  # models, by optimizer's id
        self._covered: set[int] = set()  # parameters of models that are known, by id
        self._ignored: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()
        self._reasons: list[str] = []  # why a model is not recorded
        self._last: Iteration | None = None  # that gave out a batch
        self._handle: Any = None  # of the hook on all modules, while a model is looked for
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
            self._search()

    def close(self) -> None:
        """Ends all recordings and stops watching."""
        self._stop_search()
        self._events.remove()
        self._unwrap_compiled()
        if os.getpid() != self._process:
            return
        for watched in self._models:
            self._attempt(watched.close)

    def report(self) -> None:
        """Says what was recorded, or why nothing was."""
        if os.getpid() != self._process:
            return
        rank, world = rank_and_world()
        silent = world > 1 and self.options.ranks == "0" and rank != 0
        recorded = 0
        for watched in self._models:
            recorder = watched.recorder
            if not recorder.committed:
                continue
            recorded += 1
            layers = sum(layer.probe is None for layer in recorder.layout.layers)
            say(
                f"recorded {recorder.committed:,} batches of {type(watched.root).__name__}, "
                f"{layers} layer{'s' * (layers > 1)}: {watched.path}; "
                f"python -m replay animate {watched.path}"
            )
        if not recorded and not silent and not self._spawned:
            say(f"nothing was recorded: {self._why_nothing()}")

    def _why_nothing(self) -> str:
        if self._reasons:
            return "; ".join(dict.fromkeys(self._reasons))
        if self._models:
            names = ", ".join(type(watched.root).__name__ for watched in self._models)
            return f"{names} was found, but none of its layers was called in training mode"
        if not self._optimizers:
            return (
                "the script made no torch optimizer in this process, so that nothing says which "
                "model is trained (--include-eval records a model that is only called)"
            )
        if not any(self._steps.values()):
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
            call(*args, **kwargs)
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            text = (
                reason if isinstance(error, RecordingError) else f"{type(error).__name__}: {reason}"
            )
            if text not in self._said:
                self._said.add(text)
                say(f"{text}; the script goes on")

    @property
    def searching(self) -> bool:
        """Whether a model is looked for."""
        return self._handle is not None

    @_guarded
    def optimizer_made(self, optimizer: Optimizer) -> None:
        """A model may have to be looked for."""
        self._optimizers.append(weakref.ref(optimizer))
        self._owners.pop(id(optimizer), None)
        self._steps[id(optimizer)] = 0
        self._ignored = weakref.WeakKeyDictionary()
        self._search()

    @_attempted
    def loader_begun(self, loader: DataLoader[Any], iterator: Any) -> None:
        """Notes the pass, also in the thread that begins a recording."""
        iterator._mapreel = Iteration(loader)

    @_attempted
    def fetched(self, iterator: Any, exhausted: bool) -> None:
        """Tells the models."""
        iteration = getattr(iterator, "_mapreel", None)
        if iteration is None:
            return
        iteration.exhausted, iteration.thread = exhausted, threading.get_ident()
        iteration.fetched += not exhausted
        self._last = iteration
        for watched in self._models:
            watched.fetched(iteration)

    @_guarded
    def backward(self, tensors: Any) -> None:
        """Tells the models, unless it is checkpointing's, within another one."""
        if torch._C._current_graph_task_id() == -1:
            loss = scalar_loss(tensors)
            for watched in self._models:
                watched.backward(loss)

    @_guarded
    def went_back(self) -> None:
        """Tells the models."""
        if torch._C._current_graph_task_id() == -1:
            for watched in self._models:
                watched.went_back()

    @_guarded
    def stepped(self, optimizer: Optimizer) -> None:
        """Tells the models whose parameters it has, or looks for the one that has them."""
        state, owners = self._owners.get(id(optimizer), (-1, []))
        if state != len(self._models):
            mine = trained(optimizer)
            owners = [watched for watched in self._models if mine & owned(watched.root)]
            self._owners[id(optimizer)] = len(self._models), owners
        for watched in owners:
            watched.stepped(optimizer)
        if self._handle is None:  # every model is known
            return
        mine = trained(optimizer)
        if mine <= self._covered:
            return
        steps = self._steps[id(optimizer)] = self._steps.get(id(optimizer), 0) + 1
        if steps == 1 and not mine & self._covered:
            self._find_by_parameters(mine)  # no module was called where Python could see it
        elif steps >= _PATIENCE:
            self._covered |= mine
            self._end_search()

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Torch warns of hooks on all modules when it wraps one: there are none meanwhile."""
        with self._not_searching():
            yield
        self._watch_compiled_modules()

    @_guarded
    def called(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        """A module is about to run, seen from outside: of nested ones the outermost first."""
        self._look_at(module, args, kwargs)

    # Finding the models

    @_guarded
    def _watch_compiled_modules(self) -> None:
        """Looks at what torch.compile made when it is called: hooks on all modules would not do."""
        kind: Any = torch._dynamo.OptimizedModule
        if kind.__dict__.get("_mapreel"):
            return
        original = kind.__call__

        @functools.wraps(original)
        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if self._handle is None:
                return original(module, *args, **kwargs)
            self.called(module, args, kwargs)
            with self._not_searching():
                return original(module, *args, **kwargs)

        inherited = "__call__" not in kind.__dict__
        kind.__call__, kind._mapreel = call, True

        def undo() -> None:
            if inherited:
                del kind.__call__
            else:
                kind.__call__ = original
            del kind._mapreel

        self._unwrap_compiled = undo

    @contextlib.contextmanager
    def _not_searching(self) -> Iterator[None]:
        searching = self._handle is not None
        self._stop_search()
        try:
            yield
        finally:
            if searching:
                self._search()
                self._end_search()

    def _search(self) -> None:
        if self._handle is None:
            self._handle = module_hooks.register_module_forward_pre_hook(self._on_call)

    def _stop_search(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    @_guarded
    def _end_search(self) -> None:
        """Stops looking where every optimizer's parameters are those of a known model."""
        if self._optimizers and not self.options.include_eval and not self._wanted():
            self._stop_search()

    def _wanted(self) -> set[int]:
        """Parameters that are trained, of a model that is not yet known."""
        wanted: set[int] = set().union(*self._trained())
        return wanted - self._covered

    def _on_call(self, module: nn.Module, args: Any) -> None:
        if torch.compiler.is_compiling() or self._busy:
            return
        if torch._C._current_graph_task_id() == -1:
            frame = sys._getframe(1)  # torch gives this hook no keyword arguments
            self.called(module, args, frame.f_locals.get("kwargs") or {})

    def _look_at(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        """Whether it belongs to a model that is to be recorded from now on."""
        training = module.training
        if not (training or self.options.include_eval) or module in self._ignored:
            return
        own = owned(module)
        wanted = self._wanted()
        if self.options.include_eval and not self._optimizers:
            wanted = own - self._covered
        if not own & wanted:
            if own & self._covered or training:
                self._ignored[module] = 1
            if self._models:
                self._end_search()
            return
        inner = unwrap(module)
        root = unwrap(outermost(inner, self._targets(owned(inner) & wanted)))
        watched = self._adopt(root)
        self._end_search()
        if watched is None:
            return
        watched.forward(training)
        if root is module and root._compiled_call_impl is None:
            # Its own hook comes too late for this call.
            watched.recorder._taps.input.before(root, args, kwargs)

    def _targets(self, own: set[int]) -> set[int]:
        """The parameters of all optimizers that have some of these."""
        target: set[int] = set()
        for theirs in self._trained():
            if theirs & own:
                target |= theirs
        return target

    def _trained(self) -> Iterator[set[int]]:
        """The parameters of each optimizer."""
        for reference in self._optimizers:
            optimizer = reference()
            if optimizer is not None:
                yield trained(optimizer)

    def _find_by_parameters(self, mine: set[int]) -> None:
        """Adopts the model of parameters that were stepped without a call that could be seen."""
        best = best_owner(mine)
        if best is not None:
            watched = self._adopt(unwrap(best))
            if watched is not None:
                watched.forward(True)  # a compiled one will not say when it begins
            self._end_search()

    def _adopt(self, root: nn.Module) -> Watched | None:
        """Begins a recording of a model; why it cannot be recorded is said once."""
        own = owned(root)
        self._covered |= own
        self._busy = True
        try:
            watched = self._record(root)
            if watched.recorder._closed:  # of another rank
                return None
            self._models.append(watched)
            for reference in self._optimizers:
                optimizer = reference()
                if optimizer is not None and own & trained(optimizer):
                    watched.optimizer = reference
            if self._last is not None and not self._last.exhausted:
                watched.fetched(self._last)
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

    def _record(self, root: nn.Module) -> Watched:
        """A recording into the file asked for, or beside it for a second model or process."""
        options = self.options
        wanted = Path(options.output)
        if self._models or self._reasons:
            name = "".join(c if c.isalnum() or c in "-_" else "_" for c in type(root).__name__)
            wanted = wanted.with_name(f"{wanted.stem}.{name}{wanted.suffix}")
        alone = rank_and_world()[1] == 1
        for number in range(1, 100):
            taken = {watched.path for watched in self._models}
            path = wanted
            if number > 1:
                path = wanted.with_name(f"{wanted.stem}.{number}{wanted.suffix}")
            if path in taken:
                continue
            try:
                overwrite = options.overwrite and not (self._spawned and alone)
                return Watched(root, path, options, overwrite)
            except OutputError:
                if not (self._spawned and alone and path.exists()):
                    raise
        raise OutputError(f"no free name beside {wanted}")

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
