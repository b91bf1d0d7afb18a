"""Maps in steps as fine as a screen needs, and back to the levels of a colormap.

Each map of a frame is stored in whole steps from its smallest value. A step is the 253rd part of
the narrowest range under which the page shows the map: its own, or the adaptive one of its channel.
So the maps have 8 bits under every range that the page offers, and more under a wider one. For any
range, the level of the colormap follows from the stored level (`color_levels`), in float64
arithmetic that a browser repeats to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.maps.percentiles import Bounds
from replay.maps.scaling import Levels
from replay.raster.palette import Range
from replay.webpage.plane_codec import HIGHEST
from replay.webpage.wavelet import Planes

COUNT = 254  # levels of a colormap for the values of a map
NAN, INF = COUNT, COUNT + 1  # as in `scaling.table`


def widen(shown: Range) -> Range:
    """Returns the range made symmetric around zero."""
    reach = max(abs(shown.low), abs(shown.high))
    return Range(-reach, reach) if reach > 0 else Range(-1.0, 1.0)


@dataclass(frozen=True)
class StoredSteps:
    """How the maps of a frame are stored.

    Attributes:
        low: float64 (C,), the value of the level 0 of each map.
        step: float64 (C,), by how much a level is more than the one before.
        highest: int32 (C,), the level of each map's largest value.
    """

    low: npt.NDArray[np.float64]
    step: npt.NDArray[np.float64]
    highest: Planes

    @classmethod
    def of(cls, bounds: npt.NDArray[Any], extremes: npt.NDArray[Any]) -> StoredSteps:
        """Returns them, from numbers that have been rounded to float32, as the page has them.

        Args:
            bounds: (C, 2), the adaptive range of each channel.
            extremes: (C, 2), smallest and largest finite value of each map; NaN where none is.
        """
        ends = np.where(np.isfinite(extremes), extremes, 0.0).astype(np.float32).astype(np.float64)
        low, own = ends[:, 0], ends[:, 1] - ends[:, 0]
        adaptive = np.diff(np.asarray(bounds).astype(np.float32).astype(np.float64))[:, 0]
        width = np.where((adaptive > 0) & (adaptive < own), adaptive, own)
        step = np.where(width > 0, width, 1.0) / (COUNT - 1)
        highest = np.minimum(np.floor(own / step + 0.5), HIGHEST)
        return cls(low, step, highest.astype(np.int32))

    def quantize(self, maps: npt.NDArray[np.float16]) -> tuple[Planes, Levels | None]:
        """Returns maps as levels, and where they are not finite.

        Args:
            maps: float16 (C, H, W).

        Returns:
            int32 (C, H, W), and uint8 of that shape: 1 for NaN, 2 for infinity; None where all
            values are finite.
        """
        values = maps.astype(np.float64)
        finite = np.isfinite(values)
        odd = None
        if not finite.all():
            odd = np.where(finite, 0, np.where(np.isnan(values), 1, 2)).astype(np.uint8)
            values = np.where(finite, values, self.low[:, None, None])
        values -= self.low[:, None, None]
        values /= self.step[:, None, None]
        values += 0.5
        np.clip(np.floor(values, out=values), 0, self.highest[:, None, None], out=values)
        return values.astype(np.int32), odd

    def values(self, levels: Planes) -> npt.NDArray[np.float64]:
        """Returns the values that levels stand for, float64 of their shape."""
        found: npt.NDArray[np.float64] = levels * self.step[:, None, None]
        found += self.low[:, None, None]
        return found

    def expect(self, values: npt.NDArray[np.float64]) -> Planes:
        """Returns the levels that these values would have, were there no end to them."""
        levels = values - self.low[:, None, None]
        levels /= self.step[:, None, None]
        levels += 0.5
        np.clip(np.floor(levels, out=levels), -2 * HIGHEST, 2 * HIGHEST, out=levels)
        return levels.astype(np.int32)


def color_levels(levels: Planes, odd: Levels | None, stored: StoredSteps, shown: Bounds) -> Levels:
    """Returns the level of the colormap for each pixel, uint8 (C, H, W).

    `floor((value - low) / (high - low) * 253 + 0.5)`, cut to 0..253; 254 for NaN, 255 for infinity.

    Args:
        levels: As stored.
        odd: Where NaN and infinity are.
        stored: How they are stored.
        shown: (C, 2), the range of each channel.
    """
    low, high = shown[:, 0, None, None], shown[:, 1, None, None]
    place = np.floor((stored.values(levels) - low) / (high - low) * (COUNT - 1) + 0.5)
    found = np.clip(place, 0, COUNT - 1).astype(np.uint8)
    if odd is not None:
        found[odd > 0] = odd[odd > 0] + (NAN - 1)
    return found
