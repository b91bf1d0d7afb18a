"""A network whose training leaves marks everywhere, its loop, and hooks that watch it."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from record import Recorder


class Net(nn.Module):
    """conv1, an in-place ReLU called twice, conv2, and a layer that is not always used."""

    def __init__(self, checkpointing: str = "") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(6, 4, 3)
        self.spare = nn.Conv2d(4, 4, 1)
        self.fc = nn.Linear(4, 3)
        self.use_spare = False
        self.checkpointing = checkpointing

    def features(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.conv1(x))
        return self.relu(self.conv2(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.checkpointing:
            x = checkpoint(self.features, x, use_reentrant=self.checkpointing == "reentrant")
        else:
            x = self.features(x)
        if self.use_spare:
            x = self.spare(x)
        return self.fc(x.mean((2, 3)))


USED = ["conv1", "conv2"]


def make(checkpointing: str = "") -> Net:
    torch.manual_seed(0)
    return Net(checkpointing)


def batches(count: int = 4, size: int = 12) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(3 if i else 4, 3, size, size, generator=generator) for i in range(count)]


def fit(
    model: nn.Module,
    recorder: Recorder | None,
    epochs: int = 2,
    forward: nn.Module | None = None,
    data: list[torch.Tensor] | None = None,
) -> torch.Tensor:
    """Trains, with an evaluation after each epoch; the weights in one vector."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    forward = model if forward is None else forward
    for _ in range(epochs):
        source = batches() if data is None else data
        for images in source if recorder is None else recorder.track(source):
            loss = forward(images).square().mean() + 0 * torch.rand(())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if recorder is not None:
                recorder.log(loss=loss, label=torch.tensor(2), speed=0.5)
        model.eval()
        with torch.no_grad():
            forward(batches()[0])
        model.train()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


class Watch:
    """An independent hook: the first image of each training output, copied at once."""

    def __init__(self, module: nn.Module) -> None:
        self.frames: list[np.ndarray] = []
        self.kernels: list[np.ndarray] = []
        module.register_forward_hook(self)

    def __call__(self, module: nn.Module, args: object, output: torch.Tensor) -> None:
        if module.training and torch._C._current_graph_task_id() == -1:
            self.frames.append(output[0].detach().clone().half().numpy())
            self.kernels.append(module.weight.detach().clone().half().numpy())
