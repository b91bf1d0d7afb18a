"""A plan as a table: the tree of a model's layers, with shapes and bytes."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from record.formatting import format_bytes, format_count
from record.protocol.layout import BatchLayout
from replay.schema import ATTENTION, Layer

_MODULE_WIDTH = 34
_LEFT = 4  # columns of text; those behind are numbers


class ModuleFacts(Protocol):
    """What is shown of a module: see `record.schedule.plan.ModuleOutput`."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def module(self) -> str:
        """What it is."""

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Of what it put out."""

    @property
    def dtype(self) -> str:
        """Of what it put out."""


class PlanFacts(Protocol):
    """What is shown of a plan: see `record.schedule.plan.Plan`."""

    @property
    def layout(self) -> BatchLayout:
        """The layers."""

    @property
    def model(self) -> str:
        """The model's class."""

    @property
    def cells(self) -> Sequence[tuple[int, int]]:
        """The recorded batches."""

    @property
    def knows_batches(self) -> bool:
        """Whether the number of batches is known."""

    @property
    def outputs(self) -> Sequence[ModuleFacts]:
        """What each module put out."""

    @property
    def most_in_epoch(self) -> int:
        """Recorded batches of an epoch, at most."""

    @property
    def bytes_batch(self) -> int:
        """Bytes of a batch."""

    @property
    def bytes_epoch(self) -> int:
        """Bytes of an epoch, at most."""

    @property
    def bytes_run(self) -> int:
        """Bytes of the file."""

    @property
    def summary(self) -> str:
        """One line on the whole."""


class TableRow(NamedTuple):
    """One row of the table.

    Attributes:
        depth: How deep in the tree.
        name: The layer, in the words of `layers`.
        module: What it is.
        frame: The shape of a frame; of a module that is not recorded, of its output.
        dtype: Of what the layer puts out.
        size: Bytes of a frame; None where nothing is recorded.
    """

    depth: int
    name: str
    module: str
    frame: str
    dtype: str
    size: int | None


def attention_of(layers: Sequence[Layer]) -> list[Layer]:
    """Returns the attention among the layers of a layout, of the batches' own images."""
    return [layer for layer in layers if layer.kind == ATTENTION and layer.probe is None]


def table_rows(plan: PlanFacts, everything: bool = False) -> Iterator[TableRow]:
    """Yields a row for each layer that will be recorded, below the modules that they are in.

    Args:
        plan: The plan.
        everything: Whether modules are named, too, that are not recorded.
    """
    for shape in plan.layout.images[:1]:
        size = 2
        for length in shape:
            size *= length
        yield TableRow(0, "input", "", format_shape(shape), "", size)
    outputs = {output.name: output for output in plan.outputs}
    recorded: dict[str, list[Layer]] = {}
    for layer in plan.layout.layers:
        if layer.is_main:
            recorded.setdefault(module_name(layer.name), []).append(layer)
    wanted = list(dict.fromkeys([*(outputs if everything else ()), *recorded]))
    if everything:  # in the order of the modules, not of their calls
        wanted = [*outputs, *(name for name in recorded if name not in outputs)]
    named: set[str] = set()
    for name in wanted:
        parts = name.split(".")
        for depth in range(1, len(parts)):
            above = ".".join(parts[:depth])
            if above not in named and above not in wanted:
                named.add(above)
                module = outputs[above].module if above in outputs else ""
                yield TableRow(depth - 1, above, short_module(module), "", "", None)
        output = outputs.get(name)
        for layer in recorded.get(name, ()):
            dtype = "" if output is None else output.dtype
            frame = format_shape(layer.shape) + (" and kernels" if layer.kernel else "")
            if layer.pooled > 1:
                frame += f", means of {layer.pooled}x{layer.pooled}"
            depth = len(parts) - 1
            yield TableRow(
                depth, layer.name, short_module(layer.module), frame, dtype, layer.nbytes
            )
        if name not in recorded and output is not None:
            shape_text = "" if output.shape is None else format_shape(output.shape)
            module = short_module(output.module)
            yield TableRow(len(parts) - 1, name, module, shape_text, output.dtype, None)
    heads = attention_of(plan.layout.layers)
    if heads:
        largest = max(heads, key=lambda layer: layer.nbytes)
        size = sum(layer.nbytes for layer in heads)
        words = f"attention, {len(heads)} of up to {format_shape(largest.shape)}"
        yield TableRow(0, words, "", "", "", size)
    probes = {layer.probe for layer in plan.layout.layers if layer.probe is not None}
    if probes:
        size = sum(layer.nbytes for layer in plan.layout.layers if layer.probe is not None)
        images = format_count(len(probes), "fixed image")
        yield TableRow(0, f"the same for {images}", "", "", "", size)
    for words, size in beside_maps(plan.layout):
        yield TableRow(0, words, "", "", "", size)


