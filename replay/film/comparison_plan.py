"""How the layers of a comparison share a frame: how many there are, and how much space each has."""

from __future__ import annotations

from collections.abc import Sequence

from replay.film.comparison_layout import AROUND, HEAD_AND_FOOT, column_width
from replay.film.overview import Overview, worth_in
from replay.raster.arrangement import Space

LITTLE = 100
"""Pixels: in a lower mosaic rather fewer maps are shown than tiny ones."""

_WIDEST = {2: 1400, 3: 1800}  # pixels of a usual frame, by the number of columns
_USUAL = 760  # height of all mosaics of a usual comparison
_FRAMES = ((1920, 1080), (2560, 1440), (3840, 2160))  # of many layers: the smallest that does
_ENOUGH = 7.6  # is seen of a layer, as `worth` has it: six maps of 48 pixels
_LEAST = 230, 40  # pixels: width and height of a mosaic that has space for a name above it


def plan_comparison(
    maps: Sequence[tuple[int, int, int]],
    columns: int,
    bounds: tuple[int, int] | None,
    gains: bool,
) -> Overview:
    """Returns how many layers a frame has, how many side by side, and the space for each mosaic.

    Args:
        maps: Number, height and width of the maps of each layer.
        columns: Two, or three with the difference.
        bounds: Greatest width and height of the frame; None for one that is chosen.
        gains: Whether each map has a gain bar.
    """
    layers = len(maps)
    if bounds is None and _USUAL // layers > LITTLE:
        height = max(60, _USUAL // layers)
        width = column_width(_WIDEST[columns], columns)
        frame = (_WIDEST[columns], HEAD_AND_FOOT + _USUAL)
        space = Space(width, height, frame[0] - width, frame[1] - height)
        return Overview(1, space, layers, frame)
    plans: list[tuple[float, Overview]] = []
    for frame in _FRAMES if bounds is None else (bounds,):
        plans = []
        for across in range(1, layers + 1):
            width = column_width(frame[0], columns, across)
            if across > 1 and width < _LEAST[0]:
                break
            whole = frame[1] - HEAD_AND_FOOT
            most = across * max(1, whole // (_LEAST[1] + AROUND))
            rows = -(-min(layers, most) // across)
            height = max(1, whole // rows - AROUND)
            beside, above = frame[0] - width, frame[1] - height
            space = Space(width, height, beside, above, stretch=1.0)
            seen = worth_in(space, maps[:most], gains) / layers
            plans.append((seen, Overview(across, space, most, frame)))
        if max(seen for seen, _ in plans) >= _ENOUGH:
            break
    return max(plans, key=lambda plan: (plan[0], -plan[1].columns))[1]
