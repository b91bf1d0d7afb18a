"""Maps in 8 bits, small enough for a page, and back to the levels of a colormap.

A frame of one layer is stored as 254 equal steps between two values of its own, the *stored*
range: its smallest and largest value, cut to what the widest scale on offer can show. Steps are
thus no coarser than a screen needs, and what is cut off lies beyond the ends of every scale. For
any scale, the level of the colormap follows from the stored level alone (`rescale`), in float64
arithmetic that a browser repeats to the bit.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from replay.maps.scaling import Levels, table
from replay.raster.palette import Range

COUNT = 254  # levels for the values of a map
NAN, INF = COUNT, COUNT + 1  # as in `scaling.table`


def widen(shown: Range) -> Range:
    """Returns the range made symmetric around zero."""
    reach = max(abs(shown.low), abs(shown.high))
    return Range(-reach, reach) if reach > 0 else Range(-1.0, 1.0)


def stored_range(maps: npt.NDArray[np.float16], offered: Iterable[Range]) -> Range:
    """Returns the range under which a frame is stored.

    Args:
        maps: float16 (C, H, W).
        offered: The ranges under which it may be shown; each may also be made symmetric.

    Returns:
        The extremes of the finite values, cut to the span of all ranges on offer.
    """
    values = maps.astype(np.float64)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Range(0.0, 1.0)
    every = [each for shown in offered for each in (shown, widen(shown))]
    low = max(float(finite.min()), min(each.low for each in every))
    high = min(float(finite.max()), max(each.high for each in every))
    return Range(low, high) if low < high else Range(low, low + 1.0)


def quantize(maps: npt.NDArray[np.float16], stored: Range) -> Levels:
    """Returns maps as stored levels.

    Args:
        maps: float16 of any shape.
        stored: The values of the levels 0 and 253; what lies beyond takes the nearer of them.

    Returns:
        uint8 of the same shape: 0 to 253, 254 for NaN, 255 for infinity.
    """
    return table(stored, COUNT).take(np.ascontiguousarray(maps).view(np.uint16))


def rescale(stored: Range, shown: Range) -> Levels:
    """Returns the level of the colormap for each stored level, uint8 (256,).

    `floor((value - low) / (high - low) * 253 + 0.5)`, cut to 0..253, where
    `value = stored.low + level * (stored.high - stored.low) / 253`; NaN and infinity stay.
    """
    last = COUNT - 1
    levels = np.arange(COUNT, dtype=np.float64)
    values = stored.low + levels * (stored.high - stored.low) / last
    place = np.floor((values - shown.low) / (shown.high - shown.low) * last + 0.5)
    return np.append(np.clip(place, 0, last), (NAN, INF)).astype(np.uint8)


def pack(levels: npt.NDArray[np.uint8], more: bytes = b"") -> bytes:
    """Planes of levels, compressed (zlib); `unpack` reads them back.

    Each value is replaced by its difference from what its left, upper and upper left neighbours
    let expect, modulo 256: smooth planes become small numbers, which compress by a further tenth
    to a third.

    Args:
        levels: uint8 (C, H, W).
        more: Bytes to put behind them.
    """
    across = np.diff(levels, axis=2, prepend=np.uint8(0))
    return zlib.compress(np.diff(across, axis=1, prepend=np.uint8(0)).tobytes() + more, 6)


def unpack(packed: bytes, shape: tuple[int, int, int]) -> tuple[Levels, bytes]:
    """Returns the planes that `pack` packed, and the bytes behind them.

    Args:
        packed: What `pack` gave.
        shape: (C, H, W) of the planes.

    Returns:
        uint8 (C, H, W), and the bytes.
    """
    data = zlib.decompress(packed)
    size = shape[0] * shape[1] * shape[2]
    planes = np.frombuffer(data[:size], np.uint8).reshape(shape)
    down = np.cumsum(planes, axis=1, dtype=np.uint8)
    return np.cumsum(down, axis=2, dtype=np.uint8), data[size:]