def beside_maps(layout: BatchLayout) -> Iterator[tuple[str, int]]:
    """Yields what is recorded of the batches' images beside maps and attention, and its bytes."""
    sizes: dict[str, list[int]] = {}
    for layer in layout.layers:
        if layer.kind not in ("", ATTENTION) and layer.probe is None:
            sizes.setdefault(layer.kind, []).append(layer.nbytes)
    for kind, each in sizes.items():
        yield f"{kind} of {format_count(len(each), 'layer')}", sum(each)


def table_text(plan: PlanFacts, everything: bool = False) -> str:
    """Returns the table as lines of text, with a summary below; as for `table_rows`."""
    cells = list(_cells(plan, everything, "  "))
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = []
    for row in cells:
        texts = [
            text.ljust(width) if column < _LEFT else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(text for text, width in zip(texts, widths, strict=True) if width))
    return "\n".join([*(line.rstrip() for line in lines), *summary_lines(plan)])


def table_html(plan: PlanFacts) -> str:
    """Returns the table as HTML, for notebooks."""
    rows = []
    for number, row in enumerate(_cells(plan, False, "\u2003")):
        tag = "td" if number else "th"
        rows.append(
            "".join(
                f"<{tag} style='text-align:{'left' if column < _LEFT else 'right'}'>"
                f"{html.escape(text)}</{tag}>"
                for column, text in enumerate(row)
            )
        )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    below = "<br>".join(map(html.escape, [*summary_lines(plan), *what_is_left(plan)]))
    head = f"<b>{html.escape(plan.model)}</b><br>" if plan.model else ""
    return f"<div>{head}<table>{body}</table><small>{below}</small></div>"


def _cells(plan: PlanFacts, everything: bool, indent: str) -> Iterator[tuple[str, ...]]:
    """Yields the texts of each row, the head first and the sums last."""
    most, frames = plan.most_in_epoch, len(plan.cells)
    head = ("layer", "module", "frame", "dtype", "a batch", "an epoch", "the run")
    yield head if plan.knows_batches else head[:5]
    for row in table_rows(plan, everything):
        sizes = _sizes(plan, row.size, most, frames)
        yield (indent * row.depth + row.name, row.module, row.frame, row.dtype, *sizes)
    sums = [plan.bytes_batch, plan.bytes_epoch, plan.bytes_run]
    counted = sums if plan.knows_batches else sums[:1]
    yield ("all, with indices", "", "", "", *(format_bytes(size) for size in counted))


def _sizes(plan: PlanFacts, size: int | None, most: int, frames: int) -> tuple[str, ...]:
    counts = (1, most, frames) if plan.knows_batches else (1,)
    return tuple("" if size is None else format_bytes(size * count) for count in counts)


def summary_lines(plan: PlanFacts) -> list[str]:
    """Returns what is said below the table."""
    if plan.knows_batches:
        return [plan.summary]
    return [f"{format_bytes(plan.bytes_batch)} a batch; batches= and epochs= say what a run takes"]


def what_is_left(plan: PlanFacts) -> list[str]:
    """Returns how many modules are not recorded, and how to see which, if there are any."""
    recorded = {module_name(layer.name) for layer in plan.layout.layers}
    others = sum(output.name not in recorded for output in plan.outputs)
    count = format_count(others, "other module")
    return [f"{count} not recorded: tree(everything=True) names them too"] if others else []


def module_name(name: str) -> str:
    """Returns the module's name in that of a layer: `fpn` of `fpn[p3]#1@64x20x28`."""
    return re.sub(r"(\[[^\]]*\])?(#\d+)?(@[\dx]+)?$", "", name)


def format_shape(shape: tuple[int, ...]) -> str:
    """Returns a shape in words: `12x64x64`."""
    return "x".join(str(length) for length in shape) or "1"


def short_module(text: str) -> str:
    """Returns the beginning of what a module is."""
    text = re.sub(r"kernel_size=\((\d+(?:, \d+)*),?\)", lambda m: m[1].replace(", ", "x"), text)
    if len(text) <= _MODULE_WIDTH:
        return text
    whole, _, _ = text[: _MODULE_WIDTH - 5].rpartition(", ")
    return f"{whole}, ...)" if whole else f"{text[: _MODULE_WIDTH - 3]}..."
