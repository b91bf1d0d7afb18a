"""Given fixed images leave nothing in attributes of modules that a training would meet."""

from __future__ import annotations

import random
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from record import Recorder

FIXED = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(5))


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 3)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).relu().mean((2, 3))

    def losses(self) -> Any:
        return 0.0


class Counter(Base):
    """Warms up by how often it was called."""

    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.head(self.features(x)) * min(1.0, self.calls / 10)


class Stateful(Base):
    """Has a state that goes on from batch to batch."""

    def __init__(self) -> None:
        super().__init__()
        self.state: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.features(x)
        if self.state is not None:
            mean = mean + 0.5 * self.state
        self.state = mean.detach().mean(0)
        return self.head(mean)


class Aside(Base):
    """Gathers losses in a list that the training sums up after some batches."""

    def __init__(self) -> None:
        super().__init__()
        self.gathered: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.features(x)
        self.gathered.append(mean.square().mean())
        return self.head(mean)

    def losses(self) -> Any:
        if len(self.gathered) < 2:
            return 0.0
        kept = [one.detach() for one in self.gathered[:-1]]
        total = sum(kept) * self.gathered[-1]
        self.gathered.clear()
        return total


class Memory(Base):
    """Keeps the last means, and values by name, and the set of sizes that it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.last: deque[torch.Tensor] = deque(maxlen=3)
        self.named: dict[str, torch.Tensor] = {}
        self.sizes: set[int] = set()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.features(x)
        before = sum(self.last) + self.named.get("mean", 0.0) + len(self.sizes)
        self.last.append(mean.detach().mean(0))
        self.named["mean"] = mean.detach().mean()
        self.sizes.add(len(x))
        return self.head(mean + 0.1 * before)


class Written(Base):
    """Writes into tensors that it keeps, and not as buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.few, self.named = torch.zeros(4), [torch.zeros(4)], {"a": torch.zeros(4)}
        self.same = self.mean

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.features(x)
        assert self.same is self.mean
        for one in (self.mean, self.few[0], self.named["a"]):
            mean = mean + one
            one.mul_(0.9).add_(mean.detach().mean(0))
        return self.head(mean)


class Noisy(Base):
    """Draws from generators of its own, in evaluation mode, too."""

    def __init__(self) -> None:
        super().__init__()
        self.noise = torch.Generator().manual_seed(3)
        self.numbers = [np.random.default_rng(1), np.random.RandomState(2), random.Random(3)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        new, old, plain = self.numbers
        drawn = torch.randn(4, generator=self.noise) + new.normal() + old.normal() + plain.random()
        return self.head(self.features(x) + drawn)


def fit(make: type[Base], path: Path | None, **options: Any) -> tuple[list[float], nn.Module]:
    torch.manual_seed(0)
    model, losses = make(), []
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    batches = [torch.randn(3, 3, 8, 8) for _ in range(6)]
    recorder = None if path is None else Recorder(model, path, probe=FIXED, quiet=True, **options)
    for batch in batches if recorder is None else recorder.track(batches):
        optimizer.zero_grad()
        loss = model(batch).square().mean() + model.losses()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    if recorder is not None:
        recorder.close()
    return losses, model


@pytest.mark.parametrize("options", [{}, {"cam": True}, {"attention": True, "gradients": True}])
@pytest.mark.parametrize("make", [Counter, Stateful, Aside, Memory, Written, Noisy])
def test_the_training_is_the_same(
    tmp_path: Path, make: type[Base], options: dict[str, Any]
) -> None:
    losses, plain = fit(make, None)
    recorded, model = fit(make, tmp_path / "run.h5", **options)
    assert recorded == losses
    for name, value in plain.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    assert vars(model).keys() == vars(plain).keys()
