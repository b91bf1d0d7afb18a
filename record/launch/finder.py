"""Finds the model that an optimizer trains: what is called, and owns its parameters."""

from __future__ import annotations

import contextlib
import functools
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as module_hooks

from record.launch.ownership import best_owner, outermost, owned, trained
from record.modules.selection import unwrap

_PATIENCE = 3  # steps of an optimizer after which nobody looks for its model any longer

Called = Callable[[nn.Module, Any, dict[str, Any], FrameType], None]


class Covered:
    """Parameters of models that are known, by id, for as long as they live."""

    def __init__(self) -> None:
        self._known: dict[int, weakref.ref[nn.Parameter]] = {}

    def add(self, parameters: Iterable[nn.Parameter]) -> None:
        """These belong to a model that is known."""
        for parameter in parameters:
            key = id(parameter)
            self._known[key] = weakref.ref(parameter, functools.partial(self._forget, key))

    def _forget(self, key: int, reference: Any) -> None:
        if self._known.get(key) is reference:
            del self._known[key]

    @property
    def ids(self) -> set[int]:
        """All of them."""
        return set(self._known)


class Finder:
    """Looks for models while there are optimizers whose parameters belong to none.

    Args:
        called: Told of each module that is about to run, of nested ones the outermost first.
        always: Whether every model that is called is of interest.
    """

    def __init__(self, called: Called, always: bool) -> None:
        self.covered = Covered()
        self.optimizers: list[weakref.ref[Any]] = []
        self._called = called
        self._always = always
        self._steps: dict[int, int] = {}  # of each optimizer whose model is not yet known, by id
        self._ignored: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()
        self._handle: Any = None  # of the hook on all modules

    @property
    def searching(self) -> bool:
        """Whether a model is looked for."""
        return self._handle is not None

    @property
    def has_stepped(self) -> bool:
        """Whether an optimizer stepped whose model is not known."""
        return any(self._steps.values())

    def optimizer_made(self, optimizer: Any) -> None:
        """There is an optimizer whose model may not be known."""
        self.optimizers = [one for one in self.optimizers if one() is not None]
        self.optimizers.append(weakref.ref(optimizer))
        self._steps = {id(one()): self._steps.get(id(one()), 0) for one in self.optimizers}
        self._steps[id(optimizer)] = 0
        self._ignored = weakref.WeakKeyDictionary()
        self.start()

    def start(self) -> None:
        """Begins to look."""
        if self._handle is None:
            self._handle = module_hooks.register_module_forward_pre_hook(self._on_call)

    def stop(self) -> None:
        """Looks no more."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def stop_if_done(self) -> None:
        """Looks no more where every optimizer's parameters are those of a known model."""
        if self.optimizers and not self._always and not self.wanted():
            self.stop()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Torch warns of hooks on all modules when it compiles one: there are none meanwhile."""
        searching = self.searching
        self.stop()
        try:
            yield
        finally:
            if searching:
                self.start()
                self.stop_if_done()

    def wanted(self) -> set[int]:
        """Parameters that are trained, of a model that is not yet known."""
        wanted: set[int] = set().union(*self._trained())
        return wanted - self.covered.ids

    def root_of(self, module: nn.Module) -> nn.Module | None:
        """The model to record that a module belongs to which is called; None for none."""
        training = module.training
        if not (training or self._always) or module in self._ignored:
            return None
        own = owned(module)
        wanted = self.wanted()
        if self._always and not self.optimizers:
            wanted = own - self.covered.ids
        if not own & wanted:
            if own & self.covered.ids or training:
                self._ignored[module] = 1
            self.stop_if_done()
            return None
        inner = unwrap(module)
        return unwrap(outermost(inner, self._targets(owned(inner) & wanted)))

    def root_stepped(self, optimizer: Any) -> nn.Module | None:
        """The model of an optimizer that stepped though none of its modules was seen to run."""
        mine = trained(optimizer)
        covered = self.covered.ids
        if not self.searching or mine <= covered:
            return None
        steps = self._steps[id(optimizer)] = self._steps.get(id(optimizer), 0) + 1
        if steps == 1 and not mine & covered:
            best = best_owner(mine)
            return None if best is None else unwrap(best)
        if steps >= _PATIENCE:
            self.stop()
        return None

    def _on_call(self, module: nn.Module, args: Any) -> None:
        if torch.compiler.is_compiling() or torch._C._current_graph_task_id() != -1:
            return
        frame = sys._getframe(1)  # torch gives this hook no keyword arguments
        self._called(module, args, frame.f_locals.get("kwargs") or {}, frame)

    def _targets(self, own: set[int]) -> set[int]:
        """The parameters of all optimizers that have some of these."""
        target: set[int] = set()
        for theirs in self._trained():
            if theirs & own:
                target |= theirs
        return target

    def _trained(self) -> Iterator[set[int]]:
        """The parameters of each optimizer."""
        for reference in self.optimizers:
            optimizer = reference()
            if optimizer is not None:
                yield trained(optimizer)
