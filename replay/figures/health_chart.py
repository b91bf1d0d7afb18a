"""Draws what `health` found: what is wrong with each layer, since when, and how fast it moves."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from os import PathLike
from typing import Any

from replay.diagnosis.examination import health
from replay.diagnosis.report import KINDS, Finding, Health, LayerHealth, group_findings
from replay.figures.canvas import SMALL, Canvas, to_pdf
from replay.figures.change_axis import ChangeAxis, Places, known_changes
from replay.figures.figure import Figure
from replay.figures.gradient_axis import GradientAxis, powers_of, superscript
from replay.figures.grid_layout import too_large
from replay.figures.page import PAGE_INCHES, open_canvas
from replay.figures.style import own_settings
from replay.formatting import clean, format_count
from replay.output import check_writable, replacing
from replay.overwriting import check_replaceable
from replay.recording import Recording, open_recording
from replay.schema import NOTE_OF_8_BITS, Cell, OptionError
from replay.schema.faces import choose
from replay.value_kinds import check_kinds

_DPI = 200
_PLOT_INCHES = 0.75  # height of the plots of a layer
_LOW_INCHES = 0.4  # likewise where there is nothing to see on the left
_LEFT = 0.56  # of the width
_TEXTS = 3  # findings of a kind that are written out
_CONSTANT_COLOR, _ZERO, _SATURATED, _CHANGE = "#b3261e", "#d9958f", "#c77700", "#2b6cb0"
_DUPLICATE, _NOT_FINITE, _GRADIENT = "#7a4fb5", "#00838f", "#4d7c0f"
_OF_LAYERS = ("nan", "inf", "vanishing", "exploding")  # kinds that concern no single channel
_CONSTANT = ("dead", "flat", "stuck", "unchanging")


def draw_health(
    recording: Recording | Health | str | PathLike[str],
    out: str | PathLike[str] | None = None,
    *,
    theme: str = "light",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Figure:
    """Draws what `health` finds: for each layer what, what to do about it, and two plots.

    On the left, over the run, where something was found: the share of channels that are dead, flat,
    stuck or unchanging to the end, of those that are zero in a batch, that are saturated, that have
    a value that is not finite, and of those that are like another one. On the right, how far the
    layer moved from epoch to epoch, on one axis for all layers; the change from epoch 0 to 1 stands
    at 1. Below, where gradients were recorded, how large they were, logarithmic and on one axis.

    Args:
        recording: An open recording, its path, or what `health` has found in it.
        out: A .png, .pdf or .svg; by default `run-health.png` beside `run.h5`.
        theme: `light` or `dark`.
        overwrite: Whether a file may be replaced that mapreel has not made, as in `replay.animate`.
        progress: Called with (layers done, layers in all), where they are looked at.

    Returns:
        The figure, and what LaTeX needs to show it.

    Raises:
        FileError: The recording is unusable or empty.
        OutputError: The figure cannot be written; nothing is left half-written.
        OptionError: There are more layers than fit onto a page, or no such theme.
    """
    start = time.perf_counter()
    given = recording.path if isinstance(recording, Health) else recording
    check_kinds({**locals(), "recording": given})
    with ExitStack() as stack:
        source = recording
        if not isinstance(source, (Health, Recording)):
            source = stack.enter_context(open_recording(source))
        path, canvas = open_canvas(source.path, out, "health", _DPI, theme)
        check_writable(path)
        replaced = check_replaceable([path], overwrite)  # before anything is looked at
        found = source if isinstance(source, Health) else health(source, progress)
    with replacing(path) as unfinished:
        with own_settings():
            height = _Chart(found, canvas).draw()
        findings = format_count(len(found.all_findings), "finding")
        canvas.close(height, f"health of {found.path.name}", f"{findings}\n\n{found}")
        data = to_pdf([canvas])[0] if canvas.suffix == ".pdf" else canvas.to_bytes()
        unfinished.write_bytes(data)
    shown: dict[str, Any] = {"paths": (path,), "captions": (found.caption,), "replaced": replaced}
    seconds = time.perf_counter() - start
    return Figure(path, *canvas.size, path.stat().st_size, seconds, dpi=_DPI, **shown)


class _Chart:
    """The figure; positions and sizes are in pixels."""

    def __init__(self, found: Health, canvas: Canvas) -> None:
        self.found, self.canvas = found, canvas
        self.margin = round(0.15 * _DPI)
        self.width = round(PAGE_INCHES * _DPI)
        self.inner = self.width - 2 * self.margin
        self.space = round(0.14 * _DPI)
        self.scale_width = canvas.width("100 %", SMALL) + canvas.line(3)
        self.places = Places(found.frames)
        self.largest = max(len(found.frames) - 1, 1)
        self.axis = ChangeAxis.of(found.layers, found.frames)
        self.gradients = GradientAxis.of(found.layers)
        self.shares = any(_has_shares(layer) for layer in found.layers)

    def draw(self) -> int:
        """Draws the whole figure; returns its height."""
        canvas = self.canvas
        instead = choose("use --csv or --json", "see to_csv() and to_json() of what was found")
        too_many = f"a figure of {len(self.found.layers):,} layers is too large; {instead}"
        least = (canvas.line(9) + self.space) * len(self.found.layers)
        if too_large(self.width, least):
            raise OptionError(too_many)
        canvas.open(self.width)
        y = self.margin
        name = clean(self.found.path.name)
        y += canvas.paragraph(self.margin, y, name, 12, self.inner, bold=True)
        findings = format_count(len(self.found.all_findings), "finding")
        frames = format_count(len(self.found.frames), "recorded batch")
        text = f"{findings} in {format_count(len(self.found.layers), 'layer')}   {frames}"
        y += canvas.paragraph(self.margin, y, text, 8, self.inner, muted=True)
        known = {one.kind for layer in self.found.layers for one in layer.findings}
        y += self._findings(
            [  # what to do about it stands in the layers
                replace(one, advice="") if one.kind in known else one for one in self.found.findings
            ],
            y,
        )
        y += canvas.line(SMALL) // 2
        y += self._legend(y)
        for layer in self.found.layers:
            y += self.space
            y += self._layer(layer, y)
        y += self.margin
        if too_large(self.width, y):
            raise OptionError(too_many)
        return y

    @property
    def left(self) -> tuple[int, int]:
        """First and last pixel across of the plots on the left."""
        start = self.margin + self.scale_width
        return start, self.margin + round(_LEFT * self.inner)

    @property
    def right(self) -> tuple[int, int]:
        """First and last pixel across of the plots on the right; all where there is no left."""
        start = self.left[1] + self.space if self.shares else self.margin
        return start + self.scale_width, self.width - self.margin

    def _legend(self, y: int) -> int:
        """Names the lines that are there, over the plots; returns its height."""
        canvas, line = self.canvas, self.canvas.line(SMALL)
        there = {
            text: color
            for layer in self.found.layers
            for text, color, drawn in _kinds_of_lines(layer)
            if drawn
        }
        x, size, row = self.left[0], line // 2, y
        for text, color in there.items():
            taken = 3 * size + canvas.width(text, SMALL) + 2 * size
            if x > self.left[0] and x + taken > self.left[1] + 2 * size:
                x, row = self.left[0], row + line
            middle = row + line / 2
            dashed = color == _DUPLICATE
            canvas.stroke([x, x + 2 * size], [middle, middle], color, 2.0, dashed=dashed)
            canvas.text(x + 3 * size, row, text, SMALL, muted=True)
            x += taken
        if not any(known_changes(layer) for layer in self.found.layers):
            return row + line - y if there else 0
        unit = "epochs" if self.axis.by_epoch else "batches"
        text = f"relative change between {unit}" + (", logarithmic" * self.axis.logarithmic)
        wide = self.right[1] - self.right[0]
        taken = canvas.paragraph(self.right[0], y, text, SMALL, wide, muted=True)
        return max(row + line - y, taken)

    def _findings(self, findings: list[Finding], y: int) -> int:
        """Writes findings and what to do about them; returns their height."""
        canvas, height = self.canvas, 0
        for kind, texts, advice in group_findings(findings):
            said = "; ".join(clean(text) for text in texts[:_TEXTS])
            if len(texts) > _TEXTS:
                said += f"; and {len(texts) - _TEXTS:,} more"
            text = f"{kind}: {said}"
            height += canvas.paragraph(self.margin, y + height, text, SMALL, self.inner)
            if not advice:
                continue
            x = self.margin + canvas.line(SMALL)
            width = self.inner - canvas.line(SMALL)
            height += canvas.paragraph(x, y + height, f"→ {advice}", SMALL, width, muted=True)
        return height

    def _layer(self, layer: LayerHealth, y: int) -> int:
        """Draws what is known of a layer; returns its height."""
        canvas, top = self.canvas, y
        drop = round(1.1 * 1.5 * _DPI / 72)  # so that both stand on one line
        name, summary = clean(layer.title), _summary(layer)
        taken = canvas.width(name, 9, bold=True) + canvas.line(6)
        y += canvas.paragraph(self.margin, y, name, 9, self.inner, bold=True)
        if taken + canvas.width(summary, 7.5) <= self.inner:
            canvas.text(self.margin + taken, top + drop, summary, 7.5, muted=True)
        else:
            y += canvas.paragraph(self.margin, y, summary, 7.5, self.inner, muted=True)
        y += self._findings(layer.findings, y)
        shares, changes = _has_shares(layer), bool(known_changes(layer))
        powers = powers_of(layer)
        if not (shares or changes or powers):
            return y - top
        y += canvas.line(SMALL) if layer.findings else canvas.line(SMALL) // 2
        below = canvas.line(SMALL) + canvas.line(SMALL) // 4
        if shares or changes:
            height = round((_PLOT_INCHES if shares else _LOW_INCHES) * _DPI)
            if shares:
                self._shares(layer, y, height)
            if changes:
                self._changes(layer, y, height)
            y += height + below
        if powers:
            y += canvas.line(SMALL) * (shares or changes)
            height = round(_LOW_INCHES * _DPI)
            self._gradients(powers, y, height)
            y += height + below
        return y - top

    def _frame(self, span: tuple[int, int], y: int, height: int) -> None:
        """Draws the lines at the foot and the top of a plot."""
        for at in (y, y + height):
            self.canvas.stroke([*span], [at, at], self.canvas.theme.muted, 0.4)

    def _tick(self, x: int, y: float, text: str) -> None:
        """Writes a number beside the axis that goes up."""
        half = round(0.55 * self.canvas.line(SMALL))
        at = x - self.canvas.line(SMALL) // 3
        self.canvas.text(at, round(y) - half, text, SMALL, muted=True, align="right")

    def _epochs(self, span: tuple[int, int], base: int, marks: list[tuple[float, int]]) -> None:
        """Writes below a plot which epoch begins, or ends, where; as many as there is space for.

        Args:
            span: First and last pixel of the plot.
            base: Its foot.
            marks: The place across, 0 to 1, and the number of each epoch.
        """
        canvas, size = self.canvas, self.canvas.line(SMALL)
        at = span[0] - size // 3
        canvas.text(at, base + size // 5, "epoch", SMALL, muted=True, align="right")
        free: float = span[0] - size
        for place, epoch in marks:
            x = span[0] + place * (span[1] - span[0])
            wide = canvas.width(f"{epoch}", SMALL)
            start = x if x == span[0] else x - wide / 2
            if start >= free and start + wide <= span[1] + size:
                canvas.stroke([x, x], [base, base + size / 5], canvas.theme.muted, 0.4)
                canvas.text(round(start), base + size // 5, f"{epoch}", SMALL, muted=True)
                free = start + wide + size

    def _first_batches(self) -> list[tuple[float, int]]:
        """Returns where each epoch begins among the recorded batches, 0 to 1, and its number."""
        starts: dict[int, Cell] = {}
        for cell in self.found.frames:
            starts.setdefault(cell[0], cell)
        return [(self.places[cell] / self.largest, epoch) for epoch, cell in starts.items()]

    def _shares(self, layer: LayerHealth, y: int, height: int) -> None:
        canvas, span, base = self.canvas, self.left, y + height
        self._frame(span, y, height)
        self._tick(span[0], y, "100 %")
        self._tick(span[0], base, "0")
        self._epochs(span, base, self._first_batches())

        def across(cell: Cell) -> float:
            return span[0] + (span[1] - span[0]) * self.places[cell] / self.largest

        xs, ys = [], [0.0]
        for cell, share in _constant_over_time(layer):
            xs += [across(cell), across(cell)]
            ys += [share, share]
        if xs:
            xs, ups = [*xs, span[1]], [base - height * share for share in ys]
            canvas.fill(xs, ups, base, _CONSTANT_COLOR, 0.25)
            canvas.stroke(xs, ups, _CONSTANT_COLOR, 1.4)
        for shares, color in ((layer.zero, _ZERO), (layer.saturated, _SATURATED)):
            if any(shares.values()):
                xs = [across(cell) for cell in shares]
                canvas.stroke(xs, [base - height * each for each in shares.values()], color, 0.9)
        if alike := _share_of_duplicates(layer):
            first = across(layer.sampled[len(layer.sampled) // 2])  # since when they are compared
            at = base - height * alike
            canvas.stroke([first, span[1]], [at, at], _DUPLICATE, 1.4, dashed=True)
        for cell, share in layer.not_finite.items():
            x, at = across(cell), base - height * max(share, 0.06)
            canvas.stroke([x, x], [base, at], _NOT_FINITE, 0.9)
            canvas.dot(x, at, _NOT_FINITE, 2.5)

    def _changes(self, layer: LayerHealth, y: int, height: int) -> None:
        canvas, span, axis, base = self.canvas, self.right, self.axis, y + height
        self._frame(span, y, height)
        ticks = axis.ticks()
        step = -(-canvas.line(SMALL) * (len(ticks) - 1) // height)  # so that they do not touch
        for place, (value, text) in enumerate(reversed(ticks)):
            at = base - height * axis.up(value)
            if place % step == 0 or place == len(ticks) - 1:
                if 0 < base - at < canvas.line(SMALL):
                    continue
                self._tick(span[0], at, text)
                canvas.stroke([*span], [at, at], canvas.theme.muted, 0.2)
        if axis.by_epoch:
            wide = axis.last - axis.first
            epochs = range(axis.first, axis.last + 1)
            self._epochs(span, base, [((epoch - axis.first) / wide, epoch) for epoch in epochs])
        else:
            self._epochs(span, base, [(0.0, self.found.frames[0][0])])
        known = known_changes(layer)
        xs = [span[0] + (span[1] - span[0]) * axis.across(one) for one in known]
        ys = [base - height * axis.up(one.value) for one in known]
        canvas.stroke(xs, ys, _CHANGE, 1.2)
        for x, at in zip(xs, ys, strict=True):
            canvas.dot(x, at, _CHANGE)
        word = f"of {layer.measure}"
        canvas.text(
            span[1], y - round(1.2 * canvas.line(SMALL)), word, SMALL, muted=True, align="right"
        )

    def _gradients(self, powers: list[tuple[Cell, float]], y: int, height: int) -> None:
        canvas, axis, base = self.canvas, self.gradients, y + height
        span = self.margin + self.scale_width, self.width - self.margin
        self._frame(span, y, height)
        self._tick(span[0], y, superscript(axis.high))
        self._tick(span[0], base, superscript(axis.low))
        self._epochs(span, base, self._first_batches())
        wide = span[1] - span[0]
        xs = [span[0] + wide * self.places[cell] / self.largest for cell, _ in powers]
        ys = [base - height * axis.up(power) for _, power in powers]
        canvas.stroke(xs, ys, _GRADIENT, 1.0)
        if len(xs) == 1:
            canvas.dot(xs[0], ys[0], _GRADIENT)
        at = y - round(1.2 * canvas.line(SMALL))
        canvas.text(span[1], at, "size of the gradient", SMALL, muted=True, align="right")


def _constant_over_time(layer: LayerHealth) -> list[tuple[Cell, float]]:
    """Returns since when which share of a layer's channels puts out nothing new any more."""
    since: dict[int | None, Cell] = {}
    for found in layer.findings:
        if found.kind in _CONSTANT and found.epoch is not None and found.batch is not None:
            at = found.epoch, found.batch
            since[found.channel] = min(at, since.get(found.channel, at))
    shares: list[tuple[Cell, float]] = []
    each = sorted(cell for channel, cell in since.items() if channel is not None)
    for count, cell in enumerate(each, 1):
        shares.append((cell, count / layer.channels))
    if None in since:  # every channel
        shares = [entry for entry in shares if entry[0] < since[None]] + [(since[None], 1.0)]
    return shares


