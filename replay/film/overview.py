"""Many layers in one frame: in how many columns they stand, and how much space each has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from replay.raster.arrangement import BARE, GUTTER, SECTION_HEAD, Space, surroundings
from replay.schema.faces import spell

LEAST_TILE = 28
"""Pixels: of maps that would be smaller, rather fewer are shown."""

APART = 14  # rows between two layers, of the rows of a head
_FRAMES = ((1920, 1080), (2560, 1440), (3840, 2160))  # the smallest that does is taken
_STACKED = 100
_ROOMY = 420, 60  # pixels: width and height of a mosaic of which something is seen
_TIGHT = 300, 40  # where there is no more space


@dataclass(frozen=True)
class Overview:
    """How many layers stand in one frame.

    Attributes:
        columns: Layers side by side.
        space: The space for the mosaic of each.
        most: Number of layers that fit the frame.
        bounds: Greatest width and height of the frame, in pixels.
    """

    columns: int
    space: Space
    most: int
    bounds: tuple[int, int]


def plan_overview(
    layers: int,
    captions: bool,
    pictures: Sequence[tuple[int, int]],
    bounds: tuple[int, int] | None = None,
    stacked: int = _STACKED,
) -> Overview | None:
    """Returns how many layers are arranged in columns; None where they stand under one another.

    Args:
        layers: Number of mosaics, each with a line about it if there are captions.
        captions: Whether there is more than mosaics and input pictures.
        pictures: Height and width of each input picture.
        bounds: Greatest width and height of the frame; None for one that is chosen.
        stacked: Pixels: layers that have so much height need not stand side by side.
    """
    beside, above = surroundings(1, captions, pictures)
    head, apart = (SECTION_HEAD, APART) if captions else (BARE, BARE)
    usual = 1000 if bounds is None else bounds[1] - above
    if layers == 1 or usual // layers - head >= stacked:
        return None
    frames = _FRAMES if bounds is None else (bounds,)
    for frame in frames:
        for narrowest, least in (_ROOMY, _TIGHT)[: 1 if frame != frames[-1] else 2]:
            width, height = frame[0] - beside, frame[1] - above + apart
            columns = max(1, min(layers, (width + GUTTER) // (narrowest + GUTTER)))
            rows = -(-layers // columns)
            columns = -(-layers // rows)
            most = max(1, height // (head + least)) * columns
            if most >= layers:
                break
        else:
            continue
        break
    if most < layers:
        rows = -(-most // columns)
    each = max(1, height // rows - head)
    one = (width + GUTTER) // columns - GUTTER
    return Overview(columns, Space(one, each, stretch=1.0), most, frame)


def describe_left_out(layers: Sequence[str], most: int) -> str:
    """Returns a line about layers that are not shown.

    Args:
        layers: All that were asked for.
        most: So many are shown, the first ones.
    """
    return (
        f"shows {layers[0]} to {layers[most - 1]}, {most} of {len(layers)} layers, which fill the "
        f"frame; {spell('layers')} chooses others, {layers[most]} being the next"
    )


def describe_cut(cut: int, layers: int) -> str:
    """Returns a line about layers of which not all maps are shown."""
    whose = "of the layer" if layers == 1 else f"of {cut} of {layers} layers"
    return f"the frame has no space for all maps {whose}; {spell('channels')} chooses which"
