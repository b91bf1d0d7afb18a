"""Finds the modules that own the parameters that an optimizer trains.

Parameters are told apart by `id`, and sets of them are sets of these ids.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import Optimizer

from record.capture.tensors import all_tensors

_MAX_NODES = 64  # of the graph of a changed image


def optimized_parameters(optimizer: Optimizer) -> set[int]:
    """Returns the ids of an optimizer's parameters."""
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}


def may_train(optimizer: Optimizer, after_backward: bool) -> bool:
    """Returns whether a step can have been by gradients of a training.

    One without any, or one of zeros at a rate of 0, is made before a training, for the optimizer's
    state to be there (torch.distributed.checkpoint) or lest a scheduler warns.

    Args:
        optimizer: The optimizer that stepped.
        after_backward: Whether there was a backward pass since the last step.
    """
    rates = [group.get("lr") for group in optimizer.param_groups]
    return bool(_gradients(optimizer)) and (after_backward or any(rate != 0 for rate in rates))


def has_zeros(optimizer: Optimizer) -> bool:
    """Returns whether all gradients of an optimizer are zeros; waits for a GPU that has them."""
    return not any(
        gradient.is_sparse or bool(getattr(gradient, "_local_tensor", gradient).any())
        for gradient in _gradients(optimizer)
    )


def _gradients(optimizer: Optimizer) -> list[torch.Tensor]:
    """Returns the gradients that an optimizer's parameters have."""
    parameters = (p for group in optimizer.param_groups for p in group["params"])
    return [p.grad for p in parameters if p.grad is not None]


def parameter_ids(module: nn.Module) -> set[int]:
    """Returns the ids of the parameters of a module and of all modules in it."""
    return {id(parameter) for parameter in module.parameters()}


def leads_to(outputs: Any, parameters: set[int]) -> bool:
    """Returns whether a backward pass would come to one of some parameters.

    Args:
        outputs: What it would begin from.
        parameters: The ids of the parameters.
    """
    nodes = [tensor.grad_fn for tensor in all_tensors(outputs) if tensor.grad_fn is not None]
    seen = set(nodes)
    while nodes:
        node = nodes.pop()
        if id(getattr(node, "variable", None)) in parameters:
            return True
        fresh = {following for following, _ in node.next_functions if following} - seen
        seen |= fresh
        nodes.extend(fresh)
    return False


def is_made_of_leaves(inputs: Any) -> bool:
    """Returns whether an input has a gradient, and no parameter made it: an attack's.

    Args:
        inputs: What a forward is given.
    """
    known = [tensor for tensor in all_tensors(inputs) if tensor.requires_grad]
    if any(isinstance(tensor, nn.Parameter) for tensor in known):
        return False
    nodes = [tensor.grad_fn for tensor in known if tensor.grad_fn is not None]
    seen = set(nodes)
    while nodes:
        node = nodes.pop()
        if len(seen) > _MAX_NODES or isinstance(getattr(node, "variable", None), nn.Parameter):
            return False  # a network's output
        fresh = {following for following, _ in node.next_functions if following} - seen
        seen |= fresh
        nodes.extend(fresh)
    return bool(known)


def outermost_owner(module: nn.Module, target: set[int]) -> nn.Module:
    """Returns a module, or one that contains it and owns more of the parameters looked for.

    Args:
        module: The module to begin with.
        target: The ids of the parameters that are looked for.
    """
    own = parameter_ids(module)
    if target <= own:
        return module
    best, most = module, len(target & own)
    for container in _containers(module):
        count = len(target & parameter_ids(container))
        if count > most:
            best, most = container, count
    return best


def best_owner(target: set[int], in_training: bool = True) -> nn.Module | None:
    """Returns, of all modules in training mode, the smallest that owns most of the parameters.

    Args:
        target: The ids of the parameters that are looked for.
        in_training: Whether those in evaluation mode are left out.

    Returns:
        The module; None where none owns any of them.
    """
    best: nn.Module | None = None
    best_score = (0, 0)
    for module in _all_modules():
        own = parameter_ids(module)
        if own & target and (module.training or not in_training):
            score = (len(own & target), -len(own))
            if score > best_score or (score == best_score and best is None):
                best, best_score = module, score
    return best


def _all_modules() -> Iterable[nn.Module]:
    """Returns every module there is; type(), since isinstance() wakes lazy proxies up."""
    return [thing for thing in gc.get_objects() if issubclass(type(thing), nn.Module)]


def _containers(module: nn.Module) -> Sequence[nn.Module]:
    """Returns the modules that contain a module, from the inside out."""
    parents: dict[int, list[nn.Module]] = {}
    for candidate in _all_modules():
        for child in getattr(candidate, "_modules", {}).values():
            if child is not None:
                parents.setdefault(id(child), []).append(candidate)
    found: list[nn.Module] = []
    seen = {id(module)}
    queue = [module]
    while queue:
        for parent in parents.get(id(queue.pop(0)), []):
            if id(parent) not in seen:
                seen.add(id(parent))
                found.append(parent)
                queue.append(parent)
    return found