def _share_of_duplicates(layer: LayerHealth) -> float:
    alike = {found.channel for found in layer.findings if found.kind == "duplicate"}
    return len(alike) / layer.channels


def _kinds_of_lines(layer: LayerHealth) -> list[tuple[str, str, bool]]:
    """Returns text and color of each kind of line, and whether the layer has such a line."""
    return [
        (
            "dead, flat, stuck or unchanging to the end",
            _CONSTANT_COLOR,
            bool(_constant_over_time(layer)),
        ),
        ("zero in the batch", _ZERO, any(layer.zero.values())),
        ("saturated", _SATURATED, any(layer.saturated.values())),
        ("like another channel, late in the run", _DUPLICATE, bool(_share_of_duplicates(layer))),
        ("NaN or infinite in the batch", _NOT_FINITE, bool(layer.not_finite)),
    ]


def _has_shares(layer: LayerHealth) -> bool:
    """Returns whether there is something to see on the left."""
    return any(drawn for _, _, drawn in _kinds_of_lines(layer))


def _summary(layer: LayerHealth) -> str:
    """Returns how many channels have what: `2 dead, 1 duplicate   64 channels`."""
    each = {kind: sum(found.kind == kind for found in layer.findings) for kind in KINDS}
    parts = [
        kind if kind in _OF_LAYERS else f"{many} {kind}" for kind, many in each.items() if many
    ]
    if any(found.kind == "unchanging" and found.channel is None for found in layer.findings):
        parts = [word for word in parts if "unchanging" not in word] + ["unchanging"]
    found = ", ".join(parts) or "nothing found"
    bits = "".join(f"   {each}" for each in layer.remarks if NOTE_OF_8_BITS in each)
    return f"{found}   {format_count(layer.channels, 'head' if layer.kind else 'channel')}{bits}"
