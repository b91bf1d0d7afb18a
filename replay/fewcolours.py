"""The input picture in the few colours that a GIF's palette has left for it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]

_BITS = (5, 6)  # of each colour, that the choice looks at
_ENOUGH = 8  # times as many colours as there will be: then the fewer bits tell them apart


def few_colours(pixels: Pixels, count: int) -> tuple[Pixels, Pixels]:
    """Chooses colours, and gives each pixel one of them.

    Pillow's median cut divides the pixels, told apart by the upper bits of their colours alone;
    each colour is then the mean of its pixels. On photographs that is nearer to them than median
    cut by itself, in a third to a sixth of its time.

    Args:
        pixels: uint8 (N, 3), red, green and blue.
        count: Colours, 1 to 256.

    Returns:
        The place of each pixel's colour, uint8 (N,), and the colours, uint8 (count or fewer, 3).
    """
    red, green, blue = (pixels[:, i].astype(np.int32) >> 8 - _BITS[0] for i in range(3))
    there = np.bincount(red << 2 * _BITS[0] | green << _BITS[0] | blue)
    enough = np.count_nonzero(there) >= _ENOUGH * count
    unseen = 8 - (_BITS[0] if enough else _BITS[1])
    coarse = pixels >> unseen << unseen
    reduced = Image.fromarray(coarse[None]).quantize(count, Image.Quantize.MEDIANCUT)
    places = np.array(reduced, np.uint8)[0]
    sizes = np.bincount(places)
    sums = [np.bincount(places, weights=pixels[:, i]) for i in range(3)]
    means = np.stack(sums, axis=1) / np.maximum(sizes, 1)[:, None]
    return places, np.rint(means).astype(np.uint8)
