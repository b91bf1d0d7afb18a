"""Tells a listener what happens in torch while a script trains."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.data.dataloader import _BaseDataLoaderIter

from record.capture.phase import compiles_here
from record.import_hooks import AfterImport

# Optimizers that are not torch's but have its `param_groups` and `step`, by their modules.
_OTHER_OPTIMIZERS = {"fastai.optimizer": "Optimizer"}


class Listener(Protocol):
    """What `TorchEvents` tells of what happens; none of these methods may raise."""

    def optimizer_made(self, optimizer: Optimizer) -> None:
        """An optimizer was created."""

    def loader_begun(self, loader: Any, iterator: Any) -> None:
        """An iterator begins a pass over a loader; maybe in a thread of its own."""

    def fetched(self, iterator: Any, batch: Any) -> None:
        """An iterator handed out a batch."""

    def exhausted(self, iterator: Any) -> None:
        """An iterator was asked for a batch and had none."""

    def backward_begins(self, tensors: Any) -> None:
        """A backward pass begins, from these tensors."""

    def backward_ended(self) -> None:
        """A backward pass has ended."""

    def grad_begins(self, outputs: Any, inputs: Any) -> None:
        """`torch.autograd.grad` begins."""

    def grad_ended(self, outputs: Any, inputs: Any, keeps_graph: bool) -> None:
        """`torch.autograd.grad` has ended."""

    def step_begins(self, optimizer: Any) -> None:
        """An optimizer begins to step."""

    def stepped(self, optimizer: Any) -> None:
        """An optimizer has stepped."""

    def gradients_dropped(self, owner: Any) -> None:
        """The gradients of an optimizer or a module were set to None or to zeros."""

    def compiling(self) -> AbstractContextManager[None]:
        """Returns a context that `torch.compile` is called in."""

    def run_compiled(self, module: nn.Module, args: Any, kwargs: dict[str, Any], call: Any) -> Any:
        """Calls a compiled module by `call`, and returns its output."""


class TorchEvents:
    """Wrappers around torch's functions, from `install` to `remove`.

    Args:
        listener: Told of what happens.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._undo: list[Callable[[], None]] = []

    def install(self) -> None:
        """Puts the wrappers in place."""
        self._replace(Optimizer, "__init__", self._around_init)
        # Some loaders make their iterators themselves (ultralytics, torchdata, fastai).
        self._replace(_BaseDataLoaderIter, "__init__", self._around_iterator)
        self._replace(_BaseDataLoaderIter, "_reset", self._around_reset)
        self._replace(_BaseDataLoaderIter, "__next__", self._around_next)
        self._replace(torch.autograd, "backward", self._around_backward)
        self._replace(torch.autograd, "grad", self._around_grad)
        self._replace(torch.amp.GradScaler, "scale", self._around_scale)
        self._replace(Optimizer, "zero_grad", self._around_zero_grad)
        self._replace(nn.Module, "zero_grad", self._around_zero_grad)
        self._replace(torch, "compile", self._around_compile)
        self._replace(nn.Module, "compile", self._around_compile_in_place)
        self._wrap_other_optimizers()
        listener = self._listener
        for handle in (
            register_optimizer_step_pre_hook(lambda optimizer, *_: listener.step_begins(optimizer)),
            register_optimizer_step_post_hook(lambda optimizer, *_: listener.stepped(optimizer)),
        ):
            self._undo.append(handle.remove)

    def _wrap_other_optimizers(self) -> None:
        """Wraps optimizers that are not torch's, once they are imported."""
        for module in _OTHER_OPTIMIZERS:
            if module in sys.modules:
                self._wrap_optimizer_of(module)
            else:
                after = AfterImport(module, functools.partial(self._wrap_optimizer_of, module))
                sys.meta_path.insert(0, after)
                self._undo.append(functools.partial(_remove_if_there, sys.meta_path, after))

    def _wrap_optimizer_of(self, module: str) -> None:
        """Wraps the optimizer class of a module."""
        kind = getattr(sys.modules[module], _OTHER_OPTIMIZERS[module], None)
        if kind is not None:
            self._replace(kind, "__init__", self._around_init)
            self._replace(kind, "step", self._around_step)
            self._replace(kind, "zero_grad", self._around_zero_grad)

    def remove(self) -> None:
        """Takes the wrappers away; those that somebody else has put around them stay."""
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()

    @property
    def installed(self) -> bool:
        """Whether the wrappers are in place."""
        return bool(self._undo)

    def _replace(self, owner: Any, name: str, around: Callable[..., Any]) -> None:
        """Wraps a function of a class or module.

        Args:
            owner: The class or module.
            name: The function's name.
            around: Called in its place, with the original and then its arguments.
        """
        original = owner.__dict__[name]

        @functools.wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if compiles_here():
                return original(*args, **kwargs)
            return around(original, *args, **kwargs)

        def undo() -> None:
            if owner.__dict__.get(name) is wrapper:
                setattr(owner, name, original)

        setattr(owner, name, wrapper)
        self._undo.append(undo)

    def watch_compiled_modules(self) -> None:
        """Wraps the call of what `torch.compile` makes: hooks on all modules would not do.

        To be called after a call of `torch.compile`: importing the class takes seconds.
        """
        kind: Any = torch._dynamo.OptimizedModule
        if kind.__dict__.get("_mapreel"):
            return
        original = kind.__call__

        @functools.wraps(original)
        def call(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if compiles_here():
                return original(module, *args, **kwargs)
            run = functools.partial(original, module)
            return self._listener.run_compiled(module, args, kwargs, run)

        inherited = "__call__" not in kind.__dict__
        kind.__call__, kind._mapreel = call, True

        def undo() -> None:
            if inherited:
                del kind.__call__
            else:
                kind.__call__ = original
            del kind._mapreel

        self._undo.append(undo)

    def _around_init(self, init: Any, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        init(optimizer, *args, **kwargs)
        self._listener.optimizer_made(optimizer)

    def _around_step(self, step: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        self._listener.step_begins(optimizer)
        result = step(optimizer, *args, **kwargs)
        self._listener.stepped(optimizer)
        return result

    def _around_zero_grad(self, zero_grad: Any, owner: Any, *args: Any, **kwargs: Any) -> Any:
        result = zero_grad(owner, *args, **kwargs)
        self._listener.gradients_dropped(owner)
        return result

    def _around_iterator(self, init: Any, iterator: Any, loader: Any, *args: Any) -> None:
        init(iterator, loader, *args)
        self._listener.loader_begun(loader, iterator)

    def _around_reset(
        self, reset: Any, iterator: Any, loader: Any, first_iter: bool = False
    ) -> None:
        reset(iterator, loader, first_iter)
        if not first_iter:  # an iterator that stays over all epochs, with its workers
            self._listener.loader_begun(loader, iterator)

    def _around_next(self, fetch: Any, iterator: Any) -> Any:
        try:
            batch = fetch(iterator)
        except StopIteration:
            self._listener.exhausted(iterator)
            raise
        self._listener.fetched(iterator, batch)
        return batch

    def _around_backward(self, backward: Any, tensors: Any, *args: Any, **kwargs: Any) -> None:
        self._listener.backward_begins(tensors)
        backward(tensors, *args, **kwargs)
        self._listener.backward_ended()

    def _around_grad(self, grad: Any, outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        self._listener.grad_begins(outputs, inputs)
        found = grad(outputs, inputs, *args, **kwargs)
        named = dict(zip(("grad_outputs", "retain_graph", "create_graph"), args, strict=False))
        creates = {**named, **kwargs}.get("create_graph", False)
        keeps = {**named, **kwargs}.get("retain_graph")
        self._listener.grad_ended(outputs, inputs, creates if keeps is None else keeps)
        return found

    def _around_scale(self, scale: Any, scaler: Any, outputs: Any) -> Any:
        """Keeps the loss and the factor with the scaled value: the loss itself is recorded."""
        scaled = scale(scaler, outputs)
        if isinstance(outputs, torch.Tensor) and scaled is not outputs:
            scaled._mapreel_loss = outputs.detach()
        return scaled

    def _around_compile(self, compile: Any, *args: Any, **kwargs: Any) -> Any:
        with self._listener.compiling():
            return compile(*args, **kwargs)

    def _around_compile_in_place(
        self, compile: Any, module: nn.Module, *args: Any, **kwargs: Any
    ) -> None:
        compile(module, *args, **kwargs)
        compiled = module._compiled_call_impl

        def call(*args: Any, **kwargs: Any) -> Any:
            if compiles_here():
                return compiled(*args, **kwargs)  # type: ignore[misc]
            return self._listener.run_compiled(module, args, kwargs, compiled)

        module._compiled_call_impl = call


def scalar_loss(tensors: Any) -> torch.Tensor | None:
    """Returns the loss that a backward pass begins from, before it was scaled.

    Args:
        tensors: What the backward pass begins from.

    Returns:
        The loss, detached; None if it is not a single number.
    """
    loss = tensors[0] if isinstance(tensors, (tuple, list)) and len(tensors) == 1 else tensors
    loss = getattr(loss, "_mapreel_loss", loss)
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        return None
    return loss.detach()


def _remove_if_there(items: list[Any], item: Any) -> None:
    """Removes an item from a list, if it is there."""
    if item in items:
        items.remove(item)
