"""Finds the model that an optimizer trains: the module that is called and owns its parameters."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import weakref
from collections.abc import Callable, Container, Iterable, Iterator
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as module_hooks

from record.capture.compiled_code import not_compiling
from record.capture.phase import compiles_here
from record.modules.names import unwrap
from record.watching.ownership import (
    best_owner,
    optimized_parameters,
    outermost_owner,
    parameter_ids,
)

_MAX_STEPS = 3  # of an optimizer, after which nobody looks for its model at each call any longer

OnCall = Callable[[nn.Module, Any, dict[str, Any], FrameType], None]
"""Called with a module that is about to run, its arguments and the frame of the call."""


class KnownParameters:
    """The parameters of models that have been found, by id, for as long as they live."""

    def __init__(self) -> None:
        self._references: dict[int, weakref.ref[nn.Parameter]] = {}

    def add(self, parameters: Iterable[nn.Parameter]) -> None:
        """Adds the parameters of a model that has been found."""
        for parameter in parameters:
            key = id(parameter)
            self._references[key] = weakref.ref(parameter, functools.partial(self._forget, key))

    def _forget(self, key: int, reference: Any) -> None:
        """Forgets a parameter that is gone: its id may be another one's next."""
        if self._references.get(key) is reference:
            del self._references[key]

    @property
    def ids(self) -> set[int]:
        """The ids of all of them."""
        return set(self._references)


