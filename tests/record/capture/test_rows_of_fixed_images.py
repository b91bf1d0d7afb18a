"""Fixed images of which a layer is given several rows each: a frame is its own image's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from attention_models import weigh
from torch import nn
from torch.nn import functional

import replay
from record import Recorder, RecordingWarning

FIXED = torch.rand(3, 3, 8, 12, generator=torch.Generator().manual_seed(5))
Fold = Callable[[torch.Tensor], torch.Tensor]


def views_joined(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x, x.flip(-1)])


def frames_outermost(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([x, x.flip(-1), 2 * x], 0).flatten(0, 1)


def frames_of_each(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([x, x.flip(-1), 2 * x], 1).flatten(0, 1)


def as_it_is(x: torch.Tensor) -> torch.Tensor:
    return x


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.num_heads = nn.Linear(8, 24), 2
        self.seen = torch.zeros(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 4)).transpose(1, 3).unbind(2)
        self.seen = weigh(q[0].detach(), k[0].detach())
        return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Net(nn.Module):
    """Gives its layers several rows of each image; the activation is called with one each, too."""

    def __init__(self, fold: Fold) -> None:
        super().__init__()
        self.fold, self.calls = fold, 0
        self.act, self.conv, self.norm = nn.ReLU(), nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8)
        self.attn, self.head = Attention(), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        x = self.act(self.conv(self.fold(self.act(x)))).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.attn(x)).mean(1)) * min(1.0, self.calls / 10)


def fit(model: nn.Module, path: Path | None, labels: bool = False, **options: object) -> None:
    images = torch.randn(2, 4, 3, 8, 12, generator=torch.Generator().manual_seed(1))
    batches = [(batch, torch.arange(4)) if labels else batch for batch in images]
    recorder = None if path is None else Recorder(model, path, quiet=True, **options)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for batch in batches if recorder is None else recorder.track(batches):
        optimizer.zero_grad()
        model(batch[0] if labels else batch).square().mean().backward()
        optimizer.step()
    if recorder is not None:
        recorder.close()


def made(fold: Fold) -> Net:
    torch.manual_seed(0)
    return Net(fold)


LAYERS = ["act", "conv", "norm"]


@pytest.mark.parametrize("fold", [views_joined, frames_outermost, frames_of_each, as_it_is])
@pytest.mark.parametrize("options", [{}, {"max_map": 4}, {"cam": "conv"}])
def test_frames_are_of_their_own_image(
    tmp_path: Path, fold: Fold, options: dict[str, object]
) -> None:
    plain, model, path = made(fold), made(fold), tmp_path / "run.h5"
    fit(plain, None)
    if "cam" in options and fold is not as_it_is:
        with pytest.warns(RecordingWarning, match="class activation: given up"):
            fit(model, path, probe=FIXED, layers=LAYERS, attention=True, **options)
    else:
        fit(model, path, probe=FIXED, layers=LAYERS, attention=True, **options)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    assert model.calls == plain.calls
    found: dict[str, torch.Tensor] = {}
    for name in ("conv", "norm"):
        plain.get_submodule(name).register_forward_hook(
            lambda module, args, output, name=name: found.update({name: output.detach()[0]})
        )
    with h5py.File(path) as file, replay.open(path) as run:
        for number, image in enumerate(FIXED):
            with torch.no_grad():
                plain(image[None])
            for name, value in found.items():
                frame = file[f"probe/{number}/maps/{name}"][0, 1].astype(np.float32)
                np.testing.assert_allclose(frame, value.numpy(), atol=2e-3)
            first = file[f"probe/{number}/maps/act"][0, 1].astype(np.float32)
            if "max_map" not in options:
                np.testing.assert_allclose(first, image.numpy(), atol=1e-3)
            weights = run.probe(number).attention("attn")[0, 1]
            np.testing.assert_allclose(weights, plain.attn.seen.mean(-2).numpy(), atol=1e-3)
        assert not run.batches["missing"].any()


def test_images_that_a_training_has_seen(tmp_path: Path) -> None:
    plain, model, path = made(views_joined), made(views_joined), tmp_path / "run.h5"
    fit(plain, None, labels=True)
    fit(model, path, labels=True, probe="classes", probe_share=1.0, layers=["conv"])
    for name, value in plain.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    assert model.calls == plain.calls
    with h5py.File(path) as file:
        for number in range(4):
            shown = torch.from_numpy(file[f"probe/{number}/input"][:].astype(np.float32))
            with torch.no_grad():
                expected = plain.conv(shown.relu()[None])[0].numpy()
            frame = file[f"probe/{number}/maps/conv"][0, 1].astype(np.float32)
            np.testing.assert_allclose(frame, expected, atol=5e-3)


class Picky(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) == 1:
            raise ValueError("expected several images")
        return super().forward(x)


def test_what_cannot_be_shown_alone_is_missing_and_said(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "run.h5"
    with pytest.warns(
        RecordingWarning, match=r"no frames of act, conv, .* expected several images"
    ):
        fit(Picky(views_joined), path, probe=FIXED, layers=["conv", "act"])
    with h5py.File(path) as file:
        assert np.isfinite(file["probe/0/maps/conv"][:]).all()
        assert "probe/1/maps/conv" not in file
