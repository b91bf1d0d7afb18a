"""What happens in torch while somebody's script trains, told to a listener."""

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

from record.launch.import_hooks import AfterImport

# Classes that step by themselves, with torch's `param_groups` and `step`, by their modules.
_OTHER_OPTIMIZERS = {"fastai.optimizer": "Optimizer"}


class Listener(Protocol):
    """Is told; nothing of it may raise."""

    def optimizer_made(self, optimizer: Optimizer) -> None:
        """An optimizer was created."""

    def loader_begun(self, loader: Any, iterator: Any) -> None:
        """An iterator begins a pass over a loader; maybe in a thread of its own."""

    def fetched(self, iterator: Any, batch: Any) -> None:
        """It gave out a batch."""

    def exhausted(self, iterator: Any) -> None:
        """It was asked for a batch and had none."""

    def backward(self, tensors: Any) -> None:
        """A backward pass begins, from these tensors."""

    def went_back(self) -> None:
        """It has ended."""

    def differentiating(self, outputs: Any, inputs: Any) -> None:
        """`torch.autograd.grad` begins."""

    def differentiated(self, outputs: Any, inputs: Any, keeps: bool) -> None:
        """It has ended; whether the graph is kept."""

    def step_begins(self, optimizer: Any) -> None:
        """An optimizer begins to step."""

    def stepped(self, optimizer: Any) -> None:
        """An optimizer has stepped."""

    def compiling(self) -> AbstractContextManager[None]:
        """Around a call of `torch.compile`."""

    def running(self, module: nn.Module, args: Any, kwargs: dict[str, Any], call: Any) -> Any:
        """A module that was compiled is called; calls it."""


class TorchEvents:
    """Wrappers around torch's functions, from `install` to `remove`.

    Args:
        listener: Is told of what happens.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._undo: list[Callable[[], None]] = []

    def install(self) -> None:
        """Begins to listen."""
        self._replace(Optimizer, "__init__", self._around_init)
        # Some loaders make their iterators themselves (ultralytics, torchdata, fastai).
        self._replace(_BaseDataLoaderIter, "__init__", self._around_iterator)
        self._replace(_BaseDataLoaderIter, "_reset", self._around_reset)
        self._replace(_BaseDataLoaderIter, "__next__", self._around_next)
        self._replace(torch.autograd, "backward", self._around_backward)
        self._replace(torch.autograd, "grad", self._around_grad)
        self._replace(torch.amp.GradScaler, "scale", self._around_scale)
        self._replace(torch, "compile", self._around_compile)
        self._replace(nn.Module, "compile", self._around_compile_in_place)
        self._listen_to_others()
        listener = self._listener
        for handle in (
            register_optimizer_step_pre_hook(lambda one, *_: listener.step_begins(one)),
            register_optimizer_step_post_hook(lambda one, *_: listener.stepped(one)),
        ):
            self._undo.append(handle.remove)

    def _listen_to_others(self) -> None:
        """Hears of optimizers that are none of torch's, from their import on."""
        for module in _OTHER_OPTIMIZERS:
            if module in sys.modules:
                self._wrap_other(module)
            else:
                after = AfterImport(module, functools.partial(self._wrap_other, module))
                sys.meta_path.insert(0, after)
                self._undo.append(functools.partial(_without, sys.meta_path, after))

    def _wrap_other(self, module: str) -> None:
        kind = getattr(sys.modules[module], _OTHER_OPTIMIZERS[module], None)
        if kind is not None:
            self._replace(kind, "__init__", self._around_init)
            self._replace(kind, "step", self._around_step)

    def remove(self) -> None:
        """Ends that; somebody else's wrappers stay."""
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()

    @property
    def installed(self) -> bool:
        """Whether it listens."""
        return bool(self._undo)

    def _replace(self, owner: Any, name: str, around: Callable[..., Any]) -> None:
        """Puts a function in the place of a class's or module's, to be given the original."""
        original = owner.__dict__[name]

        @functools.wraps(original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if torch.compiler.is_compiling():
                return original(*args, **kwargs)
            return around(original, *args, **kwargs)

        def undo() -> None:
            if owner.__dict__.get(name) is wrapper:
                setattr(owner, name, original)

        setattr(owner, name, wrapper)
        self._undo.append(undo)

    def _around_init(self, init: Any, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        init(optimizer, *args, **kwargs)
        self._listener.optimizer_made(optimizer)

    def _around_step(self, step: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        self._listener.step_begins(optimizer)
        result = step(optimizer, *args, **kwargs)
        self._listener.stepped(optimizer)
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
        self._listener.backward(tensors)
        backward(tensors, *args, **kwargs)
        self._listener.went_back()

    def _around_grad(self, grad: Any, outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        self._listener.differentiating(outputs, inputs)
        found = grad(outputs, inputs, *args, **kwargs)
        named = dict(zip(("grad_outputs", "retain_graph", "create_graph"), args, strict=False))
        creates = {**named, **kwargs}.get("create_graph", False)
        keeps = {**named, **kwargs}.get("retain_graph")
        self._listener.differentiated(outputs, inputs, creates if keeps is None else keeps)
        return found

    def _around_scale(self, scale: Any, scaler: Any, outputs: Any) -> Any:
        """Notes of a scaled loss what it was: that is what is worth recording."""
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
            if torch.compiler.is_compiling():
                return compiled(*args, **kwargs)  # type: ignore[misc]
            return self._listener.running(module, args, kwargs, compiled)

        module._compiled_call_impl = call


def scalar_loss(tensors: Any) -> torch.Tensor | None:
    """The loss that a backward pass begins from, before it was scaled; None if it is not one."""
    loss = tensors[0] if isinstance(tensors, (tuple, list)) and len(tensors) == 1 else tensors
    loss = getattr(loss, "_mapreel_loss", loss)
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        return None
    return loss.detach()


def _without(items: list[Any], item: Any) -> None:
    """Takes it out, if it is there."""
    if item in items:
        items.remove(item)
