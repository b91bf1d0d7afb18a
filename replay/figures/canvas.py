"""A page in whole pixels, drawn by matplotlib as PNG, PDF or SVG.

Uses matplotlib's objects only, never pyplot, and leaves its settings as they were.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle

from replay.figures.style import FigureTheme, own_settings
from replay.figures.svg_images import shrink_images
from replay.figures.wrapping import wrap
from replay.formatting import format_number
from replay.overwriting import MAKER
from replay.raster.bidi import parts, visual_order
from replay.raster.fonts import families, is_plain, missing_remarks, spell_unknown
from replay.raster.names import in_lines

SUFFIXES = (".png", ".pdf", ".svg")
SMALL = 7.0  # points: the smallest type that journals print

_SHAPES = tuple(map(int, matplotlib.__version__.split(".")[:2])) >= (3, 11)  # with raqm of its own


class Canvas:
    """A page with its origin in the upper left corner; sizes in pixels, type in points.

    A page is opened at its width, drawn from the top down, and closed at the height that it needs.

    Args:
        dpi: Pixels an inch.
        theme: Colors of paper and ink.
        suffix: The format, one of `SUFFIXES`.

    Attributes:
        dpi: Pixels an inch.
        suffix: The format.
        size: (width, height) in pixels; the height is 0 until the page is closed.
        title: What the page is, in a line; empty until it is closed.
        description: What it shows, in words; likewise.
    """

    def __init__(self, dpi: int, theme: FigureTheme, suffix: str) -> None:
        self.dpi, self.suffix = dpi, suffix
        self.size = (0, 0)
        self.title = self.description = ""
        self._theme = theme
        with own_settings():
            self._figure = Figure(dpi=dpi, facecolor=theme.paper)
            agg: Any = FigureCanvasAgg(self._figure)
            self._measure = agg.get_renderer()
        self._axes: Any = None
        self._texts: set[str] = set()
        self._widths: dict[tuple[str, float, bool], int] = {}

    def at(self, dpi: int) -> Canvas:
        """Returns a canvas like this one with so many pixels an inch, not yet open."""
        return self if dpi == self.dpi else Canvas(dpi, self._theme, self.suffix)

    def fresh(self) -> Canvas:
        """Returns a canvas like this one, for another page."""
        return Canvas(self.dpi, self._theme, self.suffix)

    def open(self, width: int) -> None:
        """Gives the page its width in pixels."""
        self.size = (width, 0)
        with own_settings():
            self._axes = self._figure.add_axes((0, 0, 1, 1), frameon=False)
            self._axes.set_axis_off()
            self._axes.autoscale(False)

    def close(self, height: int, title: str, description: str) -> None:
        """Gives the page its height in pixels, and says what it shows."""
        self.size = (self.size[0], height)
        self.title, self.description = title, description
        with own_settings():
            self._figure.set_size_inches(self.size[0] / self.dpi, height / self.dpi)
            self._axes.set(xlim=(0, self.size[0]), ylim=(height, 0))

    def line(self, points: float) -> int:
        """Returns the height of a line of type in pixels."""
        return round(1.4 * points * self.dpi / 72)

    def width(self, text: str, points: float, bold: bool = False) -> int:
        """Returns the width of a line of text in pixels."""
        key = text, points, bold
        if key not in self._widths:
            legible = self._legible(text)
            with own_settings():
                wide, _, _ = self._measure.get_text_width_height_descent(
                    legible, self._font(legible, points, bold), False
                )
            self._widths[key] = int(np.ceil(wide))
        return self._widths[key]

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
        with own_settings():
            self._axes.text(
                x,
                y + 1.1 * points * self.dpi / 72,
                legible,
                color=self._theme.muted if muted else self._theme.ink,
                fontproperties=self._font(legible, points, bold),
                ha=align,
                va="baseline",
                parse_math=False,
            )
        return self.width(text, points, bold)

    def paragraph(
        self,
        x: int,
        y: int,
        text: str,
        points: float,
        max_width: int,
        muted: bool = False,
        *,
        bold: bool = False,
        align: str = "left",
    ) -> int:
        """Writes text in as many lines as it takes; as `text` does otherwise.

        Returns:
            The height of the lines in pixels.
        """
        lines = wrap(text, max_width, lambda part: self.width(part, points, bold))
        for place, each in enumerate(lines):
            self.text(x, y + place * self.line(points), each, points, muted, bold=bold, align=align)
        return len(lines) * self.line(points)

    def picture(
        self,
        x: int,
        y: int,
        pixels: npt.NDArray[Any],
        *,
        map: bool = False,
        framed: bool = False,
        blocks: tuple[int, int] = (1, 1),
    ) -> None:
        """Puts a picture's pixels onto the page's pixels, one to one.

        Args:
            x: Left edge in pixels.
            y: Upper edge in pixels.
            pixels: Colors, (height, width, 3).
            map: Whether it is a feature map, which is told apart in an SVG.
            framed: Whether it has a thin frame.
            blocks: Height and width of the blocks of equal pixels that it consists of. An SVG gets
                one pixel for each, which its viewer enlarges as sharply.
        """
        height, width = pixels.shape[:2]
        if self.suffix == ".svg":
            pixels = pixels[:: blocks[0], :: blocks[1]]
        self._axes.imshow(
            pixels,
            extent=(x, x + width, y + height, y),
            # A vector format gets the pixels as they are, and no renderer comes between.
            interpolation="nearest" if self.suffix == ".png" else "none",
            aspect="auto",
            gid="map" if map else None,
        )
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
            self.text(x + round(place * width), y + 2, text, SMALL, align=align)

    def ends(self, x: int, y: int, width: int) -> None:
        """Writes under a color bar that its ends are low and high, of no one range."""
        self.text(x, y + 2, "low", SMALL)
        self.text(x + width, y + 2, "high", SMALL, align="right")

    def rectangle(
        self, x: float, y: float, width: float, height: float, fill: str = "", *, edge: str = ""
    ) -> None:
        """Draws a filled rectangle, or an open one with a thin edge inside."""
        inset = 0.2 * self.dpi / 72 if edge else 0.0
        self._axes.add_artist(  # add_patch would find anew what all of it covers, each time
            Rectangle(
                (x + inset, y + inset),
                width - 2 * inset,
                height - 2 * inset,
                facecolor=fill or "none",
                edgecolor=edge or "none",
                linewidth=0.4 if edge else 0,
            )
        )

    def stroke(
        self,
        xs: Sequence[float],
        ys: Sequence[float],
        color: str,
        points: float = 1.0,
        *,
        dashed: bool = False,
    ) -> None:
        """Draws a line through places on the page."""
        style = "--" if dashed else "-"
        self._axes.plot(xs, ys, style, color=color, linewidth=points, solid_joinstyle="round")

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
        return [] if self.suffix == ".svg" else missing_remarks(self._texts)

    @property
    def theme(self) -> FigureTheme:
        """The colors of paper and ink."""
        return self._theme

    def diverging(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Returns values of 0..1 in colors on both sides of white, float32 (..., 3)."""
        return np.asarray(matplotlib.colormaps["RdBu_r"](values)[..., :3], np.float32)

    def to_bytes(self) -> bytes:
        """Returns the closed page as the bytes of a PNG or an SVG; equal pages are equal."""
        key, maker = ("Description", "Software" if self.suffix == ".png" else "Creator")
        metadata: dict[str, Any] = {"Title": self.title, key: self.description, maker: MAKER}
        if self.suffix == ".svg":
            metadata["Date"] = None
        stream = io.BytesIO()
        with own_settings():
            self._figure.savefig(
                stream,
                format=self.suffix[1:],
                dpi=self.dpi,
                facecolor=self._theme.paper,
                metadata=metadata,
            )
        drawn = stream.getvalue()
        return shrink_images(drawn) if self.suffix == ".svg" else drawn

    def add_to(self, pages: Any) -> None:
        """Adds the closed page to a PDF, one of matplotlib's `PdfPages`."""
        with own_settings():
            pages.savefig(self._figure, dpi=self.dpi, facecolor=self._theme.paper)

    def _legible(self, text: str) -> str:
        """Returns a text as it is drawn; in an SVG it stays text, for fonts of another machine.

        There all spaces but one are no-break spaces: XML takes several together for one.
        """
        if self.suffix == ".svg":
            return text.replace("  ", "\u00a0\u00a0")
        if is_plain(text):
            return text
        spelled = spell_unknown(text)
        if _SHAPES:
            return spelled
        order = (visual_order(part) if leftward else part for part, leftward in parts(spelled))
        return "".join(order)

    def _font(self, text: str, points: float, bold: bool) -> FontProperties:
        found = ["DejaVu Sans", *families(text)]
        return FontProperties(family=found, size=points, weight="bold" if bold else "normal")


def to_pdf(pages: Iterable[Canvas]) -> tuple[bytes, list[Canvas]]:
    """Returns closed pages as the bytes of one PDF; equal pages are equal to the byte.

    Args:
        pages: The pages, each drawn when it is its turn.

    Returns:
        The PDF, and the pages.
    """
    stream, drawn = io.BytesIO(), []
    with own_settings(), PdfPages(stream, metadata={"Creator": MAKER}) as book:
        for page in pages:
            page.add_to(book)
            drawn.append(page)
        about = book.infodict()
        about["CreationDate"] = None
        about["Title"] = "; ".join(page.title for page in drawn)
        about["Subject"] = "\n\n".join(page.description for page in drawn)
    return stream.getvalue(), drawn
