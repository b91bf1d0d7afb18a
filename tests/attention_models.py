"""Small networks of five families, and their attention computed from its definition."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

Compute = Callable[[nn.Module, tuple, dict], torch.Tensor]


class Expected:
    """The attention of the first image in each training forward, (heads, T_q, T_k) in float64.

    Args:
        model: The network.
        kinds: How the attention of a class's modules is computed from what they are given.
    """

    def __init__(self, model: nn.Module, kinds: dict[str, Compute]) -> None:
        self.by_name: dict[str, list[torch.Tensor]] = {}
        self.handles = []
        for name, module in model.named_modules():
            compute = kinds.get(type(module).__name__)
            if compute is not None:
                hook = self._hook(name, compute, model)
                self.handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def _hook(self, name: str, compute: Compute, model: nn.Module) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            if model.training:
                with torch.no_grad():
                    found = compute(module, args, kwargs)
                self.by_name.setdefault(name, []).append(found)

        return hook


def weigh(query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Softmax(q kᵀ / sqrt(d) + mask), in float64."""
    scores = query.double() @ key.double().transpose(-2, -1) / math.sqrt(query.shape[-1])
    return (scores if mask is None else scores + mask).softmax(-1)


def split(x: torch.Tensor, heads: int) -> torch.Tensor:
    """Returns (heads, T, d) of (T, heads * d)."""
    return x.unflatten(-1, (heads, -1)).transpose(0, 1)


def of_multihead(module: nn.MultiheadAttention, args: Any, kwargs: Any) -> torch.Tensor:
    """Of `nn.MultiheadAttention`, of one embedding size and without a mask."""
    query, key = args[0], args[1]
    if query.ndim == 3:
        query, key = (t[0] if module.batch_first else t[:, 0] for t in (query, key))
    wq, wk, _ = module.in_proj_weight.chunk(3)
    bq, bk, _ = module.in_proj_bias.chunk(3)
    q, k = functional.linear(query, wq, bq), functional.linear(key, wk, bk)
    mask = kwargs.get("attn_mask")
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape).masked_fill(mask, -math.inf)
    return weigh(split(q, module.num_heads), split(k, module.num_heads), mask)


def of_timm(module: Any, args: Any, kwargs: Any) -> torch.Tensor:
    """Of timm's `Attention`."""
    q, k, _ = module.qkv(args[0][0]).chunk(3, -1)
    return weigh(split(q, module.num_heads), split(k, module.num_heads))


def of_hugging_face(module: Any, args: Any, kwargs: Any) -> torch.Tensor:
    """Of transformers' `ViTAttention`, whichever names its version has for the projections."""
    inner = module
    for name in ("attention", "q_proj"):
        inner = inner if hasattr(inner, "q_proj") else getattr(inner, name, inner)
    x = args[0][0]
    heads = inner.num_attention_heads
    if hasattr(inner, "q_proj"):
        return weigh(split(inner.q_proj(x), heads), split(inner.k_proj(x), heads))
    return weigh(split(inner.query(x), heads), split(inner.key(x), heads))


def of_causal(module: Any, args: Any, kwargs: Any) -> torch.Tensor:
    """Of `CausalSelfAttention`."""
    x = args[0][0]
    q, k, _ = module.c_attn(x).chunk(3, -1)
    mask = torch.full((x.shape[0], x.shape[0]), -math.inf, device=x.device).triu(1)
    return weigh(split(q, module.n_head), split(k, module.n_head), mask)


