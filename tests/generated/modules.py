"""Modules of which the random models are made, beside torch's own.

They are pickled and copied while they are trained, so they stand in an importable module.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

Tensor = torch.Tensor


class BrokenError(Exception):
    """Raised in the middle of a forward, as by a corrupt image or a full memory."""


class Control:
    """Whether the next `Trip` that is called raises."""

    trip = False


class Trip(nn.Module):
    """Raises in a training forward if it was told to; else it is no more than a name."""

    def forward(self, x: Tensor) -> Tensor:
        if Control.trip and self.training:
            Control.trip = False
            raise BrokenError
        return x


class Stumble(Trip):
    """Raises every time, behind what it was given."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        self.inner(x)
        raise BrokenError


class Fallback(nn.Module):
    """Goes on without a part that raised."""

    def __init__(self, inner: nn.Module, breaks: bool) -> None:
        super().__init__()
        self.inner = Stumble(inner) if breaks else inner

    def forward(self, x: Tensor) -> Tensor:
        try:
            return self.inner(x)
        except BrokenError:
            return x


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Repeated(nn.Module):
    """One module, several times in a row."""

    def __init__(self, inner: nn.Module, times: int) -> None:
        super().__init__()
        self.inner, self.times = inner, times

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.times):
            x = self.inner(x)
        return x


class Row(nn.Module):
    """A ModuleList, gone through by hand."""

    def __init__(self, parts: list[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return x


class Table(nn.Module):
    """A ModuleDict, whose module is called by a method that is not `forward`."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"inner": inner})

    def run(self, x: Tensor) -> Tensor:
        return self.parts["inner"](x)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


class Checkpointed(nn.Module):
    """Runs its part again in the backward pass."""

    def __init__(self, inner: nn.Module, reentrant: bool) -> None:
        super().__init__()
        self.inner, self.reentrant = inner, reentrant

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return self.inner(x)
        return checkpoint(self.inner, x, use_reentrant=self.reentrant)


class NoGrad(nn.Module):
    """A part that is not trained."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self.inner(x.clone())


class Still(nn.Module):
    """A part that stays in evaluation mode, as norms with frozen statistics do."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner.eval()

    def train(self, mode: bool = True) -> Still:
        super().train(mode)
        self.inner.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class Snapshot(nn.Module):
    """Copies its part in the middle of the forward, and calls the copy too."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        twin = copy.deepcopy(self.inner)
        twin(2 * x.detach())
        return self.inner(x)


class Bypassed(nn.Module):
    """Calls its part's `forward` itself, which no hook of the part sees."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner.forward(x)


# From one kind of tensor to another


class ToTokens(nn.Module):
    """(N, C, ...) to (N, T, C), or to (T, N, C)."""

    def __init__(self, second: bool, batched: bool) -> None:
        super().__init__()
        self.second, self.batched = second, batched

    def forward(self, x: Tensor) -> Tensor:
        if not self.batched:
            return x.flatten(1).transpose(0, 1)
        x = x.flatten(2)
        return x.permute(2, 0, 1) if self.second else x.transpose(1, 2)


class Swap(nn.Module):
    """(N, T, C) to (T, N, C), and back."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(0, 1)


class Mean(nn.Module):
    """The mean over some axes."""

    def __init__(self, axes: tuple[int, ...]) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(self.axes)


class Squeeze(nn.Module):
    """(N, 1) to (N,): one number an image."""

    def forward(self, x: Tensor) -> Tensor:
        return x.squeeze(-1)


class Last(nn.Module):
    """Channels to the end."""

    def forward(self, x: Tensor) -> Tensor:
        return x.movedim(-1, -2)


class Scan(nn.Module):
    """A convolution that goes through the steps of a sequence, as a ConvLSTM does.

    (T, N, C, ...) in and out, or (N, T, C, ...) where `batch_first`.
    """

    def __init__(self, cell: nn.Module, batch_first: bool) -> None:
        super().__init__()
        self.batch_first = batch_first
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        axis = 1 if self.batch_first else 0
        state = torch.zeros_like(x.select(axis, 0))
        states = []
        for step in x.unbind(axis):
            state = torch.tanh(self.cell(torch.cat([step, state], 1)))
            states.append(state)
        return torch.stack(states, axis)


class Film(nn.Module):
    """Makes a sequence of each image, and goes on with what the last step gave."""

    def __init__(self, scan: Scan, steps: int) -> None:
        super().__init__()
        self.scan, self.steps = scan, steps

    def forward(self, x: Tensor) -> Tensor:
        axis = 1 if self.scan.batch_first else 0
        return self.scan(torch.stack([x / (n + 1) for n in range(self.steps)], axis)).select(
            axis, -1
        )


class Outer(nn.Module):
    """A model of which only a part is recorded."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.part(*args, **kwargs) / 2


class Net(nn.Module):
    """The model itself.

    Args:
        body: What it consists of.
        style: How it takes its images.
        calls: How often it calls itself within a forward.
        some: Whether it does so with a part of the batch.
    """

    def __init__(self, body: nn.Module, style: str, calls: int = 0, some: bool = False) -> None:
        super().__init__()
        self.body = body
        self.style, self.calls, self.some = style, calls, some

    def forward(self, images: Any, depth: int | None = None) -> Tensor:
        depth = self.calls if depth is None else depth
        if isinstance(images, list):
            images = torch.stack(images)
        elif isinstance(images, dict):
            images = images["images"]
        if not images.is_floating_point():
            images = images.to(next(self.parameters()).dtype) / 255
        if not depth:
            return self.body(images)
        few = images[: (len(images) + 1) // 2] if self.some else images
        if depth % 2:
            inner = self(few / 2, depth - 1)
            return self.body(images) + inner.mean()
        outer = self.body(images)
        return outer + self(few / 2, depth - 1).mean()
