"""What a film shows of a layer: its maps, how they changed, its kernels. Each has a mosaic.

A section paints one frame into its mosaic, and says under which range and what was not finite.
What it paints depends on the frame alone, not on what was painted before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from replay.film.facts import LayerPanel
from replay.maps.difference import Change, DifferenceScaler, Values
from replay.maps.kernels import Kernels
from replay.maps.runs import Row
from replay.maps.scaling import Levels, Scaler
from replay.maps.selection import pick
from replay.raster.frame import Overlay
from replay.raster.mosaic import blank, paint, shrink_maps
from replay.raster.palette import Palette, Range
from replay.schema import Cell

Count: TypeAlias = "tuple[int, int] | str"
"""Values that are NaN and that are infinite; in words where there is no frame to show."""

_INFINITE = 0x7C00  # a float16's bits without its sign; NaN lies above
_WITHOUT_SIGN = 0x7FFF
_NOTHING = np.empty(0, np.float16)
_NO_FRAME = "no frame in this batch"


class Section(Protocol):
    """One mosaic of a film."""

    part: LayerPanel

    def draw(
        self, plane: npt.NDArray[np.uint8], at: Cell, cell: Cell, palette: Palette
    ) -> tuple[Range | None, Count]:
        """Paints a frame with the mosaic's corner at a row and column."""

    def overlays(self, at: Cell, cell: Cell) -> Iterator[Overlay]:
        """What lies on the frame in true colours."""

    def recall(self, before: Sequence[Cell]) -> None:
        """Takes the range that it shows in a batch without a frame from those before it."""


class MapSection:
    """A layer's maps.

    Args:
        row: The layer, and the recording.
        channels: Which maps, in their order.
        scaler: Their scale.
        part: Where they go.

    Attributes:
        maps: Those of the last frame that was drawn, float16 (C, S, H, W); None if it had none.
        shown: The range of the last frame that there was.
    """

    def __init__(self, row: Row, channels: list[int], scaler: Scaler, part: LayerPanel) -> None:
        self.row, self.channels, self.scaler, self.part = row, channels, scaler, part
        self.maps: npt.NDArray[np.float16] | None = None
        self.shown: Range | None = None

    def draw(
        self, plane: npt.NDArray[np.uint8], at: Cell, cell: Cell, palette: Palette
    ) -> tuple[Range | None, Count]:
        """Paints the maps of a frame, or leaves the tiles empty."""
        maps = self.row.maps
        self.maps = self.select(cell) if maps.series.present[cell] else None
        if self.maps is None or cell in maps.damaged:
            blank(plane, *at, self.part.mosaic, palette.paper, palette.solid("faint"))
            words = _NO_FRAME if self.maps is None else "damaged"
            self.maps = None
            return self.shown, words
        levels, self.shown = self._scale(cell, self.maps)
        paint(plane, *at, levels.reshape(-1, *levels.shape[2:]), self.part.mosaic)
        finite = levels.max(initial=0) < self.scaler.count  # as is nearly always so
        return self.shown, (0, 0) if finite else count_unfinite(self.maps)

    def overlays(self, at: Cell, cell: Cell) -> Iterator[Overlay]:
        """None."""
        return iter(())

    def recall(self, before: Sequence[Cell]) -> None:
        """Looks for the last frame that there was."""
        self.shown = None
        for cell in reversed(before):
            shown = self.range_of(cell)
            if shown is not None:
                self.shown = shown
                break

    def range_of(self, cell: Cell) -> Range | None:
        """The values between which a frame is shown; None if there is none, or several ranges."""
        maps = self.row.maps
        if not maps.series.present[cell] or self.scaler.mode == "channel":
            return None
        if self.scaler.mode != "frame":  # which is known without the values
            return None if cell in maps.damaged else self.scaler.range_of(*cell, _NOTHING)
        found = self.select(cell)
        return None if cell in maps.damaged else self._scale(cell, found)[1]

    def select(self, cell: Cell) -> npt.NDArray[np.float16]:
        """The chosen maps of one frame, float16 (C, S, H, W)."""
        return pick(self.row.maps[cell], self.channels)

    def _scale(self, cell: Cell, maps: npt.NDArray[np.float16]) -> tuple[Levels, Range | None]:
        """Their levels at the size at which they are shown, and the range behind them."""
        small = shrink_maps(maps, self.part.mosaic.shrink)
        return self.scaler.levels(*cell, small), self.scaler.range_of(*cell, small)


