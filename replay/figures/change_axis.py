"""One axis for how far layers move: the same for all of them, and in epochs across."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from replay.diagnosis.report import Change, LayerHealth
from replay.formatting import format_number
from replay.schema import Cell

_TOO_UNEQUAL = 100.0  # largest to smallest change, beyond which the axis is logarithmic
_ENDS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


class Places:
    """The place of each frame in the order of time; of one that is not there, that before it.

    Args:
        frames: (epoch, batch) of the frames that are there.
    """

    def __init__(self, frames: Sequence[Cell]) -> None:
        self._places = {cell: place for place, cell in enumerate(frames)}
        self._sorted = sorted(frames)

    def __getitem__(self, cell: Cell) -> int:
        if cell not in self._places:  # a fixed image may have frames of its own
            before = max(bisect_right(self._sorted, cell) - 1, 0)
            return self._places[self._sorted[before]]
        return self._places[cell]


@dataclass(frozen=True)
class ChangeAxis:
    """The axes of the plots of change.

    Attributes:
        low: The value at the foot; 0 unless it is logarithmic.
        high: The value at the top.
        logarithmic: Whether equal distances are equal factors.
        by_epoch: Whether what lies across are epochs; else recorded batches.
        first: The first epoch, or 0.
        last: The last epoch, or the place of the last batch.
        places: The place of each frame in the order of time.
    """

    low: float
    high: float
    logarithmic: bool
    by_epoch: bool
    first: int
    last: int
    places: Places

    @classmethod
    def of(cls, layers: Sequence[LayerHealth], frames: Sequence[Cell]) -> ChangeAxis:
        """Returns the axis on which the changes of all layers find a place."""
        epochs = sorted({epoch for epoch, _ in frames})
        values = [one.value for layer in layers for one in known_changes(layer)]
        above = [value for value in values if value > 0]
        highest = max(above, default=1.0)
        logarithmic = bool(above) and highest / min(above) > _TOO_UNEQUAL
        if logarithmic:
            low = 10.0 ** math.floor(math.log10(min(above)))
            high = 10.0 ** math.ceil(math.log10(highest) - 1e-9)
        else:
            low, high = 0.0, _end_above(highest)
        by_epoch = len(epochs) > 1
        first, last = (epochs[0], epochs[-1]) if by_epoch else (0, max(len(frames) - 1, 1))
        return cls(low, high, logarithmic, by_epoch, first, last, Places(frames))

    def across(self, change: Change) -> float:
        """Returns where a change lies across, 0 to 1: that from epoch 0 to 1 stands at 1."""
        at = change.end[0] if self.by_epoch else self.places[change.end]
        return (at - self.first) / (self.last - self.first)

    def up(self, value: float) -> float:
        """Returns where a value lies, 0 at the foot to 1 at the top."""
        if not self.logarithmic:
            return value / self.high
        if value <= self.low:
            return 0.0
        return math.log(value / self.low) / math.log(self.high / self.low)

    def ticks(self) -> list[tuple[float, str]]:
        """Returns the values that are written beside it, each with its text."""
        if not self.logarithmic:
            return [(0.0, "0"), (self.high, format_number(self.high))]
        powers = range(round(math.log10(self.low)), round(math.log10(self.high)) + 1)
        return [(10.0**power, f"{10.0**power:g}") for power in powers]


def known_changes(layer: LayerHealth) -> list[Change]:
    """Returns the changes of a layer that are numbers."""
    return [one for one in layer.changes if math.isfinite(one.value)]


def _end_above(value: float) -> float:
    """Returns a short number that is no smaller than a value."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(end * power for end in _ENDS if end * power >= value * (1 - 1e-9))
