"""Networks and trainings whose gradients are recorded, and twins that keep them with `retain_grad`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import nn

from record import Recorder

Step = Callable[[nn.Module, torch.Tensor], Any]


class Residual(nn.Module):
    """Convolutions that an in-place ReLU follows, a normalisation, a sum of two ways."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn(self.conv1(x)))
        x = self.relu(x + self.conv2(x))
        return self.head(x.mean((2, 3)))


class Transformer(nn.Module):
    """A small ViT of torch's own blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.blocks = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True),
            2,
            enable_nested_tensor=False,
        )
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


class Recurrent(nn.Module):
    """An LSTM with the time in front, over the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(24, 5)
        self.head = nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows, _ = self.lstm(x.permute(2, 0, 1, 3).flatten(2))  # (H, N, 3 W)
        return self.head(rows[-1])


def images(batches: int = 3, size: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(size, 3, 8, 8, generator=generator) for _ in range(batches)]


def loss_of(output: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(output, torch.arange(len(output)) % output.shape[1])


def plain(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    loss = loss_of(model(batch))
    loss.backward()
    return loss


class Retained:
    """A twin whose layers put out clones of clones: what they put out first keeps its gradient."""

    def __init__(self, model: nn.Module, axes: dict[str, int]) -> None:
        self.model = copy.deepcopy(model)
        self.kept: dict[str, torch.Tensor] = {}
        self._axes = axes
        for name in axes:
            self._watch(name)

    def _watch(self, name: str) -> None:
        def keep(module: nn.Module, args: Any, output: Any) -> Any:
            whole = output if isinstance(output, torch.Tensor) else output[0]
            if not whole.requires_grad:
                return None
            call = sum(key.split("#")[0] == name for key in self.kept)
            kept = self.kept[f"{name}#{call}" if call else name] = whole.clone()
            kept.retain_grad()
            return kept.clone() if whole is output else (kept.clone(), *output[1:])

        self.model.get_submodule(name).register_forward_hook(keep)

    def take(self) -> dict[str, np.ndarray]:
        taken = {
            name: kept.grad.select(self._axes[name.split("#")[0]], 0).float().numpy().copy()
            for name, kept in self.kept.items()
            if kept.grad is not None
        }
        self.kept.clear()
        return taken


def train(
    model: nn.Module,
    batches: Sequence[torch.Tensor],
    step: Step = plain,
    recorder: Recorder | None = None,
    after: Callable[[], Any] = lambda: None,
) -> list[float]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for batch in batches if recorder is None else recorder.track(batches):
        optimizer.zero_grad()
        losses.append(float(step(model, batch).detach()))
        optimizer.step()
        after()
    return losses


def read(path: Path, name: str, batch: int, epoch: int = 0) -> np.ndarray:
    """A gradient with its exponent, float64; NaN where it is missing."""
    with h5py.File(path) as file:
        stored = file[f"gradients/maps/{name}"][epoch, batch].astype(np.float64)
        return np.ldexp(stored, int(file[f"gradients/exponents/{name}"][epoch, batch]))


def close_to_float16(found: np.ndarray, right: np.ndarray) -> None:
    """Both are the same but for the digits that float16 has not."""
    assert found.shape == right.shape
    largest = np.abs(right).max()
    assert largest > 0
    np.testing.assert_allclose(found, right, rtol=2**-11, atol=largest * 2.0**-38)


def record_and_compare(
    path: Path,
    model: nn.Module,
    axes: dict[str, int],
    step: Step = plain,
    batches: Sequence[torch.Tensor] | None = None,
    names: Sequence[str] = (),
    **options: Any,
) -> None:
    """Records a training, and holds gradients, weights and losses against those of a twin."""
    given = images() if batches is None else batches
    twin = Retained(model, axes)
    alone = copy.deepcopy(model)
    with Recorder(model, path, layers=list(axes), gradients=True, quiet=True, **options) as one:
        losses = train(model, given, step, one)
    assert one.lost == one.dropped == 0
    right: list[dict[str, np.ndarray]] = []
    train(twin.model, given, step, after=lambda: right.append(twin.take()))
    assert losses == train(alone, given, step)
    for mine, plain_one in zip(
        model.state_dict().values(), alone.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, plain_one)
    assert set(names or axes) <= set(right[0])
    for batch, each in enumerate(right):
        for name, gradient in each.items():
            close_to_float16(read(path, name, batch), gradient)
