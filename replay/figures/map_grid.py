"""Draws the maps of one batch, or of a few epochs under one another, as a figure for print."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from replay.figures import grid_layout as cellular
from replay.figures.batch import LEVELS, BatchPanel, choose_batches, load_panel, one_group
from replay.figures.canvas import SUFFIXES, Canvas, theme_of
from replay.formatting import clean, format_module, format_number
from replay.maps.axes import Maps
from replay.maps.kernels import NO_KERNELS
from replay.maps.runs import Recordings, RunSet, choose_layers_of, open_runs
from replay.maps.scaling import Scaler
from replay.maps.selection import choose_channels
from replay.options import Numbers
from replay.output import check_suffix, replacing
from replay.raster.images import (
    Pixels,
    enlarge,
    is_blank,
    kernel_levels,
    kernel_reach,
    no_picture,
    reduce,
)
from replay.raster.palette import colormap, foreign
from replay.schema import OptionError, SelectionError

_INPUT_INCHES = 1.45
_STACKED_INPUT_INCHES = 1.0
_STACKED_WORDS_INCHES = 1.7  # at most
_THICK_INCHES = 0.1  # of the colour bar


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
    """

    path: Path
    width: int
    height: int
    bytes: int
    seconds: float
    remarks: tuple[str, ...] = ()


def grid(
    recording: Recordings,
    out: str | PathLike[str] | None = None,
    *,
    layer: str | None = None,
    epochs: Numbers = -1,
    batch: int = -1,
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
) -> Figure:
    """Draws a static figure: the input picture, every map with its number, a colour bar.

    Several epochs, and several recordings, stand under one another. The ranges are those of all
    that was recorded, as in an animation of all of it, whatever part is drawn.

    Args:
        recording: An open recording, or its path; or several, as of the ranks of one run.
        out: A .png, .pdf or .svg; by default `run-grid.png` beside `run.h5`. Replaced if it exists.
        layer: The layer's name; the first recorded one by default.
        epochs: The epochs to compare, by number; -1 is the last.
        batch: The batch, by number; -1 is the last of each epoch. Epochs and batches are those
            in which the layer has a frame.
        channels: As in `selection.choose_channels`.
        scale: `run`, `epoch`, `frame` or `channel`, see `scaling.Scaler`.
        clip: An explicit (low, high).
        symmetric: A range symmetric around zero.
        cmap: Name of a registered matplotlib colormap.
        dpi: Pixels an inch. A map's pixel is a block of whole pixels, so that the page grows
            where the maps need it.
        kernels: Draws each map's kernel beside it, as it was in that forward.
        title: Instead of the layer's name.
        input: Whether to draw the input picture.
        theme: `light` or `dark`.
        slices: Of a volume: `middle`, `all`, or numbers as in `selection.choose`.
        tokens: `auto`, `square` or `strip`, see `shapes.layout_of`.
        probe: The number of a fixed image, whose maps are shown.

    Raises:
        RecordingError: What was asked for is not there, the file is unusable or `out` cannot be
            written; nothing is left half-written.
    """
    start = time.perf_counter()
    with open_runs(recording, probe) as runs:
        source = runs[0].path
        path = source.with_name(f"{source.stem}-grid.png") if out is None else Path(out)
        suffix = check_suffix(path, SUFFIXES)
        if not 20 <= dpi <= 2400:
            raise OptionError(f"dpi {dpi}: expected 20 to 2400")
        look = theme_of(theme)
        colours = colormap(cmap, LEVELS)
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
        with replacing(path) as beside:
            scaler = Scaler(joint, shown.cells(), chosen, scale, clip, symmetric, count=LEVELS)
            blocks = [
                load_panel(shown, row, cell, chosen, scaler, kernels, input)
                for cell in cells
                for row in rows
            ]
            page = _Page(rows[0].maps, chosen, scaler, blocks, dpi, title)
            table = np.concatenate([colours, foreign(colours)])
            canvas = page.draw(table, Canvas(dpi, look, suffix))
            drawn = io.BytesIO()
            words = f"{page.maps.layer.name}, {page.subtitle}"
            canvas.save(drawn, title=words, text=_alt_text(page))
            beside.write_bytes(drawn.getvalue())
    seconds = time.perf_counter() - start
    return Figure(path, *canvas.size, path.stat().st_size, seconds, tuple(shown.remarks))


