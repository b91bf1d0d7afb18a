"""Planes of whole numbers to few bytes and back: what is expected of them, and how they differ.

What differs is transformed (`wavelet`), rounded to multiples of a step as coarse as the eye
allows, and written as half bytes, two of which a general compressor sees at once. What is expected
of a plane is either given, such as what the frame before shows, or told from the planes before it
by a linear fit: the channels of a layer look at one image. Encoder and decoder work in whole
numbers and in float64 in one order of operations, so that a browser (`page/codec.js`) decodes to
the bit what `decode_planes` does here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from replay.webpage.products import inner_product
from replay.webpage.wavelet import Details, Planes, analyse, level_sizes, synthesise

HIGHEST = 16383
"""The largest level of a plane: more than 253 steps of the range on which a map is shown times how
often that fits into the map's own, 64 for gradients (`GradientSeries.magnified`). Less would cut
the picture off where a value is far below the others, and int16 in a browser holds no more."""
REACH = 32767
"""What is expected of a plane is cut to so much on either side of 0."""

_LARGE = 15  # half a byte that stands for a coefficient of so much or more: a byte says how much
_HUGE = 255  # a byte that stands for what follows as a whole number behind all bytes
_DEAD_ZONE = 0.38  # what is rounded up; less than a half, as small coefficients are mostly noise
_FINER = (1.0, 0.5, 0.25)  # the step of each level, the finest first; the eye sees coarse errors
_FEWEST_PIXELS = 4096  # of planes for which factors are worth their bytes
_MOST_PLANES = 32  # that are fitted one after the other
_MOST_BEFORE = 12  # planes from which one is told


def planes_before(shape: tuple[int, int, int]) -> int:
    """Returns how many of the planes before it each plane is told from."""
    channels, height, width = shape
    worth = height * width >= _FEWEST_PIXELS and channels <= _MOST_PLANES
    return min(channels - 1, _MOST_BEFORE) if worth else 0


def encode_planes(
    levels: Planes, step: float, highest: Planes, expected: Planes | None = None
) -> tuple[bytes, Planes]:
    """Returns planes as bytes, not compressed yet, and what `decode_planes` makes of them.

    Args:
        levels: int32 (C, H, W), from 0 to `HIGHEST`.
        step: Of the finest details; 1 loses nothing.
        highest: int32 (C,), the largest level of each plane, to which it is cut again.
        expected: int32 (C, H, W), what is known of them already; None where nothing is.
    """
    before = 0 if expected is not None else planes_before(levels.shape)
    if not before:
        known = np.zeros_like(levels) if expected is None else expected
        rounded = _round(levels - known, step)
        made = levels - known if step <= 1 else _restore(*rounded, step)  # nothing is lost at 1
        return _write([rounded]), _cut(known + made, highest)
    factors, parts, made = [], [], np.empty_like(levels)
    for place in range(len(levels)):
        some = slice(max(0, place - before), place)
        fit = _fit(levels[place], made[some])
        known = expect(fit, made[some])
        rounded = _round((levels[place] - known)[None], step)
        one = (levels[place] - known)[None] if step <= 1 else _restore(*rounded, step)
        made[place] = _cut(known + one, highest[place, None])
        factors.append(fit)
        parts.append(rounded)
    return np.concatenate(factors).astype("<f4").tobytes() + _write(parts), made


def decode_planes(
    data: bytes,
    shape: tuple[int, int, int],
    step: float,
    highest: Planes,
    expected: Planes | None = None,
) -> tuple[Planes, int]:
    """Returns the planes that `encode_planes` wrote, and the number of bytes that they took."""
    before = 0 if expected is not None else planes_before(shape)
    channels = shape[0]
    counts = [min(place, before) + 1 for place in range(channels)] if before else []
    factors = np.frombuffer(data, "<f4", sum(counts)).astype(np.float64)
    smooth, details, used = _read(data, 4 * len(factors), shape)
    if not before:
        known = np.zeros(shape, np.int32) if expected is None else expected
        return _cut(known + _restore(smooth, details, step), highest), used
    made = np.empty(shape, np.int32)
    start = 0
    for place, count in enumerate(counts):
        some = slice(max(0, place - before), place)
        known = expect(factors[start : start + count], made[some])
        start += count
        one = slice(place, place + 1)
        mine = [(down[one], across[one], both[one]) for down, across, both in details]
        made[place] = _cut(known + _restore(smooth[one], mine, step), highest[place, None])
    return made, used


def expect(factors: npt.NDArray[np.floating], before: Planes) -> Planes:
    """Returns what a plane is told to be from those before it, int32 (H, W).

    Args:
        factors: (planes + 1,): what is added, and a factor for each plane.
        before: int32 (planes, H, W).
    """
    total = np.full(before.shape[1:], float(factors[0]))
    for factor, plane in zip(factors[1:], before, strict=True):
        total = total + float(factor) * plane
    return np.clip(np.floor(total + 0.5), -REACH, REACH).astype(np.int32)


def _fit(plane: Planes, before: Planes) -> npt.NDArray[np.float64]:
    """Returns the factors for `expect` with the least squared error, as float32 holds them."""
    values = plane.ravel().astype(np.float64)
    if not len(before):
        return np.array([np.float32(values.mean())], np.float64)
    columns = np.concatenate([np.ones((1, values.size)), before.reshape(len(before), -1)])
    product = inner_product(columns, columns) + 1e-6 * values.size * np.eye(len(columns))
    found = np.linalg.solve(product, inner_product(columns, values[None])[:, 0])
    return found.astype(np.float32).astype(np.float64)


def _steps(step: float, level: int) -> tuple[float, float, float]:
    """Returns the steps of a level's details; those of both directions are seen least."""
    fine = max(1.0, step * _FINER[min(level, len(_FINER) - 1)])
    return fine, fine, fine if step <= 1 else 2 * fine


