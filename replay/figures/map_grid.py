"""Draws the maps of one batch, or of a few epochs under one another, as a figure for print."""

from __future__ import annotations

import time
from os import PathLike

import numpy as np

from replay.figures.batch import LEVELS, BatchPanel, choose_batches, load_panel, one_group
from replay.figures.canvas import Canvas
from replay.figures.grid_layout import WIDTH, GridCells, arrange, row_label, too_large
from replay.figures.page import BAR_INCHES, Figure, FigurePage, level_colors, open_canvas
from replay.formatting import format_number
from replay.maps.axes import choose_channels
from replay.maps.kernels import NO_KERNELS
from replay.maps.runs import Recordings, RunSet, choose_layers_of, open_runs
from replay.maps.scaling import Scaler
from replay.option_values import Numbers, either, one_number
from replay.output import replacing
from replay.overwriting import check_replaceable
from replay.raster.palette import Pixels, enlarge, is_blank, kernel_levels, kernel_reach, no_picture
from replay.schema import OptionError, SelectionError
from replay.schema.faces import spell

_IMAGE_INCHES = 1.45
_STACKED_IMAGE_INCHES = 1.0  # of each image where several batches stand under one another
_STACKED_TEXT_INCHES = 1.7  # at most


def grid(
    recording: Recordings,
    out: str | PathLike[str] | None = None,
    *,
    layer: str | None = None,
    epochs: Numbers = -1,
    batch: Numbers = -1,
    epoch: Numbers = None,
    batches: Numbers = None,
    channels: Numbers = None,
    scale: str = "run",
    clip: tuple[float, float] | None = None,
    symmetric: bool = False,
    cmap: str = "gray",
    dpi: int = 200,
    kernels: bool = False,
    title: str | None = None,
    input: bool = True,
    theme: str = "light",
    slices: Numbers = "middle",
    tokens: str = "auto",
    probe: int | None = None,
    overwrite: bool = False,
) -> Figure:
    """Draws a static figure: the input picture, every map with its number, a colour bar.

    Several epochs, and several recordings, stand under one another. The ranges are those of all
    that was recorded, as in an animation of all of it, whatever part is drawn.

    Args:
        recording: An open recording, or its path; or several, as of the ranks of one run.
        out: A .png, .pdf or .svg; by default `run-grid.png` beside `run.h5`.
        layer: The layer's name; the first recorded one by default.
        epochs: The epochs to compare, by number; -1 is the last.
        batch: The batch, by number; -1 is the last of each epoch. Epochs and batches are those
            in which the layer has a frame.
        epoch: Another name of `epochs`.
        batches: Another name of `batch`; one number, too.
        channels: As in `replay.animate`; all by default.
        scale: `run`, `epoch`, `frame` or `channel`, as in `replay.animate`.
        clip: An explicit (low, high).
        symmetric: A range symmetric around zero.
        cmap: Name of a registered matplotlib colormap.
        dpi: Pixels an inch. A map's pixel is a block of whole pixels, so that the page grows
            where the maps need it.
        kernels: Draws each map's kernel beside it, as it was in that forward.
        title: Instead of the layer's name.
        input: Whether to draw the input picture.
        theme: `light` or `dark`.
        slices: Of a volume: `middle`, `all`, or numbers, as in `replay.animate`.
        tokens: `auto`, `square` or `strip`, as in `replay.animate`.
        probe: The number of a fixed image, whose maps are shown.
        overwrite: Whether a file may be replaced that mapreel has not made, as in `replay.animate`.

    Returns:
        The figure: its file, and its size in pixels or points.

    Raises:
        RecordingError: What was asked for is not there, the file is unusable or `out` cannot be
            written; nothing is left half-written.
    """
    epochs = either("epochs", epochs, "epoch", epoch, -1)
    batch = one_number(either("batch", batch, "batches", batches, -1), "grid", "batch")
    start = time.perf_counter()
    with open_runs(recording, probe) as runs:
        path, canvas = open_canvas(runs[0].path, out, "grid", dpi, theme)
        replaced = bool(check_replaceable([path], overwrite))
        colors = level_colors(cmap)
        shown = RunSet(runs, choose_layers_of(runs, layer)[:1], slices, tokens)
        cells = choose_batches(shown, epochs, batch)
        joint, rows = one_group(shown)
        chosen = choose_channels(joint, channels, shown.cells())
        for row in rows if kernels else []:
            series = row.maps.series
            if series.kernels(*cells[0]).shape[0] != row.maps.channels:
                raise SelectionError(
                    f"the kernels of {series.name!r} do not belong to one map each"
                )
        with replacing(path) as unfinished:
            scaler = Scaler(joint, shown.cells(), chosen, scale, clip, symmetric, count=LEVELS)
            panels = [
                load_panel(shown, row, cell, chosen, scaler, kernels, input)
                for cell in cells
                for row in rows
            ]
            page = _GridPage(rows[0].maps, chosen, scaler, panels, dpi, title)
            page.write(unfinished, canvas, colors)
    seconds = time.perf_counter() - start
    return Figure(
        *(path, *canvas.size, path.stat().st_size, seconds),
        remarks=(*shown.remarks, *canvas.remarks),
        replaced=replaced,
    )


