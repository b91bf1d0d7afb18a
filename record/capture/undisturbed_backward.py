"""A gradient of a forward has nothing of what the script has put into backward passes."""

from __future__ import annotations

import contextlib
import functools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as module_hooks
from torch.overrides import TorchFunctionMode

from record.capture.shared_settings import SharedSetting
from record.capture.token_order import TokenOrder

_OF_MODULES = ("_backward_hooks", "_backward_pre_hooks")
_OF_ALL_MODULES = ("_global_backward_hooks", "_global_backward_pre_hooks")


@contextlib.contextmanager
def undisturbed_backward(root: nn.Module, tokens: TokenOrder) -> Iterator[None]:
    """Runs a forward of whose gradients no hooks of the script's will be told.

    Modules have no backward hooks meanwhile, a forward hook adds none to tensors, and what is saved
    for the gradient goes through no hooks. Afterwards all is as it was.

    Args:
        root: The model.
        tokens: Is told of tokens that are joined meanwhile.
    """
    tables: list[tuple[dict[str, Any], str, Any]] = []
    places = [
        (module.__dict__, name)
        for module in root.modules()
        if not isinstance(module, torch.jit.ScriptModule)
        for name in _OF_MODULES
    ]
    places += [(vars(module_hooks), name) for name in _OF_ALL_MODULES]
    try:
        for holder, name in places:
            table = holder.get(name)
            if table:
                tables.append((holder, name, table))
                holder[name] = OrderedDict()
        with anomalies_unseen(), saved_as_they_are(), _NoTensorHooks(tokens):
            yield
    finally:
        for holder, name, table in tables:
            holder[name] = table


def _ignore_anomalies() -> Callable[[], Any]:
    before = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
    torch.set_anomaly_enabled(False)
    return functools.partial(torch.set_anomaly_enabled, *before)


_anomalies_unseen = SharedSetting(_ignore_anomalies)


def anomalies_unseen() -> contextlib.AbstractContextManager[None]:
    """Keeps autograd from looking for anomalies, where the script has it do so."""
    return _anomalies_unseen.changed()


def saved_as_they_are() -> contextlib.AbstractContextManager[Any]:
    """Keeps hooks of the script's from what is saved for a gradient, where there are any."""
    hooks = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    if hooks is not None and hooks(True) is None:
        return contextlib.nullcontext()
    return torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor)


class _NoTensorHooks(TorchFunctionMode):
    """While it is active, nothing puts a hook on a tensor: what a forward hook may want to.

    Args:
        tokens: Is told of tokens that are joined.
    """

    def __init__(self, tokens: TokenOrder) -> None:
        super().__init__()
        self._tokens = tokens

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Calls what is called, but for what adds a hook."""
        if func in (
            torch.Tensor.register_hook,
            torch.Tensor.register_post_accumulate_grad_hook,
        ):
            return torch.utils.hooks.RemovableHandle(OrderedDict())
        output = func(*args, **(kwargs or {}))
        self._tokens.see_call(func, args or tuple((kwargs or {}).values()), output)
        return output
