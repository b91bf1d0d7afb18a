"""The tiles of a mosaic: where each goes, and the levels painted into a canvas.

A pixel of a map becomes a whole block of equal pixels. Where even one pixel each is too much,
whole blocks of a map are averaged into one pixel, and the picture says so; nothing else is ever
resampled. A map that is far longer than it is wide is drawn out like a signal: only its length is
averaged.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from replay.raster.palette import widen

Box = tuple[int, int, int, int]
"""Part of a canvas: first row, first column, and what lies one past the last."""

NUMBER_SIZE = 12  # pixels of the font of the channel numbers
NUMBER_ROW = 18  # rows below a tile for its number
_OUTLINED = 16  # values; a map of fewer may be of the paper's colour throughout
_LINE = 15  # rows that a number needs for itself


def is_outlined(height: int, width: int) -> bool:
    """Returns whether maps of a size get an outline: they have next to no pixels.

    One of them, such as a white 1×1, would else look as if it were not there.
    """
    return height * width < _OUTLINED


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
        strip: Pixels of the frame to which a map of few rows is drawn out downwards; 0 where maps
            have their proportions.
        band: Pixels of the frame to which a map of few columns is drawn out to the right; likewise.
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
    band: int = 0
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
            self.band or -(-self.map_width // self.shrink) * self.zoom,
        )

    @property
    def blocks(self) -> tuple[int, int]:
        """Rows and columns of a map that are averaged into one pixel of the frame."""
        return 1 if self.strip else self.shrink, 1 if self.band else self.shrink

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
    def outlined(self) -> bool:
        """Whether each tile has an outline, in the pixels around it."""
        return is_outlined(self.map_height, self.map_width)

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
        smaller = f"shown at 1/{self.shrink}" if self.shrink > 1 else ""
        if not (self.strip > self.map_height > 1 or self.band):
            return smaller
        rows, columns = self.strip // self.map_height, self.band // self.map_width
        drawn = f"columns {columns} pixels wide" if self.band else f"rows {rows} pixels high"
        return f"{drawn}, {smaller} of their length" if smaller else drawn


def paint(
    canvas: npt.NDArray[np.uint8],
    top: int,
    left: int,
    levels: npt.NDArray[np.uint8],
    mosaic: Mosaic,
) -> None:
    """Paints the levels of all maps into the canvas, each as a block of zoom x zoom pixels.

    The blocks of what is drawn out are as high or as wide as that takes.

    Args:
        canvas: uint8 (H, W); only the tiles are written to.
        top: Row of the mosaic's corner.
        left: Column of the mosaic's corner.
        levels: uint8 (C, h, w), as `shrink_maps` left the maps' size.
        mosaic: Where the tiles go.
    """
    wide = widen(levels, mosaic.tile[1] // levels.shape[2])  # (C, h, w * zoom)
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
