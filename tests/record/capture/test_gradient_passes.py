"""Passes of `torch.autograd.grad` by parameters beside a `backward`: what counts is the latter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from gradient_trainings import Residual, Retained, close_to_float16, images, loss_of, read, train
from torch import nn

from record import Recorder, RecordingWarning

pytestmark = pytest.mark.usefixtures("deterministic", "poisoned_buffers")

LAYERS = {"conv1": 0, "bn": 0, "conv2": 0, "head": 0}
Forget = Callable[[], None]


def adaptive_weight(model: nn.Module, batch: torch.Tensor, forget: Forget) -> torch.Tensor:
    """Two losses, weighed by their gradients by the last layer, as a VQGAN's are."""
    output = model(batch)
    one, other = loss_of(output), output.square().mean()
    sizes = [
        torch.autograd.grad(loss, model.head.weight, retain_graph=True)[0].norm()
        for loss in (one, other)
    ]
    forget()
    loss = one + other * (sizes[0] / sizes[1]).detach()
    loss.backward()
    return loss


def norms_of_a_shared_layer(model: nn.Module, batch: torch.Tensor, forget: Forget) -> torch.Tensor:
    """Two losses, weighed by their gradients by the first layer, as GradNorm does."""
    output = model(batch)
    losses = loss_of(output), output.square().mean()
    shared = [model.conv1.weight, model.conv1.bias]
    sizes = [torch.autograd.grad(loss, shared, retain_graph=True)[0].norm() for loss in losses]
    forget()
    loss = sum(loss / (1 + size.detach()) for loss, size in zip(losses, sizes, strict=True))
    loss.backward()
    return loss


def penalty(model: nn.Module, batch: torch.Tensor, forget: Forget) -> torch.Tensor:
    """A loss with the size of its gradient by all parameters."""
    loss = loss_of(model(batch))
    found = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
    forget()
    loss = loss + 0.1 * sum(one.square().sum() for one in found)
    loss.backward()
    return loss


@pytest.mark.parametrize("step", [adaptive_weight, norms_of_a_shared_layer, penalty])
def test_a_pass_on_the_way_to_the_loss_does_not_count(
    tmp_path: Path, step: Callable[..., torch.Tensor]
) -> None:
    path, model = tmp_path / "run.h5", Residual()
    twin = Retained(model, LAYERS)

    def forget() -> None:
        for kept in twin.kept.values():
            kept.grad = None  # of the passes before

    with Recorder(model, path, list(LAYERS), gradients=True, quiet=True) as recorder:
        losses = train(model, images(), lambda *given: step(*given, lambda: None), recorder)
    right: list[dict[str, np.ndarray]] = []
    assert losses == train(
        twin.model,
        images(),
        lambda *given: step(*given, forget),
        after=lambda: right.append(twin.take()),
    )
    for batch, each in enumerate(right):
        assert set(each) == set(LAYERS)
        for name, gradient in each.items():
            close_to_float16(read(path, name, batch), gradient)


@pytest.mark.parametrize("when", ["before", "behind"])
def test_what_no_backward_passes_has_no_gradient(tmp_path: Path, when: str) -> None:
    """Of a head that is looked at alone, in a batch whose backward goes through others."""

    class TwoHeads(Residual):
        def __init__(self) -> None:
            super().__init__()
            self.aside = nn.Linear(6, 4)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            x = self.relu(self.bn(self.conv1(x)))
            return self.head(x.mean((2, 3))), self.aside(x.detach().mean((2, 3)))

    def step(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        output, aside = model(batch)
        loss = loss_of(output)
        if batch is batches[0]:
            (loss + loss_of(aside)).backward()
            return loss
        if when == "before":
            torch.autograd.grad(loss_of(aside), model.aside.weight)
        loss.backward()
        if when == "behind":
            torch.autograd.grad(loss_of(aside), model.aside.weight)
        return loss

    path, model, batches = tmp_path / "run.h5", TwoHeads(), images()
    with (
        pytest.warns(RecordingWarning, match="some batches have no gradients of aside"),
        Recorder(model, path, ["head", "aside"], gradients=True, quiet=True) as recorder,
    ):
        train(model, batches, step, recorder)
    for batch in range(3):
        assert np.isfinite(read(path, "head", batch)).all()
        assert np.isnan(read(path, "aside", batch)).all() == (batch > 0)
