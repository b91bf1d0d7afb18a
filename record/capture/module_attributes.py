"""Attributes of modules: what a forward for fixed images leaves there, the training never meets."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from record.modules.names import is_wrapper

_OF_TORCH = frozenset(vars(nn.Module()))  # parameters, buffers, hooks: others look after them
_MISSING = object()


@contextlib.contextmanager
def own_attributes(root: nn.Module) -> Iterator[None]:
    """Puts back what a forward does to attributes of modules, and to lists and dicts in them.

    A state that goes on from batch to batch, a counter, a list of losses that is summed after the
    forward: all that a module keeps in Python, one level deep. Modules that stand around others,
    such as DistributedDataParallel, are left alone.

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
    try:
        yield
    finally:
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
