"""Notices that a model is trained on after its recording was closed.

No hook stays on the model for that, where a copy, a script or a compiled graph would meet it: each
step of any optimizer is looked at, which torch tells everybody who asks.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from record.capture.phase import compiles_here


class ClosedModels:
    """Models whose recordings are closed, until an optimizer steps that has their parameters."""

    def __init__(self) -> None:
        self._models: list[tuple[weakref.ref[nn.Module], Callable[[], None]]] = []
        self._others: weakref.WeakSet[Optimizer] = weakref.WeakSet()  # which train none of them
        self._handle: Any = None  # of the hook on all optimizers

    def watch(self, model: nn.Module, on_trained: Callable[[], None]) -> None:
        """Has a function called once, with the next step of an optimizer that trains a model.

        Args:
            model: The model, which is not kept alive.
            on_trained: The function.
        """
        self._drop(model)
        self._others = weakref.WeakSet()
        self._models.append((weakref.ref(model), on_trained))
        if self._handle is None:
            self._handle = register_optimizer_step_post_hook(self._stepped)

    def forget(self, model: nn.Module) -> None:
        """Forgets a model, which is recorded again; not to be called while an optimizer steps."""
        self._drop(model)
        if not self._models and self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _drop(self, model: nn.Module) -> None:
        self._models = [
            (there, call) for there, call in self._models if there() not in (None, model)
        ]

    def _stepped(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Looks at an optimizer that has stepped; nothing is raised."""
        if not self._models or compiles_here() or optimizer in self._others:
            return
        trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for there, call in self._models:
            model = there()
            if model is not None and not trained.isdisjoint(map(id, model.parameters())):
                self._drop(model)
                call()
                return
        self._others.add(optimizer)


closed_models = ClosedModels()
