"""The palette of a comparison: two colormaps and two accents in one plane of indices.

0 .. levels - 1      the colormap of both runs
then                 as in `colours`: NaN, infinity, paper, ink, accent, warning
then                 three steps of the second accent, and the diverging colormap of the difference
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from replay.colours import THEMES, Indices, Palette, colormap, foreign

_SECOND = 3  # steps of the second accent


class PairPalette(Palette):
    """A palette for two runs, and for the difference of the two if that is shown.

    Args:
        cmap: Name of the colormap of both runs.
        difference: Name of the difference's colormap; None without one.
        levels: Entries for all colormaps and the second accent together, 168 or 240.
        theme: `light` or `dark`.

    Raises:
        OptionError: No such colormap or theme; the message names close matches.

    Attributes:
        differences: The entries of the difference's colormap: an odd number, so that the one in
            the middle is that of zero; empty without a difference.
    """

    def __init__(
        self, cmap: str, difference: str | None, levels: int = 240, theme: str = "light"
    ) -> None:
        levels -= _SECOND
        share = 0 if difference is None else (levels // 2 - 1) | 1
        super().__init__(cmap, levels - share, theme)
        self._second = self.free
        self.differences = range(self.free + _SECOND, self.free + _SECOND + share)
        self.free = self.differences.stop
        colours = THEMES[theme]
        ramp = np.linspace(colours.paper, colours.second, _SECOND + 1)[1:]
        self.table[self._second : self._second + _SECOND] = np.rint(ramp)
        if difference is not None:
            shown = self.table[self.differences.start : self.differences.stop]
            shown[...] = colormap(difference, share)
            both = np.concatenate([self.table[: self.levels], shown])
            self.table[[self.nan, self.inf]] = foreign(both)

    def ink(self, coverage: npt.NDArray[np.uint8], tone: str = "ink") -> Indices:
        """As of `Palette`, and in the tone `second`."""
        if tone != "second":
            return super().ink(coverage, tone)
        step = (coverage.astype(np.uint16) * _SECOND + 127) // 255
        return np.where(step == 0, self.paper, self._second - 1 + step).astype(np.uint8)

    def solid(self, tone: str) -> int:
        """As of `Palette`, and of the tone `second`."""
        return self._second + _SECOND - 1 if tone == "second" else super().solid(tone)
