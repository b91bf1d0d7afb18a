"""Small networks built as well-known packages build theirs, and a training that is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import replay
from record import Recorder
from record.modules.names import unwrap
from record.modules.selection import find_layers


class Attention(nn.Module):
    """As vit-pytorch has it: the norm is in it."""

    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.to_qkv(self.norm(x)).chunk(3, -1)
        return self.to_out(torch.softmax(q @ k.transpose(1, 2), -1) @ v)


class FeedForward(nn.Module):
    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


class Block(nn.Module):
    """As timm has it."""

    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, 4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class Run(nn.Module):
    """Calls its parts one after the other, and lists of lists as transformers do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for part in self.children():
            if isinstance(part, nn.ModuleList):
                for block in part:
                    for piece in block if isinstance(block, nn.ModuleList) else [block]:
                        x = piece(x)
            else:
                x = part(x)
        return x


def run(**parts: nn.Module) -> nn.Module:
    model = Run()
    for name, part in parts.items():
        model.add_module(name, part)
    return model


def timm_vit() -> nn.Module:
    return run(
        patch_embed=PatchEmbed(),
        blocks=nn.Sequential(*(Block() for _ in range(3))),
        norm=nn.LayerNorm(8),
        head=nn.Linear(8, 2),
    )


def simple_vit() -> nn.Module:
    layers = nn.ModuleList(nn.ModuleList([Attention(), FeedForward()]) for _ in range(3))
    return run(
        to_patch_embedding=nn.Sequential(PatchRows(), nn.Linear(48, 8)),
        transformer=run(layers=layers),
        linear_head=nn.Linear(8, 2),
    )


class PatchRows(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.unfold(x, 4, stride=4).transpose(1, 2)


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.key = nn.Linear(8, 4)
        self.value = nn.Linear(8, 4)


class Several(nn.Module):
    """A transformer's block with its heads, or experts, in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(8)
        self.heads = nn.ModuleList(Head() for _ in range(6))
        self.proj = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Stage(nn.Module):
    """As timm's and transformers' Swin has it: blocks, then half the size."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(depth))
        self.downsample = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.tokens = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 4))
        self.channels = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class ConvNeXtBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.norm = nn.LayerNorm(32)
        self.fc1, self.fc2 = nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Residual(nn.Module):
    """A ResNet's block with a squeeze in front of its end, made of Linears."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)
        self.squeeze = nn.Sequential(nn.Linear(8, 2), nn.Linear(2, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def train(model: nn.Module, path: Path, layers: Any = None) -> dict[str, list[np.ndarray]]:
    """Three batches in two epochs; what plain hooks saw of the layers that were recorded."""
    seen: dict[str, list[np.ndarray]] = {}
    for name, module in find_layers(unwrap(model), layers).items():
        module.register_forward_hook(
            lambda m, a, out, n=name: seen.setdefault(n, []).append(
                out[0].detach().clone().half().numpy()
            )
        )
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    with Recorder(model, path, layers) as recorder:
        for _ in range(2):
            for images in recorder.track([torch.randn(2, 3, 8, 8) for _ in range(3)]):
                optimizer.zero_grad()
                output = model(images)
                output = getattr(output, "last_hidden_state", output)
                output.square().mean().backward()
                optimizer.step()
    return seen


def check(path: Path, seen: dict[str, list[np.ndarray]]) -> None:
    with replay.open(path) as run:
        assert run.frames == [(e, b) for e in range(2) for b in range(3)]
        assert sorted(run.layers) == sorted(seen)
        for name, frames in seen.items():
            for at, frame in zip(run.frames, frames, strict=True):
                assert run[name][at].tobytes() == frame.tobytes()
