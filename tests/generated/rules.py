"""What is one image's of what a module puts out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from generated.outputs import Both

Rule = Callable[[Any, int], list[tuple[str, torch.Tensor]]]
"""Of an output, what is one image's: the part's name in the file, and what was put out for it."""


def one(
    name: str, tensor: torch.Tensor, axis: int | None, number: int
) -> list[tuple[str, torch.Tensor]]:
    """One image's part of a batch: all of it where there is no axis of the batch.

    One number is a vector of one. Nothing, where there are fewer images.
    """
    if axis is not None and tensor.shape[axis] <= number:
        return []
    image = tensor.detach() if axis is None else tensor.detach().select(axis, number)
    return [(name, image.reshape(1) if image.ndim == 0 else image)]


def tensors_in(output: Any, name: str = "") -> Any:
    """The tensors in a tuple, list, dict or dataclass, and their names."""
    if isinstance(output, torch.Tensor):
        yield name, output
        return
    parts: dict[str, Any] = {}
    if isinstance(output, dict):
        parts = {str(key): value for key, value in output.items()}
    elif isinstance(output, (tuple, list)):
        parts = {str(place): value for place, value in enumerate(output)}
    elif isinstance(output, Both):
        parts = vars(output)
    for key, value in parts.items():
        yield from tensors_in(value, f"{name}.{key}" if name else key)
