"""Heads before images, in one axis or in two: the attention is that of the first image."""

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

from record import Recorder, RecordingWarning

Heads = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Net(nn.Module):
    """An attention that is given the query, the key and the value, (N, 2, 9, 4)."""

    def __init__(self, attend: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 8, 4, 4)
        self.attn = Inner(attend)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attn(self.patch(x).flatten(2).transpose(1, 2))


class Inner(nn.Module):
    def __init__(self, attend: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.num_heads = 2
        self.attend = attend
        self.seen: list[np.ndarray] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 4)).transpose(1, 3).unbind(2)
        self.seen.append(weigh(q[0].detach(), k[0].detach()).numpy())
        return self.attend(q, k, v).transpose(1, 2).flatten(2)


def explicit(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return (q @ k.transpose(-2, -1) / 2).softmax(-1) @ v


def fused(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return functional.scaled_dot_product_attention(q, k, v)


def heads_outermost(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Heads:
    """Of "Attention is all you need" as it was often written down."""
    return tuple(t.transpose(0, 1).contiguous().view(-1, 9, 4) for t in (q, k, v))


def parts_joined(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Heads:
    """Of the Set Transformer: the heads' parts of the channels, one behind the other."""
    flat = (t.transpose(1, 2).flatten(2) for t in (q, k, v))
    return tuple(torch.cat(t.split(4, 2), 0) for t in flat)


def images_outermost(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Heads:
    return tuple(t.reshape(-1, 9, 4) for t in (q, k, v))


def tokens_outermost(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Heads:
    """Of fairseq: (T, N * heads, d), then the tokens behind."""
    sequences = (t.permute(2, 0, 1, 3).reshape(9, -1, 4) for t in (q, k, v))
    return tuple(t.transpose(0, 1) for t in sequences)


def heads_axis_first(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Heads:
    return tuple(t.transpose(0, 1) for t in (q, k, v))


def heads_stacked(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Heads:
    return tuple(torch.stack(t.unbind(1)) for t in (q, k, v))


def as_they_are(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Heads:
    return tuple(t.contiguous() for t in (q, k, v))


LEAD = {heads_outermost, parts_joined, heads_axis_first, heads_stacked}


@pytest.mark.parametrize("sizes", [(3, 3), (2, 2), (1, 1), (3, 2)])  # of batches; there are 2 heads
@pytest.mark.parametrize("call", [explicit, fused])
@pytest.mark.parametrize(
    "arrange", [*sorted(LEAD, key=str), images_outermost, tokens_outermost, as_they_are]
)
def test_the_first_image_is_found(
    tmp_path: Path,
    arrange: Callable[..., Heads],
    call: Callable[..., torch.Tensor],
    sizes: tuple[int, ...],
) -> None:
    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        output = call(*arrange(q, k, v))
        if arrange in LEAD:
            return output.view(2, -1, 9, 4).transpose(0, 1)
        return output.view(-1, 2, 9, 4)

    torch.manual_seed(0)
    model, path = Net(attend), tmp_path / "run.h5"
    batches = [torch.randn(size, 1, 12, 12) for size in sizes]
    with Recorder(model, path, ["patch"], attention="full", quiet=True) as recorder:
        for batch in recorder.track(batches):
            model(batch).square().mean().backward()
    with h5py.File(path) as file:
        found = file["attention/maps/attn"][0].astype(np.float32)
    np.testing.assert_allclose(found, np.stack(model.attn.seen), atol=1e-3)


@pytest.mark.parametrize("says_heads", [True, False])
def test_heads_behind_the_queries(tmp_path: Path, says_heads: bool) -> None:
    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))  # (N, T, heads, d)
        weights = (torch.einsum("bqhd,bkhd->bqhk", q, k) / 2).softmax(-1)
        return torch.einsum("bqhk,bkhd->bhqd", weights, v)

    torch.manual_seed(0)
    model, path = Net(attend), tmp_path / "run.h5"
    if not says_heads:
        del model.attn.num_heads
    with Recorder(model, path, ["patch"], attention="full", quiet=True) as recorder:
        for batch in recorder.track([torch.randn(3, 1, 12, 12) for _ in range(2)]):
            model(batch).square().mean().backward()
    with h5py.File(path) as file:
        found = file["attention/maps/attn"][0].astype(np.float32)
    np.testing.assert_allclose(found, np.stack(model.attn.seen), atol=1e-3)


class Experts(nn.Module):
    """Each token's share of each of four experts, by a product with a matrix of the model's."""

    def __init__(self, products: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.randn(8, 4))
        self.experts = nn.Parameter(torch.randn(4, 8, 8))
        self.products = products

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shares = self.products(x, self.gate).softmax(-1)
        each = torch.einsum("ntc,ecd->nted", x, self.experts)
        return torch.einsum("nted,nte->ntd", each, shares)


class Learned(nn.Module):
    """Queries that all images share, (5, 8), attend to the tokens: this is attention."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(5, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.queries @ x.transpose(1, 2)).softmax(-1) @ x


def recorded(path: Path, inner: nn.Module) -> list[str]:
    model = Net(explicit)
    model.attn = inner
    with Recorder(model, path, ["patch"], attention="full", quiet=True) as recorder:
        for batch in recorder.track([torch.randn(3, 1, 12, 12)]):
            model(batch).square().mean().backward()
    with h5py.File(path) as file:
        return sorted(file.get("attention/maps", ()))


@pytest.mark.parametrize(
    "products",
    [
        lambda x, gate: x @ gate,
        lambda x, gate: torch.matmul(x, gate) * 0.5,
        lambda x, gate: torch.einsum("ntc,ce->nte", x, gate) + 1,
    ],
)
def test_a_router_is_no_attention(tmp_path: Path, products: Callable[..., torch.Tensor]) -> None:
    with pytest.warns(RecordingWarning, match="no attention was recorded: no attention"):
        assert recorded(tmp_path / "run.h5", Experts(products)) == []


def test_learned_queries_are(tmp_path: Path) -> None:
    assert recorded(tmp_path / "run.h5", Learned()) == ["attn"]
