"""Given fixed images leave nothing in Python that a training would meet."""

from __future__ import annotations

import random
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import replay
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


class Nested(Base):
    """Keeps a history in lists of a dict, and a pair of tensors that it writes into."""

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[float]] = {"mean": []}
        self.pair = torch.zeros(4), [torch.zeros(4)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.features(x)
        before, (few,) = self.pair
        mean = mean + before + few + 0.1 * len(self.history["mean"])
        before.add_(mean.detach().mean(0))
        few.add_(1)
        self.history["mean"].append(float(mean.detach().mean()))
        return self.head(mean)


class Meter:
    """A running mean that is no module."""

    def __init__(self) -> None:
        self.total, self.count, self.parts = torch.zeros(4), 0, {"last": [0.0]}

    def update(self, value: torch.Tensor) -> None:
        self.total += value
        self.count += 1
        self.parts["last"].append(float(value.sum()))


class Slotted:
    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class Objects(Base):
    """Keeps its state in objects of other classes."""

    def __init__(self) -> None:
        super().__init__()
        self.meter, self.slotted = Meter(), Slotted()
        self.loose = SimpleNamespace(calls=0, inner=SimpleNamespace(calls=0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.features(x)
        self.meter.update(mean.detach().mean(0))
        self.slotted.count += 1
        self.loose.calls += 1
        self.loose.inner.calls += 1
        calls = self.slotted.count + self.loose.calls + self.loose.inner.calls
        last = self.meter.parts["last"]
        return self.head(
            mean + self.meter.total / self.meter.count + 0.1 * calls + 0.01 * len(last)
        )


class Arrays(Base):
    """Counts in arrays of numpy."""

    def __init__(self) -> None:
        super().__init__()
        self.hits, self.named = np.zeros(4), {"calls": [np.zeros(1)]}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.features(x)
        self.hits[int(mean.detach().mean(0).argmax())] += 1
        self.named["calls"][0] += 0.1
        return self.head(
            mean + torch.from_numpy(self.hits).float() + float(self.named["calls"][0][0])
        )


class Shared(Base):
    """Counts in attributes of its class, one of which comes with the first call."""

    calls = 0
    seen: dict[str, int] = {}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        Shared.calls = 0
        Shared.seen.clear()
        if hasattr(Shared, "first"):
            del Shared.first  # type: ignore[attr-defined]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.features(x)
        if not hasattr(Shared, "first"):
            Shared.first = float(mean.detach().mean())  # type: ignore[attr-defined]
        Shared.calls += 1
        Shared.seen[str(Shared.calls)] = 1
        return self.head(mean + Shared.first + 0.1 * len(Shared.seen))  # type: ignore[attr-defined]


called: int = 0


def count_call() -> int:
    global called, first_call
    called += 1
    if called == 1:
        first_call = called
    return called


class Variables(Base):
    """Counts in variables of the script: one that is there, and one that comes with the first call."""

    def __init__(self) -> None:
        super().__init__()
        globals()["called"] = 0
        globals().pop("first_call", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        calls = count_call()
        return self.head(self.features(x) + 0.1 * calls + first_call)


class Hooked(Base):
    """A hook of the user's gathers features, which the training sums up."""

    def __init__(self) -> None:
        super().__init__()
        self.gathered = gathered = SimpleNamespace(values=[])
        outside: list[torch.Tensor] = []
        self.outside = lambda: outside

        def keep(module: nn.Module, given: Any, output: torch.Tensor) -> None:
            gathered.values.append(output.mean())
            outside.append(output.mean())

        self.conv.register_forward_hook(keep)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x))

    def losses(self) -> Any:
        total = sum(self.gathered.values) * len(self.outside())
        self.gathered.values.clear()
        self.outside().clear()
        return total


class Hiding(Base):
    """Hides a network that follows its batches from its own state."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = [nn.Sequential(nn.BatchNorm1d(4), Counted())]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.features(x)
        teacher: Any = self.hidden[0]
        with torch.no_grad():
            taught = teacher(mean) + teacher[0].running_mean
        return self.head(mean + taught)


class Counted(nn.Module):
    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * self.calls


class Stubborn:
    """An object whose count cannot be set to a lower one."""

    def __setattr__(self, name: str, value: Any) -> None:
        if value < getattr(self, name, 0):
            raise ValueError("it only grows")
        super().__setattr__(name, value)

    __slots__ = ("count",)


class Refusing(Base):
    """Holds something that cannot be put back, before what can."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Stubborn()
        self.first.count = 0
        self.last = [0.0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.first.count += 1
        self.last.append(1.0)
        return self.head(self.features(x) + len(self.last))


class Large(Base):
    """Has much that is not looked after, data say, beside what is."""

    def __init__(self) -> None:
        super().__init__()
        self.data = SimpleNamespace(images=torch.zeros(1 << 25), array=np.zeros(1 << 24))
        self.data.numbers = [0.0] * 200_000
        self.state = SimpleNamespace(calls=np.zeros(1), mean=torch.zeros(4), seen=[[0.0]])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, state = self.features(x), self.state
        state.calls += 1
        state.mean += mean.detach().mean(0)
        state.seen[0].append(float(state.calls[0]))
        return self.head(mean + state.mean * 0.1 + len(state.seen[0]))


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


MODELS = [
    *(Counter, Stateful, Aside, Memory, Written, Noisy, Nested, Objects, Arrays, Shared, Variables),
    *(Hooked, Hiding, Large),
]


@pytest.mark.parametrize("options", [{}, {"cam": True}, {"attention": True, "gradients": True}])
@pytest.mark.parametrize("make", MODELS)
def test_the_training_is_the_same(
    tmp_path: Path, make: type[Base], options: dict[str, Any]
) -> None:
    losses, plain = fit(make, None)
    recorded, model = fit(make, tmp_path / "run.h5", **options)
    assert recorded == losses
    for name, value in plain.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    assert vars(model).keys() == vars(plain).keys()


def test_what_cannot_be_put_back_keeps_nothing_else(tmp_path: Path) -> None:
    losses, plain = fit(Refusing, None)
    with pytest.warns(UserWarning, match="it only grows"):
        recorded, model = fit(Refusing, tmp_path / "run.h5")
    assert recorded == losses
    assert model.last == plain.last
    with replay.open(tmp_path / "run.h5") as run:
        assert len(run.frames) == 6
