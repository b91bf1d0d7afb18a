"""Which modules own the parameters that an optimizer trains."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence

from torch import nn
from torch.optim.optimizer import Optimizer


def trained(optimizer: Optimizer) -> set[int]:
    """The parameters of an optimizer, by id."""
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}


def owned(module: nn.Module) -> set[int]:
    """The parameters of a module and of all in it, by id."""
    return {id(parameter) for parameter in module.parameters()}


def outermost(module: nn.Module, target: set[int]) -> nn.Module:
    """The module, or what contains it and owns more of the parameters that are looked for."""
    own = owned(module)
    if target <= own:
        return module
    best, most = module, len(target & own)
    for around in _containers(module):
        count = len(target & owned(around))
        if count > most:
            best, most = around, count
    return best


def best_owner(target: set[int]) -> nn.Module | None:
    """Of all modules in training mode the smallest that owns most of the parameters."""
    best: nn.Module | None = None
    score = (0, 0)
    for module in _all_modules():
        own = owned(module)
        if own & target and module.training:
            rated = (len(own & target), -len(own))
            if rated > score or (rated == score and best is None):
                best, score = module, rated
    return best


def _all_modules() -> Iterable[nn.Module]:
    """Every module there is; type(), since isinstance() wakes lazy proxies up."""
    return [thing for thing in gc.get_objects() if issubclass(type(thing), nn.Module)]


def _containers(module: nn.Module) -> Sequence[nn.Module]:
    """The modules that contain a module, from the inside out."""
    parents: dict[int, list[nn.Module]] = {}
    for candidate in _all_modules():
        for child in getattr(candidate, "_modules", {}).values():
            if child is not None:
                parents.setdefault(id(child), []).append(candidate)
    found: list[nn.Module] = []
    seen = {id(module)}
    queue = [module]
    while queue:
        for around in parents.get(id(queue.pop(0)), []):
            if id(around) not in seen:
                seen.add(id(around))
                found.append(around)
                queue.append(around)
    return found
