"""Finds attention that a network's own code writes out: a product, its softmax, a product again.

What is taken for attention is softmax over the last axis of what came from a product of matrices,
once it has been multiplied with something again, and where the queries or the keys are as many as
the tokens that the module was given. Attention over channels, gates and routers are none of it.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

from record.capture.attention_calls import FUSED, calling_modules, is_told
from record.capture.attention_order import HeadOrder, Lead
from record.capture.phase import compiles_here
from record.capture.tensors import all_tensors, outside_transforms
from record.capture.token_order import TokenOrder

_PRODUCTS = {"matmul", "__matmul__", "bmm", "baddbmm", "einsum"}
_MOST_PENDING = 4  # weights that were not multiplied with anything yet


class ProductListener(Protocol):
    """What is told of attention."""

    def fused(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Called behind `scaled_dot_product_attention`, with its arguments."""

    def written_out(
        self, name: str, module: nn.Module, weights: torch.Tensor, lead: Lead | None
    ) -> None:
        """Called with weights of 3 to 5 axes, of which the last ones are (T_q, T_k)."""

    def name_of(self, module: nn.Module) -> str | None:
        """Returns the name of a module; None where it is not of the model."""


class _Origin(NamedTuple):
    """Where scores come from.

    Attributes:
        name: The name of the module that has computed them.
        module: The module.
        tokens: The numbers of tokens that it may have been given.
        lead: What is known of the axes of images and heads; None where nothing is.
        is_shared: Whether one of what was multiplied is a matrix that all images share.
    """

    name: str
    module: nn.Module
    tokens: frozenset[int]
    lead: Lead | None = None
    is_shared: bool = False


class _Weights(NamedTuple):
    """The softmax of scores.

    Attributes:
        tensor: The weights.
        version: How often they had been changed in place.
        origin: Where the scores come from.
    """

    tensor: torch.Tensor
    version: int
    origin: _Origin


