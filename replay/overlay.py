"""A picture in true colours that lies on a frame of palette indices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Overlay:
    """A picture in true colours that lies on a frame.

    Attributes:
        pixels: uint8 (h, w, 3), before enlarging.
        top: Row of the picture.
        left: Column of the picture.
        zoom: Pixels, in each direction, that a pixel of the picture becomes.
    """

    pixels: npt.NDArray[np.uint8]
    top: int
    left: int
    zoom: int
