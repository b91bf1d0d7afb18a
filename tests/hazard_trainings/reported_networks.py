"""Networks of public bug reports: the batch on another axis, and outputs of other kinds."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3 + 2, 4 * 2, 3, padding=1)
        self.act = nn.Sigmoid()

    def forward(self, x: torch.Tensor, state: Any) -> Any:
        h, c = state
        i, f, o, g = self.act(self.conv(torch.cat([x, h], 1))).chunk(4, 1)
        c = f * c + i * torch.tanh(g)
        return o * torch.tanh(c), c


class ConvLSTM(nn.Module):
    """Convolutions put out (N, C, H, W), whatever the sequence around them is."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.cell = Cell()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.batch_first:
            x = x.transpose(0, 1)
        state = (x.new_zeros(x.shape[1], 2, *x.shape[3:]),) * 2
        for step in x:
            state = self.cell(step, state)
        return state[0]


class Attending(nn.Module):
    """A transformer's block and an attention with weights on tokens, the batch first or second."""

    def __init__(self, batch_first: bool, tokens: bool = False) -> None:
        super().__init__()
        self.tokens = tokens
        self.batch_first_ = batch_first
        self.embed = nn.Linear(8, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=batch_first)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=batch_first)
        self.gru = nn.GRU(8, 5, batch_first=batch_first)
        self.head = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.block(self.embed(x))
        x = self.gru(self.attend(x, x, x)[0])[0]
        return self.head(x.mean(1 if self.batch_first_ else 0))


ATTENDING = ("embed", "block", "block.linear1", "block.norm2", "attend", "gru", "head")


class Recursive(nn.Module):
    """Calls itself at half the size."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.b = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x: torch.Tensor, scales: int = 1) -> torch.Tensor:
        y = self.relu(self.a(x))
        if scales:
            inner = self(nn.functional.avg_pool2d(x, 2), scales - 1)
            y = y + nn.functional.interpolate(inner, size=x.shape[2:]).mean(1, keepdim=True)
        return self.b(y)


class Listed(nn.Module):
    """Takes a list of images, as detection models do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 5, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images: list[torch.Tensor]) -> torch.Tensor:
        side = min(image.shape[-1] for image in images)
        return self.relu(self.conv1(torch.stack([i[:, :side, :side] for i in images])))


class Bytes(nn.Module):
    """Normalises images of whole numbers by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 5, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv1(images.float() / 255)


class Spectral(nn.Module):
    """A convolution of complex numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, dtype=torch.complex64)
        self.conv2 = nn.Conv2d(4, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.conv1(torch.fft.fft2(x)).abs())


class Scored(nn.Module):
    """One number for each image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.score = nn.Sequential(nn.Flatten(), nn.Linear(400, 1), nn.Flatten(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.score(self.conv1(x))


class Sparse(nn.Module):
    """Layers that put out tensors of other layouts."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.sparse = ToSparse()
        self.nested = ToNested()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(x)
        self.nested(y)
        return self.sparse(y).to_dense()


class ToSparse(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.relu().to_sparse()


class ToNested(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nested.as_nested_tensor([image.detach() for image in x])


class Positions(nn.Module):
    """A table of positions has no axis for images."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 6)
        self.where = nn.Embedding(5, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.embed(x) + self.where(torch.arange(x.shape[1]))


class Straight(nn.Module):
    """A net that every tracer takes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(6, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.conv2(self.relu(self.norm(self.conv1(x)))))


class Stacked(nn.Sequential):
    """One image at a time, without an axis for a batch."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 5, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(0))
        self.append(nn.Linear(125, 4))


class FromSpectrograms(nn.Module):
    """(N, H, W) at its input, which is no image of N channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.conv1(x.unsqueeze(1)))
