"""Where the tokens of an image stand in it: the tokens before them, and their rows and columns.

The one place where that is told from their number, for what records and for what shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

PREFIXES = (0, 1, 2, 4, 5, 8, 9, 16, 17)
"""Tokens before those of the image, as far as that is guessed: none, a class token, one for a
teacher beside it, and 4, 8 or 16 registers with a class token or without."""


NOWHERE = (0, 0)
"""The rows and columns of tokens that are known to fill no grid of the image."""


@dataclass(frozen=True)
class TokenGrid:
    """The places of an image's tokens.

    Attributes:
        prefix: Tokens before them: the class token, registers.
        rows: Rows of tokens.
        columns: Tokens in a row.
    """

    prefix: int
    rows: int
    columns: int

    def token(self, row: int, column: int) -> int:
        """Returns the number of the token at a place; negative places count from the end.

        Raises:
            IndexError: There is no such place.
        """
        for place, count in ((row, self.rows), (column, self.columns)):
            if not -count <= place < count:
                raise IndexError
        return self.prefix + row % self.rows * self.columns + column % self.columns

    def place(self, token: int) -> tuple[int, int] | None:
        """Returns row and column of a token; None of one that has no place in the image."""
        at = token - self.prefix
        return divmod(at, self.columns) if 0 <= at < self.rows * self.columns else None


def find_grid(
    tokens: int,
    recorded: tuple[int, int] | None = None,
    image: tuple[int, int] | None = None,
) -> TokenGrid | None:
    """Returns where so many tokens stand in the image; None where that cannot be told.

    What is recorded holds if it fits. Otherwise it is the grid of the image's proportions that has
    the fewest tokens before it, then one that whole patches of the image make.

    Args:
        tokens: Their number, those before the image's included.
        recorded: Rows and columns, as the file has them; `NOWHERE` where there are none.
        image: Height and width of the input picture; None without one.
    """
    if recorded == NOWHERE:
        return None
    if recorded is not None:
        rows, columns = recorded
        if rows > 0 and columns > 0 and rows * columns <= tokens:
            return TokenGrid(tokens - rows * columns, rows, columns)
    if image is None or min(image) < 1:
        return None
    for prefix in PREFIXES:
        places = grid_in_proportion(tokens - prefix, image)
        if places is not None and tokens > 2 * prefix:  # the image has most of the tokens
            return TokenGrid(prefix, *places)
    by_patches = {rows * columns: (rows, columns) for rows, columns in _patches(*image)}
    for prefix in PREFIXES:
        if tokens - prefix in by_patches and tokens > 2 * prefix:
            return TokenGrid(prefix, *by_patches[tokens - prefix])
    return None


def grid_in_proportion(tokens: int, image: tuple[int, int]) -> tuple[int, int] | None:
    """Returns the rows and columns, 2 or more, of so many tokens that have an image's proportions.

    None where there are none.

    Args:
        tokens: Their number, without those before the image's.
        image: Height and width of the image; 1 and 1 for a square.
    """
    if min(image) < 1:
        return None
    rows = math.isqrt(max(tokens, 0) * image[0] // image[1])
    if rows < 2 or tokens % rows or rows * image[1] != tokens // rows * image[0]:
        return None
    return (rows, tokens // rows) if tokens // rows >= 2 else None


def _patches(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Yields the grids, 2 by 2 or more, that square patches make, the rest left out."""
    for side in range(1, min(height, width, 1 << 12) // 2 + 1):
        yield height // side, width // side
