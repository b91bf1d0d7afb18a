"""From the attention of a batch to the frames of its first image, and of fixed images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import torch
from torch import nn

from record.capture.attention_order import HeadOrder, Lead
from record.capture.attention_products import tokens_given
from record.capture.attention_source import AttentionSource, first_row
from record.capture.attention_tokens import ModelTokens, Tokens
from record.capture.attention_weights import ALL, CLASS, MEAN, attention_weights
from record.capture.attention_windows import Windows
from record.capture.captured_frames import CapturedFrames
from record.capture.phase import CaptureState
from record.capture.slots import MAX_CALLS
from record.capture.tensors import to_plain, without_transforms
from record.formatting import format_bytes
from replay.schema import ATTENTION

_HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "heads")
_Values = Callable[[int, Tokens], torch.Tensor]
"""Returns one image's weights: given the number of its part, and what the tokens stand for."""


class AttentionFrames:
    """Keeps the attention of the first image of a batch, or of each fixed one.

    Args:
        state: What all hooks of the recording share.
        frames: Takes the sources of the frames.
        full: Whether the attention of every query is kept, not one row for each head.
        behind: By the number of tokens, how many stand behind those of the image.
    """

    def __init__(
        self, state: CaptureState, frames: CapturedFrames, full: bool, behind: Mapping[int, int]
    ) -> None:
        self._state, self._behind = state, behind
        self._further = frames.further
        self._full = full
        self._sources: dict[str, AttentionSource] = {}
        self._tokens: ModelTokens | None = None
        self._heads_lead: dict[str, bool] = {}  # by name, once it was told

    @property
    def any(self) -> bool:
        """Whether there was any attention."""
        return bool(self._sources)

    def look_at(self, root: nn.Module) -> None:
        """Takes in what the parameters of a model say of its tokens."""
        self._tokens = ModelTokens(root, self._full)

    def size_in_words(self) -> str:
        """Returns how much there is of every query's attention in a batch, in words."""
        kept = [
            values
            for source in self._sources.values()
            for slots in source.slots.values()
            for values in (*slots.slots, *slots.found.values())
        ]
        if not kept or not self._full:
            return ""
        largest = max(kept, key=torch.Tensor.numel)
        shape = "x".join(str(n) for n in largest.shape)
        return (
            f"attention of every query takes {format_bytes(sum(2 * v.numel() for v in kept))} in "
            f"each batch ({len(kept)} of up to {shape})"
        )

    def keep_fused(
        self,
        name: str,
        module: nn.Module,
        call: FrameType,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        order: HeadOrder,
    ) -> None:
        """Computes the weights of a call of `scaled_dot_product_attention`, and keeps them.

        Args:
            name: The module's name.
            module: The module that has called it.
            call: The frame of the module's own call.
            args: The positional arguments.
            kwargs: The keyword arguments.
            order: What is known of axes of heads and images.

        Raises:
            ValueError: Nothing tells what of it is the first image's.
        """
        query, key, mask, causal, scale = _of_call(*args, **kwargs)
        if query.is_nested or key.is_nested:
            raise ValueError("its tokens are nested tensors")
        lead = order.of((query, key), query.shape[:-2])
        query, key = _plain(query), _plain(key)
        if name not in self._sources and _is_of_channels(query, key, call):
            raise ValueError("it is attention over channels, not over tokens")
        if mask is not None:
            mask = _plain(mask).broadcast_to((*query.shape[:-1], key.shape[-2]))
        if query.ndim == 3:  # heads and images in one, or a single head
            heads = self._heads_of(module, query.shape[0])
            leads = self._leads(name, module, lead)
            query, key = _split(query, heads, leads), _split(key, heads, leads)
            mask = None if mask is None else _split(mask, heads, leads)
        elif query.ndim == 4 and self._leads(name, module, lead):
            query, key = query.transpose(0, 1), key.transpose(0, 1)
            mask = None if mask is None else mask.transpose(0, 1)
        if query.ndim == 2:
            query, key = query[None, None], key[None, None]
            mask = None if mask is None else mask[None, None]
        if query.ndim == 5:  # windows have an axis of their own
            query, key = _without_windows(query, module), _without_windows(key, module)
            mask = None if mask is None else _without_windows(mask, module)
        _check_heads(query, module)

        def values(row: int, tokens: Tokens) -> torch.Tensor:
            rows = slice(tokens.row, None)  # of which the first one is the class token's, for CLASS
            return attention_weights(
                _part(query, row)[:, rows],
                _part(key, row),
                tokens.queries,
                None if mask is None else _part(mask, row)[:, rows],
                causal,
                scale,
            )

        count = max(query.shape[0], key.shape[0])
        self._keep(name, module, count, (query.shape[-2], key.shape[-2]), causal, values)

    def keep_weights(
        self, name: str, module: nn.Module, weights: torch.Tensor, lead: Lead | None = None
    ) -> None:
        """Keeps weights that were computed anyway, before dropout.

        Args:
            name: The module's name.
            module: The module that has computed them.
            weights: (N, heads, T_q, T_k), (N, windows, heads, T_q, T_k) or (N * heads, T_q, T_k).
            lead: What is known of the axes of images and heads.

        Raises:
            ValueError: Nothing tells what of it is the first image's.
        """
        weights = _plain(weights)
        if weights.ndim == 5:
            weights = _without_windows(weights, module)
        if weights.ndim == 3:
            heads = self._heads_of(module, weights.shape[0])
            weights = _split(weights, heads, self._leads(name, module, lead))
        elif weights.ndim == 4 and self._leads(name, module, lead):
            weights = weights.transpose(0, 1)
        _check_heads(weights, module)

        def values(row: int, tokens: Tokens) -> torch.Tensor:
            if tokens.queries == CLASS:
                return weights[row, :, tokens.row]
            return weights[row] if tokens.queries == ALL else weights[row].float().mean(-2)

        size = int(weights.shape[2]), int(weights.shape[3])
        self._keep(name, module, weights.shape[0], size, False, values)

    def keep_windows(
        self, name: str, module: nn.Module, weights: torch.Tensor, windows: Windows
    ) -> None:
        """Keeps the attention within windows, each put back into its place in the image.

        Args:
            name: The module's name.
            module: The module that has computed them.
            weights: (N * windows, heads, T, T).
            windows: Where the windows lie.
        """
        weights, many, full = _plain(weights), windows.many, self._full

        def values(row: int, tokens: Tokens) -> torch.Tensor:
            part = weights[row * many : (row + 1) * many].float()
            return windows.whole(part) if full else windows.mean(part)

        tokens = Tokens(ALL if full else MEAN, windows.size)
        self._keep_known(name, module, weights.shape[0] // many, tokens, "", values)

    def _keep(
        self,
        name: str,
        module: nn.Module,
        count: int,
        size: tuple[int, int],
        causal: bool,
        values: _Values,
    ) -> None:
        """Keeps attention of so many parts, of (T_q, T_k) each."""
        shape = self._state.input.shape
        image = tuple(shape[-2:]) if shape is not None and len(shape) in (3, 4) else None
        _, parts = first_row(count, self._sizes(), 0)
        assert self._tokens is not None
        tokens = self._tokens.of(*size, causal, image if parts == 1 else None)
        tokens = tokens.with_behind(*size, self._behind.get(size[1], 0))
        note = "" if parts == 1 else f"the first of {parts} parts of the image, such as windows"
        if tokens.behind:
            note = f"the last tokens, {tokens.behind}, are kept before those of the image"

        def ordered(row: int, tokens: Tokens) -> torch.Tensor:
            return tokens.in_order(values(row, tokens), *size)

        self._keep_known(name, module, count, tokens, note, ordered)

    def _keep_known(
        self,
        name: str,
        module: nn.Module,
        count: int,
        tokens: Tokens,
        note: str,
        values: _Values,
    ) -> None:
        state = self._state
        source = self._sources.get(name)
        if source is None:
            source = self._sources[name] = AttentionSource(name, module, state.slots)
            self._further.append(source)
        for number in state.images_of(ATTENTION, name):
            place = 0 if state.alone is not None else number or 0
            row, parts = first_row(count, self._sizes(), place)
            if place and parts > 1:
                state.mixed.add((ATTENTION, name))  # whose its parts are nobody can say
                continue
            slots = source.slots_of(number, tokens, note)
            call = slots.calls
            slots.calls = call + 1
            if call >= MAX_CALLS:
                continue
            try:
                slots.keep(call, values(row, tokens))
            except Exception:
                slots.give_up(call)
                raise

    def _leads(self, name: str, module: nn.Module, lead: Lead | None) -> bool:
        """Whether heads come before images, as was told last; before anything was, they do not."""
        told = None if lead is None else lead.heads_lead(_said_heads(module), self._sizes())
        if told is not None:
            self._heads_lead[name] = told
        return self._heads_lead.get(name, False)

    def _heads_of(self, module: nn.Module, count: int) -> int:
        """Returns how many of so many matrices are heads of one image."""
        if isinstance(module, nn.MultiheadAttention):
            return int(module.num_heads)
        sizes = self._sizes()
        if count in sizes or not sizes:
            return 1
        heads = _said_heads(module)
        if heads and count % heads == 0:
            return heads
        raise ValueError(f"nothing tells which of its {count} matrices are heads")

    def _sizes(self) -> tuple[int, ...]:
        """Returns how many images the forward may see, the likeliest first."""
        batch = self._state.batch
        return (1,) if batch.whole else batch.sizes


def _of_call(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, bool, float | None]:
    """Returns what matters of the arguments of `scaled_dot_product_attention`."""
    return query, key, attn_mask, is_causal, scale


def _said_heads(module: nn.Module) -> int:
    """Returns how many heads a module says that it has; 0 where it says nothing."""
    for attribute in _HEADS:
        heads = getattr(module, attribute, None)
        if type(heads) is int and heads > 0:
            return heads
    return 0


def _without_windows(tensor: torch.Tensor, module: nn.Module) -> torch.Tensor:
    """Returns (N * windows, heads, ...) of (N, windows, heads, ...) or (N, heads, windows, ...).

    Raises:
        ValueError: Nothing tells which it is.
    """
    heads = _said_heads(module)
    if not heads or (tensor.shape[1] == heads) == (tensor.shape[2] == heads):
        raise ValueError(f"nothing tells which axis of {tuple(tensor.shape)} counts its heads")
    if tensor.shape[1] == heads:
        tensor = tensor.transpose(1, 2)
    return tensor.flatten(0, 1)


def _check_heads(tensor: torch.Tensor, module: nn.Module) -> None:
    """Raises `ValueError` where (N, heads, ...) is another number of heads than the module says."""
    heads = _said_heads(module)
    if tensor.ndim != 4 or (heads and tensor.shape[1] != heads):
        raise ValueError(f"nothing tells its {heads or ''} heads from {tuple(tensor.shape)}")


def _is_of_channels(query: torch.Tensor, key: torch.Tensor, call: FrameType) -> bool:
    """Whether what attends to each other are channels, and the tokens are what is multiplied."""
    count = query.shape[-2]
    if count != key.shape[-2]:
        return False
    tokens = tokens_given(call)
    return count not in tokens and query.shape[-1] in tokens


def _split(tensor: torch.Tensor, heads: int, heads_lead: bool) -> torch.Tensor:
    """Returns (N, heads, ...) of (N * heads, ...), or of (heads * N, ...)."""
    if heads_lead:
        return tensor.reshape(heads, -1, *tensor.shape[1:]).transpose(0, 1)
    return tensor.reshape(-1, heads, *tensor.shape[1:])


def _part(tensor: torch.Tensor, row: int) -> torch.Tensor:
    """Returns one part of a batch, or the only one that all share."""
    return tensor[row if tensor.shape[0] > 1 else 0]


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return to_plain(without_transforms(tensor).detach())
