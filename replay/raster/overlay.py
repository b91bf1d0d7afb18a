"""A map of values over the picture that it belongs to, in colours that mean the values.

The picture lies below in gray, so that every colour is the map's; the stronger a value, the more of
its colour covers the picture. A map is enlarged to the picture's size, either bilinear, as it is
usual for class activation, or as blocks of equal pixels.
"""

from __future__ import annotations

import functools
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from replay.options import DIVERGING
from replay.raster.palette import THEMES, Range, colormap
from replay.raster.unfinite import choose_colors

USUAL = "plasma"
"""The colormap of values from zero, where no other is asked for: perceptual, and without gray."""

WAYS = ("bilinear", "nearest")

_FIRST = 0.3  # where the usual colormap begins: what is below may look gray to some eyes
_STEPS = 253  # colours: an odd number, so that the one in the middle is zero's
_NAN, _INF = 254, 255
_OPACITY = 0.85  # of the strongest value
_FULL_AT = 0.6  # of the greatest strength, from which on the opacity does not grow
_SAMPLED = 12, 16  # of so many colours of values, and of so many grays, one is looked at
_MIDDLE_GRAY = 128  # what lies below the colours in a colour bar

Levels = npt.NDArray[np.uint8]
Pixels = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float32]
_Value = TypeVar("_Value", bound=np.generic)


class OverlayColours:
    """The colour of every value over every gray.

    Those of NaN and infinity are told apart from all of these, not from the colormap alone.

    Args:
        cmap: Name of a registered matplotlib colormap; by default the usual one, or what is
            symmetric around zero.
        signed: Whether the middle of the colormap stands for zero: the strength of a value is
            then its distance from the middle of the range, else that from its low end.

    Raises:
        OptionError: No such colormap.
    """

    def __init__(self, cmap: str | None = None, signed: bool = False) -> None:
        name = cmap or (DIVERGING if signed else USUAL)
        self._whole = bool(cmap) or signed
        first = 0.0 if self._whole else _FIRST
        self.cmap, self.signed = name, signed
        share = np.linspace(0.0, 1.0, _STEPS)
        strength = np.abs(2 * share - 1) if signed else share
        opacity = _OPACITY * np.minimum(strength / _FULL_AT, 1.0)
        gray = np.arange(256.0)[None, :, None]
        every = colormap(name, round((_STEPS - 1) / (1 - first)) + 1)
        colours = every[len(every) - _STEPS :].astype(np.float64)[:, None]
        mixed = opacity[:, None, None] * colours + (1 - opacity)[:, None, None] * gray
        table = np.full((256, 256, 4), 255, np.uint8)  # by level and gray; the fourth is unused
        table[:_STEPS, :, :3] = np.rint(mixed)
        some = np.ascontiguousarray(table[: _STEPS : _SAMPLED[0], :: _SAMPLED[1], :3])
        papers = [theme.paper for theme in THEMES.values()]
        self._unfinite = choose_colors(some.reshape(-1, 3), papers)
        table[_NAN:, :, :3] = self._unfinite[:, None]
        self._table = table
        self._words = table.view(np.uint32).reshape(-1)

    def table(self, steps: int) -> Pixels:
        """Returns the colours themselves at so many equal steps, then those of NaN and infinity.

        Returns:
            uint8 (steps + 2, 3), with nothing below them.
        """
        first = 0.0 if self._whole else _FIRST
        every = colormap(self.cmap, round((steps - 1) / (1 - first)) + 1)[-steps:]
        found: Pixels = np.concatenate([every, self._unfinite])
        return found

    def bar(self, steps: int) -> Pixels:
        """Returns the colours of equal steps of the range over a middle gray, uint8 (steps, 3)."""
        at = np.rint(np.linspace(0, _STEPS - 1, steps)).astype(np.intp)
        found: Pixels = self._table[at, _MIDDLE_GRAY, :3].copy()
        return found

    def lay(
        self, values: npt.ArrayLike, gray: Pixels, shown: Range, way: str = "bilinear"
    ) -> Pixels:
        """Returns maps over a picture.

        Args:
            values: float (..., h, w), one map or several.
            gray: uint8 (H, W), the picture; see `to_gray`.
            shown: The values of both ends of the colormap; what lies beyond is cut.
            way: `bilinear` or `nearest`, how they are enlarged. NaN and infinity are always blocks.

        Returns:
            uint8 (..., H, W, 3), not contiguous.
        """
        levels = levels_over(np.asarray(values, np.float32), gray.shape[:2], shown, way)
        places = levels.astype(np.uint16)
        places <<= 8
        places |= gray
        words = self._words.take(places, mode="wrap")
        shown_pixels: Pixels = words.view(np.uint8).reshape(*words.shape, 4)[..., :3]
        return shown_pixels