def _round(planes: Planes, step: float) -> tuple[Planes, list[Details]]:
    smooth, details = analyse(planes)
    rounded = []
    for level, bands in enumerate(details):
        down, across, both = (
            band if each <= 1 else _away(band, np.abs(band) / each + _DEAD_ZONE)
            for band, each in zip(bands, _steps(step, level), strict=True)
        )
        rounded.append((down, across, both))
    return smooth, rounded


def _restore(smooth: Planes, rounded: list[Details], step: float) -> Planes:
    details = []
    for level, bands in enumerate(rounded):
        down, across, both = (
            band if each <= 1 else _away(band, np.abs(band) * each + 0.5)
            for band, each in zip(bands, _steps(step, level), strict=True)
        )
        details.append((down, across, both))
    return synthesise(smooth, details)


def _away(band: Planes, sizes: npt.NDArray[np.float64]) -> Planes:
    """Returns the whole part of sizes, 0 or more, with the signs of a band."""
    whole: Planes = sizes.astype(np.int32)
    whole *= np.sign(band)
    return whole


def _cut(planes: Planes, highest: Planes) -> Planes:
    cut: Planes = np.clip(planes, 0, highest[:, None, None]).astype(np.int32)
    return cut


def _write(parts: list[tuple[Planes, list[Details]]]) -> bytes:
    """Returns coefficients as bytes: coarse before fine, those of a kind of all planes together."""
    smooth = np.concatenate([part[0] for part in parts])
    bands = [np.diff(smooth, axis=2, prepend=0)]
    for level in reversed(range(len(parts[0][1]))):
        bands += [np.concatenate([part[1][level][kind] for part in parts]) for kind in range(3)]
    numbers = np.concatenate([band.ravel() for band in bands])
    folded = numbers << 1 ^ numbers >> 31  # 0, -1, 1, -2, 2 ... to 0, 1, 2, 3, 4 ...
    halves = np.zeros(folded.size + folded.size % 2, np.uint8)
    np.minimum(folded, _LARGE, out=halves[: folded.size], casting="unsafe")
    pairs = halves[0::2] << 4 | halves[1::2]
    more = folded[folded >= _LARGE] - _LARGE
    huge = more[more >= _HUGE].astype("<u4")
    behind = pairs, np.minimum(more, _HUGE).astype(np.uint8), huge
    return b"".join(each.tobytes() for each in behind)


def _read(
    data: bytes, start: int, shape: tuple[int, int, int]
) -> tuple[Planes, list[Details], int]:
    """Returns what `_write` wrote, and where it ends."""
    channels, height, width = shape
    total = channels * height * width
    pairs = np.frombuffer(data, np.uint8, (total + 1) // 2, start)
    folded = np.stack([pairs >> 4, pairs & 15], axis=1).ravel()[:total].astype(np.int64)
    large = folded == _LARGE
    end = start + len(pairs)
    more = np.frombuffer(data, np.uint8, int(large.sum()), end).astype(np.int64)
    end += len(more)
    huge = more == _HUGE
    more[huge] = np.frombuffer(data, "<u4", int(huge.sum()), end)
    end += 4 * int(huge.sum())
    folded[large] += more
    numbers = np.where(folded & 1, -(folded + 1) // 2, folded // 2).astype(np.int32)
    sizes = level_sizes(height, width)
    place = channels * sizes[-1][0] * sizes[-1][1]
    smooth = numbers[:place].reshape(channels, *sizes[-1]).cumsum(axis=2, dtype=np.int32)
    details: list[Details] = []
    for (tall, wide), (less_tall, less_wide) in zip(sizes[-2::-1], sizes[:0:-1], strict=True):
        bands = []
        for size in (
            (tall - less_tall, less_wide),
            (less_tall, wide - less_wide),
            (tall - less_tall, wide - less_wide),
        ):
            count = channels * size[0] * size[1]
            bands.append(numbers[place : place + count].reshape(channels, *size))
            place += count
        details.insert(0, (bands[0], bands[1], bands[2]))
    return smooth, details, end
