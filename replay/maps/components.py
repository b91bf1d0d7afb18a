"""The channels of a layer as three colours: its first three principal components.

One basis holds for the whole run: it is found once, from frames all over the run, so that a colour
means the same in every frame, in every figure, and in each part of a film that several processes
render. What is kept does not grow with the recording.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from replay.maps.axes import spread
from replay.maps.principal_axes import Blocks, Pairs
from replay.schema import Cell

_FRAMES, _POSITIONS = 24, 400  # at most so many frames, and positions of each, are looked at
_PERCENTILES = 1.0, 99.0  # of a component's values in a frame
_OF_FRAMES = 25.0, 75.0  # of those of all frames: the ends of its colour
_COLOURS = ("red", "green", "blue")
_CLEARLY = 1e-6  # of the largest possible: what is nearer to zero has no sign
_MIDDLE = 128
_PAIRS = 512  # channels of which the matrix of all pairs is made
_GOLDEN = 0.6180339887498949  # its multiples, modulo one, fall into no pattern of rows and columns

Maps = npt.NDArray[np.floating]
Pixels = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Components:
    """A basis, and which colours the values along it have.

    Attributes:
        mean: The mean of each channel, float32 (C,).
        basis: A row for each component, orthonormal, float32 (k, C), k being 3 or fewer.
        low: The value of each component that has no light, float32 (k,).
        high: The value of each component at full light, float32 (k,).
        shares: Which share of the variance each component has, k numbers from 0 to 1.
    """

    mean: npt.NDArray[np.float32]
    basis: npt.NDArray[np.float32]
    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]
    shares: tuple[float, ...]

    @property
    def in_words(self) -> str:
        """What the colours stand for: `red 41, green 18, blue 9 %` of the variance."""
        if not self.shares:
            return "no finite value"
        if not any(self.shares):
            return "constant"
        shares = [_percent(share) for share in self.shares]
        if len(shares) == 1:
            return f"brightness {shares[0]} %"
        parts = (f"{name} {share}" for name, share in zip(_COLOURS, shares, strict=False))
        return f"{', '.join(parts)} %"

    def values(self, maps: Maps) -> npt.NDArray[np.float32]:
        """Returns the components of every position, (C, ...) to float32 (k, ...)."""
        flat = maps.reshape(len(maps), -1).astype(np.float32)
        found = self.basis @ (flat - self.mean[:, None])
        return found.reshape(len(found), *maps.shape[1:])

    def colours(self, maps: Maps, odd: Sequence[int] = (0, 0, 0)) -> Pixels:
        """Returns a frame in colours, (C, H, W) to uint8 (H, W, 3).

        Args:
            maps: What the layer put out.
            odd: Red, green and blue of positions where a value is NaN or infinite.
        """
        finite = np.isfinite(maps).all(axis=0)
        pixels = np.full((*maps.shape[1:], 3), _MIDDLE, np.uint8)
        if len(self.basis):
            values = self.values(np.where(finite, maps, 0))
            span = self.high - self.low
            factor = np.where(span > 0, 255 / np.where(span > 0, span, 1), 0)
            offset = np.where(span > 0, -self.low * factor, _MIDDLE)
            levels = values * factor[:, None, None] + offset[:, None, None]
            rounded = (np.clip(levels, 0, 255) + 0.5).astype(np.uint8)
            pixels[..., : len(rounded)] = np.moveaxis(rounded, 0, -1)
            if len(rounded) == 1:  # one value has no hue
                pixels[...] = rounded[0][..., None]
        pixels[~finite] = odd
        return pixels


def find_components(
    read: Callable[[Cell], Maps], cells: Sequence[Cell], *, frames: int = _FRAMES
) -> Components:
    """Returns the basis of a layer.

    It is that of how the positions of a frame differ, not of how frames do: else the first colour
    would go to what grows throughout a training. Each frame counts alike, however large its values.
    The frames that are looked at are evenly spaced, the first and the last among them; the
    positions of each are all over it. Those with a value that is NaN or infinite are left out. A
    component's sign is that of the sum of the cubes of its parts, which rounding does not change.

    Args:
        read: Returns a frame, (C, ...); always of the same C.
        cells: The (epoch, batch) of all frames of the run, also of those that are not shown.
        frames: At most so many are looked at.

    Raises:
        ValueError: There is no frame.
    """
    chosen = spread(cells, frames)
    if not chosen:
        raise ValueError("components of no frame")
    totals, number = np.zeros(0), 0
    spread_of: Pairs | Blocks | None = None
    for sample in _samples(read, chosen):
        if spread_of is None:
            totals = np.zeros(len(sample))
            spread_of = Pairs(len(sample)) if len(sample) <= _PAIRS else Blocks()
        if sample.size:
            spread_of.add(sample - sample.mean(axis=1, keepdims=True))
            totals += sample.sum(axis=1)
            number += sample.shape[1]
    centre = (totals / max(number, 1)).astype(np.float32)
    if not number or spread_of is None:
        none = np.zeros(0, np.float32)
        return Components(centre, np.zeros((0, len(centre)), np.float32), none, none, ())
    sizes, axes = spread_of.axes(min(3, len(centre)))
    axes, variance = _with_signs(axes), spread_of.variance
    shares = [max(float(size), 0.0) / variance if variance > 0 else 0.0 for size in sizes]
    bounds = _ends(_samples(read, chosen), axes, centre.astype(np.float64))
    low, high = (end.astype(np.float32) for end in bounds)
    return Components(centre, axes.astype(np.float32), low, high, tuple(shares))


def _samples(read: Callable[[Cell], Maps], cells: Iterable[Cell]) -> Iterable[Values]:
    """Yields float64 (C, n) of each frame: positions all over it whose values are all finite."""
    for cell in cells:
        maps = read(cell)
        flat = maps.reshape(len(maps), -1)
        count = flat.shape[1]
        if count > _POSITIONS:
            flat = flat[:, (np.arange(_POSITIONS) * _GOLDEN % 1 * count).astype(np.intp)]
        yield flat[:, np.isfinite(flat).all(axis=0)].astype(np.float64)


def _with_signs(basis: Values) -> Values:
    """Returns the rows with the sign that the rule gives them."""
    found: Values = basis.copy()
    for row in found:
        rules = (np.power(row, 3).sum(), row.sum(), row[np.argmax(np.abs(row) > 1e-3)])
        sign = next((rule for rule in rules if abs(rule) > _CLEARLY), 1.0)
        row *= np.sign(sign)
    return found


def _ends(samples: Iterable[Values], basis: Values, centre: Values) -> tuple[Values, Values]:
    """Returns the ends of the colour of each component, two of (k,).

    They are such that three quarters of the frames lie within: a few frames of an unstable
    training may have values a hundred times as large.
    """
    each, most = [], 0.0
    for sample in samples:
        if sample.size:
            values = basis @ (sample - centre[:, None])
            most = max(most, float(np.abs(values).max()))
            each.append(np.percentile(values, _PERCENTILES, axis=1))
    low, high = (
        np.percentile([ends[place] for ends in each], percent, axis=0)
        for place, percent in enumerate(_OF_FRAMES)
    )
    # What rounding alone has left of a component without any variance is none.
    flat = high - low <= _CLEARLY * max(most, float(np.abs(centre).max()))
    return np.where(flat, 0.0, low), np.where(flat, 0.0, high)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}" if share >= 0.01 or share == 0 else "under 1"
