"""The page of a contact sheet: the image, then channels side by side with a row for each epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from replay.figures.batch import BatchPanel
from replay.figures.canvas import SMALL, Canvas
from replay.figures.gain_bars import LINE_INCHES, draw_below
from replay.figures.grid_layout import check_size, draw_out
from replay.figures.page import SPACE_INCHES, FigurePage, PageOptions
from replay.figures.paper import choose_dpi
from replay.maps.axes import Maps
from replay.maps.input_picture import DAMAGED_PICTURE, NO_PICTURE
from replay.maps.scaling import Scaler
from replay.raster.mosaic import is_outlined
from replay.raster.palette import Pixels, enlarge
from replay.schema.faces import spell

_IMAGE_INCHES = 0.9  # of the one image in the header
_NARROW_IMAGE_INCHES = 0.6
_ROW_IMAGE_INCHES = 0.6  # of each row's image, at most
_NARROW_ROW_IMAGE_INCHES = 0.36
_LARGEST_INCHES = 1.0  # of a map, at most
_LEAST_INCHES = 0.36  # of a map, for which fewer columns are chosen
_TEXT_INCHES = 1.2  # of a row's text, at most
_DENSEST = 1200  # pixels an inch, for which fewer columns are chosen


@dataclass(frozen=True)
class _Layout:
    """Where things go, in pixels at one resolution.

    Attributes:
        margin: Around everything.
        text: What the text of a row takes across.
        left: From the margin to the maps.
        columns: Channels side by side.
        blocks: Height and width of the block of pixels that a map's pixel becomes.
        map_size: (height, width) of a map.
        gap: Between maps.
        width: What all of it takes across.
    """

    margin: int
    text: int
    left: int
    columns: int
    blocks: tuple[int, int]
    map_size: tuple[int, int]
    gap: int
    width: int


class SheetPage(FigurePage):
    """The page: a header with the image, then blocks of channels with a row for each epoch.

    Args:
        maps: As in `FigurePage`, like those that follow.
        channels: The channels that are shown.
        scaler: The scale of the maps.
        panels: The batches, one of each epoch.
        options: How it is laid out.
        probe: The number of the fixed image that the maps are of; None for the batches' own.
    """

    def __init__(
        self,
        maps: Maps,
        channels: Sequence[int],
        scaler: Scaler,
        panels: Sequence[BatchPanel],
        options: PageOptions,
        probe: int | None,
    ) -> None:
        super().__init__(maps, channels, scaler, panels, options)
        self.probe = probe
        self.source = "each row: the first image of its batch, so that the images differ"
        for problem in (NO_PICTURE, DAMAGED_PICTURE):
            without = [f"epoch {panel.epoch}" for panel in panels if panel.input_text == problem]
            if without:
                self.source += f"; crossed out: {problem} ({', '.join(without)})"
        if probe is not None:
            self.source = f"the same image in every row: fixed image {probe}"

    def describe(self) -> tuple[str, str]:
        """Returns the title and the description that the file itself carries."""
        name = self.maps.layer.name
        cells = ", ".join(f"epoch {panel.epoch} batch {panel.batch}" for panel in self.panels)
        text = f"{self.subject} of {name} ({self.subtitle}) from top to bottom at {cells}"
        return f"{self.title}, {self.subtitle}", f"{text}; {self.source}; {self.scale_words}"

    def draw(self, colors: Pixels, canvas: Canvas) -> Canvas:
        """Draws the whole figure; see `FigurePage.draw`."""
        options = self.options
        text = self._text_inches(canvas)
        columns = self._columns(text)
        if options.width is not None:
            tall = min(_DENSEST, self.panels[0].levels.shape[1] // int(2 * _LARGEST_INCHES))
            dpi = choose_dpi(
                options.inches,
                max(self.dpi, tall),
                lambda dpi: self._lay_out(dpi, text, columns).width,
                options.columns,
            )
            self.dpi, canvas = dpi, canvas.at(dpi)
        layout = self._lay_out(self.dpi, text, columns)
        self.remarks = self.small_maps(*layout.map_size)
        width = layout.width
        if options.width is not None:
            width = math.floor(options.inches * self.dpi)
        blocks = -(-len(self.labels) // columns)
        self._check_size(width, blocks * len(self.panels) * layout.map_size[0])
        canvas.open(width)
        right, space = width - layout.margin, self.inches(SPACE_INCHES)
        y = layout.margin
        y += self._draw_header(canvas, layout.margin, y, right) + space
        for start in range(0, len(self.labels), columns):
            places = range(start, min(start + columns, len(self.labels)))
            y += self._draw_block(canvas, y, places, layout, colors) + space
        y += self.draw_scale(canvas, layout.margin + layout.left, y, right, colors)
        y += layout.margin
        self._check_size(width, y)
        canvas.close(y, *self.describe())
        return canvas

    def _check_size(self, width: int, height: int) -> None:
        check_size("sheet", width, height, f"{spell('channels')} or {spell('rows')}")

    def _columns(self, text: float) -> int:
        """Returns how many channels stand side by side, whatever the resolution.

        Where they do not all fit, they make blocks that are as equal as can be.
        """
        count = len(self.labels)
        if self.options.columns is not None:
            return min(self.options.columns, count)
        layout = self._lay_out(self.dpi, text, 1)
        free = self.options.inches - (layout.left + 2 * layout.margin) / self.dpi
        most = int(free / (_LEAST_INCHES + 0.03))
        if self.options.width is not None:
            most = min(most, int(free * _DENSEST / self.panels[0].levels.shape[2]))
        most = max(1, most)
        return -(-count // -(-count // most))

    def _lay_out(self, dpi: int, text: float, columns: int) -> _Layout:
        """Returns where things go at a resolution.

        Args:
            dpi: Pixels an inch.
            text: Inches of the text of a row.
            columns: Channels side by side.
        """
        options = self.options
        margin, gap = round(options.margin * dpi), max(2, round(0.03 * dpi))
        left = beside = round(text * dpi)
        if self.probe is None:
            widths = [self.image_size(panel, self._row_image, dpi)[1] for panel in self.panels]
            left += max(widths) + (round(0.06 * dpi) if any(widths) else 0)
        height, width = self.panels[0].levels.shape[1:]
        each = (round(options.inches * dpi) - left - 2 * margin - (columns - 1) * gap) // columns
        zoom = max(1, min(each, round(_LARGEST_INCHES * dpi)) // width)
        while zoom > 1 and zoom * height > 2 * _LARGEST_INCHES * dpi:
            zoom -= 1
        blocks = draw_out((height, width), zoom, dpi, each)
        size = blocks[0] * height, blocks[1] * width
        across = left + columns * (size[1] + gap) - gap + 2 * margin
        if options.width is None:
            across = max(across, round(4.5 * dpi))
        return _Layout(margin, beside, left, columns, blocks, size, gap, across)

    @property
    def _row_image(self) -> float:
        return _NARROW_ROW_IMAGE_INCHES if self.options.narrow else _ROW_IMAGE_INCHES

    def _draw_header(self, canvas: Canvas, x: int, y: int, right: int) -> int:
        """Draws the image, where it is one, and the headings; returns their height in pixels."""
        inches = _NARROW_IMAGE_INCHES if self.options.narrow else _IMAGE_INCHES
        image = self.fit_image(self.panels[0], inches) if self.probe is not None else None
        height = 0
        if image is not None:
            canvas.picture(x, y, image)
            x, height = x + image.shape[1] + self.inches(SPACE_INCHES), image.shape[0]
        text = self.draw_headings(canvas, x, y, right - x)
        text += canvas.paragraph(x, y + text, self.source, 8, right - x, muted=True)
        return max(height, text)

    def _draw_block(
        self, canvas: Canvas, top: int, places: range, layout: _Layout, colors: Pixels
    ) -> int:
        """Draws some channels in all epochs; returns their height in pixels."""
        y, left = top, layout.margin + layout.left
        self._draw_numbers(canvas, left, y, places, layout.map_size[1] + layout.gap)
        y += canvas.line(SMALL)
        for panel in self.panels:
            height = self._draw_text(canvas, layout.margin, y, panel, layout.text)
            picture = None if self.probe is not None else self.fit_image(panel, self._row_image)
            if picture is not None:
                canvas.picture(layout.margin + layout.text, y, picture)
                height = max(height, picture.shape[0])
            for column, place in enumerate(places):
                at = left + column * (layout.map_size[1] + layout.gap)
                down, across = layout.blocks
                tile = enlarge(panel.picture(place, colors), across, down)
                framed = is_outlined(*panel.levels.shape[1:3])
                canvas.picture(at, y, tile, map=True, framed=framed, blocks=layout.blocks)
                if panel.gains is not None:
                    gain = panel.gains[place // self.maps.slices]
                    draw_below(canvas, gain, at, y + layout.map_size[0] + 1, layout.map_size[1])
            bar = 1 + self.inches(LINE_INCHES) if panel.gains is not None else 0
            y += max(layout.map_size[0] + bar, height) + 2 * layout.gap
        return y - top

    def _draw_numbers(self, canvas: Canvas, x: int, y: int, places: range, step: int) -> None:
        """Writes over each column its channel, or over as many of them as there is space for."""
        free = x
        for column, place in enumerate(places):
            at = x + column * step
            if at >= free:
                taken = canvas.text(at, y, self.labels[place], SMALL, muted=True)
                free = at + taken + canvas.line(3)

    def _lines(self, panel: BatchPanel) -> list[str]:
        return [f"batch {panel.batch}", *panel.facts, *self.range_lines(panel)]

    def _text_inches(self, canvas: Canvas) -> float:
        widths = [canvas.width(f"epoch {panel.epoch}", 8.5, bold=True) for panel in self.panels]
        widths += [canvas.width(line, SMALL) for p in self.panels for line in self._lines(p)]
        return min(max(widths) / self.dpi, _TEXT_INCHES) + 0.11

    def _draw_text(self, canvas: Canvas, x: int, y: int, panel: BatchPanel, width: int) -> int:
        """Writes what a row is of; returns its height in pixels."""
        free = width - self.inches(0.05)
        height = canvas.paragraph(x, y, f"epoch {panel.epoch}", 8.5, free, bold=True)
        for line in self._lines(panel):
            height += canvas.paragraph(x, y + height, line, SMALL, free, muted=True)
        return height
