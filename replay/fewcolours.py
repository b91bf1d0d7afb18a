"""The input picture in the few colours that a GIF's palette has left for it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]

_SEEN = np.uint8(0b11111100)  # bits of a red, green or blue that the choice looks at
_SAMPLE = 1024  # pixels from which colours are chosen: more make them no better
_GOLDEN = 0.6180339887498949  # its multiples, modulo one, fall into no pattern of rows and columns
_TOGETHER = 512  # pixels whose distances to all colours stay in the processor's cache


def few_colours(pixels: Pixels, count: int) -> tuple[Pixels, Pixels]:
    """Chooses colours, and gives each pixel the nearest of them.

    Pillow's median cut divides a sample of the pixels, told apart by the upper bits of their
    colours alone; each colour is then the mean of its share. Of a gray picture all is looked at.

    Args:
        pixels: uint8 (N, 3), red, green and blue; N at least 1.
        count: Colours, 1 to 256.

    Returns:
        The place of each pixel's colour, uint8 (N,), and the colours, uint8 (count or fewer, 3).
    """
    sample = coarse = pixels
    gray = bool((pixels == pixels[:, :1]).all())
    if not gray:
        if len(pixels) > 2 * _SAMPLE:
            sample = pixels[(np.arange(_SAMPLE) * _GOLDEN % 1 * len(pixels)).astype(np.intp)]
        coarse = sample & _SEEN
    reduced = Image.fromarray(coarse[None]).quantize(count, Image.Quantize.MEDIANCUT)
    places = np.array(reduced, np.uint8)[0]
    sums = [np.bincount(places, weights=sample[:, i]) for i in range(3)]
    means = np.stack(sums, axis=1) / np.maximum(np.bincount(places), 1)[:, None]
    colours = np.rint(means).astype(np.uint8)
    if gray:
        all_grays = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
        return _nearest(all_grays, colours).take(pixels[:, 0]), colours
    return _nearest(pixels, colours), colours


def _nearest(pixels: Pixels, colours: Pixels) -> Pixels:
    """The place of the colour that is nearest to each pixel, uint8 (N,)."""
    # Of |p - c|^2 = |p|^2 - 2 pc + |c|^2 the first part is the same for all colours. All values
    # are whole numbers that float32 holds.
    with_one = np.ones((len(pixels), 4), np.float32)
    with_one[:, :3] = pixels
    against = np.empty((4, len(colours)), np.float32)
    against[:3] = -2 * colours.T.astype(np.float32)
    against[3] = (colours.astype(np.float32) ** 2).sum(axis=1)
    distances = np.empty((_TOGETHER, len(colours)), np.float32)
    places = np.empty(len(pixels), np.uint8)
    for start in range(0, len(pixels), _TOGETHER):
        some = with_one[start : start + _TOGETHER]
        far = np.matmul(some, against, out=distances[: len(some)])
        places[start : start + _TOGETHER] = far.argmin(axis=1)
    return places
