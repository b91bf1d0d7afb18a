"""What the tokens of an attention stand for: a class token, and the patches of the image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from record.capture.attention_weights import ALL, CLASS, MEAN
from replay.schema.token_grid import grid_in_proportion

_CLASS = re.compile(r"^(cls|class)_?(token|tokens|embedding|embed|emb)$")
_BESIDE = re.compile(r"^(dist|distillation|reg|register|storage|mem|memory)_?tokens?$")


class Tokens(NamedTuple):
    """What the tokens of an attention stand for.

    Attributes:
        queries: Whose attention is kept: CLASS, MEAN or ALL.
        grid: Rows and columns of the image's tokens among the keys; None where not known.
        row: Of CLASS, the number of the class token among the queries.
        behind: How many tokens stand behind those of the image.
    """

    queries: str
    grid: tuple[int, int] | None
    row: int = 0
    behind: int = 0

    def with_behind(self, queries: int, keys: int, behind: int) -> Tokens:
        """Returns the same where so many of the tokens stand behind those of the image."""
        if self.grid is None or not behind:
            return self
        before = keys - self.grid[0] * self.grid[1] - behind
        if before < 0:  # they are among the grid's: it is another one
            return Tokens(MEAN if self.queries == CLASS else self.queries, None)
        found = self._replace(behind=behind)
        if self.queries != CLASS or before or queries == 1:
            return found
        # Which of several is the class token, nobody says.
        return found._replace(row=keys - 1) if behind == 1 else found._replace(queries=MEAN)

    def in_order(self, weights: torch.Tensor, queries: int, keys: int) -> torch.Tensor:
        """Returns weights with the image's tokens behind all others, as the file has them."""
        if self.grid is None or not self.behind:
            return weights
        image = self.grid[0] * self.grid[1]
        first = keys - self.behind - image  # of the image's
        parts = (0, first), (first + image, self.behind), (first, image)
        for axis in (-2, -1) if self.queries == ALL and queries == keys else (-1,):
            weights = torch.cat([weights.narrow(axis, *part) for part in parts], axis)
        return weights


class ModelTokens:
    """What a model's parameters say of its tokens.

    A class token is taken for one where the model has a parameter of such a name (`cls_token`,
    `class_token`, `class_embedding` ...) and the number of tokens is that of a grid of patches in
    the proportions of the input, and one more for it and for each register: in a network that adds
    its class token late, the first of the earlier tokens is a patch. Fewer tokens than there are
    patches are a grid where all of them came before, in a network of several stages; else they are
    some of the patches, as a masked autoencoder has them.

    Args:
        model: The network.
        full: Whether the attention of every query is kept.
    """

    def __init__(self, model: nn.Module, full: bool) -> None:
        self._full = full
        self._has_class, self._beside = _named_tokens(model)
        self._patch = patch_size(model)
        self._was_whole = False  # whether all patches, and nothing else, were tokens before
        self._known: dict[tuple[int, int, bool, tuple[int, int] | None], Tokens] = {}

    def of(
        self, queries: int, keys: int, causal: bool, image: Sequence[int] | None = None
    ) -> Tokens:
        """Returns what the tokens of an attention stand for.

        Args:
            queries: The number of queries.
            keys: The number of keys.
            causal: Whether each query attends to the keys up to its own place alone.
            image: The height and the width of the model's input; None where it is no image.
        """
        size = None if image is None else (image[0], image[1])
        asked = queries, keys, causal, size
        known = self._known.get(asked)
        if known is None:
            if len(self._known) > 1000:  # sizes that never come back
                self._known.clear()
            known = self._known[asked] = self._find(*asked)
        return known

    def _find(self, queries: int, keys: int, causal: bool, image: tuple[int, int] | None) -> Tokens:
        grid, first = None, False
        if image is not None:
            with_class = [1 + self._beside, 1] if self._has_class else []
            find = self._grid_of_patches if self._patch else grid_in_proportion
            fitting = [n for n in (*with_class, self._beside, 0) if find(keys - n, image)]
            if fitting:
                grid = find(keys - fitting[0], image)
                first = fitting[0] in with_class
            self._was_whole |= bool(self._patch and find(queries, image))
            if grid is None and self._was_whole:  # a later stage, of fewer tokens
                grid = grid_in_proportion(keys, image)
        if self._full:
            return Tokens(ALL, grid)
        # Late class tokens are the only query, to all tokens.
        has_row = first and queries in (keys, 1) and not causal
        return Tokens(CLASS if has_row else MEAN, grid)

    def _grid_of_patches(self, tokens: int, image: tuple[int, int]) -> tuple[int, int] | None:
        if self._patch is None:
            return None
        rows, columns = image[0] // self._patch[0], image[1] // self._patch[1]
        return (rows, columns) if tokens > 1 and rows * columns == tokens else None


def _named_tokens(model: nn.Module) -> tuple[bool, int]:
    """Returns whether a model has a class token, and how many registers and the like beside it."""
    tensors: list[tuple[str, torch.Tensor]] = [*model.named_parameters(), *model.named_buffers()]
    named = [(name.rpartition(".")[2], tensor) for name, tensor in tensors]
    beside = {name: _count(tensor) for name, tensor in named if _BESIDE.match(name)}
    return any(_CLASS.match(name) for name, _ in named), sum(beside.values())


def beside_class(model: nn.Module) -> tuple[int, ...]:
    """Returns how many tokens there may be beside those of the image, as parameters are named."""
    has_class, beside = _named_tokens(model)
    return (1 + beside, beside) if has_class else (beside,)


def patch_size(model: nn.Module) -> tuple[int, int] | None:
    """Returns the height and the width of the patches that the model cuts its input into."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            size = tuple(module.kernel_size)
            unpadded = module.padding in (0, (0, 0), "valid")
            whole = size == tuple(module.stride) and min(size) > 1 and unpadded
            return (size[0], size[1]) if whole else None
    return None


def _count(tensor: torch.Tensor) -> int:
    """Returns how many tokens a parameter holds, (1, count, C) or (C,)."""
    return int(tensor.shape[-2]) if tensor.ndim > 1 else 1
