"""Watches torch while a script trains: which models, which batches, which losses.

Nothing of the script is known beforehand. What tells:

- an optimizer is created: its parameters are those that will be trained (`finder`);
- a module is called in training mode that owns some of them: it, or what contains it and owns
  more of them, is a model, and gets a recording (`trained_model`);
- loaders hand out batches, forwards consume them, backward passes and steps follow
  (`record.batch_detection`).

Nothing here may stop or change the script: every callback swallows its errors and says so once.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import os
from _thread import get_ident
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Concatenate, ParamSpec

import torch
from torch import nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from record.batch_detection.deliveries import LoaderItem
from record.batch_detection.loaders import LoaderTracker
from record.capture.hidden_hooks import has_hooks
from record.capture.phase import is_transformed
from record.capture.tensors import outside_transforms
from record.launch.arguments import RunOptions
from record.launch.closing_lines import RecordingCount, closing_lines
from record.launch.model_recordings import ModelRecordings
from record.launch.trained_model import TrainedModel
from record.modules.names import unwrap
from record.reporting import say
from record.session.metadata import rank_and_world
from record.watching.callbacks import CallbackGuard
from record.watching.finder import ModelFinder
from record.watching.ownership import (
    has_zeros,
    leads_to,
    may_train,
    optimized_parameters,
    parameter_ids,
)
from record.watching.torch_events import TorchEvents, scalar_loss

_MAX_ITEMS = 4096  # that a model may have been given before it was found

P = ParamSpec("P")


def _callback(
    method: Callable[Concatenate[Watcher, P], None],
) -> Callable[Concatenate[Watcher, P], None]:
    """Makes a method a callback: what goes wrong in it is said once and never raised."""

    @functools.wraps(method)
    def call(watcher: Watcher, /, *args: P.args, **kwargs: P.kwargs) -> None:
        watcher._guard.call(method, watcher, *args, **kwargs)

    return call


def _script_callback(
    method: Callable[Concatenate[Watcher, P], None],
) -> Callable[Concatenate[Watcher, P], None]:
    """Makes a method a callback for what the script does.

    In a thread in which a recording is just beginning it is not called: what happens there is not
    the script's doing.
    """

    @functools.wraps(method)
    def call(watcher: Watcher, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if watcher._recordings.starting != get_ident():
            watcher._guard.call(method, watcher, *args, **kwargs)

    return call


class Watcher:
    """Finds the models that a script trains, and records each into a file of its own.

    Args:
        options: What was asked for on the command line.
        spawned: Whether this process was started by the script (multiprocessing's spawn).

    Attributes:
        options: As the argument.
    """

    def __init__(self, options: RunOptions, spawned: bool = False) -> None:
        self.options = options
        self._spawned = spawned
        self._loaders = LoaderTracker()
        self._items: collections.deque[LoaderItem] = collections.deque(maxlen=_MAX_ITEMS)
        self._last_optimizer_made = 0  # in `Deliveries.clock`
        self._finder = ModelFinder(self.called, options.include_eval)
        self._recordings = ModelRecordings(options, spawned, self._loaders, self._finder)
        self._events = TorchEvents(self)
        # Optimizers that stepped within a backward pass, each with its thread.
        self._stepped_within: list[tuple[int, Any]] = []
        self._in_backward: set[int] = set()  # threads that have called a backward pass
        self._saw_backward = False  # whether there was a backward pass since the last step
        self._guard = CallbackGuard(self._loaders.lock)

    def install(self) -> None:
        """Begins to watch."""
        self._events.install()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._on_fork)
        if self.options.include_eval:
            self._finder.start()

    def close(self) -> None:
        """Ends all recordings and stops watching."""
        self._finder.stop()
        self._events.remove()
        if self._guard.in_fork:
            return
        for model in self._recordings.models:
            self._guard.call(self._recordings.close, model)
        self._recordings.models = []

    def report(self) -> None:
        """Says what was recorded, or why nothing was."""
        if self._guard.in_fork:
            return
        rank, world = rank_and_world()
        silent = world > 1 and self.options.ranks == "0" and rank != 0
        count = RecordingCount()
        closed = self._recordings.closed
        for line in closing_lines(closed):
            say(line)
        recorded = sum(bool(recording.batches) for recording in closed)
        told = bool(closed) and not self._recordings.reasons  # by each recording, when it closed
        if not (recorded or told or silent or self._spawned or count.total()):
            say(f"nothing was recorded: {self._why_nothing()}")
        count.add(recorded, [recording.path for recording in closed] if self._spawned else ())

    def _why_nothing(self) -> str:
        """Returns why no model is recorded, in words."""
        finder = self._finder
        if self._recordings.reasons:
            return "; ".join(dict.fromkeys(self._recordings.reasons))
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

    # What happens in torch, as `torch_events.Listener` has it

    @_script_callback
    def optimizer_made(self, optimizer: Any) -> None:
        """Looks for the model of a new optimizer."""
        self._recordings.close_dropped()
        self._recordings.forget_optimizer(optimizer)
        self._last_optimizer_made = self._loaders.deliveries.clock
        self._loaders.deliveries.training_threads.add(get_ident())
        self._saw_backward = False
        self._finder.add_optimizer(optimizer)

    @_callback
    def loader_begun(self, loader: Any, iterator: Any) -> None:
        """Notes a pass over a loader, also in the thread that begins a recording."""
        self._loaders.begin(loader, iterator)

    @_callback
    def fetched(self, iterator: Any, batch: Any) -> None:
        """Tells the models of an item that a loader handed out."""
        item = self._loaders.fetched(iterator, batch)
        if item is None:
            return
        self._items.append(item)
        self._finder.look_again()
        for model in self._recordings.models:
            model.fetched(item)

    @_callback
    def exhausted(self, iterator: Any) -> None:
        """Notes that a loader has no more."""
        self._loaders.ended(iterator)

    @_script_callback
    def backward_begins(self, tensors: Any) -> None:
        """Tells the models of a backward pass, unless it is checkpointing's, within another one."""
        if _is_of_the_training():
            self._take_steps()  # of a pass that ended in an exception
            self._in_backward.add(get_ident())
            self._loaders.deliveries.training_threads.add(get_ident())
            self._recordings.close_dropped()
            self._tell_backward_begins(tensors)

    @_script_callback
    def backward_ended(self) -> None:
        """Tells the models that a backward pass has ended."""
        if _is_of_the_training():
            for model in self._recordings.models:
                model.backward_ended()
            self._take_steps()

    @_script_callback
    def grad_begins(self, outputs: Any, inputs: Any) -> None:
        """Tells the models of a gradient that is asked for."""
        if _is_of_the_training():
            self._tell_backward_begins(outputs)

    def _tell_backward_begins(self, tensors: Any) -> None:
        """Tells the models of a backward pass, from these tensors."""
        self._saw_backward = True
        loss = scalar_loss(tensors)
        several = len(self._loaders.deliveries.training_threads) > 1
        for model in self._recordings.models:
            # Of a compiled model nobody sees whether its forward runs, in another thread say.
            others = several and model.is_traced and not leads_to(tensors, model.parameters)
            model.backward_begins(loss, others)

    @_script_callback
    def grad_ended(self, outputs: Any, inputs: Any, keeps_graph: bool) -> None:
        """Tells the models of a gradient: by a model's parameters it is a backward pass."""
        if _is_of_the_training():
            tensors = [inputs] if isinstance(inputs, torch.Tensor) else inputs
            ids = {id(tensor) for tensor in tensors}
            for model in self._recordings.models:
                if ids & model.parameters:
                    model.backward_ended()
                else:
                    model.gradient_taken(keeps_graph)

    @_script_callback
    def step_begins(self, optimizer: Any) -> None:
        """Tells the models whose parameters the optimizer has."""
        for model in self._recordings.models_of(optimizer):
            model.step_begins(optimizer)

    @_script_callback
    def gradients_dropped(self, owner: Any) -> None:
        """Tells the models whose gradients were thrown away."""
        if torch._C._current_graph_task_id() == -1:
            is_module = isinstance(owner, nn.Module)
            dropped = parameter_ids(owner) if is_module else optimized_parameters(owner)
            for model in self._recordings.models:
                if dropped & model.parameters:
                    model.gradients_dropped(dropped)

    @_script_callback
    def stepped(self, optimizer: Any) -> None:
        """Tells the models whose parameters the optimizer has, or looks for its model.

        A step within a backward pass is told at its end: what is recorded of the batch still comes.
        """
        if torch._C._current_graph_task_id() == -1:
            self._step(optimizer)
        else:
            self._stepped_within.append((get_ident(), optimizer))

    def _take_steps(self) -> None:
        """Tells of the steps that were made within the backward pass of this thread.

        On a GPU that is run by a thread of its own.
        """
        self._in_backward.discard(get_ident())
        steps = self._stepped_within
        self._stepped_within = [step for step in steps if step[0] in self._in_backward]
        for thread, optimizer in steps:
            if thread not in self._in_backward:
                self._step(optimizer)

    def _step(self, optimizer: Any) -> None:
        saw_backward, self._saw_backward = self._saw_backward, False
        models = self._recordings.models_of(optimizer)
        for model in self._recordings.models:
            if model not in models:
                model.other_stepped()
        for model in models:
            model.stepped(optimizer)
        if (grown := self._recordings.inner.grown(optimizer)) is not None:
            late = self._start_recording(grown[0], is_grown=True)
            if late is not None:
                for _ in range(grown[1]):
                    late.forward_missed(optimizer)
        # By a step without a backward pass a model is found once at most: then waiting is cheap.
        trains = self._finder.awaits(optimizer) and may_train(optimizer, saw_backward)
        if trains and (saw_backward or not has_zeros(optimizer)):
            root = self._finder.model_of_step(optimizer)
            if root is not None:
                found = self._start_recording(root)
                self._finder.stop_if_done()
                if found is not None:
                    found.forward_missed(optimizer)

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Removes the hook on all modules while torch.compile wraps one: torch warns of it."""
        with self._finder.paused():
            yield
        self._watch_compiled_modules()

    @_script_callback
    def _watch_compiled_modules(self) -> None:
        """Has the calls of compiled modules told from now on."""
        self._events.watch_compiled_modules()

    def run_compiled(self, module: nn.Module, args: Any, kwargs: dict[str, Any], call: Any) -> Any:
        """Calls a compiled module, and tells its model: its graph has no hooks."""
        if self._finder.is_searching:
            self.called(module, args, kwargs, None)
        model = self._recordings.model_of(unwrap(module))
        if model is not None:
            self._guard.call(model.forward_begins, module.training, (args, kwargs))
        with self._finder.paused():
            output = call(*args, **kwargs)
        if model is not None:
            self._guard.call(model.forward_ended, output)
        return output

    def called(
        self, module: nn.Module, args: Any, kwargs: dict[str, Any], frame: FrameType | None
    ) -> None:
        """Begins to record the model of a module that is about to run, if it is to be recorded."""
        # What follows waits while another thread begins to record this very model.
        self._called(module, args, kwargs, frame, has_hooks(module))

    @_script_callback
    def _called(
        self,
        module: nn.Module,
        args: Any,
        kwargs: dict[str, Any],
        frame: FrameType | None,
        had_hooks: bool,
    ) -> None:
        root = self._finder.model_of_call(module)
        if root is not None:
            model = self._start_recording(root)
            self._finder.stop_if_done()
        else:
            root, model = module, None if had_hooks else self._recordings.model_of(module)
        if model is not None and root is module and root._compiled_call_impl is None:
            # Its own hook comes too late for this call.
            model.recorder.begin_forward(args, kwargs, frame)

    def _start_recording(self, root: nn.Module, is_grown: bool = False) -> TrainedModel | None:
        """Begins to record a model; returns None where it is not recorded, or was before."""
        self._recordings.close_dropped()
        items = [  # without what earlier trainings have left
            item
            for item in self._items
            if item.source.goes_on or item.time > self._last_optimizer_made
        ]
        with outside_transforms():
            return self._recordings.start(root, items, is_grown)

    # Forked children

    def _on_fork(self) -> None:
        """Prepares a forked child: recording is the parent's, and a training is not recorded."""
        if self._events.installed and self._guard.in_fork:
            register_optimizer_step_post_hook(self._warn_of_fork)

    def _warn_of_fork(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Says once that the training of a forked child is not recorded."""
        self._guard.say_once(
            "training in a forked process is not recorded: start it with the spawn method "
            "or with torchrun"
        )


def _is_of_the_training() -> bool:
    """Whether a backward pass is the script's: not within another one, none of torch.func's.

    What torch.func differentiates are tensors of its own, whose values cannot be read meanwhile.
    """
    return torch._C._current_graph_task_id() == -1 and not is_transformed()
