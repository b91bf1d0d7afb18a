"""Where things go on a figure's page: sizes in, positions in whole pixels out.

A map's pixel is always a block of equal pixels: rather than shrink maps, a page grows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from replay.schema import OptionError

HIGHEST = 5.2  # inches down of one map, at most (likewise)
_LARGEST = 2.6  # inches of one map, at most (where it need not grow to be exact)
_MOST_PIXELS = 30_000  # along one side of a page
_LEAST = 0.4  # inches of a map, for which fewer columns are chosen ...
_NUMBERED = 64  # ... where there are no more maps than these
_KERNEL = 0.3  # of a map's width
_LONG, _SHORT = 8, 64  # a map of at most so many rows that is so many times as wide is a signal
_DRAWN_OUT = 0.12, 0.3  # inches, at least, to which one row, and several, are drawn out


@dataclass(frozen=True)
class GridCells:
    """Where the maps of one batch lie: a grid of cells, one for each map.

    Attributes:
        count: Number of maps.
        columns: Maps side by side.
        zoom: Page pixels a map pixel, across and down, unless the map is drawn out.
        kernel_zoom: Page pixels a kernel value, along each side; 0 without kernels.
        map_size: (height, width) of a map on the page.
        cell_size: (height, width) of a map with its number and its kernel.
        gap: Pixels between cells.
        line: Height of the line for a map's number.
    """

    count: int
    columns: int
    zoom: int
    kernel_zoom: int
    map_size: tuple[int, int]
    cell_size: tuple[int, int]
    gap: int
    line: int

    @property
    def rows(self) -> int:
        """The number of rows."""
        return -(-self.count // self.columns)

    @property
    def width(self) -> int:
        """Width of the whole grid in pixels."""
        return self.columns * (self.cell_size[1] + self.gap) - self.gap

    @property
    def height(self) -> int:
        """Height of the whole grid in pixels."""
        return self.rows * (self.cell_size[0] + self.gap) - self.gap

    def place(self, index: int) -> tuple[int, int]:
        """Returns (x, y) of a cell's upper left corner in the grid."""
        row, column = divmod(index, self.columns)
        return column * (self.cell_size[1] + self.gap), row * (self.cell_size[0] + self.gap)

    @property
    def number_at(self) -> int:
        """Pixels from a cell's upper edge to its number."""
        return self.cell_size[0] - self.line

    @property
    def kernel_at(self) -> int:
        """Pixels from a cell's left edge to its kernel."""
        return self.map_size[1] + max(2, self.gap // 2)


def arrange(
    count: int,
    size: tuple[int, int],
    max_width: int,
    batches: int,
    dpi: int,
    line: int,
    kernel: tuple[int, int] | None = None,
    unit: int = 1,
    columns: int | None = None,
) -> GridCells:
    """Returns the arrangement whose page comes closest to a pleasant shape.

    Args:
        count: Maps of one batch.
        size: (height, width) of a map, in its own pixels.
        max_width: Page pixels across; exceeded only where maps would have to be shrunk.
        batches: Batches under one another.
        dpi: Pixels an inch.
        line: Height of a line for the maps' numbers, in pixels.
        kernel: (height, width) of a kernel, to leave space for it.
        unit: So many maps belong together: a row holds a multiple of them, or they fill rows.
        columns: Maps side by side, if that is settled.
    """
    if columns is not None:
        return _with_columns(columns, count, size, max_width, dpi, line, kernel)
    shape = 0.72 if batches == 1 else 1.1  # height over width
    found: tuple[float, GridCells] | None = None
    for number in _candidates(count, unit):
        grid = _with_columns(number, count, size, max_width, dpi, line, kernel)
        ratio = batches * grid.height / grid.width
        growth = max(0.0, math.log(grid.width / max_width))
        empty = (grid.rows * number - count) / count
        tiny = count <= _NUMBERED and number > 1 and grid.cell_size[1] < _LEAST * dpi
        score = abs(math.log(ratio / shape)) + 2 * growth + 0.8 * empty + 2 * tiny
        if found is None or score < found[0]:
            found = score, grid
    assert found is not None, "at least one map"
    return found[1]


def is_signal(size: tuple[int, int]) -> bool:
    """Returns whether a map of so many rows and columns is far longer than it is wide."""
    short, long = sorted(size)
    return short < long if short == 1 else long >= _LONG * short and short <= _SHORT


def draw_out(size: tuple[int, int], zoom: int, dpi: int, widest: int) -> tuple[int, int]:
    """Returns the height and the width to which a pixel of a map is enlarged.

    Both are the zoom, but for maps that are far longer than they are wide: these are drawn out like
    signals.

    Args:
        size: (height, width) of a map, in its own pixels.
        zoom: Page pixels a map pixel.
        dpi: Pixels an inch.
        widest: Page pixels that a map may have across.
    """
    if not is_signal(size):
        return zoom, zoom
    short = min(size)
    enlarged = max(zoom, -(-round(_DRAWN_OUT[short > 1] * dpi) // short))
    if size[0] < size[1]:
        return enlarged, zoom
    return zoom, max(zoom, min(enlarged, widest // size[1]))


def too_large(width: int, height: int) -> bool:
    """Returns whether a page has more pixels along a side than drawing can bear."""
    return max(width, height) > _MOST_PIXELS


def check_size(what: str, width: int, height: int, instead: str) -> None:
    """Makes sure that drawing can bear a page.

    Args:
        what: What it is, `sheet`, say.
        width: Pixels.
        height: Pixels.
        instead: What to choose fewer or less of.

    Raises:
        OptionError: It is too large.
    """
    if too_large(width, height):
        raise OptionError(
            f"a {what} of {width:,} by {height:,} pixels is too large; choose fewer {instead}"
        )


def row_label(channels: Sequence[int]) -> str:
    """Returns the label of a row whose maps are too small for a number each: `32–63`."""
    first, last = channels[0], channels[-1]
    whole = list(channels) == list(range(first, last + 1)) and last > first
    return f"{first}–{last}" if whole else f"{first} …"


def _candidates(count: int, unit: int) -> list[int]:
    numbers = list(range(1, count + 1))
    if count > 64:
        root = math.sqrt(count)
        numbers = [n for n in numbers if root // 3 <= n <= root * 4 and n % 4 == 0]
    return [n for n in numbers if n % unit == 0 or unit % n == 0] or [unit]


def _with_columns(
    columns: int,
    count: int,
    size: tuple[int, int],
    max_width: int,
    dpi: int,
    line: int,
    kernel: tuple[int, int] | None,
) -> GridCells:
    gap = max(2, round(0.03 * dpi))
    each = (max_width - (columns - 1) * gap) / columns
    if kernel is not None:
        each = (each - gap / 2) / (1 + _KERNEL)
    strip = size[0] < size[1] and is_signal(size)
    zoom = max(1, (int(each) if strip else min(int(each), round(_LARGEST * dpi))) // size[1])
    height, width = size[0] * zoom, size[1] * zoom
    # A very tall map may not make a page of its own.
    while zoom > 1 and height > HIGHEST * dpi:
        zoom -= 1
        height, width = size[0] * zoom, size[1] * zoom
    down, across = draw_out(size, zoom, dpi, int(each))
    height, width = size[0] * down, size[1] * across
    kernel_zoom, cell_width = 0, width
    if kernel is not None:
        kernel_zoom = max(1, min(round(_KERNEL * width / kernel[1]), height // kernel[0]))
        cell_width = width + max(2, gap // 2) + kernel_zoom * kernel[1]
    return GridCells(
        count=count,
        columns=columns,
        zoom=zoom,
        kernel_zoom=kernel_zoom,
        map_size=(height, width),
        cell_size=(max(height, kernel_zoom * (kernel[0] if kernel else 0)) + line, cell_width),
        gap=gap,
        line=line,
    )
