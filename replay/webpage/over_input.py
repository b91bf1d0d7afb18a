"""What lies over the input picture in a page: where values stand in it, and their colours.

A page has the maps and the pictures anyway, so that a view of one over the other takes no bytes but
a table of colours. `page/views.js` has the same numbers in the same order of operations as
`over_pixels`. As in films the picture lies below in gray, and the stronger a value, the more of its
colour covers it.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.maps.axes import Maps
from replay.raster.overlay import OverlayColours, blocks, to_gray
from replay.raster.palette import Pixels, Range
from replay.recording import Series
from replay.schema.token_grid import TokenGrid, find_grid
from replay.webpage.eight_bit import COUNT, NAN
from replay.webpage.frame_block import FrameBlock

_PLACED = ("CHW", "HWC", "CDHW", "DHWC")  # axes of what has places in an image
_OPACITY, _FULL_AT = 0.85, 0.6  # as in `raster.overlay`
_MIDDLE_GRAY = 128


def places_of(series: Series, maps: Maps) -> TokenGrid | None:
    """Returns where the positions of a layer's maps stand in the input picture; None if nowhere.

    Args:
        series: The layer.
        maps: Its maps as a page has them; the positions of one are counted row by row.
    """
    size = maps.size
    axes = series.layer.axes
    if axes in _PLACED:
        placed = min(size) >= 2 and not getattr(series, "matrix", False)
        return TokenGrid(0, *size) if placed else None
    if axes != "TC":
        return None
    if size[0] > 1:
        return TokenGrid(0, *size)
    shape = series.inputs.shape
    image = (shape[1], shape[2]) if shape is not None and len(shape) == 3 else None
    return find_grid(series.layer.shape[0], series.layer.grid, image)


def usual_colors() -> list[str]:
    """Returns the colours of what lies over a picture, 256 x 3 bytes in base64.

    Those of values from zero come first, then those of values of both signs.
    """
    tables = [OverlayColours(signed=signed).table(COUNT) for signed in (False, True)]
    return [base64.b64encode(table.tobytes()).decode("ascii") for table in tables]


def over_range(shown: Range, signed: bool) -> Range:
    """Returns the range from zero, or symmetric around it, of what lies over a picture."""
    reach = max(abs(shown.low), abs(shown.high)) if signed else max(shown.high, 0.0)
    reach = reach or 1.0
    return Range(-reach if signed else 0.0, reach)


def over_pixels(
    block: FrameBlock,
    channel: int,
    places: TokenGrid,
    picture: Pixels,
    shown: Range,
    colours: npt.NDArray[np.uint8],
    smooth: bool = False,
) -> Pixels:
    """Returns what the page's canvas shows of a map over the picture, uint8 (H, W, 3).

    Args:
        block: What the page holds of the frame.
        channel: The place of the map in it.
        places: Where its positions stand in the image.
        picture: uint8 (H, W, 3), as the page has it.
        shown: The range, from zero or symmetric around it; see `over_range`.
        colours: uint8 (256, 3).
        smooth: Whether values are bilinear between the middles of their places, else blocks.
    """
    size, grid = picture.shape[:2], (places.rows, places.columns)
    stop = places.prefix + places.rows * places.columns

    def placed(levels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = levels[channel].reshape(-1)[places.prefix : stop]
        return found.reshape(grid)

    low, step = block.stored.low[channel], block.stored.step[channel]
    odd = None if block.odd is None else placed(block.odd)
    values = low + placed(block.levels) * step
    if odd is not None:
        values = np.where(odd > 0, 0.0, values)
    values = _bilinear(values, size) if smooth else blocks(values, size)
    share = (values - shown.low) / (shown.high - shown.low)
    levels = np.clip(np.floor(share * (COUNT - 1) + 0.5), 0, COUNT - 1).astype(np.intp)
    part = levels / (COUNT - 1)
    strength = np.abs(2 * part - 1) if shown.low < 0 else part
    opacity = (_OPACITY * np.minimum(strength / _FULL_AT, 1.0))[..., None]
    if odd is not None:
        there = blocks(odd, size).astype(np.intp)
        levels = np.where(there > 0, NAN - 1 + there, levels)
        opacity = np.where(there[..., None] > 0, 1.0, opacity)
    gray = to_gray(picture).astype(np.float64)[..., None]
    mixed = opacity * colours[levels] + (1 - opacity) * gray
    pixels: Pixels = np.floor(mixed + 0.5).astype(np.uint8)
    return pixels


def _bilinear(values: npt.NDArray[np.float64], size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Returns values at a size, as `enlarge_map` does, in the order of the page's operations."""
    (above, below, down), (left, right, across) = (
        _between(have, number) for have, number in zip(values.shape, size, strict=True)
    )
    rows = values[:, left] * (1 - across) + values[:, right] * across
    found: npt.NDArray[np.float64] = rows[above] * (1 - down)[:, None] + rows[below] * down[:, None]
    return found


def _between(
    have: int, number: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Returns the values before and after each pixel of a line, and the share of the latter."""
    place = np.clip((np.arange(number) + 0.5) * have / number - 0.5, 0, have - 1)
    first = np.floor(place).astype(np.intp)
    return first, np.minimum(first + 1, have - 1), place - first
