"""Numbers of any size as float16, with an exponent: gradients are often too small for it."""

from __future__ import annotations

import torch

_LARGEST = 15  # the largest of the scaled numbers is from 2 ** 14 to 2 ** 15
_MOST = 100  # powers of two that are multiplied by at once: 2 ** 128 is no float32


def scale_to_half(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scales numbers by a power of two so that float16 holds the largest ones exactly enough.

    Numbers that are 2 ** 39 times smaller than the largest one become zero. Nothing waits for a
    GPU.

    Args:
        values: Numbers of any shape, float32; infinite ones and NaN are kept.

    Returns:
        The scaled numbers, float32, and the exponent, a whole number of shape ():
        the values are the scaled ones times two to its power.
    """
    largest = values.abs().nan_to_num(0.0, 0.0, 0.0).amax() if values.numel() else values.sum()
    exponent = torch.frexp(largest).exponent - _LARGEST
    exponent = torch.where(largest > 0, exponent, 0)
    first = (-exponent).clamp(-_MOST, _MOST)
    return torch.ldexp(torch.ldexp(values, first), -exponent - first), exponent
