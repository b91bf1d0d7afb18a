"""Maps to a mosaic: how many columns, how large, and the levels painted into a canvas.

A pixel of a map becomes a whole block of equal pixels. Where even one pixel each is too much,
whole blocks of a map are averaged into one pixel, and the picture says so; nothing else is ever
resampled.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from replay.raster.palette import widen
from replay.schema import OptionError

Box = tuple[int, int, int, int]
"""Part of a canvas: first row, first column, and what lies one past the last."""

NUMBER_SIZE = 12  # pixels of the font of the channel numbers
NUMBER_ROW = 18  # rows below a tile for its number
_DIGIT = 8  # width of a digit at that size, rounded up
_LINE = 15  # rows that a number needs for itself
_SMALLEST_NUMBERED = 30  # pixels: a smaller tile would be dwarfed by a number of its own
_FULL_LINE = 20  # pixels: below smaller tiles a gain bar is a thinner line
_HIGHEST_TILE = 680  # pixels: the height beyond which a map gains nothing
_ASPECTS = (4 / 3, 16 / 9)  # width to height of a frame that fits screens and slides
_WHITE = 1.25  # what it costs where nothing lies below the mosaic, of the share of the frame
_TALLER = 1.3  # the extra height that may be used where it makes the maps clearly larger
_CLEARLY = 1.45
_STRIP = (8, 48)  # pixels: least and greatest height of a map that is a single row of values


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


@dataclass(frozen=True)
class Mosaic:
    """Where each tile goes.

    Attributes:
        count: Number of tiles.
        columns: Tiles in a row.
        map_height: Pixels of one map.
        map_width: Pixels of one map.
        zoom: Pixels of the frame, in each direction, for one pixel of a map.
        shrink: Pixels of a map, in each direction, for one pixel of the frame; 1 unless zoom is.
        numbers: `tile` (a number under each), `row` (one at the left of a row) or `none`.
        indent: Pixels at the left for the rows' numbers.
        strip: Pixels of the frame to which a map of one row is drawn out downwards; 0 where maps
            have several.
        gain_line: Rows of a gain bar below each tile, where tiles have no numbers of their own.
    """

    count: int
    columns: int
    map_height: int
    map_width: int
    zoom: int = 1
    shrink: int = 1
    numbers: str = "tile"
    indent: int = 0
    strip: int = 0
    gain_line: int = 0

    @property
    def rows(self) -> int:
        """The number of rows of tiles."""
        return -(-self.count // self.columns)

    @functools.cached_property
    def tile(self) -> tuple[int, int]:
        """Height and width of a tile in the frame."""
        return (
            self.strip or -(-self.map_height // self.shrink) * self.zoom,
            -(-self.map_width // self.shrink) * self.zoom,
        )

    @functools.cached_property
    def gap(self) -> int:
        """Pixels between two tiles."""
        return 6 if min(self.tile) >= 96 else 4 if min(self.tile) >= 24 else 2

    @functools.cached_property
    def pitch(self) -> tuple[int, int]:
        """Pixels from one tile to the one below, and to the one on the right."""
        line = self.gain_line + 1 if self.gain_line else 0
        below = NUMBER_ROW if self.numbers == "tile" else line
        return self.tile[0] + below + self.gap, self.tile[1] + self.gap

    @property
    def width(self) -> int:
        """Width of the whole mosaic."""
        return self.indent + self.columns * self.pitch[1] - self.gap

    @property
    def height(self) -> int:
        """Height of the whole mosaic, the numbers below the last row included."""
        height = self.rows * self.pitch[0] - self.gap
        return max(height, _LINE) if self.numbers == "row" else height

    @property
    def empty(self) -> int:
        """Cells of the last row without a tile."""
        return self.rows * self.columns - self.count

    def corner(self, place: int) -> tuple[int, int]:
        """Returns row and column of a tile's first pixel, from the mosaic's corner."""
        row, column = divmod(place, self.columns)
        return row * self.pitch[0], self.indent + column * self.pitch[1]

    def numbered(self) -> Iterator[int]:
        """Yields the places of tiles with a number: all, or the first of rows far enough apart."""
        if self.numbers == "tile":
            yield from range(self.count)
        elif self.numbers == "row":
            step = -(-_LINE // self.pitch[0])
            yield from range(0, self.count, step * self.columns)

    def boxes(self, top: int, left: int) -> list[Box]:
        """Returns what the tiles cover of a canvas, if the mosaic's corner is at a row and column.

        Each row of tiles has a box of its own where it has numbers below it. A box includes what
        lies between its tiles.
        """
        left, right = left + self.indent, left + self.width
        if self.numbers != "tile" and not self.gain_line:
            return [(top, left, top + self.rows * self.pitch[0] - self.gap, right)]
        tops = range(top, top + self.rows * self.pitch[0], self.pitch[0])
        return [(row, left, row + self.tile[0], right) for row in tops]

    def in_words(self) -> str:
        """Returns what a reader has to know of the size: empty, or `shown at 1/4`."""
        return f"shown at 1/{self.shrink}" if self.shrink > 1 else ""


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
        strip = max(_STRIP[0], zoom) if height == 1 < width else 0
        plain = Mosaic(count, per_row, height, width, zoom, shrink, "none", strip=strip)
        if not numbers:
            return plain
        needed = max(_SMALLEST_NUMBERED, digits * _DIGIT)
        if min(plain.tile) >= needed or (count == 1 and plain.tile[1] >= digits * _DIGIT):
            return replace(plain, numbers="tile")
        line = (2 if min(plain.tile) < _FULL_LINE else 3) if gains else 0
        return replace(plain, numbers="row", indent=digits * _DIGIT + 6, gain_line=line)

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
        return _lengthen_strips(min(within or everything, key=cost), space)

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
            return _lengthen_strips(min(low, key=cost), space)
    if found[-1]:
        return _lengthen_strips(min(found[-1], key=cost), space)
    smallest = max(height, width)  # a pixel a map is still too much: as wide as the space allows
    tightest = [mosaic(per_row, 1, smallest) for per_row in per_rows]
    return max([m for m in tightest if m.width <= space.width] or tightest[:1], key=_columns_of)


def paint(
    canvas: npt.NDArray[np.uint8],
    top: int,
    left: int,
    levels: npt.NDArray[np.uint8],
    mosaic: Mosaic,
) -> None:
    """Paints the levels of all maps into the canvas, each as a block of zoom x zoom pixels.

    The blocks of a strip are as high as the strip.

    Args:
        canvas: uint8 (H, W); only the tiles are written to.
        top: Row of the mosaic's corner.
        left: Column of the mosaic's corner.
        levels: uint8 (C, h, w), as `shrink_maps` left the maps' size.
        mosaic: Where the tiles go.
    """
    wide = widen(levels, mosaic.zoom)  # (C, h, w * zoom)
    height, across = wide.shape[1:]
    down = mosaic.tile[0] // height
    whole, rest = divmod(len(wide), mosaic.columns)
    line, pixel = canvas.strides
    for rows, columns, first in ((whole, mosaic.columns, 0), (1, rest, whole * mosaic.columns)):
        if not rows or not columns:
            continue
        y, x = mosaic.corner(first)
        corner = canvas[top + y :, left + x :]
        bottom, right = mosaic.corner(first + rows * columns - 1)
        assert bottom - y + height * down <= corner.shape[0], "the mosaic lies in the canvas"
        assert right - x + across <= corner.shape[1], "the mosaic lies in the canvas"
        tiles = np.lib.stride_tricks.as_strided(
            corner,
            (rows, columns, height, down, across),
            (mosaic.pitch[0] * line, mosaic.pitch[1] * pixel, down * line, line, pixel),
        )
        shown = wide[first : first + rows * columns]
        tiles[...] = shown.reshape(rows, columns, height, 1, across)


def blank(
    canvas: npt.NDArray[np.uint8], top: int, left: int, mosaic: Mosaic, paper: int, line: int
) -> None:
    """Paints empty tiles with an outline, where there is no frame to show.

    Args:
        canvas: uint8 (H, W); only the tiles are written to.
        top: Row of the mosaic's corner.
        left: Column of the mosaic's corner.
        mosaic: Where the tiles go.
        paper: The palette's index of the background.
        line: The palette's index of the outline.
    """
    height, width = mosaic.tile
    for place in range(mosaic.count):
        y, x = mosaic.corner(place)
        tile = canvas[top + y : top + y + height, left + x : left + x + width]
        tile[...] = line
        tile[1:-1, 1:-1] = paper


def _columns_of(mosaic: Mosaic) -> int:
    return mosaic.columns


def _lengthen_strips(mosaic: Mosaic, space: Space) -> Mosaic:
    """Makes strips as high as the space allows, up to a height beyond which they gain nothing."""
    if not mosaic.strip:
        return mosaic
    each = space.height // mosaic.rows - (mosaic.pitch[0] - mosaic.tile[0])
    return replace(mosaic, strip=max(mosaic.strip, min(each, _STRIP[1])))


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


SIDE = 256  # pixels: the width of the column with the input picture


MARGIN, GUTTER = 24, 24


BARE = 12  # margin and gutter of a frame without captions


SECTION_HEAD = 38


_WIDEST = 1400


_USUAL = 860  # height of the mosaics of a usual frame


_HEAD_AND_FOOT = 132  # of a frame with captions, as a rule


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
