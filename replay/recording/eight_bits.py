"""Maps in 8 bits: each value a step between the least and the greatest of its channel and frame.

`value = lo + step * (hi - lo) / 255`, rounded to float16, where lo and hi are the ranges that the
file keeps beside the maps. Both ends come back exactly, and so does a channel of one value. A frame
that has no such ranges, because a value is NaN or infinite, is kept whole in 16 bits beside them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from replay.schema import MAPS, NOTE_OF_8_BITS, RANGES, Float16Array, Float32Array, summarize

STEPS = 255
BITS = "bits"  # attribute of maps: 8
LARGEST_ERROR = "largest_error"  # attribute of maps: no value is further from what was recorded
WHOLE = "maps16"  # beside `maps`: frames that are kept in 16 bits
NOTE = NOTE_OF_8_BITS
"""A step is the most by which a value differs: half of one, and what rounding adds to it."""

_AT_ONCE = 1 << 16  # values
_TABLE_PAYS_FROM = 512  # values a channel
_UP = np.float32(2.0**112)
_LEAST = np.ones(1, np.int32).view(np.float32)
_NO_COPIES_OF_SIGN = np.int32(-0x70000001)  # 0x8FFFFFFF


def beside(path: str, group: str) -> str | None:
    """Returns the path of what lies beside a layer's maps; None where the path is none of maps.

    >>> beside("probe/0/maps/conv1", "ranges"), beside("inputs", "ranges")
    ('probe/0/ranges/conv1', None)
    """
    *before, of, layer = ["", "", *path.split("/")]
    return "/".join([*before[2:], group, layer]) if of == MAPS else None


def ranges_path(path: str) -> str | None:
    """Returns where the ranges of maps lie."""
    return beside(path, RANGES)


def quantize(
    frame: Float16Array, ranges: Float32Array, axis: int | None
) -> npt.NDArray[np.uint8] | None:
    """Returns a frame in 8 bits; None where it has to stay whole.

    Args:
        frame: float16, of any shape.
        ranges: float32 (C, 2), least and greatest finite value of each channel.
        axis: The axis of the channels; None where there is none, and one range.

    Returns:
        uint8, of the frame's shape.
    """
    first = _channels_first(frame, axis)
    found = summarize(first)
    if found.nan or found.inf or not np.array_equal(found.ranges, ranges):
        return None
    flat = first.reshape(ranges.shape[0], -1)
    span = ranges[:, 1] - ranges[:, 0]
    scale = (STEPS / np.where(span > 0, span, 1)).astype(np.float32)
    steps = np.empty(flat.shape, np.uint8)
    together = max(1, _AT_ONCE // flat.shape[1])  # what stays in a core's cache
    for start in range(0, len(flat), together):
        part = slice(start, start + together)
        values = _as_float32(flat[part])
        values -= ranges[part, :1]
        values *= scale[part, None]
        values += 0.5  # which makes the nearest step of what is cut off next
        steps[part] = values
    return _channels_back(steps.reshape(first.shape), axis)


def restore(steps: npt.NDArray[np.uint8], ranges: Float32Array, axis: int | None) -> Float16Array:
    """Returns what `quantize` made 8 bits of, float16, each value within half a step of it.

    Args:
        steps: uint8, of any shape.
        ranges: float32 (C, 2), as they were given to `quantize`.
        axis: As given to `quantize`.
    """
    first = _channels_first(steps, axis)
    flat = first.reshape(ranges.shape[0], -1)
    if flat.shape[1] < _TABLE_PAYS_FROM:
        values = _values(flat, ranges)
    else:
        table = _values(np.arange(STEPS + 1)[None], ranges)
        values = np.empty(flat.shape, np.float16)
        for channel, numbers in enumerate(flat):
            np.take(table[channel], numbers, out=values[channel], mode="clip")
    return _channels_back(values.reshape(first.shape), axis)


def largest_error(ranges: Float32Array) -> float:
    """Returns the most by which a value of such channels can differ from what was recorded.

    Half a step, and half of what lies between two numbers of float16 there; never more than a step,
    since what was recorded is such a number itself.

    Args:
        ranges: float32 (C, 2), finite, as they were given to `quantize`.
    """
    known = ranges.astype(np.float64)
    step = (known[:, 1] - known[:, 0]) / STEPS
    with np.errstate(over="ignore"):  # behind the greatest number comes none
        spacing = np.spacing(np.abs(known).max(axis=1).astype(np.float16)).astype(np.float64)
    spacing = np.where(np.isfinite(spacing), spacing, 32.0)
    return float(np.minimum(step, step / 2 + spacing / 2).max() * (1 + 1e-4))


def _values(steps: npt.NDArray[np.integer], ranges: Float32Array) -> Float16Array:
    """Returns the values of steps (C, ...): in double precision, so that both ends are exact."""
    low, high = ranges[:, :1].astype(np.float64), ranges[:, 1:].astype(np.float64)
    values: Float16Array = (low + steps * (high - low) / STEPS).astype(np.float16)
    return values


def _as_float32(values: Float16Array) -> Float32Array:
    """Returns finite numbers as float32: what numpy does one by one, done by vector instructions.

    Exponent and fraction lie in the lower bits of both formats, one behind the other; what is left
    is that float32 counts its exponents from 112 steps further down.
    """
    if not (_LEAST * _UP)[0]:  # this thread takes tiny numbers for zero
        return values.astype(np.float32)
    bits = values.view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= _NO_COPIES_OF_SIGN
    converted: Float32Array = bits.view(np.float32)
    converted *= _UP
    return converted


def _channels_first(frame: npt.NDArray[Any], axis: int | None) -> npt.NDArray[Any]:
    if axis is None:
        return frame[None]
    return np.ascontiguousarray(np.moveaxis(frame, axis, 0)) if axis else frame


def _channels_back(frame: npt.NDArray[Any], axis: int | None) -> npt.NDArray[Any]:
    if axis is None:
        return np.asarray(frame[0])
    return np.ascontiguousarray(np.moveaxis(frame, 0, axis)) if axis else frame
