"""The input picture in the few colours that a GIF's palette has left for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]

_ALIKE = 0.5  # sum of squares within a share that is no rounding error: it has two values
_SAMPLE = 512, 1024  # pixels from which colours are chosen, of a small picture and of a large one
_GOLDEN = 0.6180339887498949  # its multiples, modulo one, fall into no pattern of rows and columns
_TOGETHER = 512  # pixels whose distances to all colours stay in the processor's cache
_GRAYS = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
_MANY = 8192  # pixels from which on those that are nearly alike are not told apart


def quantize(pixels: Pixels, count: int) -> tuple[Pixels, Pixels]:
    """Chooses colours, and gives each pixel the nearest of them.

    Pillow's octree divides a sample of the pixels. Where that gives fewer shares (of a dark
    picture, or one of few hues, much falls into one cube of it), those are split whose pixels
    differ most. Each colour is then the mean of its share, and, once more, of the pixels to which
    it is the nearest (a step of Lloyd's k-means). Of a gray picture no gray is left out.

    Args:
        pixels: uint8 (N, 3), red, green and blue; N at least 1.
        count: Colours, 1 to 256.

    Returns:
        The place of each pixel's colour, uint8 (N,), and the colours, uint8 (count or fewer, 3).
        Of more than 8,192 pixels, those that differ by less than 4 in red, green and blue may
        get one colour, that which is nearest to the middle of them.
    """
    gray = bool((pixels[:, 0] == pixels[:, 1]).all() and (pixels[:, 1] == pixels[:, 2]).all())
    sample = _sample_of_gray(pixels) if gray else _sample(pixels)
    shares = _divided(sample, count)
    colours = _means(sample, shares, np.zeros((int(shares.max()) + 1, 3), np.uint8))
    colours = _means(sample, _nearest(sample, colours), colours)
    if gray:
        return _nearest(_GRAYS, colours).take(pixels[:, 0]), colours
    return (_nearest if len(pixels) <= _MANY else _nearly)(pixels, colours), colours


def _sample(pixels: Pixels) -> Pixels:
    """Pixels from all over the picture."""
    size = min(max(len(pixels) // 8, _SAMPLE[0]), _SAMPLE[1])
    if len(pixels) <= size:
        return pixels
    return pixels[(np.arange(size) * _GOLDEN % 1 * len(pixels)).astype(np.intp)]


def _sample_of_gray(pixels: Pixels) -> Pixels:
    """Each gray that there is, the more often the more pixels have it."""
    shares = np.bincount(pixels[:, 0], minlength=256)
    times = np.ceil(shares * (_SAMPLE[1] / len(pixels))).astype(np.intp)
    return np.repeat(_GRAYS, times, axis=0)


def _divided(sample: Pixels, count: int) -> Pixels:
    """To which of so many shares, or fewer, each pixel belongs, uint8 (N,)."""
    octree = Image.fromarray(sample[None]).quantize(count, Image.Quantize.FASTOCTREE)
    places: Pixels = np.array(octree, np.uint8)[0]
    number, before = int(places.max()) + 1, 0
    while before < number < count:
        places = _split(sample, places, number, count)
        number, before = int(places.max()) + 1, number
    return places


def _split(pixels: Pixels, places: Pixels, number: int, count: int) -> Pixels:
    """Splits at their means the shares whose pixels differ most, until there are `count`.

    Each is split once, in the one of red, green and blue in which its pixels differ most.
    """
    values = pixels.astype(np.float32)
    sizes = np.maximum(np.bincount(places, minlength=number), 1)
    means = _sums(values, places, number) / sizes[:, None]
    apart = _sums(values * values, places, number) - means * means * sizes[:, None]
    axes, most = apart.argmax(axis=1), apart.max(axis=1)
    worst = np.argsort(most)[number - count :]
    worst = worst[most[worst] > _ALIKE]
    others = np.arange(number)
    others[worst] = np.arange(number, number + len(worst))
    along = axes.take(places)
    above = values[np.arange(len(values)), along] > means[places, along]
    return np.where(above, others.take(places), places).astype(np.uint8)


def _means(pixels: Pixels, places: Pixels, colours: Pixels) -> Pixels:
    """The mean of the pixels of each place; of a place without any the colour that it had."""
    number = len(colours)
    shares = np.bincount(places, minlength=number)
    means = _sums(pixels, places, number) / np.maximum(shares, 1)[:, None]
    return np.where(shares[:, None] > 0, np.rint(means).astype(np.uint8), colours)


def _sums(values: npt.NDArray[Any], places: Pixels, number: int) -> npt.NDArray[np.float64]:
    """The sums of (N, 3) values by place, (number, 3)."""
    return np.stack([np.bincount(places, values[:, i], number) for i in range(3)], axis=1)


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


def _nearly(pixels: Pixels, colours: Pixels) -> Pixels:
    """The same, but by six bits of red, green and blue each: as one of 2^18 cubes of colours.

    The six are those in which the picture's values differ, so that a dark one has smaller cubes.
    """
    least = pixels.min()
    shift = max(0, int(pixels.max() - least).bit_length() - 6)
    cubes = np.zeros(len(pixels), np.int32)
    for i in range(3):
        cubes <<= 6
        cubes |= (pixels[:, i] - least) >> shift
    there = np.zeros(1 << 18, bool)
    there[cubes] = True
    those = np.flatnonzero(there)
    corners = np.stack([those >> 12, those >> 6, those], axis=1).astype(np.uint8) & 63
    places = np.empty(1 << 18, np.uint8)
    places[those] = _nearest((corners << shift) + least + np.uint8((1 << shift) // 2), colours)
    found: Pixels = places.take(cubes)
    return found
