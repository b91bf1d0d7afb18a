"""Numbers of any size as float16, with an exponent: gradients are often too small for it."""

from __future__ import annotations

import torch

from replay.schema import SCALED_BELOW

_MOST = 100  # powers of two that are multiplied by at once: 2 ** 128 is no float32


def scale_to_half(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scales numbers by powers of two so that float16 holds the largest ones exactly enough.

    Numbers that are 2 ** 39 times smaller than the largest one become zero. Nothing waits for a
    GPU.

    Args:
        values: A frame for each image, float32 (N, ...); infinite numbers and NaN are kept.

    Returns:
        The scaled numbers, float32 (N, ...), and an exponent for each image, whole numbers (N,):
        the values are the scaled ones times two to its power.
    """
    flat = values.flatten(1)
    largest = flat.abs().nan_to_num(0.0, 0.0, 0.0).amax(1)
    exponents = torch.frexp(largest).exponent - SCALED_BELOW
    exponents = torch.where(largest > 0, exponents, 0)
    first = (-exponents).clamp(-_MOST, _MOST)
    scaled = flat * torch.exp2(first.float())[:, None]
    scaled = scaled * torch.exp2((-exponents - first).float())[:, None]
    return scaled.view_as(values), exponents
