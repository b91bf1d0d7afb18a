"""Gives the lazy modules of a model their parameters, before anything else is done with it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from replay.schema import OptionError


def make_whole(model: nn.Module, images: torch.Tensor) -> None:
    """Gives lazy modules their parameters, by a forward that changes nothing else.

    An optimizer needs them before the training begins. Where all are there, nothing is done.

    Args:
        model: The network; it is in training mode afterwards.
        images: A batch for it, (N, C, H, W); only the shape matters.

    Raises:
        OptionError: The model does not take the images, or no forward reaches a lazy module.
    """
    if not unfinished(model):
        return
    for training in (False, True):  # in training heads may run that do not else
        if not unfinished(model):
            break
        before = {name: buffer.clone() for name, buffer in _buffers(model)}
        fresh: list[Any] = [module for module in model.modules() if _has_lazy_buffers(module)]
        model.train(training)
        try:
            with torch.no_grad():
                model(images)
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            shape = "x".join(str(n) for n in images.shape[1:])
            reason = " ".join(str(error).split())[:200]
            raise OptionError(f"the model does not take {shape} images: {reason}") from error
        for name, buffer in _buffers(model):
            if name in before:
                buffer.copy_(before[name])
        for module in fresh:
            if not _has_lazy_buffers(module):
                module.reset_running_stats()
    model.train()
    if left := unfinished(model):
        raise OptionError(
            f"the model has lazy modules that no forward reaches: {', '.join(left[:5])}; remove "
            "them, or give them their sizes"
        )


def unfinished(model: nn.Module) -> list[str]:
    """Returns the names of the parameters that have no shape yet."""
    lazy = nn.parameter.UninitializedParameter
    return [name for name, parameter in model.named_parameters() if isinstance(parameter, lazy)]


def _has_lazy_buffers(module: nn.Module) -> bool:
    """Returns whether a module is a lazy normalisation that does not know its channels."""
    lazy = nn.parameter.UninitializedBuffer
    own = module.buffers(recurse=False)
    return hasattr(module, "reset_running_stats") and any(isinstance(b, lazy) for b in own)


def _buffers(model: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Returns the buffers that have a shape, with their names."""
    lazy = nn.parameter.UninitializedBuffer
    return [
        (name, buffer) for name, buffer in model.named_buffers() if not isinstance(buffer, lazy)
    ]
