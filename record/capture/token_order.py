"""Which tokens stand behind those of the image: registers or a class token that come last.

What tells is how a network joins its tokens: the part that has most of them is the image's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

JOINS = {"cat", "concat", "concatenate"}


class TokenOrder:
    """Follows the joining of tokens.

    Attributes:
        behind: By the number of all tokens, how many of them stand behind those of the image.
    """

    def __init__(self) -> None:
        self.behind: dict[int, int] = {}

    def see_call(self, function: Any, args: Any, output: Any) -> None:
        """Takes in a call of a function of torch, of which only those that join matter."""
        name, parts = getattr(function, "__name__", ""), args[0] if args else None
        if name in JOINS and isinstance(parts, (tuple, list)) and isinstance(output, torch.Tensor):
            self.see(name, [part for part in parts if isinstance(part, torch.Tensor)], output)

    def see(self, name: str, operands: Sequence[torch.Tensor], output: torch.Tensor) -> None:
        """Takes in what a function of torch has made of tensors.

        Args:
            name: The function's name.
            operands: What it was given.
            output: What it has put out, (N, T, C) or (T, N, C) where it joins tokens.
        """
        if name not in JOINS or output.ndim != 3 or len(operands) < 2:
            return
        if any(one.ndim != 3 for one in operands):
            return
        for axis in (1, 0):
            sizes = [int(one.shape[axis]) for one in operands]
            others = {(*one.shape[:axis], *one.shape[axis + 1 :]) for one in operands}
            if len(others) == 1 and output.shape[axis] == sum(sizes):
                self._note(sizes)
                return

    def _note(self, sizes: Sequence[int]) -> None:
        """Notes where the largest of some parts stands among the others."""
        largest = max(sizes)
        if 2 * largest <= sum(sizes):
            return
        behind = sum(sizes[sizes.index(largest) + 1 :])
        self.behind[sum(sizes)] = behind + self.behind.get(largest, 0)
