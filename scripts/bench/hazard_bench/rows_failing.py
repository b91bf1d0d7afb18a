"""Rows in which a copy may fail: it must not ship what an older batch left in the buffer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from rows import BOTH, first_image, images
from torch import nn
from training import Call, Row

MANY = 20  # batches of an epoch, so that buffers are used again


def many() -> list[torch.Tensor]:
    return images(*[4] * MANY)


class Counting:
    """Tells every fourth step of a training apart."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self) -> bool:
        self.number += 1
        return self.number % 4 == 0


class Small(nn.Module):
    """No norm and no in-place operation: torch.func takes nothing else."""

    def __init__(self, last: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 5, 3, padding=1)
        self.conv2 = nn.Conv2d(5, 4, 3)
        self.last = last or nn.Identity()
        self.is_fourth = Counting()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.conv2(self.conv1(x).tanh())).mean((2, 3))


def functional(model: nn.Module, batch: torch.Tensor, of_each: bool) -> dict[str, torch.Tensor]:
    """The gradients by torch.func: of the batch, or of each image, averaged."""
    parameters = {name: value.detach() for name, value in model.named_parameters()}

    def loss(values: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        x = x[None] if of_each else x
        return torch.func.functional_call(model, values, (x,)).square().mean()

    if not of_each:
        return torch.func.grad(loss)(parameters, batch)
    found = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, batch)
    return {name: value.mean(0) for name, value in found.items()}


def now_and_then(of_each: bool) -> Callable[[Call, nn.Module, torch.Tensor], torch.Tensor]:
    """Every fourth step has only a functional pass; its gradients are what is learned from."""

    def step(call: Call, model: Any, batch: torch.Tensor) -> torch.Tensor:
        if not model.is_fourth():
            return call(batch).square().mean()
        found = functional(model, batch, of_each)
        return sum((p * found[name]).sum() for name, p in model.named_parameters())

    return step


def forward_mode(call: Call, model: Any, batch: torch.Tensor) -> torch.Tensor:
    """Every fourth step has only a derivative along a direction, and learns from its value."""
    if not model.is_fourth():
        return call(batch).square().mean()
    return torch.func.jvp(model, (batch,), (torch.ones_like(batch),))[0].square().mean()


def sensitive(model: nn.Module, batch: torch.Tensor) -> float:
    """How another image's output depends on it: a functional pass that is not what is trained."""
    found = torch.func.jacrev(lambda x: model(x[None]).mean(0))(2 * batch[1])
    return float(found.double().sum())


def watched_now_and_then(call: Call, model: Any, batch: torch.Tensor) -> torch.Tensor:
    """The truth of the same: what the layers put out is that of a plain forward."""
    return call(batch).square().mean()


class NowSparse(nn.Module):
    """Puts out a sparse tensor in every fourth forward."""

    def __init__(self) -> None:
        super().__init__()
        self.is_fourth = Counting()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.to_sparse() if self.is_fourth() else x


class Sparse(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output = self.last(self.conv2(self.conv1(x).tanh()))
        return (output.to_dense() if output.is_sparse else output).mean((2, 3))


class NowNested(NowSparse):
    """Puts out a strided nested tensor in every fourth forward."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nested.as_nested_tensor(list(x.unbind())) if self.is_fourth() else x


class Nested(Small):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output = self.last(self.conv2(self.conv1(x).tanh()))
        whole = torch.stack(output.unbind()) if output.is_nested else output
        return whole.mean((2, 3))


ROWS: dict[str, Row] = {
    "func-grad": Row(
        "torch.func.grad in every fourth batch", Small, BOTH, many, now_and_then(False),
        reference_step=watched_now_and_then, close=2e-3, image=first_image,
    ),
    "func-vmap": Row(
        "vmap over images in every fourth batch", Small, BOTH, many, now_and_then(True),
        reference_step=watched_now_and_then, close=2e-3, image=first_image,
    ),
    "func-jvp": Row(
        "torch.func.jvp in every fourth batch", Small, BOTH, many, forward_mode,
        reference_step=watched_now_and_then, close=2e-3, image=first_image,
    ),
    "func-jacrev": Row(
        "torch.func.jacrev of another image before each batch", Small, BOTH, images,
        before=sensitive, image=first_image,
    ),
    "sparse": Row(
        "a sparse output in every fourth batch", lambda: Sparse(NowSparse()),
        ("conv1", "last"), many,
    ),
    "nested": Row(
        "a strided nested output in every fourth batch", lambda: Nested(NowNested()),
        ("conv1", "last"), many,
    ),
}  # fmt: skip
