"""Attributes of modules: what a forward for fixed images leaves there, the training never meets."""

from __future__ import annotations

import collections
import contextlib
import functools
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from record.modules.names import is_wrapper

_OF_TORCH = frozenset(vars(nn.Module()))  # parameters, buffers, hooks: others look after them
_MISSING = object()


@contextlib.contextmanager
def own_attributes(root: nn.Module) -> Iterator[None]:
    """Puts back what a forward does to attributes of modules, and to lists and dicts in them.

    A state that goes on from batch to batch, a counter, a list of losses that is summed after the
    forward, a tensor that is written into, a generator of random numbers: all that a module keeps
    in Python, one level deep. Modules that stand around others, such as DistributedDataParallel,
    are left alone.

    Args:
        root: The model.
    """
    modules = [
        vars(module)
        for module in root.modules()
        if not (isinstance(module, torch.jit.ScriptModule) or is_wrapper(module))
    ]
    kept = [(own, dict(own)) for own in modules]
    held: list[tuple[Any, Any]] = [
        (value, _copy(value))
        for _, before in kept
        for name, value in before.items()
        if name not in _OF_TORCH and isinstance(value, (list, dict, set, collections.deque))
    ]
    inside = [value for _, before in kept for value in _attributes(before)]
    inside += [part for _, items in held for part in _values(items)]
    undo = [way for value in inside if (way := _way_back(value)) is not None]
    copies = {id(value): value.clone() for value in inside if _may_be_written(value)}
    try:
        for own, before in kept:
            for name, value in before.items():
                if id(value) in copies:
                    own[name] = copies[id(value)]
        for value, items in held:
            places = () if isinstance(value, set) else _places(items)
            for place, part in places:
                if id(part) in copies:
                    value[place] = copies[id(part)]
        yield
    finally:
        for put_back in undo:
            put_back()
        for own, before in kept:
            for name in own.keys() - before.keys():
                del own[name]
            for name, value in before.items():
                if own.get(name, _MISSING) is not value:
                    own[name] = value
        for value, items in held:
            if not _is_same(_copy(value), items):
                value.clear()
                (value.extend if isinstance(items, list) else value.update)(items)


def _attributes(own: dict[str, Any]) -> Iterator[Any]:
    return (value for name, value in own.items() if name not in _OF_TORCH)


def _values(items: Any) -> Iterator[Any]:
    return iter(items.values() if isinstance(items, dict) else items)


def _places(items: Any) -> Iterable[tuple[Any, Any]]:
    return items.items() if isinstance(items, dict) else enumerate(items)


def _may_be_written(value: Any) -> bool:
    """Whether a forward may write into a tensor by which the training would meet it.

    Not into weights that are computed, nor into parts of others, which are made anew: those of
    FSDP have no values meanwhile.
    """
    if type(value) is not torch.Tensor or value.layout is not torch.strided:
        return False
    return not (value.requires_grad or value.is_nested or value.is_meta or value._is_view())


def _way_back(value: Any) -> Callable[[], Any] | None:
    """Returns what puts a generator of random numbers into the state that it has; else None."""
    if isinstance(value, torch.Generator):
        return functools.partial(value.set_state, value.get_state())
    if isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
        return functools.partial(value.setstate, value.getstate())
    if isinstance(value, np.random.RandomState):
        return functools.partial(value.set_state, value.get_state())
    if isinstance(value, np.random.Generator):
        bits = value.bit_generator
        return functools.partial(setattr, bits, "state", bits.state)
    return None


def _copy(value: Any) -> Any:
    """Returns the items of a container, in a plain one."""
    kind = dict if isinstance(value, dict) else set if isinstance(value, set) else list
    return kind(value)


def _is_same(there: Any, before: Any) -> bool:
    """Whether containers hold the same objects, in the same order where they have one."""
    if len(there) != len(before):
        return False
    if isinstance(before, set):
        return bool(there == before)
    if isinstance(before, dict):
        same_keys = all(one is other for one, other in zip(there, before, strict=True))
        there, before = there.values(), before.values()
        if not same_keys:
            return False
    return all(one is other for one, other in zip(there, before, strict=True))
