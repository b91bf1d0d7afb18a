"""The first principal axes of how values spread, also of thousands of channels.

The matrix of all pairs of channels and its decomposition take time in proportion to their cube. A
block Krylov method needs products with a few vectors only.

Source: Golub and Van Loan, "Matrix Computations", fourth edition, 10.3.6, with the basis kept
orthogonal to all that was found before, and begun anew with the best of it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_WIDTH = 16  # vectors that are multiplied at once
_STEPS = 8  # products before the best of all vectors are taken
_ROUNDS = 4  # after which a spectrum without a gap is left to the decomposition of the whole
_EXACT = 1e-6  # of the largest value: how far a product may be from a multiple of its vector
_NOTHING = 1e-10  # of the largest value: what is left of a vector by rounding alone

Values = npt.NDArray[np.float64]


class Pairs:
    """How samples spread, as the matrix of all pairs of channels: for few of these.

    Args:
        channels: Their number, C.
    """

    def __init__(self, channels: int) -> None:
        self._matrix = np.zeros((channels, channels))

    def add(self, moved: Values) -> None:
        """Adds samples, float64 (C, n) of mean zero; all that are added at once have one weight."""
        products = moved @ moved.T
        self._matrix += products / (np.trace(products) or 1.0)

    @property
    def variance(self) -> float:
        """The sum over all axes."""
        return max(float(np.trace(self._matrix)), 0.0)

    def axes(self, count: int) -> tuple[Values, Values]:
        """Returns the first axes.

        Args:
            count: How many, at most C and at most 16.

        Returns:
            The variance along each, float64 (count,), the largest first, and the axes as
            orthonormal rows, float64 (count, C).
        """
        sizes, vectors = np.linalg.eigh(self._matrix)
        return sizes[::-1][:count], vectors[:, ::-1][:, :count].T


class Blocks:
    """How samples spread, without the matrix of all pairs; see `Pairs`.

    Equal samples have equal axes. The samples are kept, as float32.
    """

    def __init__(self) -> None:
        self._blocks: list[npt.NDArray[np.float32]] = []

    def add(self, moved: Values) -> None:
        """Adds samples; see `Pairs`."""
        size = float(np.linalg.norm(moved))
        self._blocks.append((moved / (size or 1.0)).astype(np.float32))

    @property
    def variance(self) -> float:
        """The sum over all axes: one for each block that is not constant."""
        return float(sum(block.any() for block in self._blocks))

    def axes(self, count: int) -> tuple[Values, Values]:
        """Returns the first axes; see `Pairs`."""
        channels = len(self._blocks[0])
        start = np.random.default_rng(0).standard_normal((channels, min(_WIDTH, channels)))
        best: Values = np.linalg.qr(start)[0]
        for _ in range(_ROUNDS):
            known, images = self._krylov(best)
            sizes, mixed = np.linalg.eigh(known.T @ images)
            sizes, mixed = sizes[::-1], mixed[:, ::-1]
            best = np.linalg.qr(known @ mixed[:, :_WIDTH])[0]
            found: Values = known @ mixed[:, :count]
            left = np.linalg.norm(images @ mixed[:, :count] - found * sizes[:count], axis=0)
            if (left <= _EXACT * abs(sizes[0])).all():
                return sizes[:count], found.T
        whole = Pairs(channels)
        for block in self._blocks:
            whole.add(block.astype(np.float64))
        return whole.axes(count)

    def _krylov(self, start: Values) -> tuple[Values, Values]:
        """Returns orthonormal vectors (C, k), some at first, and their products (C, k)."""
        newest = self._multiply(start)
        known, images = start, newest
        largest = float(np.abs(images).max(initial=0.0))
        while known.shape[1] < min(_STEPS * start.shape[1], len(start)):
            for _ in range(2):  # once is not enough where little is left
                newest = newest - known @ (known.T @ newest)
            vectors, triangle = np.linalg.qr(newest)
            vectors = vectors[:, np.abs(np.diag(triangle)) > _NOTHING * largest]
            if not vectors.shape[1]:
                break  # all products lie among the vectors that there are
            vectors = np.linalg.qr(vectors - known @ (known.T @ vectors))[0]
            newest = self._multiply(vectors)
            known = np.concatenate([known, vectors], axis=1)
            images = np.concatenate([images, newest], axis=1)
        return known, images

    def _multiply(self, vectors: Values) -> Values:
        total = np.zeros_like(vectors)
        for block in self._blocks:
            values = block.astype(np.float64)
            total += values @ (values.T @ vectors)
        return total
