"""Whether a model still consists of the same modules."""

from __future__ import annotations

import weakref

import torch
from torch import nn


class Structure:
    """The modules of a model, as they were when this was made.

    Args:
        model: The model, of which nothing is kept alive.
    """

    def __init__(self, model: nn.Module) -> None:
        # Compared at each batch: as numbers, the children of a module take a few microseconds.
        self._children = [
            (weakref.ref(module), tuple(map(id, module._modules.values())))
            for module in model.modules()
            if not isinstance(module, torch.jit.ScriptModule) and _may_change(module)
        ]

    def changed(self) -> bool:
        """Whether a module was added, removed or replaced since."""
        for reference, before in self._children:
            module = reference()
            if module is not None and tuple(map(id, module._modules.values())) != before:
                return True
        return False


def _may_change(module: nn.Module) -> bool:
    """Whether a module has children or may get some; torch's own layers do not."""
    holds_modules = isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict))
    torchs = type(module).__module__.startswith("torch.nn.modules")
    return holds_modules or not torchs or len(module._modules) > 0
