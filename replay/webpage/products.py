"""Products of wide matrices, piece by piece.

A piece is so small that the library behind numpy does not start its threads for it: these wait for
each other by going round in loops, which took as much of the processors as all else of a page.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]

_MULTIPLICATIONS = 1 << 17  # of a piece; OpenBLAS takes threads from 1 << 18 on


def inner_product(left: Matrix, right: Matrix) -> Matrix:
    """Returns `left @ right.T`, float64 (M, N), of (M, K) and (N, K) with a large K."""
    piece = max(1, _MULTIPLICATIONS // max(1, len(left) * len(right)))
    total = np.zeros((len(left), len(right)))
    for start in range(0, left.shape[1], piece):
        some = slice(start, start + piece)
        total += left[:, some] @ right[:, some].T
    return total


def outer_product(left: Matrix, right: Matrix) -> Matrix:
    """Returns `left @ right`, float64 (M, N), of (M, K) and (K, N) with a large N."""
    piece = max(1, _MULTIPLICATIONS // max(1, left.size))
    total = np.empty((len(left), right.shape[1]))
    for start in range(0, right.shape[1], piece):
        np.matmul(left, right[:, start : start + piece], out=total[:, start : start + piece])
    return total
