"""The weights of one image's attention, softmax(q kᵀ · scale + mask), computed on the side.

A fused kernel never has them all at once. What is asked for is little beside what it computes: one
image's of a batch, and of them often a single row. Nothing here draws a random number, and nothing
waits for a device.
"""

from __future__ import annotations

import math

import torch

CLASS = "class"  # the row of the class token, which is the first
MEAN = "mean"  # the mean over the queries
ALL = "all"  # a row for each query

_MOST_SCORES = 1 << 22  # at a time, where means are all that is kept


def attention_weights(
    query: torch.Tensor,
    key: torch.Tensor,
    queries: str,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Returns what `scaled_dot_product_attention` weighs the values of one image with.

    It is computed in float32 whatever the dtype of the query and the key, and before dropout. A
    query that may attend to nothing has weights of 0, as it has in torch.

    Args:
        query: (heads, T_q, d), or (T_q, d) of a single head.
        key: (heads, T_k, d), or with fewer heads, each of which serves as many queries' heads.
        queries: CLASS, MEAN or ALL.
        mask: (heads or 1, T_q, T_k), or what can be broadcast to it: true where a query may
            attend, or numbers that are added.
        causal: Whether a query attends to the keys up to its own place alone.
        scale: What the products are multiplied with; None for 1 / sqrt(d).

    Returns:
        Float32 (heads, T_k), or (heads, T_q, T_k) for ALL.
    """
    query, key = query.detach(), key.detach()
    if query.ndim == 2:
        query, key = query[None], key[None]
    if scale is None:
        scale = 1 / math.sqrt(query.shape[-1])
    if mask is not None:
        mask = mask.detach().expand(query.shape[0], query.shape[1], key.shape[1])
    if key.shape[0] != query.shape[0]:  # grouped: heads that share a key follow each other
        shared = query.shape[0] // key.shape[0]
        key = key[:, None].expand(-1, shared, -1, -1).reshape(-1, *key.shape[1:])
    if queries == CLASS:
        # No product of matrices: a row is little, and no setting of the user's rounds it.
        scores = (key * (query[:, :1].float() * scale)).sum(-1)
        if causal:
            scores[:, 1:] = -math.inf
        return _softmax(scores, None if mask is None else mask[:, 0])
    device = query.device.type
    autocast = torch.is_autocast_enabled(device)
    if autocast:  # switched off, not left: the cache of converted weights stays as it is
        torch.set_autocast_enabled(device, False)
    try:
        flipped = key.float().transpose(-2, -1)
        if queries == ALL:
            return _rows(query, flipped, scale, mask, causal, 0)
        return _mean(query, flipped, scale, mask, causal)
    finally:
        if autocast:
            torch.set_autocast_enabled(device, True)


def _mean(
    query: torch.Tensor,
    flipped: torch.Tensor,
    scale: float,
    mask: torch.Tensor | None,
    causal: bool,
) -> torch.Tensor:
    """Returns the mean over the queries, some of them at a time."""
    heads, count, _ = query.shape
    at_once = max(1, _MOST_SCORES // max(1, heads * flipped.shape[-1]))
    if at_once >= count:
        return _rows(query, flipped, scale, mask, causal, 0).mean(-2)
    total = torch.zeros(heads, flipped.shape[-1], device=query.device)
    for first in range(0, count, at_once):
        some = slice(first, first + at_once)
        masks = None if mask is None else mask[:, some]
        total += _rows(query[:, some], flipped, scale, masks, causal, first).sum(-2)
    return total / count


def _rows(
    query: torch.Tensor,
    flipped: torch.Tensor,
    scale: float,
    mask: torch.Tensor | None,
    causal: bool,
    first: int,
) -> torch.Tensor:
    """Returns the weights of some queries, (heads, rows, T_k), the first of which has a number."""
    scores = (query.float() * scale) @ flipped
    if causal:
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril_(first)
        scores = scores.masked_fill_(~seen, -math.inf)
    return _softmax(scores, mask)


def _softmax(scores: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Returns the softmax of scores under a mask, 0 where a row may attend to nothing."""
    if mask is None:
        return scores.softmax(-1)
    scores = scores.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    safe = getattr(torch, "_safe_softmax", None)  # from torch 2.5 on
    if safe is not None:
        return safe(scores, -1)  # type: ignore[no-any-return]
    return scores.softmax(-1).masked_fill((scores == -math.inf).all(-1, keepdim=True), 0)
