"""What is common to all ways of looking at feature maps that are measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn


class Watch:
    """A way of looking at the feature maps, which can be switched on and off."""

    def __init__(self, model: nn.Module, folder: Path) -> None:
        self.model, self.folder = model, folder
        self.kept: dict[str, torch.Tensor] = {}
        self._hooks: list[Any] = []

    def on(self) -> None:
        """Hooks that keep the first image's maps of every convolution, without any care."""
        for name, module in self.model.named_modules():
            if isinstance(module, nn.Conv2d):

                def keep(_: nn.Module, __: Any, output: torch.Tensor, name: str = name) -> None:
                    self.keep(name, output)

                self._hooks.append(module.register_forward_hook(keep))

    def keep(self, name: str, output: torch.Tensor) -> None:
        """What a hook does with what its layer put out."""
        self.kept[name] = output[0].detach()

    def off(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def step(self) -> None: ...

    def close(self) -> None: ...
