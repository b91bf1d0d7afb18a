"""The colors of an animation: one palette of 256, so that a frame is one plane of indices.

0 .. levels - 1      the colormap
levels, levels + 1   NaN, and infinity
then                 paper to ink in 8 steps, three of the accent, two of the warning
the rest             free, for a format that has to put the input picture there (GIF)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from replay.formatting import format_number
from replay.raster.unfinite import choose_colors
from replay.schema import OptionError
from replay.schema.suggestions import did_you_mean, unknown

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

_CONSTANT = "constant "
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
        self.table[levels : levels + 2] = unfinite_colors(cmap)
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
        raise OptionError(unknown("theme", name, list(THEMES)))
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
        hint = did_you_mean(str(name), list(colormaps)) or "; see matplotlib's list of colormaps"
        raise OptionError(f"unknown colormap {name!r}{hint}") from None
    colors: Table = chosen(np.linspace(0.0, 1.0, levels), bytes=True)[:, :3]
    return colors


def unfinite_colors(*names: str) -> Table:
    """Returns the colors of NaN and of infinity, uint8 (2, 3), beside some colormaps.

    They are the same in every theme, and whatever the number of levels.

    Args:
        names: The colormaps of all that is shown together.
    """
    maps = np.concatenate([colormap(name, 256) for name in names])
    return choose_colors(maps, [theme.paper for theme in THEMES.values()])


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
            self.table[[self.nan, self.inf]] = unfinite_colors(cmap, difference)

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
        word: What is said instead of both where they are not the ends of some values: that there
            is one value only, or none.
    """

    low: float
    high: float
    word: str = ""

    @classmethod
    def of_one(cls, value: float, symmetric: bool = False) -> Range:
        """Returns the range of a constant, which has the first level, or that in the middle."""
        word = f"{_CONSTANT}{format_number(value)}"
        return cls(value - 1.0 if symmetric else value, value + 1.0, word)

    @classmethod
    def between(cls, low: float, high: float) -> Range:
        """Returns the range of values from one to another, which may be the same, or NaN: none."""
        no_width = cls.of_one(low) if low == high else cls.of_none()
        return cls(low, high) if high > low else no_width

    @classmethod
    def of_none(cls) -> Range:
        """Returns the range of values of which none is finite."""
        return cls(0.0, 1.0, "no finite value")

    def times(self, unit: float) -> Range:
        """Returns the range of the values times a number above 0."""
        if unit == 1.0:
            return self
        if self.word.startswith(_CONSTANT):
            return Range(
                self.low, self.high, f"{_CONSTANT}{format_number((self.high - 1.0) * unit)}"
            )
        return self if self.word else Range(self.low * unit, self.high * unit)

    def in_words(self, between: str = " – ") -> str:
        """Returns both values with something between them, or what there is instead."""
        return self.word or f"{format_number(self.low)}{between}{format_number(self.high)}"


Pixels = npt.NDArray[np.uint8]


def kernel_levels(
    kernels: npt.NDArray[np.float16], reach: float
) -> tuple[npt.NDArray[np.float32], str]:
    """Returns kernels as pictures on a scale symmetric around zero.

    Args:
        kernels: float16 (C_out, C_in/groups, kH, kW); one axis less or more is made to fit.
        reach: The absolute value that stands for the ends of the scale.

    Returns:
        float32 in 0..1, where 0.5 stands for zero: (C_out, kH, kW, 3) in red, green and blue
        where the kernels have three inputs, else (C_out, kH, kW), their mean over the inputs;
        and what that is, as text.
    """
    planes = _planes(kernels)
    if planes.shape[1] == 3:
        shown, kind = planes.transpose(0, 2, 3, 1), "kernels in RGB"
    elif planes.shape[1] == 1:
        shown, kind = planes[:, 0], "kernels"
    else:
        shown, kind = planes.mean(axis=1), f"kernels, mean of {planes.shape[1]} inputs"
    half = np.nan_to_num(shown / (2 * (reach or 1.0)), posinf=1.0, neginf=-1.0)
    return np.clip(0.5 + half, 0.0, 1.0).astype(np.float32), kind


