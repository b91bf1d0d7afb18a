"""The arithmetic of scaled gradients, in main memory and as on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from record.capture.gradient_scaling import DeviceGradients, scale_on_cpu, sum_blocks

SHAPES = [(3, 5, 7), (1,), (), (2, 40, 40), (0, 4), (2048,), (4, 3)]
SIZES = [1e-30, 5e-45, 3.0, 1e38, 1.0, 2.0**-126, 0.0]


def frames() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(shape, generator=generator).clamp(-3, 3) * size
        for shape, size in zip(SHAPES, SIZES, strict=True)
    ]


def check(original: torch.Tensor, scaled: torch.Tensor, exponent: int) -> None:
    right = original.double().numpy()
    finite = np.abs(right[np.isfinite(right)])
    largest = float(finite.max()) if finite.size else 0.0
    assert exponent == (np.frexp(largest)[1] - 15 if largest else 0)
    np.testing.assert_array_equal(np.ldexp(scaled.double().numpy(), exponent), right)


def test_both_ways_bring_each_frame_next_below_the_largest_float16() -> None:
    given = frames()
    given[0][1, 2, 3], given[3][0, 0, 0], given[3][1, 1, 1] = np.inf, np.nan, -np.inf
    together = DeviceGradients(SHAPES, torch.device("cpu"))
    for frame, one in zip(together.frames, given, strict=True):
        assert frame.shape == one.shape
        frame.copy_(one)
    scaled, exponents = together.scaled()
    for one, side_by_side, exponent in zip(given, scaled, exponents, strict=True):
        check(one, side_by_side, int(exponent))
        alone = one.clone()
        check(one, alone, scale_on_cpu(alone, alone))


def test_nothing_at_all() -> None:
    frames, exponents = DeviceGradients([], torch.device("cpu")).scaled()
    assert (len(frames), len(exponents)) == (0, 0)


@pytest.mark.parametrize("size", [4, 6, 7, 8])
def test_means_of_blocks_become_sums(size: int) -> None:
    values = torch.arange(2.0 * size * 5).view(2, size, 5)
    blocks = [values[:, start : start + 3] for start in range(0, size, 3)]
    means = torch.stack([block.mean(dim=1) for block in blocks], dim=1)
    sum_blocks(means, values.shape, [1], 3)
    right = torch.stack([block.sum(dim=1) for block in blocks], dim=1)
    torch.testing.assert_close(means, right)
