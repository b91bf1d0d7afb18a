"""What a film shows of a layer: its maps, how they changed, its kernels. Each has a mosaic.

A section paints one frame into its mosaic, and says under which range and what was not finite.
What it paints depends on the frame alone, not on what was painted before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from replay.colours import Palette
from replay.contents import Part
from replay.difference import DifferenceScaler, Values, subtract
from replay.overlay import Overlay
from replay.picture import is_blank, kernel_levels, kernel_reach
from replay.probe import Probe
from replay.scaling import Levels, Range, Scaler
from replay.schema import DamagedError, OptionError, SelectionError
from replay.selection import pick, spread
from replay.series import Series
from replay.shapes import Maps
from replay.tiles import blank, paint, shrink_maps
from replay.together import Row

Cell = tuple[int, int]
Count: TypeAlias = "tuple[int, int] | str"
"""Values that are NaN and that are infinite; in words where there is no frame to show."""

_INFINITE = 0x7C00  # a float16's bits without its sign; NaN lies above
_WITHOUT_SIGN = 0x7FFF
_NOTHING = np.empty(0, np.float16)
_SAMPLED = 32  # frames from which the range of the kernels is measured
_NO_FRAME = "no frame in this batch"
NO_KERNELS = "NaN, or not recorded"  # the file has NaN for both


class Section(Protocol):
    """One mosaic of a film."""

    part: Part

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

    def __init__(self, row: Row, channels: list[int], scaler: Scaler, part: Part) -> None:
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


class Change:
    """What a layer's frame is more than an earlier one: `change[epoch, batch]`, float32.

    Args:
        maps: The layer's maps.
        since: `first`, the same batch of the first epoch (of a fixed image, its first frame), or
            `previous`, the frame before.

    Attributes:
        words: Since when.
    """

    def __init__(self, maps: Maps, since: str) -> None:
        frames = maps.series.frames
        probed = maps.series.recording.probe_number is not None
        first = frames[0][0]
        self._maps = maps
        self._earlier: dict[Cell, Cell] = {}
        if since == "previous":
            self._earlier = dict(zip(frames[1:], frames[:-1], strict=True))
            self.words = "since the previous frame"
        elif probed:
            self._earlier = dict.fromkeys(frames, frames[0])
            self.words = f"since epoch {frames[0][0]}, batch {frames[0][1]}"
        else:
            there = {batch for epoch, batch in frames if epoch == first}
            self._earlier = {
                cell: (first, cell[1]) if cell[1] in there else frames[0] for cell in frames
            }
            self.words = f"since epoch {first}, same batch"

    @property
    def channels(self) -> int:
        """Number of maps."""
        return self._maps.channels

    def earlier(self, cell: Cell) -> Cell | None:
        """The frame with which one is compared; None where there is none."""
        return self._earlier.get(cell)

    def __getitem__(self, cell: Cell) -> Values:
        return subtract(self._maps[self._earlier[cell]], self._maps[cell])


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
        part: Part,
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


def kernel_series(row: Row) -> Series:
    """The layer that holds the kernels: of a fixed image that of the run, before the update."""
    series = row.maps.series
    recording = series.recording
    if isinstance(recording, Probe) and series.name in recording.run:
        return recording.run[series.name]
    return series


class Kernels:
    """A layer's kernels as pictures: red, green and blue of three inputs, else their mean.

    Args:
        row: The layer, and the recording.
        channels: Of which maps, in their order.
        frames: The frames that will be shown; the range is that of their kernels.

    Raises:
        SelectionError: The layer has none in this recording.
        OptionError: They do not belong to one map each.

    Attributes:
        size: Height and width of one.
        coloured: Whether they are in red, green and blue.
        words: What they are.
        reach: The absolute value at the ends of the range.
    """

    def __init__(self, row: Row, channels: list[int], frames: Sequence[Cell]) -> None:
        series = kernel_series(row)
        shape = series.layer.kernel
        if shape is None:
            series.kernels(*frames[0])  # which raises, and says why
            raise SelectionError(f"no kernels of {series.name!r}")
        if shape[0] != row.maps.channels:
            raise OptionError(f"the kernels of {series.name!r} do not belong to one map each")
        self._series, self._channels = series, channels
        found = [self._read(cell) for cell in spread(frames, _SAMPLED)]
        there = [stack for stack in found if not isinstance(stack, str)]
        self.reach = max(map(kernel_reach, there), default=1.0)
        blank_ = np.zeros((1, *shape[1:]), np.float16)
        shown, self.words = kernel_levels(there[0] if there else blank_, self.reach)
        self.coloured = shown.ndim == 4
        self.size = shown.shape[1], shown.shape[2]

    def show(self, cell: Cell) -> npt.NDArray[np.float32] | str:
        """In 0..1, where 0.5 is zero, (C, kH, kW) or (C, kH, kW, 3); or why there are none."""
        stack = self._read(cell)
        return stack if isinstance(stack, str) else kernel_levels(stack, self.reach)[0]

    def _read(self, cell: Cell) -> npt.NDArray[np.float16] | str:
        try:
            stack = self._series.kernels(*cell)[self._channels]
        except DamagedError:
            return "damaged"
        return NO_KERNELS if is_blank(stack) else stack


class KernelSection:
    """A layer's kernels.

    Args:
        row: The layer, and the recording.
        kernels: Where they come from.
        entries: The palette's entries of a diverging colormap, an odd number.
        part: Where they go.
    """

    def __init__(self, row: Row, kernels: Kernels, entries: range, part: Part) -> None:
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


def coloured(shape: tuple[int, ...]) -> bool:
    """Whether kernels (C_out, C_in/groups, ...) are shown in red, green and blue."""
    return kernel_levels(np.zeros((1, *shape[1:]), np.float16), 1.0)[0].ndim == 4


def count_unfinite(maps: npt.NDArray[np.float16]) -> tuple[int, int]:
    """Numbers of NaN and of infinite values in float16 maps."""
    bits = maps.view(np.uint16) & _WITHOUT_SIGN
    if bits.max(initial=0) < _INFINITE:
        return 0, 0
    return int(np.count_nonzero(bits > _INFINITE)), int(np.count_nonzero(bits == _INFINITE))
