"""The page of a grid: headings, the batches with their input pictures, and the scale below."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from replay.figures.batch import BatchPanel
from replay.figures.canvas import SMALL, Canvas
from replay.figures.gain_bars import BarsBeside, draw_below
from replay.figures.grid_layout import HIGHEST, GridCells, arrange, check_size, row_label
from replay.figures.page import SPACE_INCHES, FigurePage
from replay.figures.paper import choose_dpi
from replay.formatting import format_number
from replay.maps.kernels import NO_KERNELS
from replay.raster.mosaic import is_outlined
from replay.raster.palette import Pixels, enlarge, is_blank, kernel_levels, kernel_reach, no_picture
from replay.schema.faces import spell

_IMAGE_INCHES = 1.45
_STACKED_IMAGE_INCHES = 1.0  # of each image where several batches stand under one another
_NARROW_IMAGE_INCHES = 0.6  # of each image where it stands over the maps
_CAPTION_INCHES = 0.6  # at least, of what is written below a picture
_STACKED_TEXT_INCHES = 1.7  # at most
_FINE = 1200  # pixels an inch at which columns are chosen for a width on paper


@dataclass(frozen=True)
class _Layout:
    """Where things go, in pixels at one resolution.

    Attributes:
        margin: Around everything.
        left: From the margin to the maps.
        beside: Of `left`, what text takes.
        grid: The maps.
        width: What all of it takes across.
    """

    margin: int
    left: int
    beside: int
    grid: GridCells
    width: int


class GridPage(FigurePage):
    """The page: header, the panels with their input pictures, and the scale below."""

    def describe(self) -> tuple[str, str]:
        """Returns the title and the description that the file itself carries."""
        cells = ", ".join(
            f"{panel.label} epoch {panel.epoch} batch {panel.batch}".strip()
            for panel in self.panels
        )
        name = self.maps.layer.name
        text = f"{self.subject} of {name} ({self.subtitle}) at {cells}; {self.scale_words}"
        return f"{self.title}, {self.subtitle}", text

    def draw(self, colors: Pixels, canvas: Canvas) -> Canvas:
        """Draws the whole figure; see `FigurePage.draw`."""
        options = self.options
        beside = 0.0 if options.narrow or len(self.panels) == 1 else self._text_inches(canvas)
        columns = self._columns(beside)

        def lay_out(dpi: int) -> _Layout:
            return self._lay_out(dpi, beside, columns)

        if options.width is not None:
            tall = math.ceil(self.panels[0].levels.shape[1] / HIGHEST)
            dpi = choose_dpi(
                options.inches,
                max(self.dpi, tall),
                lambda dpi: lay_out(dpi).width,
                options.columns,
            )
            self.dpi, canvas = dpi, canvas.at(dpi)
        layout = lay_out(self.dpi)
        width, margin, space = layout.width, layout.margin, self.inches(SPACE_INCHES)
        if options.width is not None:
            width = math.floor(options.inches * self.dpi)
        self.remarks = self.small_maps(*layout.grid.map_size)
        inner = width - 2 * margin
        text = canvas.line(7.5) * (3 if beside else 0)  # at least, before all of it is drawn
        self._check_size(width, (max(layout.grid.height, text) + space) * len(self.panels))
        canvas.open(width)
        y = margin
        if header := self._draw_header(canvas, margin, margin, inner):
            y += header + space
        for panel in self.panels:
            below = 0
            if options.narrow:
                y += self._draw_over(canvas, margin, y, panel, inner)
            else:
                below = self._draw_beside(canvas, margin, y, panel, layout)
            self._draw_maps(canvas, margin + layout.left, y, panel, layout.grid, colors)
            y += max(layout.grid.height, below) + space
        y += self._draw_footer(canvas, margin + layout.left, y, width - margin, colors) + margin
        self._check_size(width, y)
        canvas.close(y, *self.describe())
        return canvas

    def _check_size(self, width: int, height: int) -> None:
        instead = f"{spell('channels')} or epochs, or a lower {spell('dpi')}"
        check_size("figure", width, height, instead)

    def _columns(self, beside: float) -> int:
        """Returns how many maps stand side by side, whatever the resolution."""
        if self.options.columns is not None:
            return min(self.options.columns, len(self.labels))
        dpi = self.dpi if self.options.width is None else _FINE
        return self._lay_out(dpi, beside, None).grid.columns

    def _lay_out(self, dpi: int, beside: float, columns: int | None) -> _Layout:
        """Returns where things go at a resolution.

        Args:
            dpi: Pixels an inch.
            beside: Inches of the text beside the pictures.
            columns: Maps side by side; None for as many as look well.
        """
        options, panels = self.options, self.panels
        margin = round(options.margin * dpi)
        left = 0
        if not options.narrow:
            sizes = [self.image_size(panel, self._image_inches, dpi) for panel in panels]
            image_width = max(width for _, width in sizes)
            if image_width and len(panels) == 1:
                image_width = max(image_width, round(_CAPTION_INCHES * dpi))
            left = round(beside * dpi) + image_width
            left += round(SPACE_INCHES * dpi) if image_width else 0
        size, kernel = panels[0].levels.shape[1:], panels[0].kernels
        grid = arrange(
            len(self.labels),
            (size[0], size[1]),
            round(options.inches * dpi) - 2 * margin - left,
            len(panels) if not options.narrow else 2,
            dpi,
            round(1.4 * SMALL * dpi / 72),
            None if kernel is None else ((*kernel.shape[2:-1], 1)[0], kernel.shape[-1]),
            self.maps.slices,
            columns,
        )
        width = left + grid.width
        if options.width is None:
            width = max(width, round(4.6 * dpi))
        return _Layout(margin, left, round(beside * dpi), grid, width + 2 * margin)

    @property
    def _image_inches(self) -> float:
        if self.options.narrow:
            return _NARROW_IMAGE_INCHES
        return _STACKED_IMAGE_INCHES if len(self.panels) > 1 else _IMAGE_INCHES

    def _draw_header(self, canvas: Canvas, x: int, y: int, width: int) -> int:
        """Draws the headings, and beside them, where there is space, what is said of one batch."""
        panel, taken = self.panels[0], 0
        if self.options.narrow and len(self.panels) == 1:
            return 0  # it stands beside the picture
        if len(self.panels) == 1:
            right = "   ".join(self._facts(panel))
            drop = round(1.1 * 3 * self.dpi / 72)  # so that both stand on one line
            taken = canvas.text(x + width, y + drop, right, 9, align="right") + canvas.line(6)
        return self.draw_headings(canvas, x, y, width, taken)

    def _facts(self, panel: BatchPanel) -> list[str]:
        return [f"epoch {panel.epoch}", f"batch {panel.batch}", *panel.facts]

    def _lines(self, panel: BatchPanel) -> list[str]:
        lines = [f"batch {panel.batch}", *panel.facts, *panel.answers]
        if panel.label:
            lines.insert(0, f"epoch {panel.epoch}")
        if panel.image is not None and panel.input_text != "input":
            lines.append(panel.input_text)
        return lines + self.range_lines(panel)

    def _head(self, panel: BatchPanel) -> str:
        return panel.label or f"epoch {panel.epoch}"

    def _text_inches(self, canvas: Canvas) -> float:
        widths = [canvas.width(self._head(panel), 9, bold=True) for panel in self.panels]
        widths += [canvas.width(line, 7.5) for p in self.panels for line in self._lines(p)]
        return min(max(widths) / self.dpi, _STACKED_TEXT_INCHES) + 0.14

    def _draw_over(self, canvas: Canvas, x: int, y: int, panel: BatchPanel, width: int) -> int:
        """Draws picture and text over the maps of a batch; returns their height in pixels."""
        image = self.fit_image(panel, self._image_inches)
        height = 0
        if image is not None:
            canvas.picture(x, y, image)
            height = image.shape[0]
            taken = image.shape[1] + self.inches(SPACE_INCHES)
            x, width = x + taken, width - taken
        start = y
        if len(self.panels) == 1:
            y += self.draw_headings(canvas, x, y, width)
        head = "   ".join(([panel.label] if panel.label else []) + self._facts(panel))
        y += canvas.paragraph(x, y, head, 7.5, width, bold=True)
        more = list(panel.answers)
        if panel.image is not None and panel.input_text != "input":
            more.append(panel.input_text)
        text = "   ".join(more + self.range_lines(panel))
        y += canvas.paragraph(x, y, text, SMALL, width, muted=True)
        return max(height, y - start) + self.inches(0.06)

    def _draw_beside(
        self, canvas: Canvas, x: int, y: int, panel: BatchPanel, layout: _Layout
    ) -> int:
        """Draws picture and text left of the maps of a batch; returns their height in pixels."""
        image, stacked = self.fit_image(panel, self._image_inches), len(self.panels) > 1
        height = 0
        if stacked:
            free = layout.beside - self.inches(0.06)
            height = canvas.paragraph(x, y, self._head(panel), 9, free, bold=True)
            for line in self._lines(panel):
                height += canvas.paragraph(x, y + height, line, 7.5, free, muted=True)
        if image is None:
            return height
        canvas.picture(x + layout.beside, y, image)
        below = int(image.shape[0])
        if not stacked:
            below += 2
            width = max(image.shape[1], round(_CAPTION_INCHES * self.dpi))
            below += canvas.paragraph(x, y + below, panel.input_text, SMALL, width, muted=True)
            for line in [*panel.answers, *self.range_lines(panel)]:
                below += canvas.paragraph(x, y + below, line, 7.5, width)
        return max(height, below)

    def _draw_maps(
        self,
        canvas: Canvas,
        x: int,
        y: int,
        panel: BatchPanel,
        grid: GridCells,
        colors: Pixels,
    ) -> None:
        kernels = None
        missing = panel.kernels is not None and is_blank(panel.kernels)
        if panel.kernels is not None:
            levels, _ = kernel_levels(panel.kernels, self._kernel_reach())
            kernels = np.rint((levels if levels.ndim == 4 else canvas.diverging(levels)) * 255)
        slices = self.maps.slices
        bars = None  # numbers do not fit: each row has one
        if max(canvas.width(label, SMALL) for label in self.labels) < grid.map_size[1]:
            gains = [gain for each in self.panels for gain in each.gains or ()]
            bars = BarsBeside.fit(canvas, self.labels, gains, grid.map_size[1])
        down = grid.map_size[0] // panel.levels.shape[1]
        across = grid.map_size[1] // panel.levels.shape[2]
        outlined = is_outlined(*panel.levels.shape[1:3])
        for place in range(len(self.labels)):
            dx, dy = grid.place(place)
            tile = enlarge(panel.picture(place, colors), across, down)
            canvas.picture(x + dx, y + dy, tile, map=True, framed=outlined, blocks=(down, across))
            if kernels is not None and place % slices == 0:
                kernel = kernels[place // slices].astype(np.uint8)
                if missing:
                    kernel = no_picture(*kernel.shape[:2])
                zoom = grid.kernel_zoom
                at = x + dx + grid.kernel_at, y + dy
                framed = is_outlined(*kernel.shape[:2])
                canvas.picture(*at, enlarge(kernel, zoom), framed=framed, blocks=(zoom, zoom))
            self._draw_label(canvas, panel, grid, x + dx, y + dy, place, bars)

    def _draw_label(
        self,
        canvas: Canvas,
        panel: BatchPanel,
        grid: GridCells,
        x: int,
        y: int,
        place: int,
        bars: BarsBeside | None,
    ) -> None:
        """Writes a map's number, and draws how strong its channel is.

        Args:
            canvas: What to draw on.
            panel: The batch.
            grid: Where the maps lie.
            x: Left edge of the map in pixels.
            y: Its upper edge.
            place: Which map it is.
            bars: The bars beside numbers; None where each row of maps has one number.
        """
        label, slices, below = self.labels[place], self.maps.slices, y + grid.number_at
        if self.scaler.mode == "channel":
            own = self.scaler.channel_range(place // slices)
            longer = f"{label}   {own.in_words(' … ')}"
            label = longer if canvas.width(longer, SMALL) < grid.cell_size[1] else label
        if bars is None:
            row = self.channels[place : place + grid.columns]
            first = row_label(row) if slices == 1 else f"{label} …"
            label = first if place % grid.columns == 0 else ""
        canvas.text(x, below, label, SMALL, muted=True)
        if panel.gains is None:
            return
        gain, width = panel.gains[place // slices], grid.map_size[1]
        if bars is not None:
            bars.draw(canvas, gain, x + width, below)
        else:
            draw_below(canvas, gain, x, y + grid.map_size[0] + 1, width)

    def _draw_footer(self, canvas: Canvas, x: int, y: int, right: int, colors: Pixels) -> int:
        """Draws what the colors stand for; returns its height in pixels."""
        height = self.draw_scale(canvas, x, y, right, colors)
        if self.panels[0].kernels is not None:
            reach = self._kernel_reach()
            _, kind = kernel_levels(self.panels[0].kernels, reach)
            middle = "gray" if "RGB" in kind else "white"
            text = f"{kind}: {middle} is 0, ends ±{format_number(reach)}"
            without = [p for p in self.panels if p.kernels is not None and is_blank(p.kernels)]
            if without:
                where = ", ".join(f"epoch {panel.epoch} batch {panel.batch}" for panel in without)
                text += f"; crossed out: {NO_KERNELS} ({where})"
            height += canvas.line(SMALL) // 3
            height += canvas.paragraph(x, y + height, text, SMALL, right - x, muted=True)
        return height

    def _kernel_reach(self) -> float:
        return max(kernel_reach(p.kernels) for p in self.panels if p.kernels is not None)
