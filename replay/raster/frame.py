"""What a film hands to an encoder: planes of palette indices with pictures in true colours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from replay.raster.mosaic import Box
from replay.raster.palette import Palette


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


@dataclass(frozen=True)
class Frame:
    """One frame: a plane of palette indices, and the input pictures that lie on it.

    Attributes:
        plane: uint8 (H, W), both even; valid until the next frame is asked for.
        pictures: The pictures; they do not overlap.
        changed: The boxes in which the plane differs from that of the frame before it, of those
            that one call of `frames` gives; None where all of it may. Boxes may overlap.
        plain: Boxes in which the plane has nothing but paper and the colormap of the maps. There
            may be more.
    """

    plane: npt.NDArray[np.uint8]
    pictures: tuple[Overlay, ...] = ()
    changed: tuple[Box, ...] | None = None
    plain: tuple[Box, ...] = ()


class FrameSource(Protocol):
    """Anything whose frames can be encoded, here or in another process; `Film` is one."""

    @property
    def palette(self) -> Palette:
        """The colours of the frames' planes."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every frame."""

    def frames(self, cells: Sequence[tuple[int, int]] | None = None) -> Iterator[Frame]:
        """Yields the frames of some (epoch, batch), or all; each is valid until the next one."""

    def findings(self) -> list[dict[tuple[int, int], str | tuple[int, int]]]:
        """Returns what was met in the frames so far: for each layer, by cell.

        A cell is an (epoch, batch). Of a frame it is what is damaged, or how many values are NaN
        and infinite.
        """

    def note_findings(self, found: list[dict[tuple[int, int], str | tuple[int, int]]]) -> None:
        """Adds what `findings` returned in another process."""