def to_gray(picture: Pixels) -> Pixels:
    """Returns the brightness of a picture, uint8 (H, W, 3) to (H, W), by ITU-R BT.709."""
    total = np.zeros(picture.shape[:-1], np.uint16)
    for colour, weight in enumerate((54, 183, 19)):  # 0.2126, 0.7152, 0.0722 of 256
        total += np.multiply(picture[..., colour], weight, dtype=np.uint16)
    gray: Pixels = (total >> 8).astype(np.uint8)
    return gray


def levels_over(values: Values, size: tuple[int, int], shown: Range, way: str) -> Levels:
    """Returns the levels of maps enlarged to a size, uint8 (..., H, W).

    Args:
        values: float32 (..., h, w).
        size: Height and width.
        shown: The values of the first and of the last level.
        way: `bilinear` or `nearest`.
    """
    assert way in WAYS
    odd = ~np.isfinite(values)
    span = shown.high - shown.low
    share = (values - np.float32(shown.low)) * np.float32((_STEPS - 1) / (span if span > 0 else 1))
    if odd.any():
        share[odd] = 0.0
        kinds = np.where(np.isnan(values), _NAN, np.where(odd, _INF, 0)).astype(np.uint8)
        levels = _round(enlarge_map(share, size, way))
        np.maximum(levels, blocks(kinds, size), out=levels)
        return levels
    return _round(enlarge_map(share, size, way))


def enlarge_map(values: Values, size: tuple[int, int], way: str = "bilinear") -> Values:
    """Returns maps at another size, float32 (..., H, W).

    Bilinear is that of `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`:
    values stand for the middle of their pixels, and beyond the outermost ones for all that is
    there.

    Args:
        values: float32 (..., h, w), all finite.
        size: Height and width.
        way: `bilinear` or `nearest`.
    """
    if values.shape[-2:] == size:
        return values
    if way == "nearest":
        return blocks(values, size)
    down, across = _weights(values.shape[-2], size[0]), _weights(values.shape[-1], size[1])
    enlarged: Values = down @ (values @ across.T)
    return enlarged


def blocks(values: npt.NDArray[_Value], size: tuple[int, int]) -> npt.NDArray[_Value]:
    """Returns maps at another size, each pixel as the value that lies there; of the same type."""
    rows, columns = (
        np.minimum(np.arange(n) * have // n, have - 1)
        for n, have in zip(size, values.shape[-2:], strict=True)
    )
    return values[..., rows, :][..., columns]


def _round(share: Values) -> Levels:
    """Returns the levels next to values of 0 to the last one; what lies beyond is cut."""
    above = share + np.float32(0.5)
    np.clip(above, 0, _STEPS - 0.5, out=above)
    levels: Levels = above.astype(np.uint8)
    return levels


@functools.lru_cache(maxsize=64)
def _weights(have: int, number: int) -> Values:
    """Returns how much of each value is in each pixel of an enlarged line, float32 (number, have).

    Where a line becomes shorter, it is the mean over what a pixel covers.
    """
    if number < have:
        edges = np.linspace(0, have, number + 1)
        low, high = edges[:-1, None], edges[1:, None]
        at = np.arange(have)[None]
        covered = np.minimum(high, at + 1) - np.maximum(low, at)
        weights = np.clip(covered, 0, None) * (number / have)
    else:
        place = np.clip((np.arange(number) + 0.5) * have / number - 0.5, 0, have - 1)
        weights = np.clip(1 - np.abs(place[:, None] - np.arange(have)[None]), 0, None)
    found: Values = weights.astype(np.float32)
    found.flags.writeable = False
    return found
