"""What a forward for given fixed images leaves behind in Python: the training never meets it."""

from __future__ import annotations

import argparse
import collections
import contextlib
import types
from collections.abc import Iterable, Iterator, Sized
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from record.capture.hidden_hooks import Hook
from record.capture.python_state import PythonState, is_users
from record.modules.names import is_wrapper

_OF_TORCH = frozenset(vars(nn.Module()))  # parameters, buffers, hooks: others look after them
_HOOKS = "_forward_hooks", "_forward_pre_hooks"
_PLAIN = (types.SimpleNamespace, argparse.Namespace, collections.UserDict, collections.UserList)
# These hold a training and its data, and a forward changes nothing there.
_NO_STATE = torch.optim.Optimizer, torch.utils.data.Dataset, torch.utils.data.Sampler
_PARTS = torch.Tensor, tuple
_MISSING = object()


@contextlib.contextmanager
def own_state(root: nn.Module) -> Iterator[None]:
    """Puts back what a forward does to all that the model's modules, hooks and classes keep.

    A state that goes on from batch to batch, a counter, a list of losses that is summed after the
    forward, a tensor or an array that is written into, a generator of random numbers: what stands
    in attributes of modules, in the lists, dicts and objects of the user's own classes in these,
    in attributes of these classes, and in the variables that their code and that of hooks names.
    Modules that stand around others, such as DistributedDataParallel, are left alone, and so is
    what holds the model itself, a trainer say.

    Args:
        root: The model.
    """
    state = _OwnState(root)
    try:
        state.replace_tensors()
        yield
    finally:
        state.restore()


class _OwnState(PythonState):
    """What can be put back of all that a forward can reach; what cannot is left as it is."""

    most = 10_000
    most_bytes = 1 << 26

    def _begin(self, root: nn.Module) -> None:
        self._root = root
        self._items: list[tuple[Any, Any]] = []  # lists and dicts, and what they held
        self._names: list[tuple[Any, Any, Any]] = []  # of variables: how to set one, and its value
        self._copies: dict[int, torch.Tensor] = {}  # by the id of what they stand for
        self._copied = 0  # bytes, of those that are bounded
        for module in root.modules():
            if not _is_left_alone(module):
                self._keep_attributes(module)
        # In attributes of modules, or in a list or dict that is one: these are copied of any size.
        self._direct = len(self._items)
        for table in (torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks):
            self._wait_for(table.values())

    def _refuse(self, reason: str) -> None:
        """Leaves it as it is."""

    def _wait_for(self, values: Iterable[Any]) -> None:
        if not isinstance(values, Sized) or len(values) <= self.most:
            super()._wait_for(values)

    def _keep_attributes(self, module: nn.Module) -> None:
        own = vars(module)
        if id(own) in self._seen:
            return
        self._seen[id(own)] = own
        self._keep_items(_has_same_values, _put_values, own, dict(own))
        for name in own.keys() - _OF_TORCH:
            if not self._is_leaf(own[name]):
                self._look_at(own[name])
        for name in _HOOKS:
            if own.get(name):
                self._wait_for(one for one in own[name].values() if not isinstance(one, Hook))
        if is_users(type(module).__module__):
            self._waiting.append(type(module))

    def _look_at_object(self, value: Any) -> None:
        if isinstance(value, nn.Module):  # one that is hidden from the model, in a list say
            for module in value.modules():
                if not _is_left_alone(module):
                    self._keep_attributes(module)
                    buffers = module._buffers
                    self._keep_items(_has_same_values, _put_values, buffers, dict(buffers))
            return
        users = is_users(type(value).__module__) and not isinstance(value, _NO_STATE)
        if not (users or isinstance(value, _PLAIN)):
            return
        if any(part is self._root for part in getattr(value, "__dict__", {}).values()):
            return
        super()._look_at_object(value)

    def replace_tensors(self) -> None:
        """Puts copies in the places of tensors that a forward may write into.

        To write the old values into them afterwards would not do: autograd counts how often a
        tensor was written into.
        """
        for number, (holder, before) in enumerate(self._items):
            self._is_bounded = number >= self._direct
            places = before.items() if isinstance(before, dict) else enumerate(before)
            for place, value in places:
                if not isinstance(value, _PARTS):
                    continue
                if (copy := self._replaced(value)) is not value:
                    kind: Any = dict if isinstance(before, dict) else type(holder)
                    kind.__setitem__(holder, place, copy)
        self._is_bounded = True
        for put_back, holder, value in self._names:
            if (copy := self._replaced(value)) is not value:
                put_back(holder, copy)

    def _keep_items(self, is_same: Any, put_back: Any, holder: Any, before: Any) -> None:
        super()._keep_items(is_same, put_back, holder, before)
        self._items.append((holder, before))

    def _keep_name(self, is_same: Any, put_back: Any, holder: Any, value: Any) -> None:
        super()._keep_name(is_same, put_back, holder, value)
        self._names.append((put_back, holder, value))

    def _replaced(self, value: Any) -> Any:
        """Returns a copy of a tensor, or of a tuple of some, that may be written into."""
        if type(value) is torch.Tensor:
            return self._copies[id(value)] if id(value) in self._copies else self._copy_of(value)
        if isinstance(value, tuple) and any(isinstance(one, _PARTS) for one in value):
            parts = [self._replaced(one) for one in value]
            if any(one is not other for one, other in zip(parts, value, strict=True)):
                return getattr(type(value), "_make", type(value))(parts)
        return value

    def _copy_of(self, value: torch.Tensor) -> torch.Tensor:
        if not _may_be_written(value):
            return value
        if self._is_bounded:
            if self._copied + value.nbytes > self.most_bytes:
                return value
            self._copied += value.nbytes
        self._copies[id(value)] = copy = value.clone()
        return copy


def _is_left_alone(module: nn.Module) -> bool:
    return isinstance(module, torch.jit.ScriptModule) or is_wrapper(module)


def _may_be_written(value: torch.Tensor) -> bool:
    """Whether a forward may write into a tensor by which the training would meet it.

    Not into weights that are computed, nor into parts of others, which are made anew: those of
    FSDP have no values meanwhile.
    """
    if value.layout is not torch.strided:
        return False
    return not (value.requires_grad or value.is_nested or value.is_meta or value._is_view())


def _has_same_values(there: dict[str, Any], before: dict[str, Any]) -> bool:
    return len(there) == len(before) and all(
        there.get(name, _MISSING) is value for name, value in before.items()
    )


def _put_values(there: dict[str, Any], before: dict[str, Any]) -> None:
    """Puts values back one by one: another thread may be looking at the others."""
    for name in there.keys() - before.keys():
        del there[name]
    for name, value in before.items():
        if there.get(name, _MISSING) is not value:
            there[name] = value