class ProductMode(TorchFunctionMode):
    """Follows products of matrices while it is active.

    Args:
        listener: Is told of attention.

    Attributes:
        modules: Those that compute attention which is found by this alone.
        order: What is known of axes of heads and images.
        tokens: What is known of tokens behind those of the image.
        searches: Whether it is noted which modules run.
        ran: The classes of modules of which something was seen meanwhile.
    """

    def __init__(self, listener: ProductListener) -> None:
        super().__init__()
        self.modules: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self.order = HeadOrder()
        self.tokens = TokenOrder()
        self.searches = False
        self.ran: set[type[nn.Module]] = set()
        self._depth = 0  # modules within one another that are followed
        self._listener = weakref.proxy(listener)
        self._scores: dict[int, tuple[weakref.ref[torch.Tensor], _Origin]] = {}
        self._derived: dict[int, tuple[weakref.ref[torch.Tensor], _Weights]] = {}
        self._pending: list[_Weights] = []

    def enter(self) -> None:
        """Begins to follow; may be called again before it ends."""
        self._depth += 1
        if not any(mode is self for mode in _modes()):
            self.__enter__()  # type: ignore[no-untyped-call]

    def leave(self) -> None:
        """Ends what `enter` has begun last."""
        self._depth -= 1
        if self._depth <= 0:
            self.end()

    def end(self) -> None:
        """Ends following, however often it was begun."""
        self._depth = 0
        self.searches = False
        stack = _modes()
        if stack and stack[-1] is self:
            self.__exit__(None, None, None)
        self._scores.clear()
        self._derived.clear()
        self._pending.clear()
        self.order.clear()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Calls a function of torch, and looks at what came of it."""
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if compiles_here():  # what is traced shows no frames, and no numbers
            return output
        if self.searches:
            self.ran.update(type(module) for module, _ in calling_modules(sys._getframe(1)))
        name = getattr(func, "__name__", "")
        if func is FUSED:
            frame = sys._getframe(1)
            if not is_told(frame):  # known by a name of the network's own
                origin = self._origin(frame)
                if origin is not None:
                    self.modules.add(origin.module)
                self._listener.fused(args, kwargs)
        elif type(output) is torch.Tensor:
            try:
                with torch._C.DisableTorchFunction(), outside_transforms():
                    self._see(name, args, kwargs, output)
            except Exception:  # of another kind than was thought
                self._pending.clear()
        return output

    def _see(self, name: str, args: Any, kwargs: Any, output: torch.Tensor) -> None:
        operands = list(_operands(args, kwargs))
        self.order.see(name, operands, output)
        self.tokens.see(name, operands, output)
        if name in _PRODUCTS:
            self._see_product(args, kwargs, output)
        elif not (self._scores or self._derived):
            return
        elif name == "softmax":
            self._see_softmax(args, kwargs, output)
        else:
            for tensor in _operands(args, kwargs):
                if tensor.numel() != output.numel():
                    continue
                if (origin := _get(self._scores, tensor)) is not None:
                    self._scores[id(output)] = weakref.ref(output), origin
                if (weights := _get(self._derived, tensor)) is not None:
                    self._derived[id(output)] = weakref.ref(output), weights

    def _see_product(self, args: Any, kwargs: Any, output: torch.Tensor) -> None:
        used = [
            weights
            for tensor in _operands(args, kwargs)
            if (weights := _get(self._derived, tensor)) is not None
        ]
        for weights in used:
            if any(weights is other for other in self._pending):
                self._pending = [other for other in self._pending if other is not weights]
                self._keep(weights)
        if output.ndim in (3, 4, 5) and not used:
            origin = self._origin(sys._getframe(3))
            if origin is not None:
                operands = list(_operands(args, kwargs))
                origin = origin._replace(
                    lead=self.order.of(operands, output.shape[:-2]),
                    is_shared=any(one.ndim == 2 for one in operands),
                )
                self._scores[id(output)] = weakref.ref(output), origin

    def _see_softmax(self, args: Any, kwargs: Any, output: torch.Tensor) -> None:
        scores = args[0] if args else kwargs.get("input")
        axis = args[1] if len(args) > 1 else kwargs.get("dim")
        origin = _get(self._scores, scores) if isinstance(scores, torch.Tensor) else None
        if origin is None or axis not in (-1, output.ndim - 1):
            return
        # A matrix that all images share gives each token a number for each expert, say: only where
        # tokens are what is weighed are its rows queries.
        places = output.shape[-1:] if origin.is_shared else output.shape[-2:]
        if output.ndim not in (3, 4, 5) or origin.tokens.isdisjoint(places):
            return
        shown = output
        if _has_heads_behind(output.shape, origin.tokens):
            shown, origin = output.transpose(1, 2), origin._replace(lead=None)
        weights = _Weights(shown, _version(output), origin)
        self._derived[id(output)] = weakref.ref(output), weights
        self._pending = [*self._pending, weights][-_MOST_PENDING:]

    def _keep(self, weights: _Weights) -> None:
        if weights.version != _version(weights.tensor):
            return  # dropout in place: what it was is gone
        self.modules.add(weights.origin.module)
        name, module, _, lead, _ = weights.origin
        self._listener.written_out(name, module, weights.tensor, lead)

    def _origin(self, frame: FrameType | None) -> _Origin | None:
        for module, call in calling_modules(frame):
            name = self._listener.name_of(module)
            if name is not None:
                return _Origin(name, module, tokens_given(call))
        return None


def _has_heads_behind(shape: Sequence[int], tokens: frozenset[int]) -> bool:
    """Whether weights are (N, T_q, heads, T_k), as `einsum("bqhd,bkhd->bqhk", q, k)` has them."""
    return len(shape) == 4 and shape[1] in tokens and shape[2] not in tokens


def _modes() -> list[Any]:
    """Returns the modes of this thread that see calls of torch's functions, the last one last."""
    return list(_get_current_function_mode_stack())  # type: ignore[no-untyped-call]


def tokens_given(call: FrameType) -> frozenset[int]:
    """Returns the numbers of tokens that a module may be given: (N, T, C), (N, H, W, C) ...

    Args:
        call: The frame of its call, from `calling_modules`.
    """
    given = call.f_locals
    return frozenset(_counts(all_tensors([given["args"], given["kwargs"]])))


def _counts(tensors: list[torch.Tensor]) -> Iterator[int]:
    for tensor in tensors:
        shape = tensor.shape
        if len(shape) in (2, 3):  # (T, C), (N, T, C) or (T, N, C)
            yield from shape[:-1]
        elif len(shape) > 3:
            yield shape[1:-1].numel()
            yield shape[2:].numel()
            yield int(shape[-2])


def _operands(args: Any, kwargs: Any) -> Iterator[torch.Tensor]:
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from (part for part in value if isinstance(part, torch.Tensor))


def _get(known: dict[int, tuple[weakref.ref[torch.Tensor], Any]], tensor: torch.Tensor) -> Any:
    """Returns what is known of a tensor; None where nothing is."""
    reference, fact = known.get(id(tensor), (None, None))
    return fact if reference is not None and reference() is tensor else None


def _version(tensor: torch.Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
