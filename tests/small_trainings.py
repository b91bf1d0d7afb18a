"""A small network, batches whose images say which one they are, and hooks beside the recorder."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch import nn


def small(width: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.ReLU(inplace=True), nn.Conv2d(width, 2, 3))


def numbered(count: int, size: int = 3) -> list[torch.Tensor]:
    """Batches whose images say which one they are: 100 times the batch and the image."""
    return [
        torch.stack([torch.full((1, 8, 8), 1.0 + number + image / 8) for image in range(size)])
        for number in range(count)
    ]


def half(tensor: torch.Tensor) -> bytes:
    return tensor.detach().to(torch.float16).contiguous().numpy().tobytes()


class Hooked:
    """What a layer put out in each forward, by the first value of the model's input."""

    def __init__(self, model: nn.Module, name: str = "0") -> None:
        self.by_input: dict[float, bytes] = {}
        self.local = threading.local()
        model.register_forward_pre_hook(self.before)
        model.get_submodule(name).register_forward_hook(self.behind)

    def before(self, module: nn.Module, args: Any) -> None:
        self.local.key = None
        if torch._C._functorch.peek_interpreter_stack() is None:
            self.local.key = float(args[0].reshape(-1)[0])

    def behind(self, module: nn.Module, args: Any, output: torch.Tensor) -> None:
        if self.local.key is not None:
            self.by_input[self.local.key] = half(output[0].clone())


def step(model: nn.Module, images: torch.Tensor, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    loss = model(images).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


def weights(model: nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}