class _Page:
    """The page: header, the blocks with their input pictures, and the scale below."""

    def __init__(
        self,
        maps: Maps,
        channels: Sequence[int],
        scaler: Scaler,
        blocks: Sequence[BatchPanel],
        dpi: int,
        title: str | None,
    ) -> None:
        self.maps, self.channels, self.scaler, self.blocks = maps, channels, scaler, blocks
        self.labels = maps.labels(channels)
        self.dpi = dpi
        self.title = clean(maps.layer.name if title is None else title)
        self.subtitle = maps.in_words(len(channels))
        if words := format_module(maps.layer.module):
            self.subtitle = f"{words}   {self.subtitle}"

    def draw(self, colours: Pixels, canvas: Canvas) -> Canvas:
        """Draws all of it, in the colours of the levels, uint8 (levels, 3)."""
        dpi, blocks = self.dpi, self.blocks
        stacked = len(blocks) > 1
        margin, space = round(0.15 * dpi), round(0.12 * dpi)
        images = [self._fit_input(block, stacked) for block in blocks]
        image_width = max((image.shape[1] for image in images if image is not None), default=0)
        words_width = self._words_width(canvas) if stacked else 0
        left = words_width + (image_width + space if image_width else 0)
        kernel = blocks[0].kernels
        size = blocks[0].levels.shape[1:]
        cells = cellular.arrange(
            len(self.labels),
            (size[0], size[1]),
            round(cellular.WIDTH * dpi) - 2 * margin - left,
            len(blocks),
            dpi,
            canvas.line(6.5),
            None if kernel is None else ((*kernel.shape[2:-1], 1)[0], kernel.shape[-1]),
            self.maps.slices,
        )
        width = max(left + cells.width, round(4.6 * dpi)) + 2 * margin
        header = canvas.line(12) + canvas.line(8) + space
        footer = canvas.line(7) * (2 if kernel is None else 3) + round(_THICK_INCHES * dpi)
        beside = canvas.line(8.5) * (7 if stacked else 0)
        heights = [cells.height] * len(blocks)
        for place, image in enumerate(images):
            tall = 0 if image is None else image.shape[0]
            below = 0 if stacked or image is None else canvas.line(7.5) * 3
            heights[place] = max(cells.height, tall + below, beside)
        height = margin + header + sum(heights) + space * len(blocks) + footer + margin
        if cellular.too_large(width, height):
            raise OptionError(
                f"a figure of {width:,} by {height:,} pixels is too large; choose fewer --channels "
                "or epochs, or a lower --dpi"
            )
        canvas.open(width, height)
        self._header(canvas, margin, width)
        y = margin + header
        for block, image, tall in zip(blocks, images, heights, strict=True):
            if stacked:
                self._words(canvas, margin, y, block, words_width)
            if image is not None:
                canvas.picture(margin + words_width, y, image)
                if not stacked:
                    self._below_input(canvas, margin, y + image.shape[0], block, image_width)
            self._maps(canvas, margin + left, y, block, cells, colours)
            y += tall + space
        self._footer(canvas, margin + left, y, width - margin, colours)
        return canvas

    def _fit_input(self, block: BatchPanel, stacked: bool) -> Pixels | None:
        if block.image is None:
            return None
        inches = _STACKED_INPUT_INCHES if stacked else _INPUT_INCHES
        room, longest = round(inches * self.dpi), max(block.image.shape[:2])
        if longest <= 1.5 * room:
            return enlarge(block.image, max(1, room // longest))
        return reduce(block.image, -(-longest // room))

    def _header(self, canvas: Canvas, margin: int, width: int) -> None:
        block = self.blocks[0]
        right = ""
        if len(self.blocks) == 1:
            right = "   ".join([f"epoch {block.epoch}", f"batch {block.batch}", *block.facts])
        drop = round(1.1 * 3 * self.dpi / 72)  # so that both stand on one line
        taken = canvas.text(width - margin, margin + drop, right, 9, align="right")
        room = width - 2 * margin - taken - canvas.line(6)
        canvas.text(margin, margin, self.title, 12, bold=True, room=room)
        y = margin + canvas.line(12)
        canvas.text(margin, y, self.subtitle, 8, muted=True, room=width - 2 * margin)

    def _lines(self, block: BatchPanel) -> list[str]:
        lines = [f"batch {block.batch}", *block.facts, *block.answers]
        if block.label:
            lines.insert(0, f"epoch {block.epoch}")
        if block.image is not None and block.input_words != "input":
            lines.append(block.input_words)
        if self.scaler.mode in ("epoch", "frame") and block.range is not None:
            lines.append(f"{format_number(block.range.low)} … {format_number(block.range.high)}")
        return lines

    def _head(self, block: BatchPanel) -> str:
        return block.label or f"epoch {block.epoch}"

    def _words_width(self, canvas: Canvas) -> int:
        widths = [canvas.width(self._head(block), 9, bold=True) for block in self.blocks]
        widths += [canvas.width(line, 7.5) for b in self.blocks for line in self._lines(b)]
        return min(max(widths), round(_STACKED_WORDS_INCHES * self.dpi)) + canvas.line(7)

    def _words(self, canvas: Canvas, x: int, y: int, block: BatchPanel, room: int) -> None:
        canvas.text(x, y, self._head(block), 9, bold=True, room=room)
        y += canvas.line(9)
        for line in self._lines(block):
            canvas.text(x, y, line, 7.5, muted=True, room=room - canvas.line(3))
            y += canvas.line(7.5)

    def _below_input(self, canvas: Canvas, x: int, y: int, block: BatchPanel, room: int) -> None:
        canvas.text(x, y + 2, block.input_words, 7, muted=True, room=room)
        for line in block.answers:
            y += canvas.line(7.5)
            canvas.text(x, y + 2, line, 7.5, room=room)

    def _maps(
        self,
        canvas: Canvas,
        x: int,
        y: int,
        block: BatchPanel,
        cells: cellular.GridCells,
        colours: Pixels,
    ) -> None:
        shown = None
        missing = block.kernels is not None and is_blank(block.kernels)
        if block.kernels is not None:
            shown, _ = kernel_levels(block.kernels, self._kernel_reach())
            shown = np.rint((shown if shown.ndim == 4 else canvas.diverging(shown)) * 255)
        slices = self.maps.slices
        each = max(canvas.width(label, 6.5) for label in self.labels) < cells.map_size[1]
        for place, label in enumerate(self.labels):
            dx, dy = cells.place(place)
            down = cells.map_size[0] // block.levels.shape[1]
            tile = enlarge(colours[block.levels[place]], cells.block, down)
            canvas.picture(x + dx, y + dy, tile, map=True)
            if shown is not None and place % slices == 0:
                kernel = shown[place // slices].astype(np.uint8)
                if missing:
                    kernel = no_picture(*kernel.shape[:2])
                canvas.picture(
                    x + dx + cells.kernel_at, y + dy, enlarge(kernel, cells.kernel_block)
                )
            if self.scaler.mode == "channel":
                own = self.scaler.channel_range(place // slices)
                longer = f"{label}   {format_number(own.low)} … {format_number(own.high)}"
                label = longer if canvas.width(longer, 6.5) < cells.cell_size[1] else label
            if not each:
                row = self.channels[place : place + cells.columns]
                words = cellular.row_words(row) if slices == 1 else f"{label} …"
                label = words if place % cells.columns == 0 else ""
            canvas.text(x + dx, y + dy + cells.number_at, label, 6.5, muted=True)

    def _footer(self, canvas: Canvas, x: int, y: int, right: int, colours: Pixels) -> None:
        draw_scale(canvas, x, y, right, colours, self.scaler, self.blocks, self.dpi)
        if self.blocks[0].kernels is not None:
            reach = self._kernel_reach()
            _, words = kernel_levels(self.blocks[0].kernels, reach)
            middle = "gray" if "RGB" in words else "white"
            said = f"{words}: {middle} is 0, ends ±{format_number(reach)}"
            gone = [b for b in self.blocks if b.kernels is not None and is_blank(b.kernels)]
            if gone:
                where = ", ".join(f"epoch {block.epoch} batch {block.batch}" for block in gone)
                said += f"; crossed out: {NO_KERNELS} ({where})"
            y += 2 * canvas.line(7) + round(_THICK_INCHES * self.dpi)
            canvas.text(x, y, said, 7, muted=True, room=right - x)

    def _kernel_reach(self) -> float:
        return max(kernel_reach(b.kernels) for b in self.blocks if b.kernels is not None)


def draw_scale(
    canvas: Canvas,
    x: int,
    y: int,
    right: int,
    colours: Pixels,
    scaler: Scaler,
    blocks: Sequence[BatchPanel],
    dpi: int,
) -> None:
    """Draws what the colours stand for: a bar, its ends, and how much was not finite."""
    width = min(round(2.4 * dpi), (right - x) * 2 // 5)
    bar = colours[np.linspace(0, LEVELS - 1, width).astype(int)][None]
    canvas.text(x, y, f"activation, {scaler.words}", 7, muted=True, room=right - x)
    y += canvas.line(7)
    thick = round(_THICK_INCHES * dpi)
    canvas.picture(x, y, bar.repeat(thick, axis=0), framed=True)
    ranges = {block.range for block in blocks}
    one = ranges.pop() if len(ranges) == 1 else None
    if one is not None:
        canvas.ticks(x, y + thick, width, one.low, one.high)
    at = x + width + round(0.2 * dpi)
    for offset, word in enumerate(("NaN", "infinite")):
        count = sum(int((block.levels == LEVELS + offset).sum()) for block in blocks)
        if count:
            swatch = np.broadcast_to(colours[LEVELS + offset], (thick, thick, 3))
            canvas.picture(at, y, swatch)
            at += thick + round(0.04 * dpi)
            said = f"{count:,} {word}"
            at += canvas.text(at, y, said, 7, room=right - at) + round(0.15 * dpi)


def _alt_text(page: _Page) -> str:
    cells = ", ".join(
        f"{block.label} epoch {block.epoch} batch {block.batch}".strip() for block in page.blocks
    )
    return (
        f"Feature maps of {page.maps.layer.name} ({page.subtitle}) at {cells}; {page.scaler.words}"
    )
