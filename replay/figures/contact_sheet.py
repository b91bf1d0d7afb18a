"""Draws a contact sheet: epochs down, channels across, of the same image where there is one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from os import PathLike

from replay.figures.batch import LEVELS, BatchPanel, choose_batches, load_panel, one_group
from replay.figures.canvas import Canvas
from replay.figures.grid_layout import WIDTH, too_large
from replay.figures.page import BAR_INCHES, Figure, FigurePage, level_colors, open_canvas
from replay.maps.axes import Maps, choose_channels, spread
from replay.maps.input_picture import NO_PICTURE
from replay.maps.runs import Recordings, RunSet, choose_layers_of, open_runs
from replay.maps.scaling import Scaler
from replay.option_values import Numbers, either, one_number
from replay.output import replacing
from replay.overwriting import check_replaceable
from replay.raster.palette import Pixels, enlarge
from replay.schema import OptionError
from replay.schema.faces import spell

_MOST_BY_DEFAULT = 16  # channels; of more, those that vary most
_CHOSEN = "top:12"
_IMAGE_INCHES = 0.9  # of the one image in the header
_ROW_IMAGE_INCHES = 0.6  # of each row's image, at most
_LARGEST_INCHES = 1.0  # of a map, at most
_TEXT_INCHES = 1.2  # of a row's text, at most


def sheet(
    recording: Recordings,
    out: str | PathLike[str] | None = None,
    *,
    layer: str | None = None,
    channels: Numbers = None,
    epochs: Numbers = None,
    batch: Numbers = -1,
    epoch: Numbers = None,
    batches: Numbers = None,
    probe: int | bool | None = None,
    rows: int = 8,
    scale: str = "run",
    clip: tuple[float, float] | None = None,
    symmetric: bool = False,
    cmap: str = "gray",
    dpi: int = 200,
    title: str | None = None,
    input: bool = True,
    theme: str = "light",
    slices: Numbers = "middle",
    tokens: str = "auto",
    overwrite: bool = False,
) -> Figure:
    """Draws how each channel developed: a row for each epoch, a column for each channel.

    Args:
        recording: An open recording, or its path.
        out: A .png, .pdf or .svg; by default `run-sheet.png` beside `run.h5`.
        layer: The layer's name; the first recorded one by default.
        channels: As in `replay.animate`; by default all of up to 16, and of more the 12
            that vary most.
        epochs: The epochs to show; all by default.
        batch: The batch of each epoch; -1 is its last one.
        epoch: Another name of `epochs`.
        batches: Another name of `batch`; one number, too.
        probe: The number of a fixed image. By default the first one, if there is one, and else the
            first image of each batch; False for the latter in any case.
        rows: Epochs at most: evenly spaced, the first and the last among them.
        scale: `run`, `epoch`, `frame` or `channel`, as in `replay.animate`.
        clip: An explicit (low, high).
        symmetric: A range symmetric around zero.
        cmap: Name of a registered matplotlib colormap.
        dpi: Pixels an inch.
        title: Instead of the layer's name.
        input: Whether to draw the input picture.
        theme: `light` or `dark`.
        slices: Of a volume: `middle`, `all`, or numbers, as in `replay.animate`.
        tokens: `auto`, `square` or `strip`, as in `replay.animate`.
        overwrite: Whether a file may be replaced that mapreel has not made, as in `replay.animate`.

    Returns:
        The figure: its file, and its size in pixels or points.

    Raises:
        RecordingError: What was asked for is not there, the file is unusable or `out` cannot be
            written; nothing is left half-written.
    """
    epochs = either("epochs", epochs, "epoch", epoch)
    batch = one_number(either("batch", batch, "batches", batches, -1), "sheet", "batch")
    start = time.perf_counter()
    with open_runs(recording) as runs:
        if len(runs) > 1:
            raise OptionError(f"sheet: expected one recording, found {len(runs)}")
        run = runs[0]
        path, canvas = open_canvas(run.path, out, "sheet", dpi, theme)
        replaced = bool(check_replaceable([path], overwrite))
        if rows < 1:
            raise OptionError(f"rows {rows}: expected 1 or more")
        colors = level_colors(cmap)
        run.require_frames()
        if probe is None and run.probe_number is None and run.probes:
            probe = 0
        if probe is not None and probe is not False:
            run = run.probe(int(probe))
        shown = RunSet(run, choose_layers_of([run], layer)[:1], slices, tokens)
        cells = spread(choose_batches(shown, epochs, batch), rows)
        joint, (row,) = one_group(shown)
        if channels is None and row.maps.channels > _MOST_BY_DEFAULT:
            channels = _CHOSEN
        chosen = choose_channels(joint, channels, shown.cells())
        with replacing(path) as unfinished:
            scaler = Scaler(joint, shown.cells(), chosen, scale, clip, symmetric, count=LEVELS)
            panels = [load_panel(shown, row, at, chosen, scaler, False, input) for at in cells]
            page = _SheetPage(row.maps, chosen, scaler, panels, dpi, title, run.probe_number)
            if isinstance(channels, str) and channels.strip().startswith("top"):
                page.subtitle += ", those that vary most"
            page.write(unfinished, canvas, colors)
    seconds = time.perf_counter() - start
    return Figure(
        *(path, *canvas.size, path.stat().st_size, seconds),
        remarks=(*shown.remarks, *canvas.remarks),
        replaced=replaced,
    )


class _SheetPage(FigurePage):
    """The page: a header with the image, numbers over the columns, a row for each epoch.

    Args:
        maps: As in `FigurePage`, like those that follow.
        channels: The channels that are shown.
        scaler: The scale of the maps.
        panels: The batches, one of each epoch.
        dpi: Pixels an inch.
        title: Instead of the layer's name.
        probe: The number of the fixed image that the maps are of; None for the batches' own.
    """

    def __init__(
        self,
        maps: Maps,
        channels: Sequence[int],
        scaler: Scaler,
        panels: Sequence[BatchPanel],
        dpi: int,
        title: str | None,
        probe: int | None,
    ) -> None:
        super().__init__(maps, channels, scaler, panels, dpi, title)
        self.probe = probe
        self.source = "each row: the first image of its batch, so that the images differ"
        without = [f"epoch {panel.epoch}" for panel in panels if panel.input_text == NO_PICTURE]
        if without:
            self.source += f"; crossed out: {NO_PICTURE} ({', '.join(without)})"
        if probe is not None:
            self.source = f"the same image in every row: probe image {probe}"

    def describe(self) -> tuple[str, str]:
        """Returns the title and the description that the file itself carries."""
        title = f"{self.title}, {self.subtitle}"
        cells = ", ".join(f"epoch {panel.epoch} batch {panel.batch}" for panel in self.panels)
        return title, f"{title}; {self.source}; {cells}"

    def draw(self, colors: Pixels, canvas: Canvas) -> None:
        """Draws the whole figure; see `FigurePage.draw`."""
        margin, space, gap = self.inches(0.15), self.inches(0.12), max(2, self.inches(0.03))
        same = self.probe is not None
        image = self.fit_image(self.panels[0], _IMAGE_INCHES) if same else None
        images = [
            None if same else self.fit_image(panel, _ROW_IMAGE_INCHES) for panel in self.panels
        ]
        images_width = max(
            (each.shape[1] + space for each in images if each is not None), default=0
        )
        left = margin + self._text_width(canvas) + images_width
        count = len(self.labels)
        map_height, map_width = self.panels[0].levels.shape[1:]
        each = (self.inches(WIDTH) - left - margin - (count - 1) * gap) // count
        zoom = max(1, min(each, self.inches(_LARGEST_INCHES)) // map_width)
        while zoom > 1 and zoom * map_height > 2 * _LARGEST_INCHES * self.dpi:
            zoom -= 1
        strip = map_height == 1 < map_width
        down = max(zoom, self.inches(0.12)) if strip else zoom
        row_height = down * map_height
        width = max(left + count * (zoom * map_width + gap) - gap, self.inches(4.2)) + margin
        lines = canvas.line(12) + canvas.line(8) + canvas.line(8)
        header = max(lines, 0 if image is None else image.shape[0]) + space
        heights = []
        for panel, picture in zip(self.panels, images, strict=True):
            text_height = canvas.line(8.5) + canvas.line(7) * len(self._lines(panel))
            picture_height = 0 if picture is None else picture.shape[0]
            heights.append(max(row_height, picture_height, text_height))
        height = margin + header + canvas.line(6.5) + sum(heights) + len(heights) * 2 * gap
        height += space + 2 * canvas.line(7) + self.inches(BAR_INCHES) + margin
        if too_large(width, height):
            raise OptionError(
                f"a sheet of {width:,} by {height:,} pixels is too large; choose fewer "
                f"{spell('channels')} or {spell('rows')}"
            )
        canvas.open(width, height)
        x, y = margin, margin
        if image is not None:
            canvas.picture(x, y, image)
            x += image.shape[1] + space
        for text, points, bold in (
            (self.title, 12.0, True),
            (self.subtitle, 8.0, False),
            (self.source, 8.0, False),
        ):
            free = width - margin - x
            canvas.text(x, y, text, points, muted=not bold, bold=bold, max_width=free)
            y += canvas.line(points)
        y = margin + header
        self._draw_numbers(canvas, left, y, zoom * map_width, gap)
        y += canvas.line(6.5)
        for panel, picture, height in zip(self.panels, images, heights, strict=True):
            self._draw_text(canvas, margin, y, panel)
            if picture is not None:
                canvas.picture(left - images_width, y, picture)
            for place, levels in enumerate(panel.levels):
                at = left + place * (zoom * map_width + gap)
                canvas.picture(at, y, enlarge(colors[levels], zoom, down), map=True)
            y += height + 2 * gap
        y += space
        self.draw_scale(canvas, left, y, width - margin, colors)

    def _draw_numbers(self, canvas: Canvas, x: int, y: int, map_width: int, gap: int) -> None:
        """Writes over each column its channel, or over as many of them as there is space for."""
        free = x
        for place, label in enumerate(self.labels):
            at = x + place * (map_width + gap)
            if at >= free:
                free = at + canvas.text(at, y, label, 6.5, muted=True) + canvas.line(3)

    def _lines(self, panel: BatchPanel) -> list[str]:
        return [f"batch {panel.batch}", *panel.facts, *self.range_lines(panel)]

    def _text_width(self, canvas: Canvas) -> int:
        widths = [canvas.width(f"epoch {panel.epoch}", 8.5, bold=True) for panel in self.panels]
        widths += [canvas.width(line, 7) for p in self.panels for line in self._lines(p)]
        return min(max(widths), self.inches(_TEXT_INCHES)) + canvas.line(6)

    def _draw_text(self, canvas: Canvas, x: int, y: int, panel: BatchPanel) -> None:
        canvas.text(x, y, f"epoch {panel.epoch}", 8.5, bold=True)
        y += canvas.line(8.5)
        for line in self._lines(panel):
            canvas.text(x, y, line, 7, muted=True, max_width=self.inches(_TEXT_INCHES))
            y += canvas.line(7)
