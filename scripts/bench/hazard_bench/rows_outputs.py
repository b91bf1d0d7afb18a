"""Rows of outputs, and of layers, that are less usual."""

from __future__ import annotations

import warnings

import torch
from rows import first_image, images
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from training import Row


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, dtype=torch.complex64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.fft.fft2(x)).abs()


class Packed(nn.Module):
    """Its LSTM puts out a PackedSequence."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.lstm = nn.LSTM(6, 5, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.conv(x).mean(1)  # (N, 6, 6)
        packed = pack_padded_sequence(rows, [6, 5, 4, 2], batch_first=True)
        return pad_packed_sequence(self.lstm(packed)[0])[0]


class Squeeze(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.squeeze(1)


class Squeezed(nn.Module):
    """One number for each image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 1)
        self.head = Squeeze()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.fc(self.conv(x).mean((2, 3))))


def lazy() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = nn.Sequential()
        net.conv = nn.LazyConv2d(4, 3)
        net.relu = nn.ReLU()
        net.head = nn.LazyConv2d(2, 1)
    return net


ROWS: dict[str, Row] = {
    "complex": Row("complex outputs", Complex, ("conv",), images, image=first_image, rate=1e-4),
    "packed": Row(
        "a PackedSequence as output", Packed, ("conv", "lstm"), images, missing=("lstm",)
    ),
    "squeezed": Row("one number for each image", Squeezed, ("conv", "fc", "head"), images),
    "lazy": Row("lazy modules", lazy, ("conv", "head"), images, image=first_image),
}  # fmt: skip
