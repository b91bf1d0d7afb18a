"""Whether heads or images come first where a network has put both into one axis, or side by side.

In (N * heads, T, d) the matrices of one image follow each other, in (heads * N, T, d) they are N
apart, and (N, heads, T, d) has the shape of (heads, N, T, d) where both are as many. What tells is
what was there before: two axes that became one, parts that were set one behind the other, and that
the axis of the images has the larger stride, as long as a tensor is a view of the tokens.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch

_JOINS = {"cat", "concat", "concatenate", "stack"}


class Lead(NamedTuple):
    """The axes of images and of heads, as a tensor has or had them.

    Attributes:
        outer: The size of the first one.
        inner: The size of the second one.
        outer_larger: Whether the first one has the larger stride; None where that is not known.
    """

    outer: int
    inner: int
    outer_larger: bool | None

    def heads_lead(self, heads: int, images: Sequence[int]) -> bool | None:
        """Returns whether heads come before images; None where nothing tells.

        Args:
            heads: The number of heads, 0 where it is not known.
            images: How many images there may be.
        """
        if self.outer != heads or self.inner not in images:
            return False if self.inner == heads else None
        if self.outer != self.inner:
            return True
        return None if self.outer_larger is None else not self.outer_larger


class HeadOrder:
    """Follows tensors from axes of images and heads to products of matrices."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[torch.Tensor], Lead]] = {}

    def clear(self) -> None:
        """Forgets all tensors."""
        self._known.clear()

    def of(self, tensors: Iterable[torch.Tensor], leading: Sequence[int]) -> Lead | None:
        """Returns what is known of the first axes of tensors that are multiplied.

        Args:
            tensors: The tensors, queries and keys, say.
            leading: The size of what is in front of the matrices of the product.
        """
        found = None
        for tensor in tensors:
            if tuple(tensor.shape[: len(leading)]) != tuple(leading):
                continue
            lead = self._lead(tensor)
            if lead is not None and lead.outer_larger is not None:
                return lead
            found = found or lead
        return found

    def see(self, name: str, operands: Sequence[torch.Tensor], output: torch.Tensor) -> None:
        """Takes in what a function of torch has made of tensors.

        Args:
            name: The function's name.
            operands: What it was given.
            output: What it has put out.
        """
        if output.ndim not in (3, 4) or not _is_strided(output):
            return
        operands = [one for one in operands if _is_strided(one)]
        if name in _JOINS:
            lead = _joined(operands, output)
        else:
            lead = next((found for one in operands if (found := self._onward(one, output))), None)
        if lead is not None:
            self._known[id(output)] = weakref.ref(output), lead

    def _onward(self, given: torch.Tensor, output: torch.Tensor) -> Lead | None:
        """Returns what is known of an output by one of the tensors that it was made of."""
        if given.ndim == output.ndim:
            is_copy = given.ndim == 4 and output.is_contiguous() and not given.is_contiguous()
            same = given.shape[: given.ndim - 2] == output.shape[: given.ndim - 2]
            return self._lead(given) if same and (is_copy or id(given) in self._known) else None
        outer, inner = given.shape[:2] if given.ndim == 4 else (0, 0)
        return self._lead(given) if outer * inner == output.shape[0] and outer else None

    def _lead(self, tensor: torch.Tensor) -> Lead | None:
        reference, lead = self._known.get(id(tensor), (None, None))
        if reference is not None and reference() is tensor:
            return lead
        if tensor.ndim != 4:
            return None
        one, other = tensor.stride()[:2]
        told = one and other and not tensor.is_contiguous()
        return Lead(int(tensor.shape[0]), int(tensor.shape[1]), one > other if told else None)


def _is_strided(tensor: torch.Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_nested


def _joined(parts: Sequence[torch.Tensor], output: torch.Tensor) -> Lead | None:
    """Returns what is known of the parts of heads, (N, T, d) each, one behind the other."""
    if len(parts) < 2 or any(part.ndim != 3 or part.shape != parts[0].shape for part in parts):
        return None
    count = int(parts[0].shape[0])
    if output.shape[0] != len(parts) * (count if output.ndim == 3 else 1):
        return None  # along another axis
    return Lead(len(parts), count, False)
