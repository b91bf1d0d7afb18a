"""Draws a contact sheet: epochs down, channels across, of the same image where there is one."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from replay.figures.batch import LEVELS, BatchPanel, choose_batches, load_panel, one_group
from replay.figures.canvas import SUFFIXES, Canvas, theme_of
from replay.figures.grid_layout import WIDTH, too_large
from replay.figures.map_grid import Figure, draw_scale
from replay.formatting import clean, format_module, format_number
from replay.maps.axes import Maps
from replay.maps.input_image import NO_PICTURE
from replay.maps.runs import Recordings, RunSet, choose_layers_of, open_runs
from replay.maps.scaling import Scaler
from replay.maps.selection import choose_channels, spread
from replay.options import Numbers
from replay.output import check_suffix, replacing
from replay.raster.images import Pixels, enlarge, reduce
from replay.raster.palette import colormap, foreign
from replay.schema import OptionError

_MOST_BY_DEFAULT = 16  # channels; of more, those that vary most
_CHOSEN = "top:12"
_IMAGE_INCHES = 0.9  # of the one image in the header
_ROW_IMAGE_INCHES = 0.6  # of each row's image, at most
_LARGEST_INCHES = 1.0  # of a map, at most
_WORDS_INCHES = 1.2  # of a row's words, at most


def sheet(
    recording: Recordings,
    out: str | PathLike[str] | None = None,
    *,
    layer: str | None = None,
    channels: Numbers = None,
    epochs: Numbers = None,
    batch: int = -1,
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
) -> Figure:
    """Draws how each channel developed: a row for each epoch, a column for each channel.

    Args:
        recording: An open recording, or its path.
        out: A .png, .pdf or .svg; by default `run-sheet.png` beside `run.h5`. Replaced if it
            exists.
        layer: The layer's name; the first recorded one by default.
        channels: As in `selection.choose_channels`; by default all of up to 16, and of more the 12
            that vary most.
        epochs: The epochs to show; all by default.
        batch: The batch of each epoch; -1 is its last one.
        probe: The number of a fixed image. By default the first one, if there is one, and else the
            first image of each batch; False for the latter in any case.
        rows: Epochs at most: evenly spaced, the first and the last among them.
        scale: `run`, `epoch`, `frame` or `channel`, see `scaling.Scaler`.
        clip: An explicit (low, high).
        symmetric: A range symmetric around zero.
        cmap: Name of a registered matplotlib colormap.
        dpi: Pixels an inch.
        title: Instead of the layer's name.
        input: Whether to draw the input picture.
        theme: `light` or `dark`.
        slices: Of a volume: `middle`, `all`, or numbers as in `selection.choose`.
        tokens: `auto`, `square` or `strip`, see `shapes.layout_of`.

    Raises:
        RecordingError: What was asked for is not there, the file is unusable or `out` cannot be
            written; nothing is left half-written.
    """
    start = time.perf_counter()
    with open_runs(recording) as runs:
        if len(runs) > 1:
            raise OptionError(f"sheet: expected one recording, found {len(runs)}")
        run = runs[0]
        path = run.path.with_name(f"{run.path.stem}-sheet.png") if out is None else Path(out)
        suffix = check_suffix(path, SUFFIXES)
        if not 20 <= dpi <= 2400:
            raise OptionError(f"dpi {dpi}: expected 20 to 2400")
        if rows < 1:
            raise OptionError(f"rows {rows}: expected 1 or more")
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
        top = isinstance(channels, str) and channels.strip().startswith("top")
        how = ", those that vary most" if top else ""
        with replacing(path) as beside:
            scaler = Scaler(joint, shown.cells(), chosen, scale, clip, symmetric, count=LEVELS)
            blocks = [load_panel(shown, row, at, chosen, scaler, False, input) for at in cells]
            page = _Sheet(row.maps, chosen, scaler, blocks, dpi, title, run.probe_number, how)
            canvas = Canvas(dpi, theme_of(theme), suffix)
            colours = colormap(cmap, LEVELS)
            page.draw(np.concatenate([colours, foreign(colours)]), canvas)
            drawn = io.BytesIO()
            what = f"{page.title}, {page.subtitle}"
            epochs_in_words = ", ".join(f"epoch {e} batch {b}" for e, b in cells)
            canvas.save(drawn, title=what, text=f"{what}; {page.source}; {epochs_in_words}")
            beside.write_bytes(drawn.getvalue())
    seconds = time.perf_counter() - start
    return Figure(path, *canvas.size, path.stat().st_size, seconds, tuple(shown.remarks))


class _Sheet:
    """The page: a header with the image, numbers over the columns, a row for each epoch."""

    def __init__(
        self,
        maps: Maps,
        channels: Sequence[int],
        scaler: Scaler,
        blocks: Sequence[BatchPanel],
        dpi: int,
        title: str | None,
        probe: int | None,
        chosen_how: str,
    ) -> None:
        self.scaler, self.blocks, self.dpi, self.probe = scaler, blocks, dpi, probe
        self.labels = maps.labels(channels)
        self.title = clean(maps.layer.name if title is None else title)
        self.subtitle = maps.in_words(len(channels)) + chosen_how
        if words := format_module(maps.layer.module):
            self.subtitle = f"{words}   {self.subtitle}"
        self.source = "each row: the first image of its batch, so that the images differ"
        gone = [f"epoch {b.epoch}" for b in blocks if b.input_words == NO_PICTURE]
        if gone:
            self.source += f"; crossed out: {NO_PICTURE} ({', '.join(gone)})"
        if probe is not None:
            self.source = f"the same image in every row: probe image {probe}"

    def draw(self, colours: Pixels, canvas: Canvas) -> None:
        """Draws all of it, in the colours of the levels, uint8 (levels, 3)."""
        dpi = self.dpi
        margin, space, gap = round(0.15 * dpi), round(0.12 * dpi), max(2, round(0.03 * dpi))
        same = self.probe is not None
        image = self._image(self.blocks[0], _IMAGE_INCHES) if same else None
        images = [None if same else self._image(b, _ROW_IMAGE_INCHES) for b in self.blocks]
        beside = max((each.shape[1] + space for each in images if each is not None), default=0)
        left = margin + self._words_width(canvas) + beside
        count = len(self.labels)
        high, wide = self.blocks[0].levels.shape[1:]
        each = (round(WIDTH * dpi) - left - margin - (count - 1) * gap) // count
        block = max(1, min(each, round(_LARGEST_INCHES * dpi)) // wide)
        while block > 1 and block * high > 2 * _LARGEST_INCHES * dpi:
            block -= 1
        down = max(block, round(0.12 * dpi)) if high == 1 < wide else block
        tall = down * high
        width = max(left + count * (block * wide + gap) - gap, round(4.2 * dpi)) + margin
        lines = canvas.line(12) + canvas.line(8) + canvas.line(8)
        header = max(lines, 0 if image is None else image.shape[0]) + space
        heights = [
            max(tall, canvas.line(8.5) + canvas.line(7) * len(self._lines(b)))
            if pic is None
            else max(tall, pic.shape[0], canvas.line(8.5) + canvas.line(7) * len(self._lines(b)))
            for b, pic in zip(self.blocks, images, strict=True)
        ]
        height = margin + header + canvas.line(6.5) + sum(heights) + len(heights) * 2 * gap
        height += space + 2 * canvas.line(7) + round(0.1 * dpi) + margin
        if too_large(width, height):
            raise OptionError(
                f"a sheet of {width:,} by {height:,} pixels is too large; choose fewer --channels "
                "or --rows"
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
            room = width - margin - x
            canvas.text(x, y, text, points, muted=not bold, bold=bold, room=room)
            y += canvas.line(points)
        y = margin + header
        self._numbers(canvas, left, y, block * wide, gap)
        y += canvas.line(6.5)
        for shown, picture, room in zip(self.blocks, images, heights, strict=True):
            self._words(canvas, margin, y, shown)
            if picture is not None:
                canvas.picture(left - beside, y, picture)
            for place, levels in enumerate(shown.levels):
                at = left + place * (block * wide + gap)
                canvas.picture(at, y, enlarge(colours[levels], block, down), map=True)
            y += room + 2 * gap
        y += space
        draw_scale(canvas, left, y, width - margin, colours, self.scaler, self.blocks, dpi)

    def _image(self, block: BatchPanel, inches: float) -> Pixels | None:
        if block.image is None:
            return None
        room, longest = round(inches * self.dpi), max(block.image.shape[:2])
        if longest <= 1.5 * room:
            return enlarge(block.image, max(1, room // longest))
        return reduce(block.image, -(-longest // room))

    def _numbers(self, canvas: Canvas, x: int, y: int, wide: int, gap: int) -> None:
        """Over each column its channel, or over as many of them as have room."""
        free = x
        for place, label in enumerate(self.labels):
            at = x + place * (wide + gap)
            if at >= free:
                free = at + canvas.text(at, y, label, 6.5, muted=True) + canvas.line(3)

    def _lines(self, block: BatchPanel) -> list[str]:
        lines = [f"batch {block.batch}", *block.facts]
        if self.scaler.mode in ("epoch", "frame") and block.range is not None:
            lines.append(f"{format_number(block.range.low)} … {format_number(block.range.high)}")
        return lines

    def _words_width(self, canvas: Canvas) -> int:
        widths = [canvas.width(f"epoch {block.epoch}", 8.5, bold=True) for block in self.blocks]
        widths += [canvas.width(line, 7) for b in self.blocks for line in self._lines(b)]
        return min(max(widths), round(_WORDS_INCHES * self.dpi)) + canvas.line(6)

    def _words(self, canvas: Canvas, x: int, y: int, block: BatchPanel) -> None:
        canvas.text(x, y, f"epoch {block.epoch}", 8.5, bold=True)
        y += canvas.line(8.5)
        for line in self._lines(block):
            canvas.text(x, y, line, 7, muted=True, room=round(_WORDS_INCHES * self.dpi))
            y += canvas.line(7)