def of_swin(module: Any, args: Any, kwargs: Any) -> torch.Tensor:
    """Of torchvision's `ShiftedWindowAttention`, from one token to another, without windows."""
    x = args[0][0]
    rows, columns, _ = x.shape
    (height, width), shift = module.window_size, list(module.shift_size)
    padded = [-(-rows // height) * height, -(-columns // width) * width]
    shift = [0 if w >= p else s for w, p, s in zip((height, width), padded, shift, strict=True)]
    heads = module.num_heads
    q, k, _ = module.qkv(x.reshape(rows * columns, -1)).chunk(3, -1)
    scores = split(q, heads).double() @ split(k, heads).double().transpose(-2, -1)
    scores /= math.sqrt(q.shape[-1] // heads)
    # What fills the last windows is zeros before the projection: the bias alone.
    filler = split(module.qkv(torch.zeros(1, x.shape[-1])).chunk(3, -1)[1], heads)
    to_filler = (split(q, heads).double() @ filler.double().transpose(-2, -1))[..., 0]
    to_filler /= math.sqrt(q.shape[-1] // heads)
    table = module.relative_position_bias_table.double()
    where = [
        ((r - shift[0]) % padded[0], (c - shift[1]) % padded[1])
        for r in range(padded[0])
        for c in range(padded[1])
    ]
    weights = torch.zeros(heads, rows * columns, rows * columns, dtype=torch.float64)

    def region(place: int, size: int, window: int, moved: int) -> int:
        return (place >= size - window) + (place >= size - moved) if moved else 0

    for r in range(rows):
        for c in range(columns):
            i = r * columns + c
            ri, ci = where[r * padded[1] + c]
            logits, keys = [], []
            for number, (rj, cj) in enumerate(where):
                if (ri // height, ci // width) != (rj // height, cj // width):
                    continue
                kr, kc = divmod(number, padded[1])
                inside = kr < rows and kc < columns
                bias = table[(ri - rj + height - 1) * (2 * width - 1) + ci - cj + width - 1]
                score = scores[:, i, kr * columns + kc] if inside else to_filler[:, i]
                apart = sum(shift) > 0 and (
                    region(ri, padded[0], height, shift[0])
                    != region(rj, padded[0], height, shift[0])
                    or region(ci, padded[1], width, shift[1])
                    != region(cj, padded[1], width, shift[1])
                )
                logits.append(score + bias + (-100.0 if apart else 0.0))
                keys.append(kr * columns + kc if inside else -1)
            found = torch.stack(logits, -1).softmax(-1)
            for place, key in enumerate(keys):
                if key >= 0:
                    weights[:, i, key] = found[:, place]
    return weights


class CausalSelfAttention(nn.Module):
    """nanoGPT's, with its way for a torch without the fused kernel."""

    def __init__(self, width: int, heads: int, dropout: float, flash: bool) -> None:
        super().__init__()
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)
        self.attn_dropout = nn.Dropout(dropout)
        self.n_head, self.n_embd, self.dropout, self.flash = heads, width, dropout, flash
        self.register_buffer("bias", torch.tril(torch.ones(64, 64)).view(1, 1, 64, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, c = x.size()
        q, k, v = self.c_attn(x).split(self.n_embd, dim=2)
        k = k.view(n, t, self.n_head, c // self.n_head).transpose(1, 2)
        q = q.view(n, t, self.n_head, c // self.n_head).transpose(1, 2)
        v = v.view(n, t, self.n_head, c // self.n_head).transpose(1, 2)
        if self.flash:
            dropout = self.dropout if self.training else 0
            y = torch.nn.functional.scaled_dot_product_attention(
                q, k, v, attn_mask=None, dropout_p=dropout, is_causal=True
            )
        else:
            att = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
            att = att.masked_fill(self.bias[:, :, :t, :t] == 0, float("-inf"))
            att = functional.softmax(att, dim=-1)
            att = self.attn_dropout(att)
            y = att @ v
        y = y.transpose(1, 2).contiguous().view(n, t, c)
        return self.c_proj(y)


class Block(nn.Module):
    def __init__(self, attn: nn.Module, width: int) -> None:
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(width), attn

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.attn(self.ln_1(x))


class TinyGPT(nn.Module):
    """Two causal blocks behind an embedding."""

    def __init__(self, flash: bool = True, dropout: float = 0.2) -> None:
        super().__init__()
        self.wte = nn.Embedding(11, 16)
        self.h = nn.ModuleList(
            Block(CausalSelfAttention(16, 2, dropout, flash), 16) for _ in range(2)
        )
        self.lm_head = nn.Linear(16, 11)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.wte(tokens)
        for block in self.h:
            x = block(x)
        return self.lm_head(x)