class ModelFinder:
    """Looks for models while there are optimizers whose parameters belong to none that is known.

    Args:
        on_call: Called with each module that is about to run, of nested ones the outermost first.
        any_model: Whether every model that is called is looked for, not only trained ones.

    Attributes:
        known: The parameters of the models that have been found.
        optimizers: The script's optimizers, for as long as they live.
        is_searching: Whether a model is looked for.
    """

    def __init__(self, on_call: OnCall, any_model: bool) -> None:
        self.known = KnownParameters()
        self.optimizers: list[weakref.ref[Any]] = []
        self._on_call = on_call
        self._any_model = any_model
        self._steps: dict[int, int] = {}  # of optimizers whose model is not known, by their id
        # Those whose model is no longer looked for, each with what owns its parameters in
        # evaluation mode; it is looked for again, once, when that is in training mode.
        self._given_up: dict[int, weakref.ref[nn.Module] | None] = {}
        self._looked_again: set[int] = set()
        self._ignored: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()
        self.is_searching = False
        self._pauses = 0  # that go on, in whatever threads
        self._lock = threading.RLock()
        self._handle: Any = None  # of the hook on all modules

    @property
    def has_stepped(self) -> bool:
        """Whether an optimizer stepped whose model is not known."""
        return any(self._steps.values())

    def add_optimizer(self, optimizer: Any) -> None:
        """Adds an optimizer, and begins to look for the model that it trains."""
        self.optimizers = [reference for reference in self.optimizers if reference() is not None]
        self.optimizers.append(weakref.ref(optimizer))
        self._steps = {
            id(reference()): self._steps.get(id(reference()), 0) for reference in self.optimizers
        }
        self._steps[id(optimizer)] = 0
        self._given_up, self._looked_again = {}, set()
        self._ignored = weakref.WeakKeyDictionary()
        self.start()

    def start(self) -> None:
        """Begins to look for models."""
        self.is_searching = True
        self._set_hook()

    def stop(self) -> None:
        """Ends looking for models."""
        self.is_searching = False
        self._set_hook()

    def _set_hook(self, pauses: int = 0) -> None:
        """Adds the hook on all modules, or removes it.

        Args:
            pauses: How many more pauses there are now than before.
        """
        with self._lock:
            self._pauses += pauses
            is_wanted = self.is_searching and not self._pauses
            if is_wanted and self._handle is None:
                self._handle = module_hooks.register_module_forward_pre_hook(self._before_forward)
            elif self._handle is not None and not is_wanted:
                with not_compiling() as may_remove:
                    if may_remove:  # else a later call does: what is traced is looked up once more
                        self._handle.remove()
                        self._handle = None

    def stop_if_done(self) -> None:
        """Ends looking where every optimizer's parameters are those of a known model."""
        if self.optimizers and not self._any_model and not self.missing_parameters():
            self.stop()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Removes the hook on all modules meanwhile: torch warns of one when it compiles.

        Models are looked for all the same, by compiled calls and steps, of other threads say.
        """
        self._set_hook(1)
        try:
            yield
        finally:
            self._set_hook(-1)
            if self.is_searching:
                self.stop_if_done()

    def missing_parameters(self) -> set[int]:
        """Returns the ids of parameters that are trained, and whose model is to be found."""
        trained: set[int] = set().union(*self._optimized(self._given_up))
        return trained - self.known.ids

    def steps_before(self, root: nn.Module) -> int:
        """Returns how often a model was stepped while it was in evaluation mode, unknown."""
        own = parameter_ids(root)
        optimizers = [optimizer for one in self.optimizers if (optimizer := one()) is not None]
        steps = [self._steps.get(id(o), 0) for o in optimizers if optimized_parameters(o) & own]
        return max(steps, default=0)

    def awaits(self, optimizer: Any) -> bool:
        """Returns whether a step of an optimizer may tell of a model that is not known."""
        return self.is_searching or self._given_up.get(id(optimizer)) is not None

    def look_again(self) -> None:
        """Looks on for the models that were given up in evaluation mode and are in training now."""
        for key in [key for key in self._given_up if self._owner_in_training(key) is not None]:
            del self._given_up[key]
            self._looked_again.add(key)
            self.start()

    def _owner_in_training(self, key: int) -> nn.Module | None:
        """Returns what owns the parameters of an optimizer given up, if it is in training mode."""
        reference = self._given_up.get(key)
        owner = None if reference is None else reference()
        if owner is None or not any(part.training and part._parameters for part in owner.modules()):
            return None
        return owner

    def model_of_call(self, module: nn.Module) -> nn.Module | None:
        """Returns the model to record that a called module belongs to; None for none."""
        training = module.training
        if not (training or self._any_model) or module in self._ignored:
            return None
        own = parameter_ids(module)
        missing = self.missing_parameters()
        if self._any_model and not self.optimizers:
            missing = own - self.known.ids
        if not own & missing:
            if own & self.known.ids or (training and not _has_others_parameters(module)):
                self._ignored[module] = 1
            self.stop_if_done()
            return None
        inner = unwrap(module)
        targets = self._parameters_of_optimizers(parameter_ids(inner) & missing)
        return unwrap(outermost_owner(inner, targets))

    def model_of_step(self, optimizer: Any) -> nn.Module | None:
        """Returns the model of an optimizer that stepped though no call of the model was seen.

        After some steps of one optimizer its model is given up, until it is in training mode.
        """
        key = id(optimizer)
        if key in self._given_up:
            owner = self._owner_in_training(key)
            if owner is None:
                self._steps[key] += 1
            else:  # it is recorded from now on
                del self._given_up[key]
            return owner
        own = optimized_parameters(optimizer)
        known = self.known.ids
        if not self.is_searching or own <= known:
            return None
        steps = self._steps[key] = self._steps.get(key, 0) + 1
        if steps == 1 and not own & known:
            best = best_owner(own)
            if best is not None:
                self._steps[key] = 0  # it was in training mode
                return unwrap(best)
        if steps >= _MAX_STEPS:
            again = key in self._looked_again
            owner = None if again else best_owner(own - known, in_training=False)
            self._given_up[key] = None if owner is None else weakref.ref(unwrap(owner))
            self.stop_if_done()
        return None

    def _before_forward(self, module: nn.Module, args: Any) -> None:
        """Tells of a call; torch's hook on all modules."""
        if compiles_here() or torch._C._current_graph_task_id() != -1:
            return
        if not self.is_searching:
            self._set_hook()
            return
        frame = sys._getframe(1)  # torch gives this hook no keyword arguments
        self._on_call(module, args, frame.f_locals.get("kwargs") or {}, frame)

    def _parameters_of_optimizers(self, own: set[int]) -> set[int]:
        """Returns the ids of the parameters of all optimizers that have some of these."""
        found: set[int] = set()
        for parameters in self._optimized():
            if parameters & own:
                found |= parameters
        return found

    def _optimized(self, without: Container[int] = ()) -> Iterator[set[int]]:
        """Yields the ids of the parameters of each optimizer, but for those of some ids."""
        for reference in self.optimizers:
            optimizer = reference()
            if optimizer is not None and id(optimizer) not in without:
                yield optimized_parameters(optimizer)


def _has_others_parameters(module: nn.Module) -> bool:
    """Whether other tensors are in the place of a module's parameters (torch.func's call of it)."""
    return not all(isinstance(parameter, nn.Parameter) for parameter in module.parameters())
