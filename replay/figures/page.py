"""What every figure of feature maps has: title, input pictures, a scale, and a width on paper."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from replay.figures.batch import LEVELS, BatchPanel
from replay.figures.canvas import SMALL, SUFFIXES, Canvas
from replay.figures.paper import NARROW, PaperWidth
from replay.figures.style import figure_theme
from replay.formatting import clean, format_module
from replay.maps.axes import Maps
from replay.maps.scaling import Scaler
from replay.output import check_suffix
from replay.raster.palette import Pixels, colormap, enlarge, reduce, unfinite_colors
from replay.schema import OptionError
from replay.schema.faces import spell

BAR_INCHES = 0.1  # height of the color bar
PAGE_INCHES = 7.2  # that a page has before it grows: a text block of A4 or Letter
MARGIN_INCHES, NARROW_MARGIN_INCHES = 0.15, 0.04
SPACE_INCHES = 0.12
_SEEN_INCHES = 0.06  # of a map's longer side: what is smaller is not told apart on paper
_FEWER = "top:64"


def open_canvas(
    recording: Path, out: str | PathLike[str] | None, kind: str, dpi: int, theme: str
) -> tuple[Path, Canvas]:
    """Returns where a figure goes, and the canvas that it is drawn on.

    Args:
        recording: The recording's file.
        out: As asked for; by default `run-grid.png` beside `run.h5`, for the kind `grid`.
        kind: What the figure is called in the default name.
        dpi: Pixels an inch.
        theme: `light` or `dark`.

    Raises:
        OutputError: The name's suffix is none of those that can be written.
        OptionError: The resolution or the theme cannot be used.
    """
    path = recording.with_name(f"{recording.stem}-{kind}.png") if out is None else Path(out)
    suffix = check_suffix(path, SUFFIXES)
    if not 20 <= dpi <= 2400:
        raise OptionError(f"dpi {dpi}: expected 20 to 2400")
    return path, Canvas(dpi, figure_theme(theme), suffix)


def level_colors(cmap: str) -> Pixels:
    """Returns the colors of the levels of a map, uint8 (256, 3), NaN and infinity last.

    Raises:
        OptionError: There is no colormap of that name.
    """
    colors = colormap(cmap, LEVELS)
    return np.concatenate([colors, unfinite_colors(cmap)])


@dataclass(frozen=True)
class PageOptions:
    """How a page is laid out.

    Attributes:
        dpi: Pixels an inch, at least.
        title: Instead of the layer's name.
        width: The width on paper; None for a page that grows with its maps.
        columns: Maps side by side; None for as many as look well.
    """

    dpi: int
    title: str | None = None
    width: PaperWidth | None = None
    columns: int | None = None

    def __post_init__(self) -> None:
        if self.columns is not None and self.columns < 1:
            raise OptionError(f"columns {self.columns}: expected a whole number of 1 or more")

    @property
    def inches(self) -> float:
        """The page's width; one that may grow begins with this."""
        return PAGE_INCHES if self.width is None else self.width.inches

    @property
    def narrow(self) -> bool:
        """Whether pictures and text stand over the maps, since beside them is no space."""
        return self.inches < NARROW

    @property
    def margin(self) -> float:
        """Inches around everything; next to none where a column of text is the margin."""
        return MARGIN_INCHES if self.width is None else NARROW_MARGIN_INCHES


