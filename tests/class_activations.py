"""Class activation worked out plainly, and what a recording holds of it."""

from __future__ import annotations

import copy
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import nn


def plain_gradients(
    model: nn.Module, layer: str, images: torch.Tensor, classes: list[int]
) -> list[torch.Tensor]:
    """The gradient of each image's score by what a layer puts out, one image after the other."""
    twin = copy.deepcopy(model).eval()
    found = []
    for image, number in zip(images, classes, strict=True):
        kept = []
        handle = twin.get_submodule(layer).register_forward_hook(
            lambda module, args, output, kept=kept: kept.append(output) or output.clone()
        )
        for parameter in twin.parameters():
            parameter.requires_grad_(True)
        scores = twin(image[None])
        handle.remove()
        found.append(torch.autograd.grad(scores[0, number], kept[0])[0][0])
    return found


def stored(path: Path, kind: str, layer: str, probe: int) -> np.ndarray:
    """What a recording holds, (epoch, batch, ...), in its true size."""
    group = f"probe/{probe}/{kind}"
    with h5py.File(path, "r") as file:
        values = file[f"{group}/maps/{layer}"][:].astype(np.float64)
        exponents = file[f"{group}/exponents/{layer}"][:].astype(np.float64)
    return values * 2.0 ** exponents.reshape(*exponents.shape, *[1] * (values.ndim - 2))


def maps_of(path: Path, layer: str, probe: int) -> np.ndarray:
    with h5py.File(path, "r") as file:
        return file[f"probe/{probe}/maps/{layer}"][:].astype(np.float64)


def field(path: Path, name: str) -> np.ndarray:
    with h5py.File(path, "r") as file:
        return file[f"batches/{name}"][:]


def assert_close(found: np.ndarray, expected: np.ndarray, share: float = 1e-3) -> None:
    """Equal within a share of the largest value."""
    assert found.shape == expected.shape
    largest = np.abs(expected).max()
    assert np.isfinite(largest)
    assert largest > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=share * largest)
