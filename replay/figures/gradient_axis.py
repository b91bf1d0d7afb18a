"""One logarithmic axis for how large gradients are: the same for all layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from replay.diagnosis.report import LayerHealth
from replay.schema import Cell

_LOWEST = -40  # a power of ten below which a gradient is nothing


@dataclass(frozen=True)
class GradientAxis:
    """The axis that goes up in the plots of gradients.

    Attributes:
        low: The power of ten at the foot.
        high: The power of ten at the top.
    """

    low: int
    high: int

    @classmethod
    def of(cls, layers: Sequence[LayerHealth]) -> GradientAxis:
        """Returns the axis on which the gradients of all layers find a place."""
        powers = [power for layer in layers for _, power in powers_of(layer)]
        low, high = math.floor(min(powers, default=0.0)), math.ceil(max(powers, default=1.0))
        return cls(low, max(high, low + 1))

    def up(self, power: float) -> float:
        """Returns where a power of ten lies, 0 at the foot to 1 at the top."""
        return (power - self.low) / (self.high - self.low)


def powers_of(layer: LayerHealth) -> list[tuple[Cell, float]]:
    """Returns how large a layer's gradients were, as powers of ten; none of those that are zero."""
    return [
        (cell, max(math.log10(size), _LOWEST))
        for cell, size in layer.gradients.items()
        if size > 0 and math.isfinite(size)
    ]


def superscript(power: int) -> str:
    """Returns a power of ten as text: `10⁻⁶`."""
    return "10" + f"{power}".translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