class FigurePage(ABC):
    """A figure of the maps of one layer in some batches.

    Args:
        maps: The layer's maps.
        channels: The channels that are shown.
        scaler: The scale of the maps.
        panels: The batches, from the top down.
        options: How it is laid out.

    Attributes:
        remarks: What a reader should know, once it is drawn.
    """

    def __init__(
        self,
        maps: Maps,
        channels: Sequence[int],
        scaler: Scaler,
        panels: Sequence[BatchPanel],
        options: PageOptions,
    ) -> None:
        self.maps, self.channels, self.scaler, self.panels = maps, channels, scaler, panels
        self.options = options
        self.labels = maps.labels(channels)
        self.remarks: list[str] = []
        self.dpi = options.dpi
        name = clean(maps.layer.name)
        self.title = name if options.title is None else clean(options.title)
        parts = [format_module(maps.layer.module), maps.in_words(len(channels))]
        if options.title is not None:
            parts.insert(0, name)
        self.subtitle = "   ".join(part for part in parts if part)

    @property
    def subject(self) -> str:
        """What is drawn of a layer, with a capital."""
        quantity = self.panels[0].quantity
        return "Feature maps" if quantity == "activation" else quantity.capitalize()

    @property
    def scale_words(self) -> str:
        """What the colors stand for, and what the bars at the maps are."""
        if self.panels[0].scale:
            return self.panels[0].scale
        text = self.scaler.describe()
        gains = [gain for panel in self.panels for gain in panel.gains or ()]
        marks = [mark for mark in ("constant", "faint") if any(g.mark == mark for g in gains)]
        return text + (f"; open bar: {' or '.join(marks)}" if marks else "")

    @abstractmethod
    def draw(self, colors: Pixels, canvas: Canvas) -> Canvas:
        """Draws the whole figure.

        Args:
            colors: The colors of the levels, uint8 (256, 3).
            canvas: What to draw on, not yet open.

        Returns:
            The canvas, closed; another one if the page needs more pixels an inch.

        Raises:
            OptionError: The figure would be too large.
        """

    @abstractmethod
    def describe(self) -> tuple[str, str]:
        """Returns the title and the description that the file itself carries."""

    def small_maps(self, height: int, width: int) -> list[str]:
        """Returns a remark where maps of so many pixels on the page are too small to be seen."""
        inches = max(height, width) / self.dpi
        if inches >= _SEEN_INCHES:
            return []
        return [
            f"{self.maps.layer.name}: each of {len(self.labels):,} maps is {25.4 * inches:.1f} mm "
            f"across, too small to be seen on paper; {spell('channels', _FEWER)} shows fewer, "
            "larger"
        ]

    def inches(self, number: float) -> int:
        """Returns a length in pixels."""
        return round(number * self.dpi)

    def draw_headings(self, canvas: Canvas, x: int, y: int, width: int, taken: int = 0) -> int:
        """Writes title and subtitle, in as many lines as they take.

        Args:
            canvas: What to draw on.
            x: Left edge in pixels.
            y: Upper edge in pixels.
            width: Pixels that there are across.
            taken: Of these, what is taken beside the title.

        Returns:
            Their height in pixels.
        """
        height = canvas.paragraph(x, y, self.title, 12, width - taken, bold=True)
        return height + canvas.paragraph(x, y + height, self.subtitle, 8, width, muted=True)

    def image_size(self, panel: BatchPanel, inches: float, dpi: int) -> tuple[int, int]:
        """Returns height and width of a panel's input picture at about a size; 0 without one."""
        if panel.image is None:
            return 0, 0
        height, width = panel.image.shape[:2]
        side, longest = round(inches * dpi), max(height, width)
        if longest <= 1.5 * side:
            zoom = max(1, side // longest)
            return height * zoom, width * zoom
        by = -(-longest // side)
        return height // by, width // by

    def fit_image(self, panel: BatchPanel, inches: float) -> Pixels | None:
        """Returns a panel's input picture at about a size; None where there is no picture.

        Pixels become whole blocks, or whole blocks are averaged.
        """
        if panel.image is None:
            return None
        height = self.image_size(panel, inches, self.dpi)[0]
        if height >= panel.image.shape[0]:
            return enlarge(panel.image, height // panel.image.shape[0])
        longest = max(panel.image.shape[:2])
        return reduce(panel.image, -(-longest // self.inches(inches)))

    def range_lines(self, panel: BatchPanel) -> list[str]:
        """Returns the panel's range as a line of text; none where all panels share one."""
        own = panel.tiles is not None and len({each.range for each in self.panels}) > 1
        if (self.scaler.mode not in ("epoch", "frame") and not own) or panel.range is None:
            return []
        return [panel.range.in_words(" … ")]

    def draw_scale(self, canvas: Canvas, x: int, y: int, right: int, colors: Pixels) -> int:
        """Draws what the colors stand for: a bar, its ends, and how much was not finite.

        Args:
            canvas: What to draw on.
            x: Left edge in pixels.
            y: Upper edge in pixels.
            right: Right edge in pixels.
            colors: The colors of the levels, uint8 (256, 3).

        Returns:
            Its height in pixels.
        """
        top = y
        text = f"{self.panels[0].quantity}, {self.scale_words}"
        y += canvas.paragraph(x, y, text, SMALL, right - x, muted=True)
        width = min(self.inches(2.4), (right - x) * 2 // 5)
        own = self.panels[0].bar
        bar = (colors if own is None else own)[np.linspace(0, LEVELS - 1, width).astype(int)][None]
        thick = self.inches(BAR_INCHES)
        canvas.picture(x, y, bar.repeat(thick, axis=0), framed=True, blocks=(thick, 1))
        ranges = {panel.range for panel in self.panels}
        common = ranges.pop() if len(ranges) == 1 else None
        if common is not None and common.word:
            canvas.text(x, y + thick + 2, common.word, SMALL)
        elif common is not None:
            canvas.ticks(x, y + thick, width, common.low, common.high)
        else:
            canvas.ends(x, y + thick, width)
        below = thick + canvas.line(SMALL)
        self._draw_counts(canvas, x + width + self.inches(0.2), y, right, colors)
        return y - top + below

    def _draw_counts(self, canvas: Canvas, x: int, y: int, right: int, colors: Pixels) -> None:
        """Draws, beside the bar and below one another, the colors of what is not finite."""
        thick = self.inches(BAR_INCHES)
        start = x
        for offset, kind in enumerate(("NaN", "infinite")):
            count = sum(int((panel.levels == LEVELS + offset).sum()) for panel in self.panels)
            if not count:
                continue
            text, beside = f"{count:,} {kind}", thick + self.inches(0.04)
            if x > start and x + beside + canvas.width(text, SMALL) > right:
                x, y = start, y + canvas.line(SMALL)
            swatch = np.broadcast_to(colors[LEVELS + offset], (thick, thick, 3))
            canvas.picture(x, y, swatch, blocks=(thick, thick))
            taken = canvas.text(x + beside, y, text, SMALL, max_width=right - x - beside)
            x += beside + taken + self.inches(0.15)
