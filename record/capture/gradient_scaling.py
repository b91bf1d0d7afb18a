"""Gradients as float16: a power of two for each frame keeps them from vanishing.

Which power that is, `schema.exponent_of` says; here it is found of a frame in main memory, of the
frames of several images together, and on a device that the training does not wait for. To multiply
by a power of two rounds nothing: what is lost is what float16 has no digits for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from replay.schema import SCALED_BELOW, exponent_of

_ONE_FACTOR = 120  # a factor of two to the power of less is a float32 of full precision
_ROW = 1024  # values of which the largest is looked for at once, on a device


def scale_on_cpu(gradient: torch.Tensor, target: torch.Tensor) -> int:
    """Scales one frame that lies in main memory.

    Args:
        gradient: float32, of any shape.
        target: Where the scaled values go, float32, of that shape; may be the frame itself.

    Returns:
        The exponent: the frame is to be multiplied by 2 to the power of it.
    """
    if not gradient.numel():
        return 0
    lowest, highest = torch.aminmax(gradient)  # a norm takes twenty times as long
    largest = max(-lowest.item(), highest.item())
    if not math.isfinite(largest):
        largest = gradient.nan_to_num(0.0, 0.0, 0.0).abs_().max().item()
    exponent = exponent_of(largest)
    if abs(exponent) < _ONE_FACTOR:
        torch.mul(gradient, 2.0**-exponent, out=target)
    else:  # 2**163 is no float32
        half = -exponent // 2
        torch.mul(gradient, 2.0**half, out=target).mul_(2.0 ** (-exponent - half))
    return exponent


def scale_to_half(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scales the frames of several images, on whichever device; nothing waits for it.

    Args:
        values: A frame for each image, float32 (N, ...); infinite numbers and NaN are kept.

    Returns:
        The scaled numbers, float32 (N, ...), and an exponent for each image, int32 (N,).
    """
    scaled = values.flatten(1)
    exponents = _exponents_of(scaled.abs().nan_to_num(0.0, 0.0, 0.0).amax(1))
    for factor in _factors_of(exponents):
        scaled = scaled * factor[:, None]
    return scaled.view_as(values), exponents


def _exponents_of(largest: torch.Tensor) -> torch.Tensor:
    """Returns `exponent_of` for each of some values, int32."""
    return torch.where(largest > 0, torch.frexp(largest).exponent - SCALED_BELOW, 0)


def _factors_of(exponents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns two factors, float32, for two to the power of minus each exponent."""
    half = torch.div(-exponents, 2, rounding_mode="floor")  # 2**163 is no float32
    one = torch.ones_like(exponents, dtype=torch.float32)
    return torch.ldexp(one, half), torch.ldexp(one, -exponents - half)


class DeviceGradients:
    """The gradients of one batch on a GPU, side by side, so that all are scaled in few steps.

    The training waits for none of them: the exponents are found on the device.

    Args:
        shapes: Of the frames.
        device: Where they are.

    Attributes:
        frames: Where each frame goes, float32.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]], device: torch.device) -> None:
        rows = [max(1, -(-math.prod(shape) // _ROW)) for shape in shapes]
        self._flat = torch.zeros(sum(rows) * _ROW, dtype=torch.float32, device=device)
        self.frames: list[torch.Tensor] = []
        most, start = max(rows, default=1), 0
        places = []  # by frame its rows, and in the place of those that it lacks its first one
        frame_of_row: list[int] = []
        for number, (shape, count) in enumerate(zip(shapes, rows, strict=True)):
            first = start * _ROW
            self.frames.append(self._flat[first : first + math.prod(shape)].view(shape))
            places.append([*range(start, start + count), *[start] * (most - count)])
            frame_of_row += [number] * count
            start += count
        self._rows = torch.tensor(places, dtype=torch.int64, device=device).view(len(rows), most)
        self._frame_of_row = torch.tensor(frame_of_row, dtype=torch.int64, device=device)

    def scaled(self) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Scales all frames in place.

        Returns:
            The frames, and the exponent of each, int32 (frames,).
        """
        by_row = self._flat.view(-1, _ROW)
        largest = by_row.nan_to_num(0.0, 0.0, 0.0).abs_().amax(dim=1)
        largest = largest[self._rows].amax(dim=1)
        exponents = _exponents_of(largest)
        for factor in _factors_of(exponents):
            by_row.mul_(factor[self._frame_of_row, None])
        return self.frames, exponents


def sum_blocks(means: torch.Tensor, shape: Sequence[int], axes: Sequence[int], factor: int) -> None:
    """Turns means of blocks into sums, in place.

    A pooled map is a mean of blocks; where all values of a block change alike, so does their mean,
    and the loss changes by the sum of their gradients.

    Args:
        means: Of blocks, as `tensors.pool_means` returns them.
        shape: What was pooled.
        axes: The axes that were.
        factor: Values of a block along each of them; the last block has what is left.
    """
    for axis in axes:
        means.mul_(factor)
        left = shape[axis] % factor
        if left:
            means.narrow(axis, means.shape[axis] - 1, 1).mul_(left / factor)
