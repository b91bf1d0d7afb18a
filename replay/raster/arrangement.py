"""How maps are arranged: the columns and the size of a mosaic, in the space that a frame has."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

from replay.raster.mosaic import Mosaic
from replay.schema import OptionError

SIDE = 256  # pixels: the width of the column with the input picture
MARGIN, GUTTER = 24, 24
BARE = 12  # margin and gutter of a frame without captions
SECTION_HEAD = 38

_DIGIT = 8  # width of a digit of a channel's number, rounded up
_SMALLEST_NUMBERED = 30  # pixels: a smaller tile would be dwarfed by a number of its own
_LARGE_TILE, _MANY, _FEW = 96, 16, 4  # pixels of a tile, and tiles: see `worth`
_FULL_LINE = 20  # pixels: below smaller tiles a gain bar is a thinner line
_HIGHEST_TILE = 680  # pixels: the height beyond which a map gains nothing
_ASPECTS = (4 / 3, 16 / 9)  # width to height of a frame that fits screens and slides
_WHITE = 1.25  # what it costs where nothing lies below the mosaic, of the share of the frame
_TALLER = 1.3  # the extra height that may be used where it makes the maps clearly larger
_CLEARLY = 1.45
_LONG = 8  # times as long as it is high or wide is what is drawn out like a signal
_SHORTEST = 64  # values across, from which on it is not
_DRAWN = (8, 32, 48)  # pixels: least size of one row of values, of several, and the greatest
_WIDEST = 1400
_USUAL = 860  # height of the mosaics of a usual frame
_HEAD_AND_FOOT = 132  # of a frame with captions, as a rule


@dataclass(frozen=True)
class Space:
    """The space for a mosaic, in pixels.

    Attributes:
        width: Widest mosaic.
        height: Highest mosaic.
        beside: What the frame has to the left and right of the mosaic, for its aspect.
        above: What the frame has above and below.
        least: The least height of what stands beside the mosaic.
        stretch: The height may grow by that factor where it makes the maps clearly larger.
    """

    width: int
    height: int
    beside: int = 0
    above: int = 0
    least: int = 0
    stretch: float = _TALLER


class Tiling(TypedDict, total=False):
    """What is asked of tiles, as keywords of `arrange` and `count_fitting`."""

    zoom: int | None
    columns: int | None
    numbers: bool
    digits: int
    unit: int
    gains: bool


def arrange(
    count: int,
    height: int,
    width: int,
    space: Space,
    *,
    zoom: int | None = None,
    columns: int | None = None,
    numbers: bool = True,
    digits: int | None = None,
    unit: int = 1,
    gains: bool = False,
) -> Mosaic:
    """Chooses columns and size of a mosaic.

    The size is the largest that fits the space, which may be stretched (to 1.3 times its
    height, unless the space says otherwise) where that makes the maps clearly larger. Among the
    columns that fit, those are preferred that leave no cell empty and give a frame between 4:3
    and 16:9.

    Args:
        count: Number of maps, at least 1.
        height: Pixels of one map.
        width: Pixels of one map.
        space: The space that there is; an explicit zoom or number of columns may exceed it.
        zoom: Pixels for one pixel of a map, if it is not to be chosen.
        columns: Tiles in a row, if it is not to be chosen.
        numbers: Whether channel numbers are to be shown.
        digits: Letters of the longest number; else those of count - 1.
        unit: So many maps belong together and are not to be torn apart: a row holds a multiple
            of them, or they fill whole rows.
        gains: Whether each tile has a gain bar.

    Raises:
        OptionError: A zoom or number of columns below 1.
    """
    for name, value in (("zoom", zoom), ("columns", columns)):
        if value is not None and value < 1:
            raise OptionError(f"{name} {value}: expected a whole number of 1 or more")
    digits = len(str(count - 1)) if digits is None else digits

    def mosaic(per_row: int, zoom: int, shrink: int) -> Mosaic:
        size = (zoom, shrink)
        return tile(count, per_row, height, width, size, numbers, digits, gains)

    per_rows = [min(columns, count)] if columns is not None else _sensible_columns(count, unit)

    def fitting(zoom: int, shrink: int, limit: float) -> list[Mosaic]:
        candidates = (mosaic(per_row, zoom, shrink) for per_row in per_rows)
        return [m for m in candidates if m.width <= space.width and m.height <= limit]

    def cost(m: Mosaic) -> float:
        frame_width = m.width + space.beside
        height = max(m.height, space.least)
        frame_height = height + space.above
        aspect = frame_width / frame_height
        off = max(_ASPECTS[0] / aspect, aspect / _ASPECTS[1], 1.0)
        white = (height - m.height) * m.width / (frame_height * frame_width)
        return math.log(off) + _WHITE * white + (0.25 + m.empty / count if m.empty else 0.0)

    if zoom is not None:
        everything = [mosaic(per_row, zoom, 1) for per_row in per_rows]
        within = [m for m in everything if m.width <= space.width]
        return _draw_out(min(within or everything, key=cost), space)

    found: list[list[Mosaic]] = []
    for limit in (
        (math.inf,) if columns is not None else (space.height, space.stretch * space.height)
    ):
        found.append([])
        for zoom_, shrink in _sizes(count, height, width, space):
            found[-1] = fitting(zoom_, shrink, limit)
            if found[-1]:
                break
    for low, tall in itertools.pairwise(found):
        if low and (not tall or tall[0].tile[1] < _CLEARLY * low[0].tile[1]):
            return _draw_out(min(low, key=cost), space)
    if found[-1]:
        return _draw_out(min(found[-1], key=cost), space)
    smallest = max(height, width)  # a pixel a map is still too much: as wide as the space allows
    tightest = [mosaic(per_row, 1, smallest) for per_row in per_rows]
    return max(
        [m for m in tightest if m.width <= space.width] or tightest[:1], key=lambda m: m.columns
    )


def count_fitting(
    count: int,
    height: int,
    width: int,
    space: Space,
    *,
    zoom: int | None = None,
    columns: int | None = None,
    numbers: bool = True,
    digits: int = 1,
    unit: int = 1,
    gains: bool = False,
    least: int = 1,
) -> int:
    """Returns how many of some maps fit a space, the first ones, at a size that shows something.

    Args:
        count: Number of maps, at least 1.
        height: Pixels of one map.
        width: Pixels of one map.
        space: The space that there is.
        zoom: As in `arrange`.
        columns: As in `arrange`.
        numbers: As in `arrange`.
        digits: As in `arrange`.
        unit: As in `arrange`; the number that is returned is a multiple of it.
        gains: As in `arrange`.
        least: Pixels of the shorter side of a tile, below which rather fewer maps are shown.
    """
    whole = arrange(
        count,
        height,
        width,
        space,
        zoom=zoom,
        columns=columns,
        numbers=numbers,
        digits=digits,
        unit=unit,
        gains=gains,
    )
    fits = whole.width <= space.width and whole.height <= space.height
    if fits and (zoom is not None or min(whole.tile) >= least):
        return count
    sizes = [(zoom, 1)] if zoom is not None else list(_sizes_around(height, width, least))
    best, found = -math.inf, unit
    for size in sizes:
        two = tile(2, 1, height, width, size, numbers, digits, gains)
        across = (space.width - two.indent + two.gap) // two.pitch[1]
        down = (space.height + two.gap) // two.pitch[0]
        if columns is not None:
            across = min(across, columns)
        if across * down < unit:
            continue
        shown = min(count, across * down // unit * unit)
        if min(two.tile) < least or least == 1:  # smaller ones show less, and no more of it
            return found if best > -math.inf else shown
        if (seen := worth(shown, min(two.tile))) > best:
            best, found = seen, shown
    return found


def tile(
    count: int,
    columns: int,
    height: int,
    width: int,
    size: tuple[int, int],
    numbers: bool = True,
    digits: int = 1,
    gains: bool = False,
) -> Mosaic:
    """Returns the mosaic of some maps in so many columns, at a size.

    Args:
        count: Number of maps.
        columns: Tiles in a row.
        height: Pixels of one map.
        width: Pixels of one map.
        size: Pixels of the frame for one of a map, and pixels of a map for one of the frame.
        numbers: As in `arrange`.
        digits: As in `arrange`.
        gains: As in `arrange`.
    """
    zoom, shrink = size
    strip, band = _drawn_out(height, width, zoom)
    plain = Mosaic(count, columns, height, width, zoom, shrink, "none", strip=strip, band=band)
    return _number(plain, digits, gains) if numbers else plain


def worth(shown: int, side: int) -> float:
    """Returns how much is seen of some maps whose tiles have a side of so many pixels.

    Large tiles are worth more than many, up to a size, and a number, from which one sees no more;
    but fewer than four say little of a layer.
    """
    few = math.log(min(shown, _FEW) / _FEW)
    return math.log(min(shown, _MANY)) + few + 1.5 * math.log(min(side, _LARGE_TILE))


def _sizes_around(height: int, width: int, least: int) -> Iterator[tuple[int, int]]:
    """Yields (zoom, shrink) from the largest that is of use downwards.

    Where a pixel for a map is enough (`least` is 1), from that downwards.
    """
    short = min(height, width)
    if least > 1:
        for zoom in range(max(1, _LARGE_TILE // short), 0, -1):
            yield zoom, 1
    for shrink in range(2 if least > 1 else short, max(height, width) + 1):
        yield 1, shrink


def make_smaller(mosaic: Mosaic, share: float, digits: int, gains: bool) -> Mosaic:
    """Returns a mosaic whose maps have about a share of their size, in as many columns.

    Args:
        mosaic: The mosaic.
        share: Width and height of a map, relative to what they are.
        digits: As in `arrange`.
        gains: As in `arrange`.
    """
    size = share * mosaic.zoom / mosaic.shrink
    zoom, shrink = (max(1, round(size)), 1) if size >= 0.75 else (1, round(1 / size))
    strip = max(1, round(share * mosaic.strip / mosaic.map_height)) * mosaic.map_height
    band = max(1, round(share * mosaic.band / mosaic.map_width)) * mosaic.map_width
    smaller = replace(
        mosaic,
        zoom=zoom,
        shrink=shrink,
        strip=strip if mosaic.strip else 0,
        band=band if mosaic.band else 0,
        numbers="none",
        indent=0,
        gain_line=0,
    )
    return smaller if mosaic.numbers == "none" else _number(smaller, digits, gains)


def _number(plain: Mosaic, digits: int, gains: bool) -> Mosaic:
    """Returns a mosaic with numbers: one below each tile where they are large enough, or rows."""
    needed = max(_SMALLEST_NUMBERED, digits * _DIGIT)
    if min(plain.tile) >= needed or (plain.count == 1 and plain.tile[1] >= digits * _DIGIT):
        return replace(plain, numbers="tile")
    line = (2 if min(plain.tile) < _FULL_LINE else 3) if gains else 0
    return replace(plain, numbers="row", indent=digits * _DIGIT + 6, gain_line=line)


def _drawn_out(height: int, width: int, zoom: int) -> tuple[int, int]:
    """Returns the height and the width to which a long map is drawn out at least, 0 for neither."""
    short, long = sorted((height, width))
    if short > 1 and (long < _LONG * short or short > _SHORTEST):
        return 0, 0
    least = max(zoom, -(-_DRAWN[min(short, 2) - 1] // short)) * short
    return (least if height < width else 0, least if height > width and width < height else 0)


def _draw_out(mosaic: Mosaic, space: Space) -> Mosaic:
    """Makes what is drawn out as high or as wide as the space allows, up to a size."""
    least = mosaic.strip or mosaic.band
    if not least:
        return mosaic
    values = mosaic.map_height if mosaic.strip else mosaic.map_width
    for size in range(max(_DRAWN[2], 12 * values) // values * values, least, -values):
        longer = replace(mosaic, strip=size) if mosaic.strip else replace(mosaic, band=size)
        if longer.height <= space.height and longer.width <= space.width:
            return longer
    return mosaic


def _sensible_columns(count: int, unit: int = 1) -> list[int]:
    """Returns numbers of columns, ascending, that leave little of the last row empty."""
    numbers = sorted({-(-count // rows) for rows in range(1, count + 1)})
    return [n for n in numbers if n % unit == 0 or unit % n == 0]


def _sizes(count: int, height: int, width: int, space: Space) -> Iterator[tuple[int, int]]:
    """Yields (zoom, shrink) from the largest down that could fit by their area."""
    area = space.width * space.stretch * space.height
    largest = min(space.width // width, math.isqrt(int(area / (count * height * width))))
    for zoom in range(min(largest, max(1, _HIGHEST_TILE // height)), 0, -1):
        yield zoom, 1
    for shrink in range(2, max(height, width) + 1):
        yield 1, shrink


def surroundings(
    mosaics: int, captions: bool, pictures: Sequence[tuple[int, int]]
) -> tuple[int, int]:
    """Returns the pixels of a frame beside its mosaics, and above and below them.

    Args:
        mosaics: Number of mosaics under one another.
        captions: Whether there is more than mosaics and input pictures.
        pictures: Height and width of each input picture.
    """
    if not captions:
        beside = 2 * BARE + (max(size[1] for size in pictures) + BARE if pictures else 0)
        return beside, (mosaics + 1) * BARE
    above = _HEAD_AND_FOOT + (mosaics * SECTION_HEAD if mosaics > 1 else 0)
    return 2 * MARGIN + SIDE + GUTTER, above


def mosaic_space(
    mosaics: int,
    captions: bool,
    pictures: Sequence[tuple[int, int]],
    bounds: tuple[int, int] | None = None,
) -> Space:
    """Returns the space for each of some mosaics in a frame about 1,000 to 1,400 pixels wide.

    Args:
        mosaics: Number of mosaics under one another.
        captions: Whether there is more than mosaics and input pictures.
        pictures: Height and width of each input picture.
        bounds: Greatest width and height of the frame, instead of the usual ones.
    """
    if bounds is not None:
        beside, above = surroundings(mosaics, captions, pictures)
        width, height = max(1, bounds[0] - beside), max(1, (bounds[1] - above) // mosaics)
        return Space(width, height, beside, bounds[1] - height, bounds[1] - above, 1.0)
    if not captions:
        beside, _ = surroundings(mosaics, captions, pictures)
        least = sum(size[0] + BARE for size in pictures)
        return Space(_WIDEST - beside, _USUAL // mosaics, beside, 2 * BARE, least)
    beside, _ = surroundings(mosaics, captions, pictures)
    if mosaics == 1:
        least = sum(size[0] for size in pictures) + 320
        return Space(_WIDEST - beside, _USUAL, beside, 120, least)
    height = max(60, (_USUAL + 140 - mosaics * SECTION_HEAD) // mosaics)
    return Space(_WIDEST - beside, height, beside, _USUAL + 140 - height)
