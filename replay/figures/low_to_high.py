"""A norm for values from low to high, of no one range: a colour bar of it says just that."""

from __future__ import annotations

from typing import Any

from matplotlib.colors import Normalize, make_norm_from_scale
from matplotlib.scale import LinearScale
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator


class _LowToHigh(LinearScale):
    """A linear scale whose two ends have names, and nothing between them numbers."""

    name = "low to high"

    def set_default_locators_and_formatters(self, axis: Any) -> None:
        """Has an axis named at its ends."""
        axis.set_major_locator(FixedLocator([0.0, 1.0]))
        axis.set_major_formatter(FixedFormatter(["low", "high"]))
        axis.set_minor_locator(NullLocator())


def low_to_high() -> Normalize:
    """Returns a norm from 0 to 1, whose colour bar reads low and high."""
    named: Any = make_norm_from_scale(_LowToHigh, Normalize)
    norm: Normalize = named(0.0, 1.0)
    return norm
