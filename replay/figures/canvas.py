"""A page in whole pixels, drawn by matplotlib as PNG, PDF or SVG.

Uses matplotlib's objects only, never pyplot, and leaves its settings as they were.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from replay.formatting import format_number
from replay.overwriting import MAKER
from replay.raster.bidi import parts, visual_order
from replay.raster.fonts import families, is_plain, missing_remarks, spell_unknown
from replay.raster.names import in_lines
from replay.raster.palette import find_theme

SUFFIXES = (".png", ".pdf", ".svg")

_SETTINGS: dict[Any, Any] = {
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "pdf.fonttype": 42,  # fonts embedded whole: text stays text
    "pdf.compression": 6,
    "svg.fonttype": "none",
    "svg.hashsalt": "mapreel",  # the same picture, the same bytes
    "image.composite_image": False,
    "path.simplify": False,
    "axes.unicode_minus": True,
    "text.usetex": False,
    "savefig.bbox": None,
}
_SHAPES = tuple(map(int, matplotlib.__version__.split(".")[:2])) >= (3, 11)  # with raqm of its own
_NO_DATE: dict[str, dict[str, None]] = {
    ".png": {},
    ".pdf": {"CreationDate": None},
    ".svg": {"Date": None},
}


_MUTED = {"light": "#63676e", "dark": "#9ba0a8"}


@dataclass(frozen=True)
class FigureTheme:
    """The colors around the maps, as matplotlib spells them.

    Attributes:
        paper: The background.
        ink: Text.
        muted: Less important text, and lines.
    """

    paper: str
    ink: str
    muted: str


def figure_theme(name: str) -> FigureTheme:
    """Returns the theme of a name.

    Raises:
        OptionError: There is none of that name.
    """
    theme = find_theme(name)
    paper, ink = ("#{:02x}{:02x}{:02x}".format(*color) for color in (theme.paper, theme.ink))
    return FigureTheme(paper, ink, _MUTED[name])


class Canvas:
    """A page with its origin in the upper left corner; sizes in pixels, type in points.

    Args:
        dpi: Pixels an inch.
        theme: Colors of paper and ink.
        suffix: The format, one of `SUFFIXES`.

    Attributes:
        size: (width, height) in pixels, once open.
    """

    def __init__(self, dpi: int, theme: FigureTheme, suffix: str) -> None:
        self.size = (0, 0)
        self._dpi, self._theme, self._suffix = dpi, theme, suffix
        with self._settings():
            self._figure = Figure(dpi=dpi, facecolor=theme.paper)
            agg: Any = FigureCanvasAgg(self._figure)
            self._measure = agg.get_renderer()
        self._axes: Any = None
        self._texts: set[str] = set()

    def open(self, width: int, height: int) -> None:
        """Gives the page its size."""
        self.size = (width, height)
        with self._settings():
            self._figure.set_size_inches(width / self._dpi, height / self._dpi)
            self._axes = self._figure.add_axes((0, 0, 1, 1), frameon=False)
            self._axes.set(xlim=(0, width), ylim=(height, 0))
            self._axes.set_axis_off()

    def line(self, points: float) -> int:
        """Returns the height of a line of type in pixels."""
        return round(1.4 * points * self._dpi / 72)

    def width(self, text: str, points: float, bold: bool = False) -> int:
        """Returns the width of a line of text in pixels."""
        text = self._legible(text)
        with self._settings():
            wide, _, _ = self._measure.get_text_width_height_descent(
                text, self._font(text, points, bold), False
            )
        return int(np.ceil(wide))

    def text(
        self,
        x: int,
        y: int,
        text: str,
        points: float,
        muted: bool = False,
        *,
        bold: bool = False,
        align: str = "left",
        max_width: int | None = None,
    ) -> int:
        """Writes a line of text; where it is too long, words lose the end, a name its beginning.

        Args:
            x: Where it is aligned, in pixels.
            y: Its upper edge in pixels.
            text: The text.
            points: Size of the type.
            muted: Whether it is in the theme's muted color.
            bold: Whether it is in the bold face.
            align: What lies at `x`: its `left` edge, its `center` or its `right` edge.
            max_width: Pixels that it may take; by default as many as it needs.

        Returns:
            The text's width in pixels.
        """
        if max_width is not None and text:
            measure = partial(self.width, points=points, bold=bold)
            text = (in_lines(text, max_width, measure, 1) or [""])[0]
        if not text:
            return 0
        self._texts.add(text)
        legible = self._legible(text)
        with self._settings():
            self._axes.text(
                x,
                y + 1.1 * points * self._dpi / 72,
                legible,
                color=self._theme.muted if muted else self._theme.ink,
                fontproperties=self._font(legible, points, bold),
                ha=align,
                va="baseline",
                parse_math=False,
            )
        return self.width(text, points, bold)

    def picture(
        self, x: int, y: int, pixels: npt.NDArray[Any], *, map: bool = False, framed: bool = False
    ) -> None:
        """Puts a picture's pixels onto the page's pixels, one to one."""
        height, width = pixels.shape[:2]
        self._axes.imshow(
            pixels,
            extent=(x, x + width, y + height, y),
            # A vector format gets the pixels as they are, and no renderer comes between.
            interpolation="nearest" if self._suffix == ".png" else "none",
            aspect="auto",
            gid="map" if map else None,
        )
        self._axes.set(xlim=(0, self.size[0]), ylim=(self.size[1], 0))
        if framed:
            self._axes.plot(
                [x, x + width, x + width, x, x],
                [y, y, y + height, y + height, y],
                color=self._theme.muted,
                linewidth=0.4,
                solid_joinstyle="miter",
                alpha=0.6,
            )

    def ticks(self, x: int, y: int, width: int, low: float, high: float) -> None:
        """Writes the numbers under a color bar: both ends, and zero where it lies well between."""
        at = [(0.0, format_number(low), "left"), (1.0, format_number(high), "right")]
        zero = -low / (high - low)
        if 0.25 < zero < 0.75:
            at.insert(1, (zero, "0", "center"))
        for place, text, align in at:
            self.text(x + round(place * width), y + 2, text, 7, align=align)

    def stroke(
        self, xs: Sequence[float], ys: Sequence[float], color: str, points: float = 1.0
    ) -> None:
        """Draws a line through places on the page."""
        self._axes.plot(xs, ys, color=color, linewidth=points, solid_joinstyle="round")

    def fill(
        self, xs: Sequence[float], ys: Sequence[float], base: float, color: str, alpha: float = 1.0
    ) -> None:
        """Fills the area between a line and a height on the page."""
        self._axes.fill_between(xs, ys, base, color=color, alpha=alpha, linewidth=0)

    def dot(self, x: float, y: float, color: str, points: float = 3.0) -> None:
        """Draws a round mark."""
        self._axes.plot([x], [y], "o", color=color, markersize=points, markeredgewidth=0)

    @property
    def remarks(self) -> list[str]:
        """What a reader should know of the text: characters that no font has."""
        return [] if self._suffix == ".svg" else missing_remarks(self._texts)

    @property
    def theme(self) -> FigureTheme:
        """The colors of paper and ink."""
        return self._theme

    def diverging(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Returns values of 0..1 in colors on both sides of white, float32 (..., 3)."""
        return np.asarray(matplotlib.colormaps["RdBu_r"](values)[..., :3], np.float32)

    def save(self, file: BinaryIO, title: str, text: str) -> None:
        """Writes the page; equal pages are equal to the byte."""
        key = {".png": "Description", ".pdf": "Subject", ".svg": "Description"}[self._suffix]
        maker = {".png": "Software", ".pdf": "Creator", ".svg": "Creator"}[self._suffix]
        metadata = {"Title": title, key: text, maker: MAKER, **_NO_DATE[self._suffix]}
        with self._settings():
            self._figure.savefig(
                file,
                format=self._suffix[1:],
                dpi=self._dpi,
                facecolor=self._theme.paper,
                metadata=metadata,
            )

    def _legible(self, text: str) -> str:
        """Returns a text as it is drawn; in an SVG it stays text, for fonts of another machine."""
        if self._suffix == ".svg" or is_plain(text):
            return text
        spelled = spell_unknown(text)
        if _SHAPES:
            return spelled
        order = (visual_order(part) if leftward else part for part, leftward in parts(spelled))
        return "".join(order)

    def _font(self, text: str, points: float, bold: bool) -> FontProperties:
        found = ["DejaVu Sans", *families(text)]
        return FontProperties(family=found, size=points, weight="bold" if bold else "normal")

    @contextmanager
    def _settings(self) -> Iterator[None]:
        finder = logging.getLogger("matplotlib.font_manager")  # tells of fonts without a bold face
        level = finder.level
        finder.setLevel(logging.ERROR)
        try:
            with matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # of an SVG
                yield
        finally:
            finder.setLevel(level)
