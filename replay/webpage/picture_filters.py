"""Maps that are the input picture under a filter each: told from the picture, not stored again.

The maps of a first convolution are linear in the picture that the page has anyway. Where that
picture is kept as it is, a filter of 3×3 numbers for each colour and a summand say all of a map,
in a hundredth of the bytes. Whether a layer's maps are so is found by fitting, so that nothing has
to be known of the network. A filter's numbers, and what they are multiplied with, are multiples of
small powers of two, so that every sum is exact in float64: whatever the order in which it is added
up, here by a matrix product, `page/codec.js` finds the same to the bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from replay.webpage.plane_codec import REACH
from replay.webpage.products import inner_product, outer_product
from replay.webpage.wavelet import Planes

Filters = npt.NDArray[np.float32]
"""A filter for each map, float32 (C, planes * side * side + 1), the summand last."""

SIDE = 3
"""Height and width of a filter."""

_MOST_PRODUCTS = 8_000_000  # of a frame, so that a browser has it in some ten milliseconds
# Powers of two. Of numbers below these ends a product is a multiple of 2**-29, and all those of a
# filter together, with the summand, are less than 2**24: no more than the 53 bits of a float64.
_BEYOND_PARTS, _MOST_BEYOND = 2.0**8, 2.0**9
_PARTS, _MOST, _MOST_SUMMAND = 2.0**21, 2.0**9, 2.0**22
_RIDGE = 1e-12  # keeps filters of a picture of one colour from growing without bounds


@dataclass(frozen=True)
class Picture:
    """The input picture of a frame, as a page has it.

    Attributes:
        planes: int32 (planes, H, W), 0 to 255: three colours, or one gray.
        beyond: What lies around the picture, on that scale: the network's zero, as `nearest_beyond`
            gives it; one for each plane.
    """

    planes: Planes
    beyond: tuple[float, ...]

    @cached_property
    def columns(self) -> npt.NDArray[np.float64]:
        """What the numbers of a filter are multiplied with, float64 (numbers, H * W); last is 1."""
        planes, height, width = self.planes.shape
        count, size = planes * SIDE * SIDE, height * width
        found = np.ones((count + 1, size))
        parts = found[:count].reshape(planes, SIDE, SIDE, height, width)
        for plane, beyond, part in zip(self.planes, self.beyond, parts, strict=True):
            padded = np.pad(plane - beyond, SIDE // 2)
            for down in range(SIDE):
                for across in range(SIDE):
                    part[down, across] = padded[down : down + height, across : across + width]
        return found

    @cached_property
    def products(self) -> npt.NDArray[np.float64]:
        """The products of `columns` with each other, float64 (numbers, numbers)."""
        product = inner_product(self.columns, self.columns)
        product[np.diag_indices(len(product))] += _RIDGE * np.trace(product) / len(product)
        return product


def nearest_beyond(beyond: float) -> float:
    """Returns the nearest value with which sums are exact; infinite where there is none."""
    return round(beyond * _BEYOND_PARTS) / _BEYOND_PARTS if abs(beyond) < _MOST_BEYOND else math.inf


def filters_possible(shape: tuple[int, int, int], picture: Picture) -> bool:
    """Returns whether maps of this shape (C, H, W) may be told from a picture."""
    planes, height, width = picture.planes.shape
    products = shape[0] * planes * SIDE * SIDE * shape[1] * shape[2]
    known = all(map(math.isfinite, picture.beyond))
    return known and shape[1:] == (height, width) and products <= _MOST_PRODUCTS


def fit_filters(levels: npt.NDArray[np.float64], picture: Picture) -> Filters:
    """Returns the filters with the least squared error, in numbers with which sums are exact.

    Args:
        levels: float64 (C, H, W), the maps.
        picture: The picture, of that height and width.
    """
    known = inner_product(picture.columns, levels.reshape(len(levels), -1))
    found = np.linalg.solve(picture.products, known)
    filters: Filters = (np.rint(found.T * _PARTS) / _PARTS).astype(np.float32)
    return filters


def sums_are_exact(filters: Filters) -> bool:
    """Returns whether filters tell the same whatever the order in which products are added up."""
    small = np.abs(filters[:, :-1]).max(initial=0) < _MOST
    return bool(small and np.abs(filters[:, -1]).max(initial=0) < _MOST_SUMMAND)


def apply_filters(filters: Filters, picture: Picture) -> Planes:
    """Returns the maps that filters tell from a picture, int32 (C, H, W)."""
    total = outer_product(filters.astype(np.float64), picture.columns)
    total += 0.5
    np.floor(total, out=total)
    np.clip(total, -REACH, REACH, out=total)
    return total.astype(np.int32).reshape(len(filters), *picture.planes.shape[1:])
