"""Mosaics under one another: one width that all of them fill, and maps as large as there is room.

A pixel of a map becomes whole pixels of the frame, so that mosaics which are arranged one by one
have widths of their own. Here those of several layers are chosen together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from replay.raster.arrangement import Space, Tiling, arrange, tile
from replay.raster.mosaic import Mosaic

Item = tuple[int, tuple[int, int], Tiling]
"""Number of a layer's maps, height and width of one, and what is asked of their tiles."""

_NARROWEST = 0.7  # of the space: what mosaics fill together
_SMALLEST = 0.6  # of the tile that a mosaic has by itself
_HEIGHTS = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5)  # of the height of one, as they are tried
_TALLER = 1.15  # the extra height where that is not bounded
_EMPTY = 0.4  # what empty cells cost, by their share
_UNFILLED = 4.0  # what the width that a mosaic leaves costs, by its share


def arrange_together(items: Sequence[Item], space: Space) -> list[Mosaic]:
    """Returns a mosaic for each of several layers, all about equally wide.

    Args:
        items: The layers, from top to bottom; at least one.
        space: The space for one of them. One may have more height than another.
    """
    apart = [arrange(count, *size, space, **tiling) for count, size, tiling in items]
    possible = [_possible(item, one, space) for item, one in zip(items, apart, strict=True)]
    limit = len(items) * space.height * min(space.stretch, _TALLER)
    limit = max(limit, sum(each.height for each in apart))
    best, chosen = _seen(apart, max(each.width for each in apart)), apart
    widths = {each.width for found in possible for each in found}
    for width in sorted(each for each in widths if each >= _NARROWEST * space.width):
        for share in _HEIGHTS:
            picked = []
            for found in possible:
                within = [
                    each
                    for each in found
                    if each.width <= width and each.height <= share * space.height
                ]
                picked += [max(within, key=lambda each: _seen([each], width))] if within else []
            if len(picked) < len(items) or sum(each.height for each in picked) > limit:
                continue
            if (seen := _seen(picked, width)) > best + 1e-9:
                best, chosen = seen, picked
    return chosen


def _possible(item: Item, apart: Mosaic, space: Space) -> list[Mosaic]:
    """Returns the mosaics that a layer may have: of other sizes and columns, if none is asked."""
    count, (height, width), tiling = item
    if tiling.get("zoom") is not None or tiling.get("columns") is not None:
        return [apart]
    if apart.strip or apart.band or apart.width > space.width:
        return [apart]
    unit = tiling.get("unit", 1)
    columns = [each for each in range(1, count + 1) if each % unit == 0 or unit % each == 0]
    least, found = _SMALLEST * min(apart.tile), [apart]
    sizes = [(zoom, 1) for zoom in range(1, 3 * apart.zoom + 1)]
    sizes += [(1, shrink) for shrink in range(2, 2 * apart.shrink + 1)]
    for size in sizes:
        for per_row in columns:
            made = tile(
                count,
                per_row,
                height,
                width,
                size,
                tiling.get("numbers", True),
                tiling.get("digits", 1),
                tiling.get("gains", False),
            )
            if min(made.tile) < least or made.width > space.width:
                break
            found.append(made)
    return found


def _seen(mosaics: Sequence[Mosaic], width: int) -> float:
    """Returns how good it is to see these mosaics in one column of a width."""
    return sum(
        1.5 * math.log(min(each.tile))
        - _EMPTY * each.empty / (each.columns * each.rows)
        - _UNFILLED * (1 - each.width / width)
        for each in mosaics
    )
