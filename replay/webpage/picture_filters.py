"""Maps that are the input picture under a filter each: told from the picture, not stored again.

The maps of a first convolution are linear in the picture that the page has anyway. Where that
picture is kept as it is, a filter of 3×3 numbers for each colour and a summand say all of a map,
in a hundredth of the bytes. Whether a layer's maps are so is found by fitting, so that nothing has
to be known of the network. `page/codec.js` applies the filters in the same order of operations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.webpage.wavelet import Planes

Filters = npt.NDArray[np.float32]
"""A filter for each map, float32 (C, planes * side * side + 1), the summand last."""

SIDE = 3
"""Height and width of a filter."""

_MOST_PRODUCTS = 8_000_000  # of a frame, so that a browser has it in some ten milliseconds
_REACH = 8191  # as in `plane_codec`
_RIDGE = 1e-12  # keeps filters of a picture of one colour from growing without bounds


@dataclass(frozen=True)
class Picture:
    """The input picture of a frame, as a page has it.

    Attributes:
        planes: int32 (planes, H, W), 0 to 255: three colours, or one gray.
        beyond: What lies around the picture, on that scale: the network's zero; one for each plane.
    """

    planes: Planes
    beyond: tuple[float, ...]


def filters_possible(shape: tuple[int, int, int], picture: tuple[int, int, int]) -> bool:
    """Returns whether maps of this shape (C, H, W) may be told from a picture (planes, H, W)."""
    products = shape[0] * picture[0] * SIDE * SIDE * shape[1] * shape[2]
    return shape[1:] == picture[1:] and products <= _MOST_PRODUCTS


def fit_filters(levels: npt.NDArray[np.float64], picture: Picture) -> Filters:
    """Returns the filters with the least squared error.

    Args:
        levels: float64 (C, H, W), the maps.
        picture: The picture, of that height and width.
    """
    parts = np.stack([part.ravel() for part in _parts(picture)])
    columns = np.concatenate([parts, np.ones((1, parts.shape[1]))])
    product = columns @ columns.T
    product += _RIDGE * np.trace(product) / len(product) * np.eye(len(product))
    found = np.linalg.solve(product, columns @ levels.reshape(len(levels), -1).T)
    filters: Filters = found.T.astype(np.float32)
    return filters


def apply_filters(filters: Filters, picture: Picture) -> Planes:
    """Returns the maps that filters tell from a picture, int32 (C, H, W)."""
    parts = _parts(picture)
    found = np.empty((len(filters), *picture.planes.shape[1:]), np.int32)
    for channel, factors in enumerate(filters.astype(np.float64)):
        total = np.full(found.shape[1:], factors[-1])
        for factor, part in zip(factors, parts, strict=False):
            total = total + factor * part
        found[channel] = np.clip(np.floor(total + 0.5), -_REACH, _REACH)
    return found


def _parts(picture: Picture) -> list[npt.NDArray[np.float64]]:
    """Returns what each number of a filter is multiplied with, float64 (H, W) each."""
    height, width = picture.planes.shape[1:]
    parts: list[npt.NDArray[Any]] = []
    for plane, beyond in zip(picture.planes, picture.beyond, strict=True):
        padded = np.pad(plane.astype(np.float64) - beyond, SIDE // 2)
        parts += [
            padded[down : down + height, across : across + width]
            for down in range(SIDE)
            for across in range(SIDE)
        ]
    return parts
