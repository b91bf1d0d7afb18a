"""Where the attention of one module goes, and which part of a batch's is the first image's."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

from torch import nn

from record.capture.attention_tokens import Tokens
from record.capture.slots import OutputSlots
from record.modules.names import named_modules
from record.modules.selection import describe_module
from replay.schema import ATTENTION, ATTENTION_AXES


class AttentionSource:
    """Where the attention that one module computes goes.

    Args:
        name: The module's name.
        module: The module. It is not kept alive.
        all_slots: Takes the slots of each fixed image and of the batches' own, as they are made.

    Attributes:
        slots: Where it goes, by the number of the fixed image, None for a batch's.
    """

    def __init__(self, name: str, module: nn.Module, all_slots: list[OutputSlots]) -> None:
        self.slots: dict[tuple[int | None, str], OutputSlots] = {}
        self.description = describe_module(module)
        self._name = name
        self._all_slots = all_slots

    def axes_of(self, shape: Sequence[int]) -> str:
        """Returns what the axes of one image's attention are."""
        return ATTENTION_AXES.get(len(shape), ("",))[0]

    def slots_of(self, probe: int | None, tokens: Tokens, note: str) -> OutputSlots:
        """Returns the slots of a fixed image's attention, or of a batch's.

        Args:
            probe: The number of the fixed image; None for a batch's.
            tokens: What the tokens stand for.
            note: What a reader has to know.
        """
        slots = self.slots.get((probe, ""))
        if slots is None:
            slots = self.slots[probe, ""] = OutputSlots(probe, self._name, "", kind=ATTENTION)
            self._all_slots.append(slots)
        if not slots.slots:  # before the layout knows it
            slots.queries, slots.grid, slots.note = tokens.queries, tokens.grid, note
        return slots


class ModuleNames:
    """The names of a model's modules by the modules themselves.

    Args:
        root: The model, or a replica of it.
    """

    def __init__(self, root: nn.Module) -> None:
        self.root = weakref.ref(root)
        self._names = {id(m): (weakref.ref(m), name) for name, m in named_modules(root).items()}

    def of(self, module: nn.Module) -> str | None:
        """Returns a module's name; None where it is not of the model."""
        reference, name = self._names.get(id(module), (None, None))
        return name if reference is not None and reference() is module else None


def first_row(count: int, sizes: tuple[int, ...], number: int) -> tuple[int, int]:
    """Returns which of the parts of a batch is the first one of an image.

    Args:
        count: The number of parts: as many as images, or windows, frames or views of them.
        sizes: How many images the batch may have, the likeliest first; empty where nobody knows.
        number: The number of the image, from 0.

    Returns:
        The number of the part, and how many parts each image has.

    Raises:
        ValueError: Nothing tells which part is which image's.
    """
    if count in sizes or not sizes or count == 1:
        return (number if count > 1 else 0), 1
    for size in sizes:
        if count % size == 0:
            # Of several fixed images each must have its parts together, which is usual; the
            # first part of all is the first image's in any order.
            return number * (count // size), count // size
    raise ValueError(f"its attention has {count} parts, and the batch {sizes[0]} images")
