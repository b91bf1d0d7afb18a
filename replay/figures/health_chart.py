"""Draws what `health` found: each layer's share of silent channels, and how fast it changes."""

from __future__ import annotations

import io
import math
from functools import partial
from os import PathLike
from pathlib import Path

from replay.diagnosis.report import KINDS, Health, LayerHealth
from replay.figures.canvas import SUFFIXES, Canvas, figure_theme
from replay.figures.grid_layout import WIDTH, too_large
from replay.formatting import clean, format_count, format_number
from replay.output import check_suffix, replacing
from replay.overwriting import check_replaceable
from replay.raster.names import tell_apart
from replay.schema import Cell, OptionError
from replay.schema.faces import choose

_DPI = 200
_PLOT_INCHES = 0.75  # height of a plot
_DEAD, _ZERO, _SATURATED, _CHANGE = "#b3261e", "#d9958f", "#c77700", "#2b6cb0"
_CONSTANT = ("dead", "flat", "stuck")


def draw_health(
    found: Health, out: str | PathLike[str], theme: str = "light", overwrite: bool = False
) -> Path:
    """Draws a figure: a row for each layer.

    On the left, over the run: the share of channels that are dead, flat or stuck to the end, of
    those that are zero in a batch, and of those that are saturated. On the right, how far the
    layer moved from epoch to epoch.

    Args:
        found: What `health` found.
        out: A .png, .pdf or .svg.
        theme: `light` or `dark`.
        overwrite: Whether a file may be replaced that mapreel has not made, as in `replay.animate`.

    Raises:
        OutputError: It cannot be written.
        OptionError: There are more layers than fit onto a page, or no such theme.
    """
    path = Path(out)
    suffix = check_suffix(path, SUFFIXES)
    check_replaceable([path], overwrite)
    canvas = Canvas(_DPI, figure_theme(theme), suffix)
    with replacing(path) as unfinished:
        _Chart(found, canvas).draw()
        drawn = io.BytesIO()
        findings = format_count(len(found.all_findings), "finding")
        canvas.save(drawn, title=f"health of {found.path.name}", text=f"{findings}\n\n{found}")
        unfinished.write_bytes(drawn.getvalue())
    return path