class _GridPage(FigurePage):
    """The page: header, the panels with their input pictures, and the scale below."""

    def describe(self) -> tuple[str, str]:
        """Returns the title and the description that the file itself carries."""
        cells = ", ".join(
            f"{panel.label} epoch {panel.epoch} batch {panel.batch}".strip()
            for panel in self.panels
        )
        name = self.maps.layer.name
        text = f"Feature maps of {name} ({self.subtitle}) at {cells}; {self.scaler.words}"
        return f"{name}, {self.subtitle}", text

    def draw(self, colors: Pixels, canvas: Canvas) -> None:
        """Draws the whole figure; see `FigurePage.draw`."""
        panels = self.panels
        stacked = len(panels) > 1
        margin, space = self.inches(0.15), self.inches(0.12)
        inches = _STACKED_IMAGE_INCHES if stacked else _IMAGE_INCHES
        images = [self.fit_image(panel, inches) for panel in panels]
        image_width = max((image.shape[1] for image in images if image is not None), default=0)
        text_width = self._text_width(canvas) if stacked else 0
        left = text_width + (image_width + space if image_width else 0)
        kernel = panels[0].kernels
        size = panels[0].levels.shape[1:]
        grid = arrange(
            len(self.labels),
            (size[0], size[1]),
            self.inches(WIDTH) - 2 * margin - left,
            len(panels),
            self.dpi,
            canvas.line(6.5),
            None if kernel is None else ((*kernel.shape[2:-1], 1)[0], kernel.shape[-1]),
            self.maps.slices,
        )
        width = max(left + grid.width, self.inches(4.6)) + 2 * margin
        header = canvas.line(12) + canvas.line(8) + space
        footer = canvas.line(7) * (2 if kernel is None else 3) + self.inches(BAR_INCHES)
        text_height = canvas.line(8.5) * (7 if stacked else 0)
        heights = [grid.height] * len(panels)
        for place, image in enumerate(images):
            image_height = 0 if image is None else image.shape[0]
            below = 0 if stacked or image is None else canvas.line(7.5) * 3
            heights[place] = max(grid.height, image_height + below, text_height)
        height = margin + header + sum(heights) + space * len(panels) + footer + margin
        if too_large(width, height):
            raise OptionError(
                f"a figure of {width:,} by {height:,} pixels is too large; choose fewer "
                f"{spell('channels')} or epochs, or a lower {spell('dpi')}"
            )
        canvas.open(width, height)
        self._draw_header(canvas, margin, width)
        y = margin + header
        for panel, image, height in zip(panels, images, heights, strict=True):
            if stacked:
                self._draw_text(canvas, margin, y, panel, text_width)
            if image is not None:
                canvas.picture(margin + text_width, y, image)
                if not stacked:
                    self._draw_below_image(canvas, margin, y + image.shape[0], panel, image_width)
            self._draw_maps(canvas, margin + left, y, panel, grid, colors)
            y += height + space
        self._draw_footer(canvas, margin + left, y, width - margin, colors)

    def _draw_header(self, canvas: Canvas, margin: int, width: int) -> None:
        panel = self.panels[0]
        right = ""
        if len(self.panels) == 1:
            right = "   ".join([f"epoch {panel.epoch}", f"batch {panel.batch}", *panel.facts])
        drop = round(1.1 * 3 * self.dpi / 72)  # so that both stand on one line
        taken = canvas.text(width - margin, margin + drop, right, 9, align="right")
        free = width - 2 * margin - taken - canvas.line(6)
        canvas.text(margin, margin, self.title, 12, bold=True, max_width=free)
        y = margin + canvas.line(12)
        canvas.text(margin, y, self.subtitle, 8, muted=True, max_width=width - 2 * margin)

    def _lines(self, panel: BatchPanel) -> list[str]:
        lines = [f"batch {panel.batch}", *panel.facts, *panel.answers]
        if panel.label:
            lines.insert(0, f"epoch {panel.epoch}")
        if panel.image is not None and panel.input_text != "input":
            lines.append(panel.input_text)
        return lines + self.range_lines(panel)

    def _head(self, panel: BatchPanel) -> str:
        return panel.label or f"epoch {panel.epoch}"

    def _text_width(self, canvas: Canvas) -> int:
        widths = [canvas.width(self._head(panel), 9, bold=True) for panel in self.panels]
        widths += [canvas.width(line, 7.5) for p in self.panels for line in self._lines(p)]
        return min(max(widths), self.inches(_STACKED_TEXT_INCHES)) + canvas.line(7)

    def _draw_text(self, canvas: Canvas, x: int, y: int, panel: BatchPanel, max_width: int) -> None:
        canvas.text(x, y, self._head(panel), 9, bold=True, max_width=max_width)
        y += canvas.line(9)
        for line in self._lines(panel):
            canvas.text(x, y, line, 7.5, muted=True, max_width=max_width - canvas.line(3))
            y += canvas.line(7.5)

    def _draw_below_image(
        self, canvas: Canvas, x: int, y: int, panel: BatchPanel, max_width: int
    ) -> None:
        canvas.text(x, y + 2, panel.input_text, 7, muted=True, max_width=max_width)
        for line in panel.answers:
            y += canvas.line(7.5)
            canvas.text(x, y + 2, line, 7.5, max_width=max_width)

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
        fits = max(canvas.width(label, 6.5) for label in self.labels) < grid.map_size[1]
        for place, label in enumerate(self.labels):
            dx, dy = grid.place(place)
            down = grid.map_size[0] // panel.levels.shape[1]
            tile = enlarge(colors[panel.levels[place]], grid.zoom, down)
            canvas.picture(x + dx, y + dy, tile, map=True)
            if kernels is not None and place % slices == 0:
                kernel = kernels[place // slices].astype(np.uint8)
                if missing:
                    kernel = no_picture(*kernel.shape[:2])
                canvas.picture(x + dx + grid.kernel_at, y + dy, enlarge(kernel, grid.kernel_zoom))
            if self.scaler.mode == "channel":
                own = self.scaler.channel_range(place // slices)
                longer = f"{label}   {own.in_words(' … ')}"
                label = longer if canvas.width(longer, 6.5) < grid.cell_size[1] else label
            if not fits:
                row = self.channels[place : place + grid.columns]
                first = row_label(row) if slices == 1 else f"{label} …"
                label = first if place % grid.columns == 0 else ""
            canvas.text(x + dx, y + dy + grid.number_at, label, 6.5, muted=True)

    def _draw_footer(self, canvas: Canvas, x: int, y: int, right: int, colors: Pixels) -> None:
        self.draw_scale(canvas, x, y, right, colors)
        if self.panels[0].kernels is not None:
            reach = self._kernel_reach()
            _, kind = kernel_levels(self.panels[0].kernels, reach)
            middle = "gray" if "RGB" in kind else "white"
            text = f"{kind}: {middle} is 0, ends ±{format_number(reach)}"
            without = [p for p in self.panels if p.kernels is not None and is_blank(p.kernels)]
            if without:
                where = ", ".join(f"epoch {panel.epoch} batch {panel.batch}" for panel in without)
                text += f"; crossed out: {NO_KERNELS} ({where})"
            y += 2 * canvas.line(7) + self.inches(BAR_INCHES)
            canvas.text(x, y, text, 7, muted=True, max_width=right - x)

    def _kernel_reach(self) -> float:
        return max(kernel_reach(p.kernels) for p in self.panels if p.kernels is not None)
