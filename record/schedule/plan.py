"""What a recording will hold and how many bytes it will take, before anything is trained."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from record.formatting import format_bytes, format_count, pluralize
from record.protocol.layout import BatchLayout
from record.schedule.budget import Budget, epoch_bytes, file_bytes, frame_bytes, parse_bytes
from record.schedule.schedule import Schedule
from replay.schema import Layer, format_intervals


@dataclass(frozen=True)
class Plan:
    """What a run will record.

    Attributes:
        layout: What one batch consists of.
        epochs: Epochs of the run.
        batches: Batches in an epoch.
        cells: (epoch, batch) of every batch that will be recorded.
        budget: Bytes that the file may take, or None.
    """

    layout: BatchLayout
    epochs: int
    batches: int
    cells: tuple[tuple[int, int], ...]
    budget: int | None = None

    @property
    def bytes_batch(self) -> int:
        """Bytes that a recorded batch adds to the file, at most."""
        return frame_bytes(self.layout)

    @property
    def bytes_epoch(self) -> int:
        """Bytes of the epoch with the most recorded batches."""
        counts: dict[int, int] = {}
        for epoch, _ in self.cells:
            counts[epoch] = counts.get(epoch, 0) + 1
        most = max(counts.values(), default=0)
        return most * self.bytes_batch + epoch_bytes(self.layout, self.batches)

    @property
    def bytes_run(self) -> int:
        """Bytes of the whole file, at most."""
        return file_bytes(self.layout, self.cells, self.batches)

    @property
    def summary(self) -> str:
        """One line: the bytes of a batch, how many batches are recorded, the bytes of the file."""
        total = self.epochs * self.batches
        many = format_count(len(self.cells), "batch")
        if len(self.cells) < total:
            epochs = sorted({epoch for epoch, _ in self.cells})
            which = f"{pluralize('epoch', len(epochs))} {format_intervals(epochs)}"
            many = f"{len(self.cells):,} of {format_count(total, 'batch')} ({which})"
        batch, run = format_bytes(self.bytes_batch), format_bytes(self.bytes_run)
        return f"{batch} a batch, {many}, at most {run}"

    def layer_lines(self, most: int | None = None) -> list[str]:
        """Returns a line for each layer, with its shape and its bytes in a batch.

        Args:
            most: How many layers are named; None names all.
        """
        layers = [layer for layer in self.layout.layers if layer.probe is None]
        shown = layers if most is None else layers[:most]
        width = max([len(layer.name) for layer in shown], default=0)
        lines = [
            f"{layer.name:<{width}}  {_shape(layer)}{' and kernels' if layer.kernel else ''}"
            f"{f', means of {layer.pooled}x{layer.pooled}' if layer.pooled > 1 else ''}, "
            f"{format_bytes(layer.nbytes)}"
            for layer in shown
        ]
        if len(shown) < len(layers):
            lines.append(f"... and {len(layers) - len(shown)} more")
        probes = {layer.probe for layer in self.layout.layers if layer.probe is not None}
        if probes:
            size = sum(layer.nbytes for layer in self.layout.layers if layer.probe is not None)
            images = "a probe image" if len(probes) == 1 else f"{len(probes)} probe images"
            lines.append(f"the same for {images}, {format_bytes(size)}")
        return lines

    def table(self) -> str:
        """Returns a table of the bytes of each layer in a batch, in an epoch and in the run."""
        counts: dict[int, int] = {}
        for epoch, _ in self.cells:
            counts[epoch] = counts.get(epoch, 0) + 1
        most, frames = max(counts.values(), default=0), len(self.cells)
        rows: list[tuple[str, ...]] = [("layer", "frame", "a batch", "an epoch", "the run")]
        parts: list[tuple[str, str, int]] = [
            ("input", "x".join(str(n) for n in shape), 2 * _size(shape))
            for shape in self.layout.images[:1]
        ]
        for layer in self.layout.layers:
            where = "" if layer.probe is None else f"probe {layer.probe}: "
            kernels = " and kernels" if layer.kernel else ""
            parts.append((where + layer.name, _shape(layer) + kernels, layer.nbytes))
        for name, shape, size in parts:
            rows.append(_row(name, shape, size, most * size, frames * size))
        sums = (self.bytes_batch, self.bytes_epoch, self.bytes_run)
        rows.append(_row("all, with indices", "", *sums))
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        lines = []
        for row in rows:
            left = [text.ljust(width) for text, width in zip(row[:2], widths[:2], strict=True)]
            right = [text.rjust(width) for text, width in zip(row[2:], widths[2:], strict=True)]
            lines.append("  ".join(left + right).rstrip())
        return "\n".join([*lines, self.summary])

    def to_json(self) -> str:
        """Returns the plan as one JSON document."""
        document: dict[str, Any] = {
            "epochs": self.epochs,
            "batches": self.batches,
            "recorded": len(self.cells),
            "recorded_epochs": sorted({epoch for epoch, _ in self.cells}),
            "budget": self.budget,
            "bytes": {
                "batch": self.bytes_batch,
                "epoch": self.bytes_epoch,
                "run": self.bytes_run,
            },
            "layers": [{**layer.encode(), "bytes": layer.nbytes} for layer in self.layout.layers],
        }
        return json.dumps(document, indent=2)


def make_plan(
    layout: BatchLayout,
    schedule: Schedule,
    epochs: int,
    batches: int,
    budget: str | int | None = None,
) -> Plan:
    """Plans what a run of known length will record, by the same choice that `Recorder` makes.

    Args:
        layout: What one batch consists of.
        schedule: Which batches are recorded.
        epochs: The number of epochs of the run.
        batches: The number of batches in an epoch.
        budget: Bytes that the file may take, such as `2GB`; None for any number.

    Raises:
        OptionError: The budget is no size.
    """
    cells = schedule.kept(epochs, batches)
    if budget is None:
        return Plan(layout, epochs, batches, tuple(cells))
    limit = parse_bytes(budget)
    thinned = Budget(limit, schedule, epochs)
    kept = []
    for number, cell in enumerate(cells):
        if thinned.keeps():
            kept.append(cell)
        if number == 0:
            thinned.plan(layout, batches)
    return Plan(layout, epochs, batches, tuple(kept), limit)


def _row(name: str, shape: str, *counts: int) -> tuple[str, ...]:
    return (name, shape, *(format_bytes(count) for count in counts))


def _shape(layer: Layer) -> str:
    return "x".join(str(n) for n in layer.shape) or "1"


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size