class ChangeSection:
    """How a layer's maps have changed.

    Args:
        row: The layer, and the recording.
        channels: Which maps, in their order.
        change: Where it comes from.
        scaler: Its scale.
        part: Where it goes.
    """

    def __init__(
        self,
        row: Row,
        channels: list[int],
        change: Change,
        scaler: DifferenceScaler,
        part: LayerPanel,
    ) -> None:
        self.part = part
        self._row, self._channels, self._change, self._scaler = row, channels, change, scaler
        self._shown: Range | None = None

    def draw(
        self, plane: npt.NDArray[np.uint8], at: Cell, cell: Cell, palette: Palette
    ) -> tuple[Range | None, Count]:
        """Paints the change up to a frame, or leaves the tiles empty."""
        found = self._find(cell)
        if isinstance(found, str):
            blank(plane, *at, self.part.mosaic, palette.paper, palette.solid("faint"))
            return self._shown, found
        small: Values = shrink_maps(found, self.part.mosaic.shrink)
        levels = self._scaler.levels(*cell, small)
        self._shown = self._scaler.range_of(*cell, small)
        paint(plane, *at, levels.reshape(-1, *levels.shape[2:]), self.part.mosaic)
        return self._shown, (int(np.isnan(found).sum()), int(np.isinf(found).sum()))

    def overlays(self, at: Cell, cell: Cell) -> Iterator[Overlay]:
        """None."""
        return iter(())

    def recall(self, before: Sequence[Cell]) -> None:
        """Looks for the last change that there was."""
        self._shown = None
        for cell in reversed(before):
            found = self._find(cell)
            if not isinstance(found, str):
                small: Values = shrink_maps(found, self.part.mosaic.shrink)
                self._shown = self._scaler.range_of(*cell, small)
                break

    def _find(self, cell: Cell) -> Values | str:
        maps = self._row.maps
        earlier = self._change.earlier(cell)
        if not maps.series.present[cell]:
            return _NO_FRAME
        if earlier is None:
            return "no frame before it"
        found = self._change[cell]
        if cell in maps.damaged or earlier in maps.damaged:
            return "damaged: no difference"
        return pick(found, self._channels)


class KernelSection:
    """A layer's kernels.

    Args:
        row: The layer, and the recording.
        kernels: Where they come from.
        entries: The palette's entries of a diverging colormap, an odd number.
        part: Where they go.
    """

    def __init__(self, row: Row, kernels: Kernels, entries: range, part: LayerPanel) -> None:
        self.part = part
        self._row, self._kernels, self._entries = row, kernels, entries

    def draw(
        self, plane: npt.NDArray[np.uint8], at: Cell, cell: Cell, palette: Palette
    ) -> tuple[Range | None, Count]:
        """Paints the kernels of a frame where they are no colour pictures."""
        shown = Range(-self._kernels.reach, self._kernels.reach)
        found = self._kernels.show(cell) if self._row.maps.series.present[cell] else _NO_FRAME
        if isinstance(found, str):
            blank(plane, *at, self.part.mosaic, palette.paper, palette.solid("faint"))
            return shown, found
        if not self._kernels.coloured:
            half = len(self._entries) // 2
            levels = self._entries.start + half + np.rint((found - 0.5) * 2 * half)
            paint(plane, *at, levels.astype(np.uint8), self.part.mosaic)
        return shown, (0, 0)

    def overlays(self, at: Cell, cell: Cell) -> Iterator[Overlay]:
        """The kernels of three inputs, in their colours."""
        if not self._kernels.coloured or not self._row.maps.series.present[cell]:
            return
        found = self._kernels.show(cell)
        if not isinstance(found, str):
            pixels = np.rint(found * 255).astype(np.uint8)
            for place, kernel in enumerate(pixels):
                y, x = self.part.mosaic.corner(place)
                yield Overlay(kernel, at[0] + y, at[1] + x, self.part.mosaic.zoom)

    def recall(self, before: Sequence[Cell]) -> None:
        """Nothing to recall: one range holds for the whole run."""


def count_unfinite(maps: npt.NDArray[np.float16]) -> tuple[int, int]:
    """Numbers of NaN and of infinite values in float16 maps."""
    bits = maps.view(np.uint16) & _WITHOUT_SIGN
    if bits.max(initial=0) < _INFINITE:
        return 0, 0
    return int(np.count_nonzero(bits > _INFINITE)), int(np.count_nonzero(bits == _INFINITE))
