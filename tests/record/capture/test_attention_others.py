"""Attention that other functions than torch's fused one compute: seen, or said not to be."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from record import Recorder
from record.capture.attention_others import as_fused

HEADS, SIZE = 2, 16


def causal(batch: Any, head: Any, query: Any, key: Any) -> Any:
    return query >= key


class Attends(nn.Module):
    """Attention by a function; flex_attention has no backward on a CPU, so it gets no gradient."""

    def __init__(self, mask: Any = None) -> None:
        super().__init__()
        self.qkv = nn.Linear(SIZE, 3 * SIZE)
        self.mask = mask
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        images, tokens, _ = x.shape
        shape = (images, tokens, 3, HEADS, SIZE // HEADS)
        with torch.no_grad():
            query, key, value = self.qkv(x).view(shape).permute(2, 0, 3, 1, 4)
            scores = query @ key.transpose(-1, -2) * (SIZE // HEADS) ** -0.5
            if self.mask is not None:
                at = torch.arange(tokens)
                scores = scores.masked_fill(~causal(0, 0, at[:, None], at), -torch.inf)
            self.seen.append(scores.softmax(-1)[0])
            found = self.compute(query, key, value)
        return found.transpose(1, 2).reshape(images, tokens, SIZE)

    def compute(self, query: Any, key: Any, value: Any) -> torch.Tensor:
        return flex_attention(query, key, value, block_mask=self.mask)


class Network(nn.Module):
    def __init__(self, attends: nn.Module) -> None:
        super().__init__()
        self.attn, self.head = attends, nn.Linear(SIZE, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.attn(x).mean(1))


def record(model: nn.Module, path: Path, tokens: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Recorder(model, path, "head", attention="full") as recorder:
        for batch in recorder.track([torch.randn(2, tokens, SIZE) for _ in range(2)]):
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            optimizer.step()


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("masked", [False, True])
def test_flex_attention(tmp_path: Path, masked: bool) -> None:
    torch.manual_seed(0)
    mask = create_block_mask(causal, None, None, 128, 128, device="cpu") if masked else None
    model = Network(Attends(mask))
    home = vars(sys.modules[flex_attention.__module__])
    record(model, tmp_path / "run.h5", 128)
    assert home["flex_attention"] is flex_attention is globals()["flex_attention"]
    with h5py.File(tmp_path / "run.h5") as file:
        found = file["attention/maps/attn"]
        for batch in range(2):
            right = model.attn.seen[batch].numpy()
            np.testing.assert_allclose(found[0, batch].astype("f4"), right, atol=1e-3)


def test_scores_that_a_function_changes_are_not_guessed() -> None:
    query = torch.zeros(1, 2, 4, 8)
    with pytest.raises(ValueError, match="score_mod"):
        as_fused((query, query, query, lambda score, *_: score * 2), {})
    assert as_fused((query, query, query), {"scale": 0.5, "kernel_options": {}})["scale"] == 0.5


@pytest.fixture(params=["flash_attn.flash_attn_func", "xformers.ops.memory_efficient_attention"])
def foreign(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that has such a function, as far as its name goes."""
    home, _, name = request.param.rpartition(".")
    module = types.ModuleType(home)

    def attend(query: Any, key: Any, value: Any) -> torch.Tensor:
        weights = (query.flatten(-1) * key.flatten(-1)).tanh()  # nothing that could be seen
        return torch.as_tensor(weights * value)

    attend.__name__, attend.__module__ = name, home
    setattr(module, name, attend)
    monkeypatch.setitem(sys.modules, home.partition(".")[0], types.ModuleType("package"))
    monkeypatch.setitem(sys.modules, home, module)
    return name


@pytest.mark.parametrize("by_name", [False, True])
def test_what_kernels_of_their_own_compute_is_said_not_to_be_seen(
    tmp_path: Path,
    foreign: str,
    by_name: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    homes = (sys.modules.get(home) for home in ("flash_attn", "xformers.ops"))
    home = next(each for each in homes if each is not None and hasattr(each, foreign))
    function = getattr(home, foreign)
    if by_name:  # from flash_attn import flash_attn_func
        monkeypatch.setitem(globals(), foreign, function)

    class Foreign(Attends):
        def compute(self, query: Any, key: Any, value: Any) -> torch.Tensor:
            called = globals()[foreign] if by_name else getattr(home, foreign)
            return called(query, key, value)

    record(Network(Foreign()), tmp_path / "run.h5", 8)
    said = capsys.readouterr().err
    assert said.count(f"attention of {foreign} is not seen") == 1
    assert "no attention that is known" not in said
    assert getattr(home, foreign) is function