def kernel_reach(kernels: npt.NDArray[np.float16]) -> float:
    """Returns the largest finite absolute value of the kernels as `kernel_levels` shows them."""
    planes = _planes(kernels)
    shown = planes if planes.shape[1] in (1, 3) else planes.mean(axis=1)
    finite = np.abs(shown[np.isfinite(shown)])
    return float(finite.max()) if finite.size else 1.0


def _planes(kernels: npt.NDArray[np.float16]) -> npt.NDArray[np.float32]:
    """Returns float32 (C_out, C_in/groups, kH, kW): of a 3-D kernel the middle plane."""
    planes = kernels.astype(np.float32)
    if planes.ndim == 3:
        return planes[:, :, None]
    return planes[:, :, planes.shape[2] // 2] if planes.ndim == 5 else planes


def is_blank(values: npt.NDArray[np.float16]) -> bool:
    """Returns whether all is NaN, which stands in the file where nothing was recorded."""
    flat = values.reshape(-1)
    return bool(np.isnan(flat[:1]).all() and np.isnan(flat).all())


def no_picture(height: int, width: int) -> Pixels:
    """Returns what is shown for a missing picture: a crossed out gray field, uint8 (H, W, 3)."""
    y, x = np.mgrid[0:height, 0:width]
    one, other = x * height // max(width, 1), (width - 1 - x) * height // max(width, 1)
    field = np.where((y == one) | (y == other), np.uint8(200), np.uint8(112))
    return np.repeat(field[..., None], 3, axis=2).astype(np.uint8)


def whitest(values: npt.NDArray[np.floating]) -> float | None:
    """Returns what is white in a picture that was never normalised: 1, or 255 for whole numbers.

    Args:
        values: Finite values of some pictures.

    Returns:
        None where it was normalised: values below 0, or of no such kind. Whole numbers that stay
        below 16 are no bytes of a picture either, but numbers of classes, say.
    """
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if low < 0.0 or high <= 0.0:
        return None
    if high <= 1.0:
        return 1.0
    if 16 <= high <= 255 and (values == np.floor(values)).all():
        return 255.0
    return None


def enlarge(picture: npt.NDArray[np.uint8], factor: int, down: int | None = None) -> Pixels:
    """Returns every pixel as a block of equal pixels.

    Args:
        picture: uint8 (H, W) or (H, W, 3).
        factor: Pixels of a block across, and down if nothing else is said.
        down: Pixels of a block down.
    """
    return picture.repeat(down or factor, axis=0).repeat(factor, axis=1)


def reduce(picture: Pixels, factor: int) -> Pixels:
    """Returns the mean of every block of factor x factor pixels; incomplete blocks are left out.

    A side that is shorter than a block becomes one pixel.
    """
    down, across = (max(1, min(factor, side)) for side in picture.shape[:2])
    height, width = picture.shape[0] // down, picture.shape[1] // across
    blocks = picture[: height * down, : width * across]
    blocks = blocks.reshape(height, down, width, across, -1)  # (H, f, W, f, 3)
    means: Pixels = np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)
    return means


_WIDER = {
    2: (np.uint16, np.uint16(0x0101)),
    4: (np.uint32, np.uint32(0x01010101)),
    8: (np.uint64, np.uint64(0x0101010101010101)),
}


def widen(pixels: npt.NDArray[np.uint8], by: int) -> npt.NDArray[np.uint8]:
    """Returns each byte repeated `by` times, uint8 (..., W) to (..., W * by)."""
    if by == 1:
        return pixels
    if by not in _WIDER:
        return np.repeat(pixels, by, axis=-1)
    dtype, ones = _WIDER[by]  # one number of so many bytes: a product instead of a loop
    product = np.ascontiguousarray(pixels.astype(dtype) * ones)  # of any order in memory
    wide: npt.NDArray[np.uint8] = product.view(np.uint8)
    return wide
