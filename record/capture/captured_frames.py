"""The frames of a batch as they were captured, and the layout that they have in its buffer.

The first recorded forward finds out which layers fire, how often and in what shape. From this
comes the layout, which only ever grows; from then on every layer has its slice of the buffer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch

from record.capture.layer_hook import LayerHook
from record.capture.phase import CaptureState, Slices
from record.capture.slots import OutputSlots
from record.capture.token_places import TokenPlaces
from record.protocol.layout import BatchLayout, Slot
from replay.schema import GRADIENTS, Layer

MAX_SHAPES = 8  # of one layer call, or of the input, in one run


class _Place(NamedTuple):
    """What one layer of the layout is a frame of.

    Attributes:
        slots: Where the tensor goes.
        call: The number of the call in a batch, from 0.
        shape: The shape of one image's part.
    """

    slots: OutputSlots
    call: int
    shape: tuple[int, ...]


class FrameSource(Protocol):
    """What puts frames beside the maps: a layer's attention, its gradients, its class activation.

    Attributes:
        slots: Where each of its tensors goes, as of a `LayerHook`.
        description: The module in one line.
    """

    @property
    def slots(self) -> Mapping[tuple[int | None, str], OutputSlots]:
        """See above."""

    @property
    def description(self) -> str:
        """See above."""

    def axes_of(self, shape: Sequence[int]) -> str:
        """Returns what the axes of one image's part of this shape are, as in `schema.AXES`."""


