"""Reduces the input picture to the few colours that a GIF's palette has left for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]

_LEAST_SPREAD = 0.5  # a sum of squares above any rounding error: the group has two values
_SAMPLE = 512, 1024  # pixels from which colours are chosen, of a small picture and of a large one
_GOLDEN = 0.6180339887498949  # its multiples, modulo one, fall into no pattern of rows and columns
_CHUNK = 512  # pixels whose distances to all colours stay in the processor's cache
_GRAYS = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
_MOST_EXACT = 8192  # pixels; of more, those that are nearly alike get one colour


def quantize(pixels: Pixels, count: int) -> tuple[Pixels, Pixels]:
    """Chooses colours, and gives each pixel the nearest of them.

    Pillow's octree divides a sample of the pixels into groups. Where that gives fewer groups than
    colours (much of a dark picture, or of one of few hues, falls into one cube of it), those are
    split whose pixels differ most. Each colour is then the mean of its group, and, once more, of
    the pixels to which it is the nearest (a step of Lloyd's k-means). The sample of a gray picture
    has each of its grays.

    Args:
        pixels: uint8 (N, 3), red, green and blue; N at least 1.
        count: Colours, 1 to 256.

    Returns:
        The index of each pixel's colour, uint8 (N,), and the colours, uint8 (count or fewer, 3).
        Of more than 8,192 pixels, those that differ by less than 4 in red, green and blue may
        get one colour, the one nearest to the middle of them.
    """
    gray = bool((pixels[:, 0] == pixels[:, 1]).all() and (pixels[:, 1] == pixels[:, 2]).all())
    sample = _sample_of_gray(pixels) if gray else _sample(pixels)
    groups = _group(sample, count)
    colours = _means(sample, groups, np.zeros((int(groups.max()) + 1, 3), np.uint8))
    colours = _means(sample, _nearest(sample, colours), colours)
    if gray:
        return _nearest(_GRAYS, colours).take(pixels[:, 0]), colours
    return (_nearest if len(pixels) <= _MOST_EXACT else _nearest_by_cubes)(pixels, colours), colours


def _sample(pixels: Pixels) -> Pixels:
    """Returns pixels from all over the picture, uint8 (n, 3)."""
    size = min(max(len(pixels) // 8, _SAMPLE[0]), _SAMPLE[1])
    if len(pixels) <= size:
        return pixels
    return pixels[(np.arange(size) * _GOLDEN % 1 * len(pixels)).astype(np.intp)]


def _sample_of_gray(pixels: Pixels) -> Pixels:
    """Returns each gray of the picture, the more often the more pixels have it, uint8 (n, 3)."""
    counts = np.bincount(pixels[:, 0], minlength=256)
    times = np.ceil(counts * (_SAMPLE[1] / len(pixels))).astype(np.intp)
    return np.repeat(_GRAYS, times, axis=0)


def _group(sample: Pixels, count: int) -> Pixels:
    """Returns to which of so many groups, or fewer, each pixel belongs, uint8 (N,)."""
    octree = Image.fromarray(sample[None]).quantize(count, Image.Quantize.FASTOCTREE)
    groups: Pixels = np.array(octree, np.uint8)[0]
    number, before = int(groups.max()) + 1, 0
    while before < number < count:
        groups = _split(sample, groups, number, count)
        number, before = int(groups.max()) + 1, number
    return groups


def _split(pixels: Pixels, groups: Pixels, number: int, count: int) -> Pixels:
    """Splits at their means the groups whose pixels differ most, until there are `count`.

    Each is split once, along the one of red, green and blue in which its pixels differ most.
    """
    values = pixels.astype(np.float32)
    sizes = np.maximum(np.bincount(groups, minlength=number), 1)
    means = _sums(values, groups, number) / sizes[:, None]
    spread = _sums(values * values, groups, number) - means * means * sizes[:, None]
    axes, widest = spread.argmax(axis=1), spread.max(axis=1)
    worst = np.argsort(widest)[number - count :]
    worst = worst[widest[worst] > _LEAST_SPREAD]
    successors = np.arange(number)
    successors[worst] = np.arange(number, number + len(worst))
    axis_of = axes.take(groups)
    above = values[np.arange(len(values)), axis_of] > means[groups, axis_of]
    return np.where(above, successors.take(groups), groups).astype(np.uint8)


def _means(pixels: Pixels, groups: Pixels, colours: Pixels) -> Pixels:
    """Returns the mean of each group's pixels; for a group without any its old colour."""
    number = len(colours)
    counts = np.bincount(groups, minlength=number)
    means = _sums(pixels, groups, number) / np.maximum(counts, 1)[:, None]
    return np.where(counts[:, None] > 0, np.rint(means).astype(np.uint8), colours)


def _sums(values: npt.NDArray[Any], groups: Pixels, number: int) -> npt.NDArray[np.float64]:
    """Returns the sums of (N, 3) values by group, (number, 3)."""
    return np.stack([np.bincount(groups, values[:, i], number) for i in range(3)], axis=1)


def _nearest(pixels: Pixels, colours: Pixels) -> Pixels:
    """Returns the index of the colour that is nearest to each pixel, uint8 (N,)."""
    # Of |p - c|^2 = |p|^2 - 2 pc + |c|^2 the first part is the same for all colours. All values
    # are whole numbers that float32 holds.
    with_one = np.ones((len(pixels), 4), np.float32)
    with_one[:, :3] = pixels
    against = np.empty((4, len(colours)), np.float32)
    against[:3] = -2 * colours.T.astype(np.float32)
    against[3] = (colours.astype(np.float32) ** 2).sum(axis=1)
    distances = np.empty((_CHUNK, len(colours)), np.float32)
    indices = np.empty(len(pixels), np.uint8)
    for start in range(0, len(pixels), _CHUNK):
        some = with_one[start : start + _CHUNK]
        found = np.matmul(some, against, out=distances[: len(some)])
        indices[start : start + _CHUNK] = found.argmin(axis=1)
    return indices


def _nearest_by_cubes(pixels: Pixels, colours: Pixels) -> Pixels:
    """Returns nearly what `_nearest` does, by cubes of colours: six bits of red, green and blue.

    The six bits are those in which the picture's values differ, so that a dark picture has smaller
    cubes.
    """
    least = pixels.min()
    shift = max(0, int(pixels.max() - least).bit_length() - 6)
    cubes = np.zeros(len(pixels), np.int32)
    for i in range(3):
        cubes <<= 6
        cubes |= (pixels[:, i] - least) >> shift
    is_used = np.zeros(1 << 18, bool)
    is_used[cubes] = True
    used = np.flatnonzero(is_used)
    corners = np.stack([used >> 12, used >> 6, used], axis=1).astype(np.uint8) & 63
    indices = np.empty(1 << 18, np.uint8)
    indices[used] = _nearest((corners << shift) + least + np.uint8((1 << shift) // 2), colours)
    found: Pixels = indices.take(cubes)
    return found
