"""Modules that put out more than one tensor, or none, or no usual one.

They are pickled and copied while they are trained, so they stand in an importable module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

Tensor = torch.Tensor


@dataclass
class Both:
    """A dataclass as an output."""

    one: Tensor
    two: Any


class Two(NamedTuple):
    """A named tuple as an output."""

    one: Tensor
    two: Any


SHAPES: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "tuple": lambda a, b: (a, b),
    "list": lambda a, b: [a, b],
    "dict": lambda a, b: {"a": a, "b": b},
    "nested": lambda a, b: {"a": (a, None), "b": [{"c": b}]},
    "dataclass": Both,
    "named": Two,
    "single": lambda a, b: (a, None),
}
ITEMS = {  # what the parts of these are called in a file
    "tuple": ("0", "1"),
    "list": ("0", "1"),
    "dict": ("a", "b"),
    "nested": ("a.0", "b.0.c"),
    "dataclass": ("one", "two"),
    "named": ("0", "1"),
    "single": ("",),
}


class Fork(nn.Module):
    """Puts out two tensors at once."""

    def __init__(self, one: nn.Module, two: nn.Module, shape: str) -> None:
        super().__init__()
        self.one, self.two, self.shape = one, two, shape

    def forward(self, x: Tensor) -> Any:
        return SHAPES[self.shape](self.one(x), self.two(x))


class Pick(nn.Module):
    """Goes on with the first of them."""

    def __init__(self, fork: Fork) -> None:
        super().__init__()
        self.fork = fork

    def forward(self, x: Tensor) -> Tensor:
        out = self.fork(x)
        return {
            "dict": lambda: out["a"],
            "nested": lambda: out["a"][0],
            "dataclass": lambda: out.one,
        }.get(self.fork.shape, lambda: out[0])()


class Attend(nn.Module):
    """Attention, of which the weights are put out too."""

    def __init__(self, width: int, heads: int, batch_first: bool, average: bool) -> None:
        super().__init__()
        self.mha = nn.MultiheadAttention(width, heads, batch_first=batch_first)
        self.average = average

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.mha(x, x, x, need_weights=True, average_attn_weights=self.average)
        return out


class Recur(nn.Module):
    """A recurrent layer, of whose output the states are left aside; packed on demand."""

    def __init__(self, rnn: nn.RNNBase, packed: bool) -> None:
        super().__init__()
        self.rnn, self.packed = rnn, packed

    def forward(self, x: Tensor) -> Tensor:
        first = self.rnn.batch_first
        if self.packed:
            steps, images = (x.shape[1], x.shape[0]) if first else x.shape[:2]
            x = pack_padded_sequence(x, torch.full((images,), steps), batch_first=first)
            return pad_packed_sequence(self.rnn(x)[0], batch_first=first)[0]
        return self.rnn(x)[0]


class Spectrum(nn.Module):
    """Complex values."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft(x if x.dtype == torch.float64 else x.float(), dim=-1)


class Fourier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.spectrum = Spectrum()

    def forward(self, x: Tensor) -> Tensor:
        return self.spectrum(x).real.to(x.dtype)


class Box:
    """An object that is no container anyone knows."""

    def __init__(self, inside: Tensor) -> None:
        self.inside = inside


class Opaque(nn.Module):
    """Puts out something that is no tensor."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def forward(self, x: Tensor) -> Any:
        made: dict[str, Callable[[], Any]] = {
            "object": lambda: Box(x),
            "none": lambda: None,
            "empty": dict,
            "text": lambda: "a label",
            "sparse": lambda: x.detach().to_sparse(),
            "meta": lambda: torch.empty_like(x, device="meta"),
        }
        return made[self.what]()


class Integers(nn.Module):
    """Puts out whole numbers."""

    def __init__(self, axis: int, kind: str) -> None:
        super().__init__()
        self.axis, self.kind = axis, kind

    def forward(self, x: Tensor) -> Tensor:
        return x.argmax(self.axis) if self.kind == "argmax" else x.detach() > 0


class Aside(nn.Module):
    """Calls a part whose output nobody uses."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        self.part(x)
        return x
