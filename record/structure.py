"""Whether a model still consists of the same modules."""

from __future__ import annotations

import weakref

import torch
from torch import nn


class Structure:
    """The modules of a model, as they were when this was made.

    Args:
        model: The model; nothing of it is kept alive.
    """

    def __init__(self, model: nn.Module) -> None:
        self._children = [
            (
                weakref.ref(module),
                [None if c is None else weakref.ref(c) for c in module._modules.values()],
            )
            for module in model.modules()
            if not isinstance(module, torch.jit.ScriptModule)  # which stays as it is
        ]

    def changed(self) -> bool:
        """Whether a module was added, removed or replaced since."""
        for reference, before in self._children:
            module = reference()
            if module is None:
                continue
            table = module._modules
            if len(table) != len(before):
                return True
            for now, then in zip(table.values(), before, strict=True):
                if now is not (None if then is None else then()):
                    return True
        return False


def _children(module: nn.Module) -> list[nn.Module | None]:
    return list(module._modules.values())
