"""`record.plan`: what will be recorded is said beforehand, and the model is as it was."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import record
import replay
from record import Recorder
from replay.schema import OptionError

CALLS: list[int] = []


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.body = nn.Sequential(nn.Sequential(nn.Conv2d(4, 6, 3), nn.Dropout(0.5)))
        self.fc = nn.Linear(6, 2)
        self.steps = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        CALLS.append(1)
        x = self.stem(x) + torch.rand(()) + random.random() + np.random.rand()
        return self.fc(self.body(x).mean((2, 3)))


def states() -> tuple[Any, ...]:
    numbers = np.random.get_state()[1].tobytes()
    return random.getstate(), numbers, torch.get_rng_state().tolist()


@pytest.mark.parametrize("training", [True, False])
def test_nothing_of_the_model_changes(training: bool) -> None:
    torch.manual_seed(0)
    model = Net().train(training)
    model.body.eval()
    before = copy.deepcopy(model)
    hooks: list[int] = []
    handle = model.fc.register_forward_hook(lambda *_: hooks.append(1))
    there = states()
    CALLS.clear()
    record.plan(model, (3, 10, 10), batches=5)
    assert states() == there
    assert (CALLS, hooks, model.steps) == ([], [], 0)
    handle.remove()
    for (name, here), value in zip(
        model.state_dict().items(), before.state_dict().values(), strict=True
    ):
        assert torch.equal(here, value), name
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]
    tables = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks"
    assert not any(vars(m)[table] for m in model.modules() for table in tables)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.usefixtures("quick_writers")
def test_it_says_what_is_then_recorded(tmp_path: Path) -> None:
    model = Net()
    loader = DataLoader(TensorDataset(torch.rand(8, 3, 10, 10)), batch_size=2)
    options: dict[str, Any] = {"layers": ["Conv2d", "stem.2"], "every": 2}
    plan = record.plan(model, loader=loader, epochs=2, **options)
    with Recorder(model, tmp_path / "run.h5", **options) as recorder:
        for _ in range(2):
            for (x,) in recorder.track(loader):
                model(x)
    with replay.open(tmp_path / "run.h5") as run:
        assert [layer.name for layer in plan.layers] == list(run.layers)
        assert [layer.shape for layer in plan.layers] == [run[n].layer.shape for n in run.layers]
        assert [layer.axes for layer in plan.layers] == [run[n].layer.axes for n in run.layers]
        assert list(plan.cells) == run.frames
    assert (tmp_path / "run.h5").stat().st_size <= plan.bytes_run


def test_it_shows_the_tree_of_layers() -> None:
    plan = record.plan(Net(), (3, 10, 10), epochs=3, batches=5, probe=2)
    lines = repr(plan).splitlines()
    assert lines[0].startswith("Net, ")
    assert [line.lstrip().split()[0] for line in lines[3:7]] == ["stem", "stem.0", "body", "body.0"]
    (conv,) = [line for line in lines if "body.0.0" in line]
    assert conv.startswith("    body.0.0")  # below body.0, which is below body
    for text in ("Conv2d(4, 6, 3x3, ", "6x6x6 and kernels", "float32", "864 bytes", "13 kB"):
        assert text in conv
    assert "2 fixed images" in repr(plan)
    assert "8 other modules not recorded" in lines[-1]
    everything = plan.tree(everything=True)
    assert "fc " in everything
    assert "2x2" in everything  # what fc puts out for two images
    html = plan._repr_html_()
    assert html.count("<tr>") == len(plan.tree().splitlines()) - 1
    assert "body.0.0" in html


def test_without_batches_it_says_what_one_takes() -> None:
    plan = record.plan(Net(), (3, 10, 10))
    assert "the run" not in repr(plan)
    assert "batches= and epochs=" in repr(plan)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 3, 3)
        self.mix = nn.Linear(4, 3)

    def forward(self, signal: torch.Tensor, extra: torch.Tensor) -> torch.Tensor:
        return self.conv(signal).mean(2) + self.mix(extra)


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.conv = nn.Conv1d(4, 6, 3, padding=1)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        return self.conv(self.embedding(ids).transpose(1, 2))


IDS = torch.zeros(2, 7, dtype=torch.long)


@pytest.mark.parametrize(
    ("make", "given", "shape"),
    [
        (Pair, {"input_shape": [(2, 9), (4,)]}, (3, 7)),
        (Pair, {"input_shape": {"extra": (4,), "signal": (2, 9)}}, (3, 7)),
        (Pair, {"batch": (torch.zeros(3, 2, 9), torch.zeros(3, 4))}, (3, 7)),
        (Pair, {"batch": {"signal": torch.zeros(3, 2, 9), "extra": torch.zeros(3, 4)}}, (3, 7)),
        (Words, {"batch": IDS}, (6, 7)),
        (Words, {"batch": {"ids": IDS, "labels": IDS}}, (6, 7)),
        (Words, {"loader": [(IDS, torch.zeros(2))]}, (6, 7)),
        (lambda: nn.Conv2d(3, 4, 3), {"input_shape": (5, 3, 8, 8)}, (4, 6, 6)),
        (lambda: nn.DataParallel(nn.Conv2d(3, 4, 3)), {"input_shape": (3, 8, 8)}, (4, 6, 6)),
        (lambda: nn.Linear(3, 4), {"input_shape": (3,)}, (4,)),
    ],
)
def test_any_model_and_any_batch(
    make: Callable[[], nn.Module], given: dict[str, Any], shape: tuple[int, ...]
) -> None:
    assert record.plan(make(), **given).layers[0].shape == shape


def test_a_loader_hands_out_what_it_would_have_without() -> None:
    def order(ask: bool) -> list[list[float]]:
        generator = torch.Generator().manual_seed(1)
        data = TensorDataset(torch.arange(24.0).view(8, 3))
        loader = DataLoader(data, batch_size=4, shuffle=True, generator=generator)
        model = nn.Linear(3, 2)
        torch.manual_seed(0)
        if ask:
            plan = record.plan(model, loader=loader)
            assert (plan.batches, plan.epochs) == (2, 1)
        found = [x.ravel().tolist() for (x,) in loader]
        return [*found, torch.rand(2).tolist()]

    assert order(True) == order(False)


def numbers() -> Iterator[torch.Tensor]:
    yield torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "one of input_shape, batch and loader"),
        ({"input_shape": (3, 8, 8), "batch": IDS}, "one of input_shape"),
        ({"input_shape": (1, 8, 8)}, r"Conv2d does not take 2x1x8x8 float32: RuntimeError"),
        ({"input_shape": (3, 8, -1)}, "numbers from 1"),
        ({"input_shape": "3x8x8"}, r"such as \(3, 224, 224\)"),
        ({"loader": numbers()}, "an iterator would miss its first batch"),
        ({"loader": []}, "no batch"),
        ({"input_shape": (3, 8, 8), "layers": "nothing"}, "no layer matches 'nothing'"),
        ({"input_shape": (3, 8, 8), "epochs": 0}, "from 1"),
        ({"input_shape": (3, 8, 8), "every": 0}, "every"),
    ],
)
def test_what_it_cannot_take(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        record.plan(nn.Conv2d(3, 4, 3), **given)


def test_lazy_modules_are_left_as_they_are() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3))
    with pytest.raises(OptionError, match="lazy modules"):
        record.plan(model, (3, 8, 8))
    assert type(model[0]) is nn.LazyConv2d
    with pytest.raises(OptionError, match=r"expected a torch\.nn\.Module"):
        record.plan("resnet18", (3, 8, 8))  # type: ignore[arg-type]
