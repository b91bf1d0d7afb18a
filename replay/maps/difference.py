"""The difference of two layers: b - a, in float32, on a scale symmetric around zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from replay.maps.axes import Maps
from replay.maps.scaling import Scaler
from replay.raster.palette import Range
from replay.schema import Cell

Values = npt.NDArray[np.float32]


class Difference:
    """What one layer put out less what another did: `difference[epoch, batch]`, float32.

    Args:
        a: What is subtracted.
        b: What it is subtracted from; of the same shape.
    """

    def __init__(self, a: Maps, b: Maps) -> None:
        self._a, self._b = a, b

    @property
    def channels(self) -> int:
        """Number of maps."""
        return self._a.channels

    def __getitem__(self, cell: tuple[int, int]) -> Values:
        return subtract(self._a[cell], self._b[cell])


class Differences(Protocol):
    """Where differences come from, channel by channel."""

    @property
    def channels(self) -> int:
        """How many there are."""

    def __getitem__(self, cell: tuple[int, int]) -> Values:
        """Returns the differences at an epoch and batch, float32 (C, ...)."""


class DifferenceScaler:
    """Scales differences: `levels(epoch, batch, values)` -> uint8, of their shape.

    Args:
        difference: Where they come from.
        frames: The frames that will be shown; the ranges are those of their values.
        channels: The channels that will be shown.
        mode: As in `scaling.Scaler`; where maps have ranges of their own, differences share one
            for the run (`adaptive`) or for each frame (`map`), since how much is what they show.
        entries: The palette's entries of the colormap, an odd number: zero is the middle one.
        nan: The palette's entry for NaN.
        inf: The palette's entry for either infinity.

    Attributes:
        words: What the range is, in the words of a caption.
        describe: As `scaling.Scaler.describe`.
    """

    def __init__(
        self,
        difference: Differences,
        frames: Sequence[tuple[int, int]],
        channels: Sequence[int],
        mode: str,
        entries: range,
        nan: int,
        inf: int,
    ) -> None:
        mode = {"adaptive": "run", "map": "frame"}.get(mode, mode)
        self._scaler = Scaler(difference, frames, channels, mode, symmetric=True)  # type: ignore[arg-type]
        self._entries, self._nan, self._inf = entries, nan, inf
        self.words = self._scaler.words
        self.describe = self._scaler.describe

    def measure(self, epoch: int, batch: int, values: Values) -> None:
        """Notes a frame's chosen channels in full size, as `scaling.Scaler.measure` does."""
        self._scaler.measure(epoch, batch, values)  # type: ignore[arg-type]

    def range_of(self, epoch: int, batch: int, values: Values) -> Range | None:
        """Returns the range under which a frame is shown; None where each channel has its own."""
        return self._scaler.range_of(epoch, batch, values)  # type: ignore[arg-type]

    def levels(self, epoch: int, batch: int, values: Values) -> npt.NDArray[np.uint8]:
        """Returns the palette's entries of one frame's chosen channels, float32 (C, ...)."""
        shown = self.range_of(epoch, batch, values)
        reach: Values | np.float32
        if shown is None:
            reaches = [self._scaler.channel_range(place).high for place in range(len(values))]
            reach = np.array(reaches, np.float32).reshape(-1, *[1] * (values.ndim - 1))
        else:
            reach = np.float32(shown.high)
        half = np.float32(len(self._entries) // 2)
        finite = np.isfinite(values)
        place = np.where(finite, values, np.float32(0)) / reach * half
        levels = self._entries.start + half + np.rint(np.clip(place, -half, half))
        levels = np.where(finite, levels, np.where(np.isnan(values), self._nan, self._inf))
        return levels.astype(np.uint8)


def subtract(a: npt.NDArray[np.float16], b: npt.NDArray[np.float16]) -> Values:
    """Returns b - a in float32: float16 cannot hold every difference of its values."""
    with np.errstate(invalid="ignore"):  # of two infinities it is NaN
        difference: Values = b.astype(np.float32) - a.astype(np.float32)
    return difference


class Change:
    """What a layer's frame is more than an earlier one: `change[epoch, batch]`, float32.

    Args:
        maps: The layer's maps.
        since: `first`, the same batch of the first epoch (of a fixed image, its first frame), or
            `previous`, the frame before.

    Attributes:
        words: Since when, but for what `remark` says.
    """

    def __init__(self, maps: Maps, since: str) -> None:
        frames = maps.series.frames
        probed = maps.series.probe_number is not None
        first = frames[0][0]
        self._maps = maps
        self._earlier: dict[Cell, Cell] = {}
        self._same_batch = False
        if since == "previous":
            self._earlier = dict(zip(frames[1:], frames[:-1], strict=True))
            self.words = "since the previous frame"
        elif probed:
            self._earlier = dict.fromkeys(frames, frames[0])
            self.words = f"since epoch {frames[0][0]}, batch {frames[0][1]}"
        else:
            in_first = {batch for epoch, batch in frames if epoch == first}
            self._earlier = {
                cell: (first, cell[1]) if cell[1] in in_first else frames[0] for cell in frames
            }
            self._same_batch = True
            self.words = f"since epoch {first}, same batch"

    @property
    def channels(self) -> int:
        """Number of maps."""
        return self._maps.channels

    def earlier(self, cell: Cell) -> Cell | None:
        """Returns the frame with which one is compared; None where there is none."""
        return self._earlier.get(cell)

    def remark(self, cell: Cell) -> str:
        """Returns which batch one is compared with, if the first epoch has no such batch."""
        other = self._earlier[cell][1]
        return f"since batch {other}" if self._same_batch and other != cell[1] else ""

    def __getitem__(self, cell: Cell) -> Values:
        return subtract(self._maps[self._earlier[cell]], self._maps[cell])
