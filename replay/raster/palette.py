"""The colors of an animation: one palette of 256, so that a frame is one plane of indices.

0 .. levels - 1      the colormap
levels, levels + 1   NaN, and infinity
then                 paper to ink in 8 steps, three of the accent, two of the warning
the rest             free, for a format that has to put the input picture there (GIF)
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from replay.schema import OptionError

Table = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Theme:
    """The colors around the maps, each (red, green, blue) from 0 to 255.

    Attributes:
        paper: The background.
        ink: Text.
        accent: What moves: progress, the loss curve.
        warning: What is wrong.
        second: The accent of the other of two runs.
    """

    paper: tuple[int, int, int]
    ink: tuple[int, int, int]
    accent: tuple[int, int, int]
    warning: tuple[int, int, int]
    second: tuple[int, int, int]


THEMES = {
    "light": Theme((255, 255, 255), (20, 22, 26), (0, 98, 190), (190, 40, 20), (158, 88, 0)),
    "dark": Theme((17, 19, 23), (242, 243, 245), (86, 166, 250), (255, 138, 92), (244, 204, 96)),
}

# Colors for NaN and infinity: the two that are farthest from the colormap are taken.
_FOREIGN = ((230, 0, 150), (0, 190, 220), (255, 130, 0), (90, 200, 0), (225, 30, 30), (90, 60, 255))
_STEPS = 8  # from paper to ink
_MUTED, _FAINT = 5, 1  # muted ink has at least 4.5:1 against the paper in both themes

# tone: (offset of its first step behind the colormap's entries, number of its steps)
_TONES = {
    "ink": (3, _STEPS),
    "muted": (3, _MUTED),
    "faint": (3, 2),
    "accent": (3 + _STEPS, 3),
    "warning": (6 + _STEPS, 2),
}
_SECOND = 3  # steps of the second accent, of a palette for two runs
USED = 2 + 1 + _STEPS + 3 + 2  # entries beside the colormap's


class Palette:
    """The 256 colors of one animation, and the indices of those that text and lines need.

    Args:
        cmap: Name of a registered matplotlib colormap.
        levels: Entries of the colormap, 2 to 240.
        theme: `light` or `dark`.

    Raises:
        OptionError: No such colormap or theme; the message names close matches.

    Attributes:
        levels: Entries of the colormap.
        table: uint8 (256, 3), red, green and blue.
        paper: Index of the background.
        free: Index of the first entry that nothing uses.
    """

    def __init__(self, cmap: str = "gray", levels: int = 240, theme: str = "light") -> None:
        colors = find_theme(theme)
        self.levels = levels
        self.nan, self.inf, self.paper = levels, levels + 1, levels + 2
        self.free = levels + USED
        self.table: Table = np.zeros((256, 3), np.uint8)
        self.table[:levels] = colormap(cmap, levels)
        self.table[levels : levels + 2] = foreign(self.table[:levels])
        self.table[self.paper] = colors.paper
        for tone in ("ink", "accent", "warning"):
            offset, steps = _TONES[tone]
            ramp = np.linspace(colors.paper, getattr(colors, tone), steps + 1)
            first = levels + offset
            self.table[first : first + steps] = np.rint(ramp[1:])

    def ink(self, coverage: npt.NDArray[np.uint8], tone: str = "ink") -> Indices:
        """Returns the indices of a plane of coverage (0 paper, 255 full) in a tone; same shape.

        The tones are `ink`, `muted`, `faint`, `accent`, `warning`, and `nan` and `inf` for the
        colors of those values, which have no steps.
        """
        if tone in ("nan", "inf"):
            return np.where(coverage > 127, getattr(self, tone), self.paper).astype(np.uint8)
        offset, steps = _TONES[tone]
        step = (coverage.astype(np.uint16) * steps + 127) // 255
        indices = np.where(step == 0, self.paper, self.levels + offset - 1 + step)
        return indices.astype(np.uint8)

    def solid(self, tone: str) -> int:
        """Returns index of a tone at full strength."""
        offset, steps = _TONES[tone]
        return self.levels + offset + steps - 1


def find_theme(name: str) -> Theme:
    """Returns the theme of a name.

    Raises:
        OptionError: There is none of that name.
    """
    if name not in THEMES:
        raise OptionError(f"unknown theme {name!r}; expected {' or '.join(THEMES)}")
    return THEMES[name]


def colormap(name: str, levels: int) -> Table:
    """Returns a registered matplotlib colormap at equal distances, uint8 (levels, 3).

    Raises:
        OptionError: There is none of that name; the message names close matches.
    """
    from matplotlib import colormaps

    try:
        chosen = colormaps[name]
    except (KeyError, TypeError):
        close = difflib.get_close_matches(str(name).lower(), list(colormaps), n=4, cutoff=0.5)
        hint = f"; close: {', '.join(close)}" if close else "; see matplotlib's list of colormaps"
        raise OptionError(f"unknown colormap {name!r}{hint}") from None
    colors: Table = chosen(np.linspace(0.0, 1.0, levels), bytes=True)[:, :3]
    return colors


def foreign(table: Table) -> Table:
    """Returns the two of `_FOREIGN` that are most distant from all of a table, uint8 (2, 3)."""
    away = np.array(_FOREIGN)
    distances = np.linalg.norm(away[:, None] - table[None].astype(int), axis=2).min(axis=1)
    chosen = np.sort(np.argsort(-distances, kind="stable")[:2])
    return away[chosen].astype(np.uint8)


class TwoMapPalette(Palette):
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
        colors = THEMES[theme]
        ramp = np.linspace(colors.paper, colors.second, _SECOND + 1)[1:]
        self.table[self._second : self._second + _SECOND] = np.rint(ramp)
        if difference is not None:
            shown = self.table[self.differences.start : self.differences.stop]
            shown[...] = colormap(difference, share)
            both = np.concatenate([self.table[: self.levels], shown])
            self.table[[self.nan, self.inf]] = foreign(both)

    def ink(self, coverage: npt.NDArray[np.uint8], tone: str = "ink") -> Indices:
        """Returns indices of coverage, as `Palette.ink` does, also in the tone `second`."""
        if tone != "second":
            return super().ink(coverage, tone)
        step = (coverage.astype(np.uint16) * _SECOND + 127) // 255
        return np.where(step == 0, self.paper, self._second - 1 + step).astype(np.uint8)

    def solid(self, tone: str) -> int:
        """Returns a tone's index, as `Palette.solid` does, also of the tone `second`."""
        return self._second + _SECOND - 1 if tone == "second" else super().solid(tone)


@dataclass(frozen=True)
class Range:
    """The values that the first and the last level of the colormap stand for.

    Attributes:
        low: The value of the first level.
        high: The value of the last level.
    """

    low: float
    high: float