class CapturedFrames:
    """The frames of a batch, and their layout.

    Args:
        state: What all hooks of the recording share.
        hooks: The hooks of the layers, to which further ones may come.

    Attributes:
        further: What puts frames beside the maps; sources may come at any time. They are no
            layers: where one is silent in a batch, its frame is missing, and nothing is counted.
        layout: What one batch consists of; empty before the first recorded forward.
        probe_places: The places in the layout of the layers of fixed images.
    """

    def __init__(self, state: CaptureState, hooks: list[LayerHook]) -> None:
        self.layout = BatchLayout((), ())
        self._state = state
        self._hooks = hooks
        self.further: list[FrameSource] = []
        self._places: list[_Place] = []  # of the layout's layers, in their order
        self._token_places: TokenPlaces | None = None  # before any tokens were met
        self._grids: dict[tuple[str, str, int, tuple[int, ...]], tuple[int, int] | None] = {}
        self.probe_places: tuple[int, ...] = ()

    @property
    def silent_layers(self) -> dict[str, str]:
        """The layers without any frame so far, and in words what they put out instead."""
        known = {place.slots.layer for place in self._places if not place.slots.kind}
        known |= {
            slots.layer
            for slots in self._state.slots
            if not slots.kind and (slots.found or slots.in_slots)
        }
        return {
            hook.name: hook.put_out
            for hook in self._hooks
            if not (hook.failed or hook.name in known)
        }

    def slices(self, flat: torch.Tensor) -> Slices:
        """Returns the layout's parts of a flat float16 buffer, for `CaptureState.point_at`."""
        layout = self.layout
        calls: dict[OutputSlots, list[torch.Tensor]] = {}
        kernels: dict[OutputSlots, torch.Tensor | None] = {}
        exponents: dict[OutputSlots, list[torch.Tensor]] = {}
        for number, (slots, call, _) in enumerate(self._places):
            views = calls.setdefault(slots, [])
            if call == len(views):  # a call's first shape; its calls are in their order
                views.append(view(flat, layout.map_slots[number]))
                exponent = layout.exponent_slots[number]
                if exponent is not None:
                    exponents.setdefault(slots, []).append(view(flat, exponent))
            kernel = layout.kernel_slots[number]
            kernels[slots] = kernels.get(slots) if kernel is None else view(flat, kernel)
        image = view(flat, layout.image_slots[0]) if layout.images else None
        return image, [
            (slots, views, kernels[slots], exponents.get(slots, []))
            for slots, views in calls.items()
        ]

    def extend(self) -> bool:
        """Adds what was found for the first time to the layout.

        Returns:
            Whether the layout has changed.
        """
        images, found_image = self.layout.images, self._state.input.found
        if found_image is not None and len(images) < MAX_SHAPES:
            shape = tuple(found_image.shape)
            images += (shape,) if shape not in images else ()
        known = set(self._places)
        shapes: dict[tuple[OutputSlots, int], int] = {}
        for slots, call, _ in self._places:
            shapes[slots, call] = shapes.get((slots, call), 0) + 1
        added: list[Layer] = []
        for hook in (*self._hooks, *self.further):
            for slots in list(hook.slots.values()):
                for call, found in sorted(slots.found.items()):
                    place = _Place(slots, call, tuple(found.shape))
                    others = shapes.get((slots, call), 0)
                    if place in known or others >= MAX_SHAPES:
                        continue
                    self._places.append(place)
                    kernel = slots.found_kernel if call == 0 else None
                    added.append(
                        Layer(
                            name=_name(place, varied=others > 0),
                            module=hook.description,
                            shape=place.shape,
                            kernel=None if kernel is None else tuple(kernel.shape),
                            axes=hook.axes_of(found.shape),
                            pooled=slots.pooled.get(call, 1),
                            probe=slots.probe,
                            note=slots.note,
                            kind=slots.kind,
                            scaled=slots.scaled,
                            queries=slots.queries,
                            grid=slots.grid or self._grid_of(hook, place),
                            of=slots.of,
                        )
                    )
        if not added and images == self.layout.images:
            return False
        self.layout = BatchLayout(images, self.layout.layers + tuple(added))
        self.probe_places = tuple(
            number for number, place in enumerate(self._places) if place.slots.probe is not None
        )
        return True

    def _grid_of(self, hook: LayerHook | FrameSource, place: _Place) -> tuple[int, int] | None:
        """Returns where the tokens of a layer stand, as `schema.Layer.grid`, and of gradients."""
        slots, call, shape = place
        if hook.axes_of(shape) != "TC" or slots.kind not in ("", GRADIENTS):
            return None
        key = slots.layer, slots.item, call, shape
        size, root = slots.image_sizes.get(call), self._state.root
        if slots.kind or size is None or root is None:
            return self._grids.get(key)
        if self._token_places is None:
            self._token_places = TokenPlaces(root)
        self._grids[key] = grid = self._token_places.grid_of(shape[0], size, call)
        return grid

    def fill(self, flat: torch.Tensor) -> set[int]:
        """Copies what was found without a slot into a flat buffer.

        Kernels that were not copied become NaN, as in the file's cells that nobody wrote.

        Args:
            flat: The buffer, float16, of the layout's size.

        Returns:
            The places in the layout that hold their frame, in slots or by this.
        """
        held: set[int] = set()
        seen: set[tuple[OutputSlots, int]] = set()  # calls whose first shape, the slot's, was met
        for number, (slots, call, shape) in enumerate(self._places):
            found = slots.found.get(call)
            in_slot = bool(slots.in_slots >> call & 1) and (slots, call) not in seen
            seen.add((slots, call))
            try:
                if found is not None and found.shape == shape:
                    view(flat, self.layout.map_slots[number]).copy_(found)
                    in_slot = True
                if in_slot:
                    self._fill_exponent(flat, number, slots, call)
                    self._fill_kernel(flat, number, slots, call)
                    held.add(number)
            except Exception as error:  # this layer's frame is missing, the others are not
                slots.give_up(call)
                self._state.fail(slots.layer, error)
        return held

    def _fill_exponent(
        self, flat: torch.Tensor, number: int, slots: OutputSlots, call: int
    ) -> None:
        slot, exponent = self.layout.exponent_slots[number], slots.exponents.get(call)
        if slot is not None and exponent is not None:
            view(flat, slot).copy_(exponent)

    def _fill_kernel(self, flat: torch.Tensor, number: int, slots: OutputSlots, call: int) -> None:
        slot = self.layout.kernel_slots[number]
        if slot is None or (call == 0 and slots.kernel_in_slot):
            return
        kernel, found = view(flat, slot), slots.found_kernel
        if call == 0 and found is not None and found.shape == kernel.shape:
            kernel.copy_(found)
        else:
            kernel.fill_(torch.nan)

    def fill_image(self, flat: torch.Tensor) -> int | None:
        """Copies an image that was found without a slot into a flat buffer.

        Args:
            flat: The buffer, float16, of the layout's size.

        Returns:
            Which of the layout's images the buffer holds; None where it holds none.
        """
        seen = self._state.input
        if seen.found is None:
            return 0 if seen.in_slot else None
        shape = tuple(seen.found.shape)
        if shape not in self.layout.images:
            return None
        number = self.layout.images.index(shape)
        view(flat, self.layout.image_slots[number]).copy_(seen.found)
        return number

    def missing(self, held: set[int]) -> tuple[list[int], int, list[str]]:
        """Finds out what the last forward did not put out.

        Args:
            held: The places in the layout that have a frame, as `fill` says.

        Returns:
            The places without a frame, the number of layers that were silent, and for each frame
            that has no place in the layout the name of its layer.
        """
        empty = [number for number in range(len(self._places)) if number not in held]
        present: dict[tuple[OutputSlots, int], bool] = {}
        for number, (slots, call, _) in enumerate(self._places):
            present[slots, call] = present.get((slots, call), False) or number in held
        absent = sum(
            slots.probe is None and not slots.kind and not is_held
            for (slots, _), is_held in present.items()
        )
        placed: dict[OutputSlots, set[int]] = {}
        for (slots, call), is_held in present.items():
            if is_held:
                placed.setdefault(slots, set()).add(call)
        lost = [
            slots.layer
            for slots in self._state.slots
            for _ in slots.unplaced(placed.get(slots, set()))
        ]
        return empty, absent, lost


def view(flat: torch.Tensor, slot: Slot) -> torch.Tensor:
    """Returns the part of a flat buffer that a slot names, in the slot's shape."""
    return flat[slot.start : slot.stop].view(slot.shape)


def _name(place: _Place, varied: bool) -> str:
    """Returns a layer's name in the file: `fpn[p3]#1@64x20x28`."""
    slots, call, shape = place
    name = slots.layer + (f"[{slots.item}]" if slots.item else "") + (f"#{call}" if call else "")
    return f"{name}@{'x'.join(str(n) for n in shape)}" if varied else name
