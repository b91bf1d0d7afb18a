"""Which backward pass runs, whether its gradients count, and by what its loss was multiplied.

A hook in a graph is called with gradients and is not told whose they are: those of a `backward`, of
a penalty that `torch.autograd.grad` computes on the way to the loss, or of a loss that a GradScaler
has multiplied. What tells is the call that the training's thread waits for.
"""

from __future__ import annotations

import gc
import itertools
import sys
import weakref
from _thread import get_ident
from collections.abc import Sequence
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import nn

from record.capture.loss_scaling import LossScaling, factors_of

_SEARCHES = 4  # for the training's GradScaler, at most: each looks at every object there is
_DEPTH = 4  # operations between the loss and what it was scaled by, such as a division


class BackwardPass(NamedTuple):
    """A backward pass.

    Attributes:
        counts: Whether its gradients are those of what `backward` was called on.
        only_first: Whether they are so only where none has come before in the batch, and no
            `backward` comes behind.
        factor: What a GradScaler has multiplied the loss by, float32 (); None where nothing has.
        is_known: Whether it is known what the loss was multiplied by.
    """

    counts: bool
    only_first: bool = False
    factor: torch.Tensor | None = None
    is_known: bool = True


class BackwardPasses:
    """Tells of the backward pass that runs what it is.

    Attributes:
        task: The number of the task of torch's engine that was looked at last.
        last: What the pass was.
        scaling: What GradScalers multiply, as long as it is followed.
    """

    def __init__(self) -> None:
        self.task = -1
        self.last = BackwardPass(True)
        self._scalers: list[weakref.ref[Any]] = []
        self._searches = 0
        self.scaling = LossScaling()

    def current(self, thread: int) -> BackwardPass:
        """Returns what the pass is that runs, to be called from a hook of its graph.

        Args:
            thread: The thread that trains; the engine may call hooks in another one.
        """
        task = torch._C._current_graph_task_id()
        if task != self.task:
            self.last = self._look_at(_outermost_call(thread) or _outermost_call(get_ident()))
            self.task = task
        return self.last

    def _look_at(self, call: FrameType | None) -> BackwardPass:
        """Returns what a call of `backward` or `grad` says of its pass."""
        if call is None:  # from C++, say
            return BackwardPass(True, is_known=not self._enabled_scalers(search=True))
        given = call.f_locals
        if call.f_code.co_name == "backward":
            return self._scaled(_as_list(given.get("tensors")))
        if not any(isinstance(one, nn.Parameter) for one in _as_list(given.get("inputs"))):
            return BackwardPass(False)  # a penalty, an attribution
        # By parameters it is a training's own pass, and those behind a first one are derivatives
        # of gradients; before a `backward` it weighs parts of the loss, or makes a penalty of it.
        return self._scaled(_as_list(given.get("outputs")))._replace(only_first=True)

    def _scaled(self, roots: Sequence[Any]) -> BackwardPass:
        """Returns a pass that counts, with what its roots were multiplied by."""
        nodes = [root.grad_fn for root in roots if isinstance(root, torch.Tensor)]
        found = [factor for node in nodes for factor in factors_of(node)]
        different = {id(factor): factor for factor in found}
        if len(different) > 1:  # by several, or a part of it by none
            return BackwardPass(True, is_known=False)
        factor = next(iter(different.values()), None)
        if factor is None and any(_is_multiplied(node) for node in nodes):
            unseen = [one for one in self._enabled_scalers(True) if not self.scaling.has_seen(one)]
            return BackwardPass(True, is_known=not unseen)
        return BackwardPass(True, factor=factor)

    def _enabled_scalers(self, search: bool) -> list[Any]:
        """Returns the GradScalers that have scaled a loss, as far as they are found.

        Args:
            search: Whether to look for them where none is known.
        """
        known = [scaler for scaler in (one() for one in self._scalers) if scaler is not None]
        found = [one for one in known if one._enabled and one._scale is not None]
        if found or not search or self._searches >= _SEARCHES:
            return found
        self._searches += 1
        kind = torch.amp.GradScaler
        # By their types: to ask an object of its class may be to run code of the user's.
        scalers = [each for each in gc.get_objects() if issubclass(type(each), kind)]
        self._scalers = [weakref.ref(each) for each in scalers]
        return self._enabled_scalers(search=False)


def is_backward_compiled() -> bool:
    """Returns whether the backward pass is compiled too: a hook would be traced into it.

    Not to be asked of a forward that is being compiled.
    """
    module = sys.modules.get("torch._dynamo.compiled_autograd")  # its import would take a second
    return module is not None and bool(getattr(module, "compiled_autograd_enabled", False))


def _as_list(tensors: Any) -> list[Any]:
    """Returns a tensor or some of them as a list."""
    return [tensors] if isinstance(tensors, torch.Tensor) else list(tensors or ())


def _outermost_call(thread: int) -> FrameType | None:
    """Returns the outermost call of `torch.autograd.backward` or `grad` that a thread is in."""
    frame = sys._getframe() if thread == get_ident() else sys._current_frames().get(thread)
    found = None
    while frame is not None:
        code = frame.f_code
        if code.co_name in ("backward", "grad") and (
            frame.f_globals.get("__name__") == "torch.autograd"
        ):
            found = frame
        frame = frame.f_back
    return found


def _is_multiplied(node: Any, depth: int = _DEPTH) -> bool:
    """Whether what a node puts out is a product with a constant, as a GradScaler makes it.

    It may then have been divided by another one, as for accumulated gradients, or be a sum of such.
    """
    name = type(node).__name__
    if node is None or depth == 0 or name[:3] not in ("Mul", "Div", "Add"):
        return False
    parts = [part for part, _ in itertools.islice(node.next_functions, 2)]
    with_graph = [part for part in parts if part is not None]
    if name.startswith("Mul") and len(with_graph) == 1:
        return True
    if name.startswith("Div") and len(with_graph) != 1:
        return False
    return bool(with_graph) and all(_is_multiplied(part, depth - 1) for part in with_graph)
