"""Which attention has a class token's row, and where the image's patches are among the tokens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from attention_models import weigh
from torch import nn
from torch.nn import functional

from record import Recorder, RecordingWarning
from record.capture.attention_tokens import ModelTokens

Attend = Callable[..., torch.Tensor]


def explicit(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1) @ v


def model(patch: int | None = 16, **tokens: int) -> nn.Module:
    made = nn.Module()
    made.inner = nn.Module()
    made.patch = nn.Linear(2, 2) if patch is None else nn.Conv2d(3, 4, patch, patch)
    for name, count in tokens.items():
        setattr(made.inner, name, nn.Parameter(torch.zeros(1, count, 4)))
    return made


@pytest.mark.parametrize(
    ("made", "image", "sizes", "expected"),
    [
        (model(cls_token=1), (224, 224), (197, 197), ("class", (14, 14))),
        (model(class_token=1), (224, 160), (141, 141), ("class", (14, 10))),
        (model(None, cls_token=1), (32, 64), (33, 33), ("class", (4, 8))),  # no convolution
        (model(cls_token=1, reg_token=4), (224, 224), (201, 201), ("class", (14, 14))),
        (model(cls_token=1, dist_token=1), (224, 224), (198, 198), ("class", (14, 14))),
        (model(), (224, 224), (196, 196), ("mean", (14, 14))),
        (model(reg_token=4), (224, 224), (200, 200), ("mean", (14, 14))),
        (model(cls_token=1), (224, 224), (196, 196), ("mean", (14, 14))),  # it comes later
        (model(cls_token=1), (224, 224), (1, 197), ("class", (14, 14))),  # it asks alone
        (model(cls_token=1), (224, 224), (7, 7), ("mean", None)),
        (model(cls_token=1), None, (197, 197), ("mean", None)),
        (model(cls_token=1), (224, 224), (50, 50), ("mean", None)),  # a masked autoencoder
        (model(4), (32, 32), (16, 16), ("mean", None)),
        (model(None), (32, 32), (16, 16), ("mean", (4, 4))),
    ],
)
def test_tokens(
    made: nn.Module,
    image: tuple[int, int] | None,
    sizes: tuple[int, int],
    expected: tuple[str, tuple[int, int] | None],
) -> None:
    found = ModelTokens(made, full=False).of(*sizes, False, image)
    assert (found.queries, found.grid) == expected
    found = ModelTokens(made, full=True).of(*sizes, False, image)
    assert (found.queries, found.grid) == ("all", expected[1])
    assert ModelTokens(made, full=False).of(*sizes, True, image).queries == "mean"  # causal


def test_stages_of_fewer_tokens() -> None:
    tokens = ModelTokens(model(4), full=False)
    assert tokens.of(64, 64, False, (32, 32)).grid == (8, 8)
    assert tokens.of(64, 16, False, (32, 32)).grid == (4, 4)
    assert tokens.of(4, 4, False, (32, 32)).grid == (2, 2)


class Inner(nn.Module):
    def __init__(self, attend: Attend) -> None:
        super().__init__()
        self.project, self.attend, self.weights = nn.Linear(8, 16), attend, torch.zeros(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k = self.project(x)[:, None].chunk(2, -1)
        self.weights = weigh(q[0].detach(), k[0].detach())
        return self.attend(q, k, x[:, None])


class Joined(nn.Module):
    """Patches p, a class token c and four registers r, in an order, and one attention over them."""

    def __init__(self, order: str, attend: Attend) -> None:
        super().__init__()
        self.patch, self.order, self.attn = nn.Conv2d(3, 8, 4, 4), order, Inner(attend)
        if "c" in order:
            self.cls_token = nn.Parameter(torch.randn(1, 1, 8))
        if "r" in order:
            self.register_tokens = nn.Parameter(torch.randn(4, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = {"p": self.patch(x).flatten(2).transpose(1, 2)}
        if "c" in self.order:
            parts["c"] = self.cls_token.expand(len(x), -1, -1)
        if "r" in self.order:
            parts["r"] = self.register_tokens.repeat(len(x), 1, 1)
        return self.attn(torch.cat([parts[one] for one in self.order], 1)).mean()


@pytest.mark.parametrize("kind", ["cls", "full"])
@pytest.mark.parametrize("attend", [explicit, functional.scaled_dot_product_attention])
@pytest.mark.parametrize(
    ("order", "queries"),
    [("p", "mean"), ("pr", "mean"), ("pc", "class"), ("cp", "class"), ("crp", "class"),
     ("cpr", "class"), ("pcr", "mean")],
)  # fmt: skip
def test_tokens_behind_those_of_the_image(
    tmp_path: Path, order: str, queries: str, attend: Attend, kind: str
) -> None:
    torch.manual_seed(0)
    model, path, seen = Joined(order, attend), tmp_path / "run.h5", []
    with Recorder(model, path, ["patch"], attention=kind, quiet=True) as recorder:
        for batch in recorder.track([torch.randn(3, 3, 16, 24) for _ in range(2)]):
            model(batch).backward()
            seen.append(model.attn.weights.numpy())
    counts = {"p": 24, "c": 1, "r": 4}
    numbers = np.cumsum([0, *(counts[one] for one in order)])
    places = {one: np.arange(n, n + counts[one]) for one, n in zip(order, numbers, strict=False)}
    kept = np.concatenate([places[one] for one in (*order.replace("p", ""), "p")])
    with h5py.File(path) as file:
        maps = file["attention/maps/attn"]
        assert maps.attrs["queries"] == ("all" if kind == "full" else queries)
        assert list(maps.attrs["grid"]) == [4, 6]
        for number, weights in enumerate(seen):
            expected = weights[:, :, kept]
            if kind == "full":
                expected = expected[:, kept]
            elif queries == "class":
                expected = expected[:, places["c"][0]]
            else:
                expected = expected.mean(1)
            found = maps[0, number].astype(np.float32)
            np.testing.assert_allclose(found, expected, atol=1e-3)


class Scores(Joined):
    def __init__(self, order: str) -> None:
        super().__init__(order, functional.scaled_dot_product_attention)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patches = self.patch(x).flatten(2).transpose(1, 2)
        registers = self.register_tokens.expand(len(x), -1, -1)
        parts = [patches if one == "p" else registers for one in self.order]
        return self.head(self.norm(torch.cat(parts, dim=1)).square().mean(1))


@pytest.mark.parametrize("order", ["rp", "pr"])
def test_class_activation_of_tokens_whose_places_the_file_cannot_say(
    tmp_path: Path, order: str
) -> None:
    torch.manual_seed(0)
    model, path = Scores(order), tmp_path / "run.h5"
    fixed = {"probe": torch.rand(2, 3, 16, 24), "labels": [1, 2], "cam": "norm"}
    refused = order == "pr"
    words = r"since norm puts out tokens whose last 4 are none of the image's \(registers, say\)"
    with (
        pytest.warns(RecordingWarning, match=words) if refused else contextlib.nullcontext(),
        Recorder(model, path, ["norm"], quiet=True, **fixed) as recorder,
    ):
        for batch in recorder.track([torch.randn(3, 3, 16, 24)]):
            model(batch).mean().backward()
    with h5py.File(path) as file:
        assert ("cam" in file["probe/1"]) is not refused
        assert np.isfinite(file["probe/1/maps/norm"][:]).all()
