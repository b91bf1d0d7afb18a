"""What a layer puts out or a model is given: the tensors in it, and their size."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


def tensors_of(output: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """The floating-point tensors in a tuple, list, dict or dataclass, and how to get at them.

    >>> [name for name, _ in tensors_of({"a": torch.zeros(1), "b": (torch.ones(1), None)})]
    ['a', 'b.0']
    """
    if isinstance(output, torch.Tensor):
        if output.is_floating_point():
            yield name, output
        return
    if isinstance(output, dict):
        parts = [(str(key), part) for key, part in output.items()]
    elif isinstance(output, (tuple, list)) and not isinstance(output, nn.utils.rnn.PackedSequence):
        parts = [(str(place), part) for place, part in enumerate(output)]
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        fields = dataclasses.fields(output)
        parts = [(field.name, getattr(output, field.name)) for field in fields]
    else:
        return
    for key, part in parts:
        yield from tensors_of(part, f"{name}.{key}" if name else key)


def first_image(args: Any, kwargs: dict[str, Any]) -> torch.Tensor | None:
    """The first argument that is a batch of images or signals, (N, C, ...); None without one."""
    if args and isinstance(args[0], torch.Tensor):  # as nearly all have it
        image = args[0]
        if image.ndim >= 3 and image.shape[0] > 0 and image.is_floating_point():
            return image
    for value in [*args, *kwargs.values()]:
        for _, tensor in tensors_of(value):
            if tensor.ndim >= 3 and tensor.shape[0] > 0:
                return tensor
    return None


def pool(image: torch.Tensor, spatial: list[int], factor: int) -> torch.Tensor:
    """The means of blocks of `factor` values along each spatial axis, in the image's dtype.

    Blocks at the far edges are smaller where the size is no multiple of the factor.
    """
    first, count = spatial[0], len(spatial)
    flat = (
        image.movedim(spatial, list(range(-count, 0))) if spatial[-1] != image.ndim - 1 else image
    )
    means = (nn.functional.avg_pool1d, nn.functional.avg_pool2d, nn.functional.avg_pool3d)
    values = flat if flat.dtype == torch.float64 else flat.float()
    pooled = means[count - 1](
        values.unsqueeze(0), factor, ceil_mode=True, count_include_pad=False
    ).squeeze(0)
    if flat is not image:
        pooled = pooled.movedim(list(range(-count, 0)), list(range(first, first + count)))
    return pooled
