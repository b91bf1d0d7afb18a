"""The weights that are computed on the side are those that torch's attention uses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from record.capture import attention_weights as weights
from record.capture.attention_weights import ALL, CLASS, MEAN


def used(query: torch.Tensor, key: torch.Tensor, **options: Any) -> torch.Tensor:
    """What torch weighs the values with: those of the identity are the weights themselves."""
    value = torch.eye(key.shape[-2], dtype=query.dtype).expand(*key.shape[:-1], -1)
    return scaled_dot_product_attention(query[None], key[None], value[None], **options)[0]


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "scale": {"scale": 0.7},
    "causal": {"causal": True},
    "bool mask": {"mask": torch.tensor([[1, 1, 0, 1, 0, 1, 1]] * 5, dtype=torch.bool)},
    "masked row": {"mask": torch.eye(5, 7, dtype=torch.bool) & (torch.arange(5)[:, None] != 2)},
    "mask of heads": {"mask": torch.arange(4 * 5 * 7).view(4, 5, 7) % 3 > 0},
    "float mask": {"mask": torch.linspace(-3, 3, 35).view(1, 5, 7)},
    "minus infinity": {"mask": torch.zeros(5, 7).masked_fill(torch.eye(5, 7) > 0, -torch.inf)},
}


@pytest.mark.parametrize("many", [1 << 22, 15])  # all at once, and one query at a time
@pytest.mark.parametrize("name", CASES)
def test_as_torch_weighs(name: str, many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_MOST_SCORES", many)
    make = torch.Generator().manual_seed(1)
    case = CASES[name]
    query, key = (torch.randn(4, n, 6, generator=make, requires_grad=True) for n in (5, 7))
    mask, causal, scale = case.get("mask"), case.get("causal", False), case.get("scale")
    expected = used(query, key, attn_mask=mask, is_causal=causal, scale=scale).detach()
    state = torch.get_rng_state()
    for queries, want in ((ALL, expected), (MEAN, expected.mean(1)), (CLASS, expected[:, 0])):
        found = weights.attention_weights(query, key, queries, mask, causal, scale)
        assert found.dtype == torch.float32
        assert not found.requires_grad
        torch.testing.assert_close(found, want, atol=1e-6, rtol=1e-5)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("queries", [ALL, MEAN, CLASS])
def test_grouped_heads(queries: str) -> None:
    query, key = torch.randn(6, 5, 8), torch.randn(2, 5, 8)
    expected = used(query, key.repeat_interleave(3, 0))
    found = weights.attention_weights(query, key, queries)
    want = {ALL: expected, MEAN: expected.mean(1), CLASS: expected[:, 0]}[queries]
    torch.testing.assert_close(found, want, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("queries", [ALL, MEAN, CLASS])
def test_low_precision_is_left_before_the_product(dtype: torch.dtype, queries: str) -> None:
    query, key = (8 * torch.randn(2, 9, 16)).to(dtype), torch.randn(2, 9, 16).to(dtype)
    exact = used(query.double(), key.double())
    want = {ALL: exact, MEAN: exact.mean(1), CLASS: exact[:, 0]}[queries].float()
    with torch.autocast("cpu", torch.bfloat16):
        found = weights.attention_weights(query, key, queries)
        assert torch.is_autocast_enabled("cpu")
    torch.testing.assert_close(found.float(), want, atol=1e-5, rtol=1e-4)
