"""How a row of tokens lies in the image: rows, columns and what stands before them."""

from __future__ import annotations

_MOST_BEFORE = 8  # class tokens, those of distillation, and registers


def token_grid(tokens: int, height: int, width: int) -> tuple[int, int] | None:
    """Finds the rows and columns of the patches that an image was cut into.

    The patches are squares of whole pixels, and as few tokens as can be stand before theirs.

    Args:
        tokens: The number of tokens, with those before the patches'.
        height: The image's height, in pixels.
        width: The image's width, in pixels.

    Returns:
        Rows and columns; None where no patches give so many tokens.
    """
    grids = {(height // side, width // side) for side in range(1, min(height, width) + 1)}
    fitting = [
        (tokens - rows * columns, rows, columns)
        for rows, columns in grids
        if rows * columns > 1 and 0 <= tokens - rows * columns <= _MOST_BEFORE
    ]
    if not fitting:
        return None
    _, rows, columns = min(fitting)
    return rows, columns
