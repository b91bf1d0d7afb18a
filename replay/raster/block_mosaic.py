"""A mosaic of blocks, one for each image: a text at the left, and the image's tiles beside it.

conv1    conv2              conv1    conv2        the title of each column of tiles
cat   [tile]   [tile]       dog   [tile]   [tile]
0.93   0.4      1.2         0.51   0.7      0.9   what is written below a tile
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from replay.raster.arrangement import Space
from replay.raster.mosaic import Box, Mosaic
from replay.raster.text import height_of
from replay.raster.widgets import SMALL

HEAD_WIDTH = 132  # pixels: the text at the left of a block
HEAD_LINES = 3
LINE = height_of(SMALL) + 2
LEAST_TILE = 44
"""Pixels of the shorter side of a tile: of what would be smaller, rather less is shown."""

_FEWEST = 2  # tiles of a block: an image and what is shown of it
_APART = 28  # pixels between two blocks side by side
_HIGHEST = 680  # pixels: the height beyond which a tile gains nothing


@dataclass(frozen=True)
class BlockMosaic(Mosaic):
    """Where each tile of each block goes; the tiles of a block are numbered from left to right.

    Attributes:
        each: Tiles of a block.
        across: Blocks side by side.
        head: Pixels of the text at the left of a block.
        title: Rows above the first row of blocks.
        below: Rows below a tile.
    """

    each: int = 1
    across: int = 1
    head: int = 0
    title: int = 0
    below: int = 0

    @property
    def rows(self) -> int:
        """The number of rows of blocks."""
        return -(-self.count // (self.each * self.across))

    @functools.cached_property
    def pitch(self) -> tuple[int, int]:
        """Pixels from one block to the one below, and from one tile to the one on the right."""
        least = HEAD_LINES * LINE if self.head else 0
        return max(self.tile[0] + self.below, least) + self.gap, self.tile[1] + self.gap

    @property
    def block_width(self) -> int:
        """Width of a block, its text included."""
        return self.head + self.each * self.pitch[1] - self.gap

    @property
    def width(self) -> int:
        """Width of all blocks."""
        return self.across * (self.block_width + _APART) - _APART

    @property
    def height(self) -> int:
        """Height of all blocks, titles included."""
        return self.title + self.rows * self.pitch[0] - self.gap

    @property
    def empty(self) -> int:
        """Blocks that the last row has space for."""
        return self.rows * self.across - self.count // self.each

    def block_corner(self, block: int) -> tuple[int, int]:
        """Returns row and column of a block's first pixel, from the mosaic's corner."""
        row, column = divmod(block, self.across)
        return self.title + row * self.pitch[0], column * (self.block_width + _APART)

    def corner(self, place: int) -> tuple[int, int]:
        """Returns row and column of a tile's first pixel, from the mosaic's corner."""
        block, tile = divmod(place, self.each)
        top, left = self.block_corner(block)
        return top, left + self.head + tile * self.pitch[1]

    def boxes(self, top: int, left: int) -> list[Box]:
        """Returns what each tile covers of a canvas, if the mosaic's corner is at a place."""
        height, width = self.tile
        corners = (self.corner(place) for place in range(self.count))
        return [(top + y, left + x, top + y + height, left + x + width) for y, x in corners]


def arrange_blocks(
    blocks: int,
    each: int,
    size: tuple[int, int],
    space: Space,
    *,
    captions: bool = True,
    zoom: int | None = None,
    columns: int | None = None,
    values: bool = True,
) -> BlockMosaic:
    """Returns the mosaic whose tiles are the largest that fit a space; perhaps of fewer blocks.

    Args:
        blocks: How many there are, at least 1. Of those for which there is no space at a size
            that shows something, the first ones are shown.
        each: Tiles of a block.
        size: Height and width of the picture of a tile.
        space: The space that there is; what was asked for may exceed its width. Where a block
            alone does, it has fewer tiles, the first ones.
        captions: Whether there are texts.
        zoom: Pixels for a pixel of a picture, if it is not to be chosen.
        columns: Blocks side by side, if that is not to be chosen.
        values: Whether there is a text below each tile.
    """
    plain = BlockMosaic(
        *(blocks * each, each, *size),
        numbers="none",
        each=each,
        head=HEAD_WIDTH if captions else 0,
        title=LINE + 2 if captions else 0,
        below=LINE if captions and values else 0,
    )
    sizes = [(zoom, 1)] if zoom is not None else list(_sizes(size, space))
    for zoom_, shrink in sizes:
        found = _fitting(replace(plain, zoom=zoom_, shrink=shrink), blocks, space, columns)
        if found:
            return min(found, key=lambda mosaic: (mosaic.empty, mosaic.across))
    smallest = replace(plain, zoom=sizes[-1][0], shrink=sizes[-1][1])
    wide = min(columns or 1, blocks)
    beside = (space.width + _APART) // wide - _APART - smallest.head + smallest.gap
    smallest = replace(smallest, each=min(each, max(_FEWEST, beside // smallest.pitch[1])))
    across = columns or max(1, (space.width + _APART) // (smallest.block_width + _APART))
    down = max(1, (space.height - smallest.title + smallest.gap) // smallest.pitch[0])
    return replace(smallest, across=across, count=min(blocks, across * down) * smallest.each)


def make_smaller(mosaic: BlockMosaic, share: float) -> BlockMosaic:
    """Returns a mosaic whose tiles have about a share of their size."""
    size = share * mosaic.zoom / mosaic.shrink
    zoom, shrink = (max(1, round(size)), 1) if size >= 0.75 else (1, round(1 / size))
    return replace(mosaic, zoom=zoom, shrink=shrink)


def _fitting(
    mosaic: BlockMosaic, blocks: int, space: Space, columns: int | None
) -> list[BlockMosaic]:
    """Returns those of a size that fit, with one number of blocks side by side or another."""
    numbers = [min(columns, blocks)] if columns is not None else range(1, blocks + 1)
    candidates = (replace(mosaic, across=across) for across in numbers)
    return [m for m in candidates if m.width <= space.width and m.height <= space.height]


def _sizes(size: tuple[int, int], space: Space) -> Iterator[tuple[int, int]]:
    """Yields (zoom, shrink) from the largest down to the smallest at which a tile shows much."""
    most = min(space.width // size[1], max(1, min(space.height, _HIGHEST) // size[0]))
    short = min(size)
    for zoom in range(max(1, most), 0, -1):
        if zoom == 1 or zoom * short >= LEAST_TILE:
            yield zoom, 1
    for shrink in range(2, short // LEAST_TILE + 1):
        yield 1, shrink
