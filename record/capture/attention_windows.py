"""The windows of torchvision's Swin: where each of their tokens lies in the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch


class Windows(NamedTuple):
    """How a map of tokens was padded, shifted and cut into windows.

    Attributes:
        size: The height and the width of the map, in tokens.
        window: The height and the width of a window.
        shift: By how many tokens the map was rolled up and to the left.
    """

    size: tuple[int, int]
    window: tuple[int, int]
    shift: tuple[int, int]

    @classmethod
    def of_call(
        cls,
        input: torch.Tensor,
        qkv_weight: Any,
        proj_weight: Any,
        relative_position_bias: Any,
        window_size: Sequence[int],
        num_heads: int,
        shift_size: Sequence[int],
        *others: Any,
        **named: Any,
    ) -> Windows:
        """Returns the windows of a call of `shifted_window_attention`, by its arguments."""
        rows, columns = int(input.shape[1]), int(input.shape[2])
        window = (int(window_size[0]), int(window_size[1]))
        padded = _up(rows, window[0]), _up(columns, window[1])
        # A map of a single window is not shifted.
        shift = tuple(
            0 if w >= p else int(s) for w, p, s in zip(window, padded, shift_size, strict=True)
        )
        return cls((rows, columns), window, (shift[0], shift[1]))

    @property
    def padded(self) -> tuple[int, int]:
        """The height and the width of the map with what fills the last windows."""
        return _up(self.size[0], self.window[0]), _up(self.size[1], self.window[1])

    @property
    def many(self) -> int:
        """The number of windows."""
        rows, columns = self.padded
        return (rows // self.window[0]) * (columns // self.window[1])

    def mean(self, weights: torch.Tensor) -> torch.Tensor:
        """Returns the mean over the queries of the map, of each of its tokens as a key.

        A token is attended to from its own window alone, so that the means are small: they are
        those over all queries, as they are where there are no windows.

        Args:
            weights: (windows, heads, T, T) with T tokens in a window.

        Returns:
            (heads, rows * columns).
        """
        inside = self._places(weights.device) >= 0  # (windows, T)
        summed = (weights * inside[:, None, :, None]).sum(2)  # (windows, heads, T)
        rows, columns = self.size
        return self._put_back(summed.transpose(0, 1)) / (rows * columns)

    def whole(self, weights: torch.Tensor) -> torch.Tensor:
        """Returns the attention of each token of the map to each other, 0 across windows.

        Args:
            weights: (windows, heads, T, T) with T tokens in a window.

        Returns:
            (heads, rows * columns, rows * columns).
        """
        places = self._places(weights.device)
        heads, (rows, columns) = weights.shape[1], self.size
        # One place more takes what belongs to no token of the map.
        total = rows * columns + 1
        places = torch.where(places < 0, total - 1, places)
        cells = places[:, :, None] * total + places[:, None, :]  # (windows, T, T)
        flat = weights.new_zeros(heads, total * total)
        flat[:, cells.reshape(-1)] = weights.transpose(0, 1).reshape(heads, -1)
        return flat.view(heads, total, total)[:, :-1, :-1]

    def _put_back(self, values: torch.Tensor) -> torch.Tensor:
        """Returns (heads, rows * columns) of values by window and token, (heads, windows, T)."""
        (rows, columns), (height, width) = self.padded, self.window
        heads = values.shape[0]
        split = values.reshape(heads, rows // height, columns // width, height, width)
        rolled = split.transpose(2, 3).reshape(heads, rows, columns)
        there = rolled.roll(self.shift, (1, 2))
        return there[:, : self.size[0], : self.size[1]].reshape(heads, -1)

    def _places(self, device: torch.device) -> torch.Tensor:
        """Returns which token of the map each token of each window is, -1 for padding."""
        (rows, columns), (height, width) = self.padded, self.window
        numbers = torch.full((rows, columns), -1, device=device)
        count = self.size[0] * self.size[1]
        numbers[: self.size[0], : self.size[1]] = torch.arange(count, device=device).view(self.size)
        rolled = numbers.roll((-self.shift[0], -self.shift[1]), (0, 1))
        split = rolled.view(rows // height, height, columns // width, width)
        return split.transpose(1, 2).reshape(-1, height * width)


def _up(count: int, size: int) -> int:
    """Returns the next multiple of a size."""
    return -(-count // size) * size
