"""Networks of the table of hazards; most have an in-place ReLU that overwrites what came before."""

from __future__ import annotations

import warnings

import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.utils.checkpoint import checkpoint

LAYERS = ("conv1", "norm", "relu", "conv2")


class BrokenImageError(Exception):
    """Raised inside a forward; the loop goes on with the next batch."""


class Net(nn.Module):
    """An in-place ReLU, called twice, that overwrites what norm and what conv2 put out."""

    def __init__(self, checkpointing: str = "") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(6, 4, 3)
        self.drop = nn.Dropout(0.25)
        self.fc = nn.Linear(4, 3)
        self.checkpointing = checkpointing

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x)
        if not torch.compiler.is_compiling() and self.training and x[0, 0, 0, 0].abs() > 50:
            raise BrokenImageError
        return self.relu(self.norm(x))

    def decode(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.drop(self.relu(self.conv2(x))).mean((2, 3)))

    def body(self, x: torch.Tensor) -> torch.Tensor:
        return self.decode(self.encode(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.checkpointing and self.training:
            return checkpoint(self.body, x, use_reentrant=self.checkpointing == "reentrant")
        return self.body(x)


class Wrapper(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


class Around(nn.Module):
    """A module between two layers."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.part = part

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.part(self.conv1(x)).mean((2, 3))


def frozen() -> nn.Module:
    """conv1 does not learn; norm is in eval mode while the model trains."""
    net = Net()
    net.conv1.requires_grad_(False)
    net.norm.train = lambda mode=True: net.norm  # type: ignore[method-assign, assignment]
    net.norm.training = False
    return net


def extreme() -> nn.Module:
    """conv1 puts out one constant per channel: float16 has no place for most of them."""
    values = (65504, 65519, 65520, -1e6, torch.inf, -torch.inf, torch.nan, 6e-5)
    values += (3e-6, 6e-8, -4e-8, 2e-8, -2e-8, 1e-40, 0.0, -0.0)
    net = nn.Sequential()
    net.conv1 = nn.Conv2d(3, len(values), 1)
    net.conv2 = nn.Conv2d(len(values), 3, 3)
    with torch.no_grad():
        net.conv1.weight.zero_()
        net.conv1.bias.copy_(torch.tensor(values))
    return net


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return Around(torch.jit.script(nn.Sequential(nn.Conv2d(6, 4, 3), nn.ReLU(inplace=True))))


def one_replica() -> nn.Module:
    model = nn.DataParallel(Net())
    model.device_ids = []  # as on a machine without GPUs: it calls the module itself
    return model


def wrapped_checkpoint() -> nn.Module:
    net = Net()
    net.conv1 = checkpoint_wrapper(net.conv1)
    return net
