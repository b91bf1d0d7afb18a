"""What happens in torch while somebody's script trains, told to a listener."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter


class Listener(Protocol):
    """Is told; nothing of it may raise."""

    @property
    def searching(self) -> bool:
        """Whether it wants to hear of calls of modules compiled in place."""

    def optimizer_made(self, optimizer: Optimizer) -> None:
        """An optimizer was created."""

    def loader_begun(self, loader: DataLoader[Any], iterator: Any) -> None:
        """A pass over a DataLoader begins; maybe in a thread of its own."""

    def fetched(self, iterator: Any, exhausted: bool) -> None:
        """It gave out a batch, or was asked for one and had none."""

    def backward(self, tensors: Any) -> None:
        """A backward pass begins, from these tensors."""

    def went_back(self) -> None:
        """It has ended."""

    def stepped(self, optimizer: Optimizer) -> None:
        """An optimizer has stepped."""

    def compiling(self) -> AbstractContextManager[None]:
        """Around a call of `torch.compile`."""

    def called(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        """A module that was compiled in place is about to run."""


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
        self._replace(DataLoader, "__iter__", self._around_iter)
        self._replace(_BaseDataLoaderIter, "__next__", self._around_next)
        self._replace(torch.autograd, "backward", self._around_backward)
        self._replace(torch.amp.GradScaler, "scale", self._around_scale)
        self._replace(torch, "compile", self._around_compile)
        self._replace(nn.Module, "compile", self._around_compile_in_place)
        handle = register_optimizer_step_post_hook(
            lambda optimizer, args, kwargs: self._listener.stepped(optimizer)
        )
        self._undo.append(handle.remove)

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
            return around(original, *args, **kwargs)

        def undo() -> None:
            if owner.__dict__.get(name) is wrapper:
                setattr(owner, name, original)

        setattr(owner, name, wrapper)
        self._undo.append(undo)

    def _around_init(self, init: Any, optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
        init(optimizer, *args, **kwargs)
        self._listener.optimizer_made(optimizer)

    def _around_iter(self, begin: Any, loader: DataLoader[Any]) -> Any:
        iterator = begin(loader)
        self._listener.loader_begun(loader, iterator)
        return iterator

    def _around_next(self, fetch: Any, iterator: Any) -> Any:
        try:
            batch = fetch(iterator)
        except StopIteration:
            self._listener.fetched(iterator, True)
            raise
        self._listener.fetched(iterator, False)
        return batch

    def _around_backward(self, backward: Any, tensors: Any, *args: Any, **kwargs: Any) -> None:
        self._listener.backward(tensors)
        backward(tensors, *args, **kwargs)
        self._listener.went_back()

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
            if self._listener.searching:
                self._listener.called(module, args, kwargs)
            assert compiled is not None
            return compiled(*args, **kwargs)

        module._compiled_call_impl = call


def scalar_loss(tensors: Any) -> torch.Tensor | None:
    """The loss that a backward pass begins from, before it was scaled; None if it is not one."""
    loss = tensors[0] if isinstance(tensors, (tuple, list)) and len(tensors) == 1 else tensors
    loss = getattr(loss, "_mapreel_loss", loss)
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        return None
    return loss.detach()
