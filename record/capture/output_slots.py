"""One tensor that a layer puts out, over the calls of a batch."""

from __future__ import annotations

from collections.abc import Iterator

import torch

MAX_CALLS = 64  # of one layer in one batch


class OutputSlots:
    """One tensor that a layer puts out, over the calls of a batch.

    A frame is there only once its copy has ended: `call` numbers it before, `keep` notes it
    behind. What a copy that failed has left in a slot is never taken for a frame.

    Args:
        probe: The number of the fixed image that it belongs to; None for a batch's.
        layer: The layer's name.
        item: What the tensor is called among those that the layer puts out.

    Attributes:
        calls: How often it was put out in this batch.
        failed: By bits, the calls whose copy failed.
        slots: A slice of the buffer for each known call, in the shape that the call had first.
        in_slots: By bits, the calls whose values are in their slots.
        found: By call, copies of what has no fitting slot.
        pooled: By call, of how many values in a row each of what was found is the mean.
        kernel_slot: A slice for the kernels.
        kernel_in_slot: Whether they are in it.
        found_kernel: A copy of the kernels, without a slot for them.
        note: What is to be known of its frames, in words.
    """

    def __init__(self, probe: int | None, layer: str, item: str) -> None:
        self.probe, self.layer, self.item = probe, layer, item
        self.calls = 0
        self.failed = 0
        self.slots: list[torch.Tensor] = []
        self.in_slots = 0
        self.found: dict[int, torch.Tensor] = {}
        self.pooled: dict[int, int] = {}
        self.kernel_slot: torch.Tensor | None = None
        self.kernel_in_slot = False
        self.found_kernel: torch.Tensor | None = None
        self.note = ""

    def call(self) -> int:
        """Numbers a call, before its values are copied."""
        call = self.calls
        self.calls = call + 1
        return call

    def keep(self, call: int, image: torch.Tensor, pooled: int = 1) -> None:
        """Copies what was put out for one image in a call, and then notes that it is there."""
        if call >= MAX_CALLS:
            return
        if call < len(self.slots) and self.slots[call].shape == image.shape:
            self.slots[call].copy_(image)
            self.in_slots |= 1 << call
        else:
            copied = image.to(torch.float16, copy=True)
            self.found[call], self.pooled[call] = copied, pooled

    def keep_kernel(self, weight: torch.Tensor, most: int) -> None:
        """Copies the kernels that made a map, unless they are larger than it is.

        Args:
            weight: The kernels.
            most: Values of the map.

        Raises:
            ValueError: They have another shape than the first ones had.
        """
        slot = self.kernel_slot
        if slot is not None:
            if slot.shape != weight.shape:
                raise ValueError(
                    f"expected kernels of {tuple(slot.shape)}, as at first, found "
                    f"{tuple(weight.shape)}"
                )
            slot.copy_(weight)
            self.kernel_in_slot = True
        elif weight.numel() <= most:
            self.found_kernel = weight.to(torch.float16, copy=True)

    def give_up(self, call: int) -> None:
        """The copy of a call failed."""
        self.failed |= 1 << call

    def point_at(self, slots: list[torch.Tensor], kernel: torch.Tensor | None) -> None:
        """Takes slices of another buffer; nothing is in them."""
        self.slots, self.kernel_slot = slots, kernel
        self.in_slots, self.kernel_in_slot = 0, False

    @property
    def regular(self) -> bool:
        """Whether every slot holds its frame, and nothing else was put out."""
        count = len(self.slots)
        return (
            self.calls == count
            and self.in_slots == (1 << count) - 1
            and not self.found
            and self.kernel_in_slot == (self.kernel_slot is not None)
        )

    def unplaced(self, placed: set[int]) -> Iterator[int]:
        """The calls whose values were copied, but have no place in the layout."""
        for call in range(min(self.calls, MAX_CALLS)):
            if call not in placed and not self.failed >> call & 1:
                yield call

    def reset(self) -> None:
        """Forgets what was put out."""
        self.calls = self.failed = self.in_slots = 0
        self.kernel_in_slot = False
        if self.found:
            self.found.clear()
        self.found_kernel = None
