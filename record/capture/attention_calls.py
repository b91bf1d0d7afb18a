"""Has the attention that a forward computes shown to those who record it.

While a forward is recorded, and only then, the functions by which networks compute attention are
replaced by ones that call them and then tell what they were given. The kernels are the same, and
so are the numbers, to the bit. At all other times torch is as it was.
"""

from __future__ import annotations

import functools
import sys
from _thread import allocate_lock
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, Protocol

import torch
from torch import nn

from record.capture.phase import compiles_here

FUSED = torch._C._nn.scaled_dot_product_attention
_FUNCTIONAL = vars(nn.functional)
_CALL = nn.Module._call_impl.__code__
_EXPLICIT = nn.functional.multi_head_attention_forward.__code__


class AttentionListener(Protocol):
    """What is told of attention. Nothing may be raised."""

    def fused(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Called behind `scaled_dot_product_attention`, with its arguments."""

    def explicit(self, weights: torch.Tensor) -> None:
        """Called with the weights of an `nn.MultiheadAttention`, (N * heads, T_q, T_k)."""

    def other(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Called behind another function that computes attention, with its name and arguments."""

    def windowed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Called before torchvision's `shifted_window_attention`, with its arguments."""

    def window_weights(self, weights: torch.Tensor) -> None:
        """Called with the weights in its windows, (N * windows, heads, T, T)."""


class AttentionCalls:
    """Replaces functions of torch and torchvision while anybody listens."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._listeners: tuple[AttentionListener, ...] = ()
        self._replaced: list[tuple[dict[str, Any], str, Any, Any]] = []

    def begin(
        self,
        listener: AttentionListener,
        also: list[tuple[dict[str, Any], str]],
        others: Sequence[tuple[dict[str, Any], str, str]] = (),
    ) -> None:
        """Begins to tell a listener of attention.

        Args:
            listener: Told of all attention, in whichever thread it is computed.
            also: Where else `scaled_dot_product_attention` is known, and by which name.
            others: Where other functions that compute attention are known, and their own names.
        """
        with self._lock:
            if listener not in self._listeners:
                self._listeners += (listener,)
            self._replace(_FUNCTIONAL, "scaled_dot_product_attention", self._fused)
            self._replace(_FUNCTIONAL, "softmax", self._softmax)
            for namespace, name in also:
                self._replace(namespace, name, self._fused)
            for namespace, name, own in others:
                self._replace(namespace, name, functools.partial(self._other, own))
            swin = sys.modules.get("torchvision.models.swin_transformer")
            if swin is not None:
                self._replace(vars(swin), "shifted_window_attention", self._windowed)

    def end(self, listener: AttentionListener) -> None:
        """Ends it; with the last listener, all functions are as they were."""
        with self._lock:
            self._listeners = tuple(other for other in self._listeners if other is not listener)
            if self._listeners:
                return
            for namespace, name, original, replacement in reversed(self._replaced):
                if namespace.get(name) is replacement:  # else somebody has replaced it since
                    namespace[name] = original
            self._replaced.clear()

    def _replace(self, namespace: dict[str, Any], name: str, around: Any) -> None:
        if any(n is namespace and part == name for n, part, _, _ in self._replaced):
            return
        original = namespace.get(name)
        if callable(original):
            replacement = around(original)
            namespace[name] = replacement
            self._replaced.append((namespace, name, original, replacement))

    def _fused(self, original: Any) -> Any:
        def scaled_dot_product_attention(*args: Any, **kwargs: Any) -> Any:
            output = original(*args, **kwargs)
            if not compiles_here():
                for listener in self._listeners:
                    listener.fused(args, kwargs)
            return output

        _REPLACEMENTS.add(scaled_dot_product_attention.__code__)
        return scaled_dot_product_attention

    def _other(self, name: str, original: Any) -> Any:
        def other(*args: Any, **kwargs: Any) -> Any:
            output = original(*args, **kwargs)
            if not compiles_here():
                for listener in self._listeners:
                    listener.other(name, args, kwargs)
            return output

        return other

    def _softmax(self, original: Any) -> Any:
        def softmax(*args: Any, **kwargs: Any) -> Any:
            output = original(*args, **kwargs)
            if compiles_here():
                return output
            caller = sys._getframe(1).f_code
            if caller is _EXPLICIT:
                for listener in self._listeners:
                    listener.explicit(output)
            elif caller.co_name == "shifted_window_attention":
                for listener in self._listeners:
                    listener.window_weights(output)
            return output

        return softmax

    def _windowed(self, original: Any) -> Any:
        def windowed(*args: Any, **kwargs: Any) -> Any:
            if not compiles_here():
                for listener in self._listeners:
                    listener.windowed(args, kwargs)
            return original(*args, **kwargs)

        return windowed


_REPLACEMENTS: set[Any] = set()


def is_told(frame: FrameType | None) -> bool:
    """Whether a call from this frame is one that the listeners are told of anyway."""
    return frame is not None and frame.f_code in _REPLACEMENTS


def references(model: nn.Module) -> list[tuple[dict[str, Any], str]]:
    """Finds where else than in `torch.nn.functional` the fused attention is known by a name.

    That is where `from torch.nn.functional import scaled_dot_product_attention` was said: in the
    files that the model's classes are written in, and in others of the same packages.

    Args:
        model: The network.
    """
    homes = {kind.__module__ for m in model.modules() for kind in type(m).__mro__}
    packages = {home.partition(".")[0] for home in homes} - {"torch", "builtins"}
    found = []
    for name, module in list(sys.modules.items()):
        if module is None or name.partition(".")[0] not in packages:
            continue
        try:
            namespace = vars(module)
        except TypeError:
            continue
        for key, value in list(namespace.items()):
            if value is FUSED:
                found.append((namespace, key))
    return found


def calling_modules(frame: FrameType | None) -> Iterator[tuple[nn.Module, FrameType]]:
    """Yields the modules whose forwards run, the innermost first, and the frames of their calls.

    Args:
        frame: Where to begin.
    """
    while frame is not None:
        if frame.f_code is _CALL:
            module = frame.f_locals.get("self")
            if isinstance(module, nn.Module):
                yield module, frame
        frame = frame.f_back


attention_calls = AttentionCalls()