class _Chart:
    """The figure; positions and sizes are in pixels."""

    def __init__(self, found: Health, canvas: Canvas) -> None:
        self.found, self.canvas = found, canvas
        self.margin = round(0.2 * _DPI)
        self.width = round(WIDTH * _DPI)
        self.plot_height = round(_PLOT_INCHES * _DPI)
        self.space = round(0.2 * _DPI)
        self.scale_width = canvas.width("100 %", 7) + canvas.line(3)
        self.places = {cell: place for place, cell in enumerate(found.frames)}
        self.largest = max(len(found.frames) - 1, 1)
        names = [layer.name for layer in found.layers]
        measure = partial(canvas.width, points=9, bold=True)
        texts = tell_apart([clean(name) for name in names], self._width_of(0.6), measure)
        self.names = dict(zip(names, texts, strict=True))

    def draw(self) -> None:
        """Draws the whole figure."""
        canvas, margin = self.canvas, self.margin
        line = canvas.line(7)
        row_height = canvas.line(9) + self.plot_height + line + self.space
        head = canvas.line(12) + canvas.line(8) + 2 * line + self.space
        height = 2 * margin + head + row_height * len(self.found.layers)
        if too_large(self.width, height):
            instead = choose("use --csv or --json", "see to_csv() and to_json() of what was found")
            raise OptionError(
                f"a figure of {len(self.found.layers):,} layers is too large; {instead}"
            )
        canvas.open(self.width, height)
        y = margin
        inner = self.width - 2 * margin
        canvas.text(margin, y, clean(self.found.path.name), 12, bold=True, max_width=inner)
        y += canvas.line(12)
        frames = format_count(len(self.found.frames), "recorded batch")
        text = f"{format_count(len(self.found.all_findings), 'finding')}   {frames}"
        for finding in self.found.findings:
            text += f"   {finding.kind}: {finding.text}"
        canvas.text(margin, y, text, 8, muted=True, max_width=inner)
        y += canvas.line(8) + line // 2
        self._legend(y)
        y += line + line // 2 + self.space
        for layer in self.found.layers:
            self._layer(layer, y)
            y += row_height

    @property
    def left(self) -> tuple[int, int]:
        """First and last pixel across of the plots on the left."""
        start = self.margin + self.scale_width
        return start, start + round(0.56 * (self.width - 2 * self.margin)) - self.scale_width

    @property
    def right(self) -> tuple[int, int]:
        """First and last pixel across of the plots on the right."""
        start = self.left[1] + self.space + self.scale_width
        return start, self.width - self.margin

    def _legend(self, y: int) -> None:
        canvas = self.canvas
        x, size = self.left[0], canvas.line(7) // 2
        for color, text in (
            (_DEAD, "dead, flat or stuck to the end"),
            (_ZERO, "zero in the batch"),
            (_SATURATED, "saturated"),
        ):
            middle = y + canvas.line(7) / 2
            canvas.stroke([x, x + 2 * size], [middle, middle], color, 2.0)
            x += 3 * size
            x += canvas.text(x, y, text, 7, muted=True) + 2 * size
        canvas.text(self.right[0], y, "relative change between epochs", 7, muted=True)

    def _layer(self, layer: LayerHealth, y: int) -> None:
        canvas = self.canvas
        taken = canvas.text(self.left[0], y, self.names[layer.name], 9, bold=True)
        x = self.left[0] + taken + canvas.line(6)
        drop = round(1.1 * 1.5 * _DPI / 72)  # so that both stand on one line
        free = self.left[1] - x
        canvas.text(x, y + drop, _summary(layer), 7.5, muted=True, max_width=free)
        text = f"of {layer.measure}"
        if layer.changes and layer.changes[0].start[0] == layer.changes[-1].end[0]:
            text += ", between batches"
        canvas.text(self.right[0], y + drop, text, 7.5, muted=True, max_width=self._width_of(1, 1))
        y += canvas.line(9)
        self._shares(layer, y)
        self._changes(layer, y)

    def _width_of(self, share: float, side: int = 0) -> int:
        """Returns a share of the plots' width, on the left (0) or the right (1), in pixels."""
        start, end = self.right if side else self.left
        return round(share * (end - start))

    def _across(self, cell: Cell, span: tuple[int, int]) -> float:
        return span[0] + (span[1] - span[0]) * self.places[cell] / self.largest

    def _frame(self, span: tuple[int, int], y: int, top: str) -> None:
        """Draws the axes of a plot: its base, its top, and where epochs begin."""
        canvas, base = self.canvas, y + self.plot_height
        for height in (y, base):
            canvas.stroke([*span], [height, height], canvas.theme.muted, 0.4)
        size = canvas.line(7)
        half = round(0.55 * size)
        for height, text in ((y, top), (base, "0")):
            canvas.text(span[0] - size // 3, height - half, text, 7, muted=True, align="right")
        free: float = span[0] - size
        for cell in self._starts():
            x = self._across(cell, span)
            word = f"epoch {cell[0]}" if free < span[0] else f"{cell[0]}"
            if len(self.found.frames) > 1 and cell != self.found.frames[0]:
                canvas.stroke([x, x], [base, base + size / 4], canvas.theme.muted, 0.4)
            if x >= free and x + canvas.width(word, 7) <= span[1] + size:
                canvas.text(round(x), base + size // 8, word, 7, muted=True)
                free = x + canvas.width(word, 7) + size

    def _starts(self) -> list[Cell]:
        """Returns the first frame of each epoch."""
        first: dict[int, Cell] = {}
        for cell in self.found.frames:
            first.setdefault(cell[0], cell)
        return list(first.values())

    def _shares(self, layer: LayerHealth, y: int) -> None:
        canvas, span, base = self.canvas, self.left, y + self.plot_height
        self._frame(span, y, "100 %")
        constant = sorted(
            self.places[finding.epoch or 0, finding.batch or 0]
            for finding in layer.findings
            if finding.kind in _CONSTANT and finding.channel is not None
        )
        if constant:
            xs, ys = [], []
            for already, place in enumerate(constant):
                x = span[0] + (span[1] - span[0]) * place / self.largest
                xs += [x, x]
                ys += [
                    self._up(already / layer.channels, y),
                    self._up((already + 1) / layer.channels, y),
                ]
            xs, ys = [*xs, span[1]], [*ys, ys[-1]]
            canvas.fill(xs, ys, base, _DEAD, 0.25)
            canvas.stroke(xs, ys, _DEAD, 1.4)
        for shares, color in ((layer.zero, _ZERO), (layer.saturated, _SATURATED)):
            if any(shares.values()):
                xs = [self._across(cell, span) for cell in shares]
                canvas.stroke(xs, [self._up(share, y) for share in shares.values()], color, 0.9)

    def _up(self, share: float, y: int) -> float:
        return y + self.plot_height * (1 - share)

    def _changes(self, layer: LayerHealth, y: int) -> None:
        canvas, span = self.canvas, self.right
        known = [one for one in layer.changes if math.isfinite(one.value)]
        if not known:
            canvas.text(span[0], y + self.plot_height // 2, "not known", 7, muted=True)
            return
        top = max(one.value for one in known) or 1.0
        self._frame(span, y, format_number(top))
        xs = [self._across(one.end, span) for one in known]
        ys = [self._up(one.value / top, y) for one in known]
        canvas.stroke(xs, ys, _CHANGE, 1.2)
        for x, height in zip(xs, ys, strict=True):
            canvas.dot(x, height, _CHANGE)


def _summary(layer: LayerHealth) -> str:
    """Returns how many channels have what: `2 dead, 1 duplicate   64 channels`."""
    each = {kind: sum(found.kind == kind for found in layer.findings) for kind in KINDS}
    parts = [
        f"{many} {kind}" if kind not in ("nan", "inf") else kind
        for kind, many in each.items()
        if many
    ]
    if any(found.kind == "unchanging" and found.channel is None for found in layer.findings):
        parts = [word for word in parts if "unchanging" not in word] + ["unchanging"]
    found = ", ".join(parts) or "nothing found"
    return f"{found}   {format_count(layer.channels, 'channel')}"
