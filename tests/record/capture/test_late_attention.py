"""Attention that is written out in modules that do not run in the first batch: layers at random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from attention_models import weigh
from torch import nn
from torch.overrides import _get_current_function_mode_stack

from record import Recorder


class Attend(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.num_heads = 2
        self.seen: dict[int, np.ndarray] = {}
        self.followed: list[bool] = []

    def forward(self, x: torch.Tensor, batch: int) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 4)).transpose(1, 3).unbind(2)
        self.seen[batch] = weigh(q[0].detach(), k[0].detach()).numpy()
        self.followed.append(bool(_get_current_function_mode_stack()))
        return ((q @ k.transpose(-2, -1) / 2).softmax(-1) @ v).transpose(1, 2).flatten(2)


class Other(Attend):
    """Of a class of its own."""


class Mixes(Attend):
    """A product of matrices that is no attention."""

    def forward(self, x: torch.Tensor, batch: int) -> torch.Tensor:
        self.followed.append(bool(_get_current_function_mode_stack()))
        return x @ self.qkv.weight[:8]


class Net(nn.Module):
    """Layers that run in some batches.

    Args:
        layers: Each with the batches in which it runs.
    """

    def __init__(self, layers: list[tuple[nn.Module, set[int]]]) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 8, 4, 4)
        self.layers = nn.ModuleList(layer for layer, _ in layers)
        self.when = [batches for _, batches in layers]
        self.batch = -1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.batch += 1
        x = self.patch(x).flatten(2).transpose(1, 2)
        for layer, batches in zip(self.layers, self.when, strict=True):
            if self.batch in batches:
                x = x + layer(x, self.batch)
        return x


def fit(path: Path, model: Net, batches: int = 5) -> dict[str, Any]:
    torch.manual_seed(0)
    with Recorder(model, path, ["patch"], attention="full", quiet=True) as recorder:
        for batch in recorder.track([torch.randn(3, 1, 12, 12) for _ in range(batches)]):
            model(batch).square().mean().backward()
    with h5py.File(path) as file:
        return {name: maps[0] for name, maps in file["attention/maps"].items()}


@pytest.mark.parametrize("first", [{0, 1, 2, 3, 4}, {1, 3}, {4}])
@pytest.mark.parametrize("second", [{0, 2}, {1, 4}, {2, 3, 4}])
def test_whenever_they_run_for_the_first_time(
    tmp_path: Path, first: set[int], second: set[int]
) -> None:
    model = Net([(Attend(), first), (Other(), second), (Mixes(), {2, 3, 4}), (Mixes(), {3})])
    found = fit(tmp_path / "run.h5", model)
    assert sorted(found) == ["layers.0", "layers.1"]
    for number, batches in enumerate((first, second)):
        maps = found[f"layers.{number}"]
        for batch in range(len(maps)):
            if batch in batches:
                expected = model.layers[number].seen[batch]
                np.testing.assert_allclose(maps[batch].astype(np.float32), expected, atol=1e-3)
            else:
                assert np.isnan(maps[batch]).all()


def test_what_turns_out_to_be_none_is_followed_no_more(tmp_path: Path) -> None:
    model = Net([(Attend(), {0, 1, 2}), (Mixes(), {1, 2, 3, 4}), (Mixes(), {2, 3, 4})])
    fit(tmp_path / "run.h5", model)
    assert model.layers[1].followed == [True, False, False, False]
    assert not any(model.layers[2].followed)
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


class Compiled(nn.Module):
    """A part that torch.compile traces while the forward around it is searched."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8))
        self.times = torch.compile(self.plain, backend="eager")

    def plain(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.scale @ torch.eye(8)).relu()

    def forward(self, x: torch.Tensor, batch: int) -> torch.Tensor:
        return self.times(x)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_beside_parts_that_are_compiled(tmp_path: Path) -> None:
    torch.compiler.reset()
    model = Net([(Attend(), {0, 2}), (Compiled(), {0, 1, 2}), (Other(), {1, 2})])
    try:
        found = fit(tmp_path / "run.h5", model, 3)
    finally:
        torch.compiler.reset()
    assert sorted(found) == ["layers.0", "layers.2"]
    np.testing.assert_allclose(
        found["layers.2"][2].astype(np.float32), model.layers[2].seen[2], atol=1e-3
    )
