"""What a film shows of a layer: its maps, how they changed, its kernels. Each has a mosaic.

A section paints one frame into its mosaic, and says under which range and what was not finite.
What it paints depends on the frame alone, not on what was painted before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from replay.maps.axes import select_channels, shrink_maps
from replay.maps.difference import Change, DifferenceScaler, Values
from replay.maps.kernels import Kernels
from replay.maps.runs import Count, LayerPanel, Row
from replay.maps.scaling import Levels, Scaler
from replay.maps.unfinite import count_unfinite
from replay.raster.frame import Overlay
from replay.raster.mosaic import blank, paint
from replay.raster.palette import Palette, Range
from replay.raster.tile_captions import Gains
from replay.schema import Cell

_NO_FRAME = "no frame in this batch"
_NOTHING = np.empty(0, np.float16)


class Section(Protocol):
    """One mosaic of a film.

    Attributes:
        panel: Where it goes, and what is written about it.
        gains: How strong the channels of the last frame are; None where that is not shown.
    """

    panel: LayerPanel
    gains: Gains | None

    def draw(
        self, plane: npt.NDArray[np.uint8], corner: Cell, cell: Cell, palette: Palette
    ) -> tuple[Range | None, Count]:
        """Paints a frame into the mosaic.

        Args:
            plane: uint8 (H, W), palette indices; painted on.
            corner: Row and column of the mosaic.
            cell: The (epoch, batch) of the frame.
            palette: What the indices mean.

        Returns:
            The range under which it is shown, None where there is none or each channel has its
            own; and what is not finite.
        """

    def overlays(self, corner: Cell, cell: Cell) -> Iterator[Overlay]:
        """Yields what lies on the mosaic in true colours."""

    def recall(self, before: Sequence[Cell]) -> None:
        """Finds the range that is shown in a batch without a frame: that of the last one before.

        Args:
            before: The (epoch, batch) of the frames before the first one that will be drawn.
        """


class MapSection:
    """A layer's maps.

    Args:
        row: The layer, and the recording.
        channels: Which maps, in their order.
        scaler: Their scale.
        panel: Where they go.

    Attributes:
        maps: Those of the last frame that was drawn, float16 (C, S, H, W); None if it had none.
        shown: The range of the last frame that there was.
        gains: How strong its channels are in that frame, where each map has a range of its own.
    """

    def __init__(self, row: Row, channels: list[int], scaler: Scaler, panel: LayerPanel) -> None:
        self.row, self.channels, self.scaler, self.panel = row, channels, scaler, panel
        self.maps: npt.NDArray[np.float16] | None = None
        self.shown: Range | None = None
        self.gains: Gains | None = None

    def draw(
        self, plane: npt.NDArray[np.uint8], corner: Cell, cell: Cell, palette: Palette
    ) -> tuple[Range | None, Count]:
        """Paints the maps of a frame, or leaves the tiles empty; see `Section`."""
        maps = self.row.maps
        self.maps = self.select(cell) if maps.series.present[cell] else None
        if self.maps is None or cell in maps.damaged:
            blank(plane, *corner, self.panel.mosaic, palette.paper, palette.solid("faint"))
            reason = _NO_FRAME if self.maps is None else "damaged"
            self.maps = self.gains = None
            return self.shown_values(), reason
        levels, self.shown = self._scale(cell, self.maps)
        paint(plane, *corner, levels.reshape(-1, *levels.shape[2:]), self.panel.mosaic)
        finite = levels.max(initial=0) < self.scaler.count  # as is nearly always so
        maps.counts[cell] = found = (0, 0) if finite else count_unfinite(self.maps)
        return self.shown_values(), maps.series.remark(cell) or found if finite else found

    def is_plain(self, count: Count) -> bool:
        """Returns whether the last frame has nothing but colours of the colormap."""
        has_colours = count == (0, 0) or (isinstance(count, str) and self.maps is not None)
        return has_colours and not self.panel.mosaic.outlined

    def overlays(self, corner: Cell, cell: Cell) -> Iterator[Overlay]:
        """Yields nothing: maps are painted in colours of the palette."""
        return iter(())

    def recall(self, before: Sequence[Cell]) -> None:
        """Finds the range of the last frame that there was; see `Section`."""
        ranges = (self.range_of(cell) for cell in reversed(before))
        self.shown = next((shown for shown in ranges if shown is not None), None)

    def range_of(self, cell: Cell) -> Range | None:
        """Returns the values between which a frame is shown; None without one, or with several."""
        maps = self.row.maps
        if not maps.series.present[cell] or self.scaler.per_channel:
            return None
        if self.scaler.mode != "frame":  # which is known without the values
            return None if cell in maps.damaged else self.scaler.range_of(*cell, _NOTHING)
        found = self.select(cell)
        return None if cell in maps.damaged else self._scale(cell, found)[1]

    def select(self, cell: Cell) -> npt.NDArray[np.float16]:
        """Returns the chosen maps of one frame, float16 (C, S, H, W)."""
        return select_channels(self.row.maps[cell], self.channels)

    def shown_values(self) -> Range | None:
        """Returns the range of the last frame that there was, in what its values stand for."""
        return self.shown and self.shown.times(self.row.maps.series.unit)

    def _scale(self, cell: Cell, maps: npt.NDArray[np.float16]) -> tuple[Levels, Range | None]:
        """Returns their levels at the size at which they are shown, and the range behind them."""
        small = shrink_maps(maps, self.panel.mosaic.blocks)
        self.scaler.measure(*cell, maps)
        self.gains = gains_at(self.scaler, cell)
        return self.scaler.levels(*cell, small), self.scaler.range_of(*cell, small)


def gains_at(scaler: Scaler, cell: Cell) -> Gains | None:
    """Returns how strong the channels of a frame are; None where the scale does not tell."""
    shown = scaler.channel_bounds(*cell)
    return None if shown is None else Gains(shown.gain, shown.constant, shown.faint)


class ChangeSection:
    """How a layer's maps have changed.

    Args:
        row: The layer, and the recording.
        channels: Which maps, in their order.
        change: Where it comes from.
        scaler: Its scale.
        panel: Where it goes.
    """

    gains: Gains | None = None

    def __init__(
        self,
        row: Row,
        channels: list[int],
        change: Change,
        scaler: DifferenceScaler,
        panel: LayerPanel,
    ) -> None:
        self.panel = panel
        self._row, self._channels, self._change, self._scaler = row, channels, change, scaler
        self._shown: Range | None = None

    def draw(
        self, plane: npt.NDArray[np.uint8], corner: Cell, cell: Cell, palette: Palette
    ) -> tuple[Range | None, Count]:
        """Paints the change up to a frame, or leaves the tiles empty; see `Section`."""
        values = self._find(cell)
        unit = self._row.maps.series.unit
        if isinstance(values, str):
            blank(plane, *corner, self.panel.mosaic, palette.paper, palette.solid("faint"))
            return self._shown and self._shown.times(unit), values
        self._scaler.measure(*cell, values)
        self._shown = self._scaler.range_of(*cell, values)
        small: Values = shrink_maps(values, self.panel.mosaic.blocks)
        levels = self._scaler.levels(*cell, small)
        paint(plane, *corner, levels.reshape(-1, *levels.shape[2:]), self.panel.mosaic)
        shown = self._shown and self._shown.times(unit)
        nan, inf = count_unfinite(values)
        return shown, (nan, inf) if nan or inf else self._change.remark(cell) or (0, 0)

    def overlays(self, corner: Cell, cell: Cell) -> Iterator[Overlay]:
        """Yields nothing: changes are painted in colours of the palette."""
        return iter(())

    def recall(self, before: Sequence[Cell]) -> None:
        """Finds the range of the last change that there was; see `Section`."""
        self._shown = None
        for cell in reversed(before):
            values = self._find(cell)
            if not isinstance(values, str):
                self._shown = self._scaler.range_of(*cell, values)
                break

    def _find(self, cell: Cell) -> Values | str:
        """Returns the change up to a frame, float32 (C, S, H, W), or why there is none."""
        maps = self._row.maps
        earlier = self._change.earlier(cell)
        if not maps.series.present[cell]:
            return _NO_FRAME
        if earlier is None:
            return "no frame before it"
        values = self._change[cell]
        if cell in maps.damaged or earlier in maps.damaged:
            return "damaged: no difference"
        return select_channels(values, self._channels)


class KernelSection:
    """A layer's kernels.

    Args:
        row: The layer, and the recording.
        kernels: Where they come from.
        entries: The palette's entries of a diverging colormap, an odd number.
        panel: Where they go.
    """

    gains: Gains | None = None

    def __init__(self, row: Row, kernels: Kernels, entries: range, panel: LayerPanel) -> None:
        self.panel = panel
        self._row, self._kernels, self._entries = row, kernels, entries

    def draw(
        self, plane: npt.NDArray[np.uint8], corner: Cell, cell: Cell, palette: Palette
    ) -> tuple[Range | None, Count]:
        """Paints the kernels of a frame where they are no colour pictures; see `Section`."""
        shown = Range(-self._kernels.reach, self._kernels.reach)
        found = self._kernels.show(cell) if self._row.maps.series.present[cell] else _NO_FRAME
        if isinstance(found, str):
            blank(plane, *corner, self.panel.mosaic, palette.paper, palette.solid("faint"))
            return shown, found
        if not self._kernels.colored:
            half = len(self._entries) // 2
            levels = self._entries.start + half + np.rint((found - 0.5) * 2 * half)
            paint(plane, *corner, levels.astype(np.uint8), self.panel.mosaic)
        return shown, (0, 0)

    def overlays(self, corner: Cell, cell: Cell) -> Iterator[Overlay]:
        """Yields the kernels of three inputs, in their colours."""
        if not self._kernels.colored or not self._row.maps.series.present[cell]:
            return
        found = self._kernels.show(cell)
        if not isinstance(found, str):
            pixels = np.rint(found * 255).astype(np.uint8)
            for place, kernel in enumerate(pixels):
                y, x = self.panel.mosaic.corner(place)
                yield Overlay(kernel, corner[0] + y, corner[1] + x, self.panel.mosaic.zoom)

    def recall(self, before: Sequence[Cell]) -> None:
        """Does nothing: one range holds for the whole run."""
