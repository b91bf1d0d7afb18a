"""What a recording will hold and how many bytes it will take, before anything is trained."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from record.formatting import format_bytes, format_count, pluralize
from record.protocol.layout import BatchLayout
from record.schedule.budget import Budget, epoch_bytes, file_bytes, frame_bytes, parse_bytes
from record.schedule.plan_table import (
    attention_of,
    beside_maps,
    format_shape,
    table_html,
    table_text,
    what_is_left,
)
from record.schedule.schedule import Schedule
from replay.schema import Layer, format_intervals


@dataclass(frozen=True)
class ModuleOutput:
    """What a module put out in one forward.

    Attributes:
        name: The module's name.
        module: The module in one line.
        shape: The shape of the first tensor that it put out; None where it put out none.
        dtype: The dtype of that tensor, `float32`, say.
        calls: How often it was called.
    """

    name: str
    module: str
    shape: tuple[int, ...] | None
    dtype: str
    calls: int


@dataclass(frozen=True, repr=False)
class Plan:
    """What a run will record.

    Attributes:
        layout: What one batch consists of.
        epochs: Epochs of the run.
        batches: Batches in an epoch.
        cells: (epoch, batch) of every batch that will be recorded.
        budget: Bytes that the file may take, or None.
        outputs: What each module put out in the forward by which that was found.
        model: The model's class, where that is known.
        parameters: The number of its parameters.
        knows_batches: Whether the number of batches was said, or counted; else it is 1.
    """

    layout: BatchLayout
    epochs: int
    batches: int
    cells: tuple[tuple[int, int], ...]
    budget: int | None = None
    outputs: tuple[ModuleOutput, ...] = ()
    model: str = ""
    parameters: int | None = None
    knows_batches: bool = True

    @property
    def bytes_batch(self) -> int:
        """Bytes that a recorded batch adds to the file, at most."""
        return frame_bytes(self.layout)

    @property
    def bytes_epoch(self) -> int:
        """Bytes of the epoch with the most recorded batches."""
        return self.most_in_epoch * self.bytes_batch + epoch_bytes(self.layout, self.batches)

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
        layers = [layer for layer in self.layout.layers if layer.is_main]
        shown = layers if most is None else layers[:most]
        width = max([len(layer.name) for layer in shown], default=0)
        lines = [
            f"{layer.name:<{width}}  {format_shape(layer.shape)}"
            f"{' and kernels' if layer.kernel else ''}"
            f"{f', means of {layer.pooled}x{layer.pooled}' if layer.pooled > 1 else ''}, "
            f"{format_bytes(layer.nbytes)}"
            for layer in shown
        ]
        if len(shown) < len(layers):
            lines.append(f"... and {len(layers) - len(shown)} more")
        heads = attention_of(self.layout.layers)
        if heads:
            largest = max(heads, key=lambda layer: layer.nbytes)
            taken = format_bytes(sum(layer.nbytes for layer in heads))
            lines.append(f"attention, {len(heads)} of up to {format_shape(largest.shape)}, {taken}")
        probes = {layer.probe for layer in self.layout.layers if layer.probe is not None}
        if probes:
            size = sum(layer.nbytes for layer in self.layout.layers if layer.probe is not None)
            images = "a fixed image" if len(probes) == 1 else f"{len(probes)} fixed images"
            lines.append(f"the same for {images}, {format_bytes(size)}")
        lines += [f"{words}, {format_bytes(size)}" for words, size in beside_maps(self.layout)]
        return lines

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers that will be recorded of a batch, with shapes and axes, in their order."""
        return tuple(layer for layer in self.layout.layers if layer.is_main)

    @property
    def most_in_epoch(self) -> int:
        """The number of recorded batches of the epoch with the most of them."""
        counts: dict[int, int] = {}
        for epoch, _ in self.cells:
            counts[epoch] = counts.get(epoch, 0) + 1
        return max(counts.values(), default=0)

    def tree(self, everything: bool = False) -> str:
        """Returns the tree of the layers, with shapes, dtypes, and the bytes that each takes.

        Args:
            everything: Whether modules are named, too, that are not recorded.
        """
        return table_text(self, everything)

    def __repr__(self) -> str:
        name = f"{self.model}, {format_count(self.parameters or 0, 'parameter')}\n"
        return "\n".join([(name if self.model else "") + self.tree(), *what_is_left(self)])

    def _repr_html_(self) -> str:
        return table_html(self)

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
