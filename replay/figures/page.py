"""What every figure of feature maps has: title, input pictures, a scale, and a file to go to."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from replay.figures.batch import LEVELS, BatchPanel
from replay.figures.canvas import SUFFIXES, Canvas, figure_theme
from replay.formatting import clean, format_module
from replay.maps.axes import Maps
from replay.maps.scaling import Scaler
from replay.output import check_suffix
from replay.raster.palette import Pixels, colormap, enlarge, reduce, unfinite_colors
from replay.schema import OptionError

BAR_INCHES = 0.1  # height of the color bar


@dataclass(frozen=True)
class Figure:
    """A figure that was drawn.

    Attributes:
        path: The file.
        width: Its width in pixels; a PDF's or SVG's in points.
        height: Its height likewise.
        bytes: Its size.
        seconds: How long drawing took.
        remarks: What a reader should know: batches left out, recordings of different runs.
        replaced: Whether there was a file before.
    """

    path: Path
    width: int
    height: int
    bytes: int
    seconds: float
    remarks: tuple[str, ...] = ()
    replaced: bool = False


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


class FigurePage(ABC):
    """A figure of the maps of one layer in some batches.

    Args:
        maps: The layer's maps.
        channels: The channels that are shown.
        scaler: The scale of the maps.
        panels: The batches, from the top down.
        dpi: Pixels an inch.
        title: Instead of the layer's name.
    """

    def __init__(
        self,
        maps: Maps,
        channels: Sequence[int],
        scaler: Scaler,
        panels: Sequence[BatchPanel],
        dpi: int,
        title: str | None,
    ) -> None:
        self.maps, self.channels, self.scaler, self.panels = maps, channels, scaler, panels
        self.labels = maps.labels(channels)
        self.dpi = dpi
        self.title = clean(maps.layer.name if title is None else title)
        self.subtitle = maps.in_words(len(channels))
        if module := format_module(maps.layer.module):
            self.subtitle = f"{module}   {self.subtitle}"

    @abstractmethod
    def draw(self, colors: Pixels, canvas: Canvas) -> None:
        """Draws the whole figure.

        Args:
            colors: The colors of the levels, uint8 (256, 3).
            canvas: What to draw on, not yet open.

        Raises:
            OptionError: The figure would be too large.
        """

    @abstractmethod
    def describe(self) -> tuple[str, str]:
        """Returns the title and the description that the file itself carries."""

    def write(self, path: Path, canvas: Canvas, colors: Pixels) -> None:
        """Draws the figure and writes it to a file.

        Args:
            path: The file.
            canvas: What to draw on, not yet open.
            colors: The colors of the levels, uint8 (256, 3).

        Raises:
            OptionError: The figure would be too large.
        """
        self.draw(colors, canvas)
        title, text = self.describe()
        drawn = io.BytesIO()
        canvas.save(drawn, title=title, text=text)
        path.write_bytes(drawn.getvalue())

    def inches(self, number: float) -> int:
        """Returns a length in pixels."""
        return round(number * self.dpi)

    def fit_image(self, panel: BatchPanel, inches: float) -> Pixels | None:
        """Returns a panel's input picture at about a size; None where there is no picture.

        Pixels become whole blocks, or whole blocks are averaged.
        """
        if panel.image is None:
            return None
        side, longest = self.inches(inches), max(panel.image.shape[:2])
        if longest <= 1.5 * side:
            return enlarge(panel.image, max(1, side // longest))
        return reduce(panel.image, -(-longest // side))

    def range_lines(self, panel: BatchPanel) -> list[str]:
        """Returns the panel's range as a line of text; none where all panels share one."""
        if self.scaler.mode not in ("epoch", "frame") or panel.range is None:
            return []
        return [panel.range.in_words(" … ")]

    def draw_scale(self, canvas: Canvas, x: int, y: int, right: int, colors: Pixels) -> None:
        """Draws what the colors stand for: a bar, its ends, and how much was not finite.

        Args:
            canvas: What to draw on.
            x: Left edge in pixels.
            y: Upper edge in pixels.
            right: Right edge in pixels.
            colors: The colors of the levels, uint8 (256, 3).
        """
        width = min(self.inches(2.4), (right - x) * 2 // 5)
        bar = colors[np.linspace(0, LEVELS - 1, width).astype(int)][None]
        canvas.text(x, y, f"activation, {self.scaler.words}", 7, muted=True, max_width=right - x)
        y += canvas.line(7)
        thick = self.inches(BAR_INCHES)
        canvas.picture(x, y, bar.repeat(thick, axis=0), framed=True)
        ranges = {panel.range for panel in self.panels}
        common = ranges.pop() if len(ranges) == 1 else None
        if common is not None and common.word:
            canvas.text(x, y + thick + 2, common.word, 7)
        elif common is not None:
            canvas.ticks(x, y + thick, width, common.low, common.high)
        at = x + width + self.inches(0.2)
        for offset, kind in enumerate(("NaN", "infinite")):
            count = sum(int((panel.levels == LEVELS + offset).sum()) for panel in self.panels)
            if count:
                swatch = np.broadcast_to(colors[LEVELS + offset], (thick, thick, 3))
                canvas.picture(at, y, swatch)
                at += thick + self.inches(0.04)
                text = f"{count:,} {kind}"
                at += canvas.text(at, y, text, 7, max_width=right - at) + self.inches(0.15)
