"""Where the values of a batch go: the slots of the model's input and of what its layers put out."""

from __future__ import annotations

from collections.abc import Iterator

import torch

MAX_CALLS = 64  # of one layer in one batch
UNSETTLED = -2  # in the place of an axis: the next output is looked at in full


class InputSlot:
    """The first image that the model is given.

    Attributes:
        slot: A slice of the buffer for the image; None without one.
        in_slot: Whether the image is in the slot.
        found: A copy of an image without a fitting slot, float16.
        fired: Whether a forward was seen since the last batch.
        shape: The shape of the last input; None where it was no image.
        dtype: The dtype of the last input.
        device: The device of the last input.
        autocast: The dtype to which autocast was set for the last forward, or None.
    """

    def __init__(self) -> None:
        self.slot: torch.Tensor | None = None
        self.in_slot = False
        self.found: torch.Tensor | None = None
        self.fired = False
        self.shape: torch.Size | None = None
        self.dtype: torch.dtype | None = None
        self.device: torch.device | None = None
        self.autocast: torch.dtype | None = None

    @property
    def rank(self) -> int | None:
        """The number of axes of the last input; None where it was no image."""
        return None if self.shape is None else len(self.shape)

    def keep(self, image: torch.Tensor) -> None:
        """Copies one image into the slot, or beside it where it has another shape."""
        if self.slot is not None and self.slot.shape == image.shape:
            self.slot.copy_(image)
            self.in_slot = True
            self.found = None  # of an earlier forward of a compiled model
        else:
            self.found = image.to(torch.float16, copy=True)

    def note_autocast(self, device: torch.device) -> None:
        """Notes under which autocast the forward runs on a device."""
        enabled = torch.is_autocast_enabled(device.type)
        self.autocast = torch.get_autocast_dtype(device.type) if enabled else None

    def divide(self) -> None:
        """Keeps the first image of what was taken for one image and is a batch of them."""
        if self.found is not None and self.found.ndim > 1:
            self.found = self.found[0].clone()
        self.in_slot = False


class OutputSlots:
    """One tensor that a layer puts out, over the calls of a batch.

    A frame is there only once its copy has ended: `calls` counts a call before it is copied, and
    `keep` notes the frame afterwards. What a copy that failed has left in a slot is never taken
    for a frame.

    Args:
        probe: The number of the fixed image that the tensor belongs to; None for a batch's.
        layer: The layer's name.
        item: What the tensor is called among those that the layer puts out.
        kind: What the tensor is, as `schema.Layer.kind`.
        scaled: Whether each frame has an exponent, as `schema.Layer.scaled`.

    Attributes:
        calls: How often the tensor was put out in this batch.
        failed: By bits, the calls whose copy failed.
        slots: A slice of the buffer for each known call, in the shape that the call had first.
        in_slots: By bits, the calls whose values are in their slots.
        found: By call, float16 copies of what has no fitting slot.
        pooled: By call, how many values in a row each value of what was found is the mean of.
        image_sizes: By call, the height and width of the input of what was found, of tokens.
        kernel_slot: A slice of the buffer for the kernels; None without one.
        kernel_in_slot: Whether the kernels are in their slot.
        found_kernel: A float16 copy of kernels without a slot.
        exponent_slots: A slice of the buffer, of one value, for the exponent of each known call.
        exponents: By call, the exponents of what was found, float16.
        queries: As `schema.Layer.queries`.
        grid: As `schema.Layer.grid`.
        of: As `schema.Layer.of`.
        axis: The axis that counted the images in the last output, or UNSETTLED.
        size: How many images it counted.
        note: What a reader has to know of the frames; empty where there is nothing.
    """

    def __init__(
        self, probe: int | None, layer: str, item: str, kind: str = "", scaled: bool = False
    ) -> None:
        self.probe, self.layer, self.item = probe, layer, item
        self.kind, self.scaled = kind, scaled
        self.calls = 0
        self.failed = 0
        self.slots: list[torch.Tensor] = []
        self.in_slots = 0
        self.found: dict[int, torch.Tensor] = {}
        self.pooled: dict[int, int] = {}
        self.image_sizes: dict[int, tuple[int, int]] = {}
        self.kernel_slot: torch.Tensor | None = None
        self.kernel_in_slot = False
        self.found_kernel: torch.Tensor | None = None
        self.exponent_slots: list[torch.Tensor] = []
        self.exponents: dict[int, torch.Tensor] = {}
        self.queries, self.of = "", ""
        self.grid: tuple[int, int] | None = None
        self.axis, self.size = UNSETTLED, 0
        self.note = ""

    def keep(self, call: int, image: torch.Tensor, pooled: int = 1) -> None:
        """Copies what was put out for one image, and then notes that it is there.

        Args:
            call: The number of the call in this batch, from 0.
            image: One image's part of the output.
            pooled: How many values in a row each of its values is the mean of.
        """
        if call >= MAX_CALLS:
            return
        if call < len(self.slots) and self.slots[call].shape == image.shape:
            self.slots[call].copy_(image)
            self.in_slots |= 1 << call
        else:
            copied = image.to(torch.float16, copy=True)
            self.found[call], self.pooled[call] = copied, pooled

    def keep_scaled(self, call: int, image: torch.Tensor, exponent: torch.Tensor) -> None:
        """Copies values that have an exponent, and then notes that they are there.

        Args:
            call: The number of the call in this batch, from 0.
            image: One image's part, to be multiplied by 2 to the power of the exponent.
            exponent: A whole number, shape ().
        """
        known = call < len(self.exponent_slots)
        if known and self.slots[call].shape == image.shape:
            self.exponent_slots[call].copy_(exponent)
        elif call < MAX_CALLS:
            self.exponents[call] = exponent.to(torch.float16, copy=True)
        self.keep(call, image)

    def keep_kernel(self, weight: torch.Tensor, most: int) -> None:
        """Copies the kernels that made a map, unless they are larger than the map.

        Args:
            weight: The kernels.
            most: The number of values of the map.

        Raises:
            ValueError: The kernels have another shape than the first ones had.
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
        """Notes that the copy of a call failed."""
        self.failed |= 1 << call

    def unplaced(self, placed: set[int]) -> Iterator[int]:
        """Yields the calls whose values were copied, but have no place in the layout."""
        for call in range(min(self.calls, MAX_CALLS)):
            if call not in placed and not self.failed >> call & 1:
                yield call
