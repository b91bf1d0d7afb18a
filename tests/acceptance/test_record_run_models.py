"""`record run`: how a model is found, and that one which changes stays one recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from script_runs import Record, spoken, write

import replay

pytestmark = pytest.mark.slow


HEAD = """
    import torch
    import torch.nn.functional as F
    from torch import nn
    from torch.func import functional_call, grad, grad_and_value, jacrev, vmap
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(0)
    images = torch.arange(12.0).reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    loader = DataLoader(TensorDataset(images, torch.arange(12) % 2), 4)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 3, padding=1)
            self.blocks = nn.Sequential()
            self.head = nn.Linear(3, 2)
        def forward(self, x):
            return self.head(self.blocks(F.relu(self.conv(x))).mean((2, 3)))

    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)

    def step(x, y):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(loss.item())

    def loss_of_one(parameters, x, y):
        return F.cross_entropy(functional_call(model, parameters, (x[None],)), y[None])
    """

GROWS = """
    for epoch in range(3):
        for x, y in loader:
            step(x, y)
        if epoch == 0:
            model.blocks.append(nn.Conv2d(3, 3, 3, padding=1))
            optimizer = torch.optim.SGD(model.parameters(), 0.01)
        else:
            model.head = nn.Linear(3, 2)
            optimizer = torch.optim.SGD(model.head.parameters(), 0.01)
    """

WATCHED = """
    for epoch in range(2):
        for x, y in loader:
            if WAY == "gradients of each image":
                parameters = {k: v.detach() for k, v in model.named_parameters()}
                vmap(grad(loss_of_one), (None, 0, 0))(parameters, x, y)
            elif WAY == "fast weights":
                functional_call(model, {k: 2 * v for k, v in model.named_parameters()}, (x + 50,))
            elif WAY == "jacobian":
                jacrev(lambda z: model(z).sum(0))(x + 50)
            elif WAY == "pseudo-labels":
                with torch.no_grad():
                    model(x + 50)
            step(x, y)
    """

BY_HAND = """
    for epoch in range(2):
        for x, y in loader:
            parameters = {k: v.detach() for k, v in model.named_parameters()}
            each, _ = vmap(grad_and_value(loss_of_one), (None, 0, 0))(parameters, x, y)
            for name, parameter in model.named_parameters():
                parameter.grad = each[name].mean(0)
            optimizer.step()
    """


def script(folder: Path, text: str, **values: str) -> Path:
    named = "".join(f"\n    {name} = {value!r}" for name, value in values.items())
    return write(folder, HEAD + named + text)


def check(path: Path, epochs: int, losses: list[str] | None) -> None:
    """Every batch is there, with its image, and its loss."""
    with replay.open(path) as run:
        assert run.frames == [(e, b) for e in range(epochs) for b in range(3)]
        assert run.lost == 0
        assert [run.inputs[at].max() for at in run.frames] == [0, 4, 8] * epochs
        if losses:
            recorded = [run.batches["loss"][at] for at in run.frames]
            np.testing.assert_allclose(recorded, [float(loss) for loss in losses], rtol=1e-6)


def test_a_model_that_gets_other_layers_is_gone_on_with_in_the_same_file(
    tmp_path: Path, record_warm: Record
) -> None:
    done = record_warm(script(tmp_path, GROWS), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.glob("*.h5")] == ["run.h5"]
    check(tmp_path / "run.h5", 3, done.stdout.split())
    with replay.open(tmp_path / "run.h5") as run:
        assert run.layers == ("conv", "blocks.0")
        assert np.isfinite(run["blocks.0"][1, 0]).all()
    said = spoken(done)
    assert sum("layers added: blocks.0" in line for line in said) == 1
    assert sum(line.startswith("recorded ") for line in said) == 1


@pytest.mark.parametrize(
    "way", ["gradients of each image", "fast weights", "jacobian", "pseudo-labels"]
)
def test_what_comes_before_the_first_forward_that_is_trained_on(
    tmp_path: Path, record_warm: Record, way: str
) -> None:
    done = record_warm(script(tmp_path, WATCHED, WAY=way), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    check(tmp_path / "run.h5", 2, done.stdout.split())
    with replay.open(tmp_path / "run.h5") as run:
        assert run.probes == 1
    assert len(spoken(done)) == 1


def test_a_batch_before_the_model_is_found_has_its_number_and_is_counted(
    tmp_path: Path, record_warm: Record
) -> None:
    done = record_warm(script(tmp_path, BY_HAND), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with replay.open(tmp_path / "run.h5") as run:
        assert run.frames == [(e, b) for e in range(2) for b in range(3)][1:]
        assert [run.inputs[at].max() for at in run.frames] == [4, 8, 0, 4, 8]
        assert run.lost == 1
    assert "a batch is lost, and counted: the model was not found before its first step" in spoken(
        done
    )


STAYS = """
    for epoch in range(3):
        for x, y in loader:
            step(x, y)
        model.eval()
        model(images)
        if WAY == "returns":
            model.train()
    """


@pytest.mark.parametrize("way", ["stays", "returns"])
def test_steps_of_a_model_that_stays_in_evaluation_mode_are_said(
    tmp_path: Path, record_warm: Record, way: str
) -> None:
    done = record_warm(script(tmp_path, STAYS, WAY=way), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    epochs = 1 if way == "stays" else 3
    check(tmp_path / "run.h5", epochs, done.stdout.split()[: 3 * epochs])
    said = [line for line in spoken(done) if "evaluation mode" in line]
    assert len(said) == (way == "stays")
    assert all("6 steps (is model.train() missing?" in line for line in said)


LATE = """
    model.eval()
    optimizers = [optimizer]
    if WAY == "two optimizers":
        halves = model.conv, model.head
        optimizers = [torch.optim.SGD(half.parameters(), 0.01) for half in halves]
    for epoch in range(3):
        if epoch and WAY != "within an epoch":
            model.train()
        for batch, (x, y) in enumerate(loader):
            if epoch == 1 and batch == 1:
                model.train()
            loss = F.cross_entropy(model(x), y)
            model.zero_grad()
            loss.backward()
            for one in optimizers:
                one.step()
            if model.training:
                print(loss.item())
        if WAY == "between evaluations":
            model.eval()
    """


@pytest.mark.parametrize(
    "way", ["from an epoch on", "within an epoch", "two optimizers", "between evaluations"]
)
def test_a_model_that_is_trained_in_evaluation_mode_first_is_found_later(
    tmp_path: Path, record_warm: Record, way: str
) -> None:
    done = record_warm(script(tmp_path, LATE, WAY=way), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = [line for line in spoken(done) if "evaluation mode" in line]
    assert len(said) == 1
    if way != "within an epoch":
        check(tmp_path / "run.h5", 2, done.stdout.split())
        assert "in them: 3 steps (is model.train() missing?" in said[0]
        return
    assert "in them: 4 steps (is model.train() missing?" in said[0]
    with replay.open(tmp_path / "run.h5") as run:
        assert run.lost == 1
        losses = [run.batches["loss"][at] for at in run.frames]
    np.testing.assert_allclose(losses, [float(loss) for loss in done.stdout.split()[1:]], rtol=1e-6)


APART = """
    latent = nn.Parameter(torch.rand(4, 1, 8, 8))
    of_latent = torch.optim.SGD([latent], 0.01)
    for _ in range(5):
        of_latent.zero_grad()
        if WAY == "through the model":
            model.eval()
            model(latent).sum().backward()
            model.train()
        else:
            latent.square().sum().backward()
        of_latent.step()
    optimizer.zero_grad()
    for epoch in range(2):
        for x, y in loader:
            step(x, y)
    """


@pytest.mark.parametrize("way", ["alone", "through the model"])
def test_parameters_of_no_module_end_the_search_for_no_other_model(
    tmp_path: Path, record_warm: Record, way: str
) -> None:
    done = record_warm(script(tmp_path, APART, WAY=way), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    check(tmp_path / "run.h5", 2, done.stdout.split())
    assert len(spoken(done)) == 1


JOINED = """
    unlabelled = DataLoader(TensorDataset(images + 20, torch.arange(12)), 2, shuffle=True)
    others = iter(unlabelled)
    if WAY == "after a look":
        looked_at = next(others)
    for epoch in range(2):
        for x, y in loader:
            if WAY != "after a look" or epoch:
                try:
                    u, _ = next(others)
                except StopIteration:
                    others = iter(unlabelled)
                    u, _ = next(others)
                x = torch.cat([x, u])
            step(x.clone(), torch.zeros(len(x), dtype=torch.long))
    """


@pytest.mark.parametrize("way", ["at once", "after a look"])
def test_epochs_of_joined_batches_are_those_of_the_loader_that_is_looped_over(
    tmp_path: Path, record_warm: Record, way: str
) -> None:
    done = record_warm(script(tmp_path, JOINED, WAY=way), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    check(tmp_path / "run.h5", 2, done.stdout.split())


REPTILE = """
    import copy
    for x, y in loader:
        inner = copy.deepcopy(model)
        inner_optimizer = torch.optim.SGD(inner.parameters(), 0.01)
        F.cross_entropy(inner(x), y).backward()
        inner_optimizer.step()
        for parameter, other in zip(model.parameters(), inner.parameters()):
            parameter.grad = (parameter - other).detach()
        optimizer.step()
    """


def test_of_a_model_that_is_never_called_no_batch_is_lost(
    tmp_path: Path, record_warm: Record
) -> None:
    """What is trained are copies of it, from which its steps are made."""
    done = record_warm(script(tmp_path, REPTILE), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not [line for line in spoken(done) if "lost" in line]
    assert [line for line in spoken(done) if "never called in training mode" in line]
