"""How much of a frame is left for the mosaics, beside all else that stands in it."""

from __future__ import annotations

from collections.abc import Sequence

from replay.raster.mosaic import Space

SIDE = 256  # width of the column with the input picture
MARGIN, GUTTER = 24, 24
BARE = 12  # margin and gutter of a frame without captions
SECTION_HEAD = 38
_WIDEST = 1400
_USUAL = 860  # height of the mosaics of a usual frame
_HEAD_AND_FOOT = 132  # of a frame with captions, as a rule


def surroundings(parts: int, captions: bool, sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Pixels that a frame has beside its mosaics, and above and below them.

    Args:
        parts: Number of mosaics.
        captions: Whether there is more than mosaics and input pictures.
        sizes: Height and width of each input picture.
    """
    if not captions:
        beside = 2 * BARE + (max(size[1] for size in sizes) + BARE if sizes else 0)
        return beside, (parts + 1) * BARE
    above = _HEAD_AND_FOOT + (parts * SECTION_HEAD if parts > 1 else 0)
    return 2 * MARGIN + SIDE + GUTTER, above


def space_for(
    parts: int,
    captions: bool,
    sizes: Sequence[tuple[int, int]],
    bounds: tuple[int, int] | None = None,
) -> Space:
    """The space for each of some mosaics in a frame about 1,000 to 1,400 pixels wide.

    Args:
        parts: Number of mosaics.
        captions: Whether there is more than mosaics and input pictures.
        sizes: Height and width of each input picture.
        bounds: Greatest width and height of the frame, instead of the usual ones.
    """
    if bounds is not None:
        beside, above = surroundings(parts, captions, sizes)
        width, height = max(1, bounds[0] - beside), max(1, (bounds[1] - above) // parts)
        return Space(width, height, beside, bounds[1] - height, bounds[1] - above, 1.0)
    if not captions:
        beside = 2 * BARE + (max(size[1] for size in sizes) + BARE if sizes else 0)
        least = sum(size[0] + BARE for size in sizes)
        return Space(_WIDEST - beside, _USUAL // parts, beside, 2 * BARE, least)
    beside = 2 * MARGIN + SIDE + GUTTER
    if parts == 1:
        least = sum(size[0] for size in sizes) + 320
        return Space(_WIDEST - beside, _USUAL, beside, 120, least)
    height = max(60, (_USUAL + 140 - parts * SECTION_HEAD) // parts)
    return Space(_WIDEST - beside, height, beside, _USUAL + 140 - height)


PAIR_MARGIN, PAIR_GUTTER = 24, 24  # of a comparison
_PAIR_WIDEST = {2: 1400, 3: 1800}  # by the number of panels
_PAIR_USUAL = 760  # height of all mosaics of a usual comparison


def pair_space_for(panels: int, layers: int, side: bool) -> Space:
    """The space for each mosaic.

    Args:
        panels: Two, or three with the difference.
        layers: How many stand under one another.
        side: Whether there is a column at the left.
    """
    whole = _PAIR_WIDEST[panels] - 2 * PAIR_MARGIN - (SIDE + PAIR_GUTTER) * side
    width = (whole - (panels - 1) * PAIR_GUTTER) // panels
    height = max(60, _PAIR_USUAL // layers)
    return Space(width, height, _PAIR_WIDEST[panels] - width, 200 + _PAIR_USUAL - height)
