"""What a layer puts out for several fixed images, copied in one go.

Their slots lie behind one another in the buffer, and a copy for each would cost a small network
more than the values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from record.capture.batch_axis import WHOLE
from record.capture.slots import OutputSlots


def copy_together(
    slots: Sequence[OutputSlots], output: torch.Tensor, find_axis: Callable[[], int]
) -> bool:
    """Copies what a layer has put out for all fixed images.

    Args:
        slots: Where the values of each image go.
        output: What was put out.
        find_axis: Finds the axis that counts the images, or WHOLE.

    Returns:
        Whether it was done: where there is no row and no slot for each, nothing was.
    """
    call = slots[0].calls
    if type(output) is not torch.Tensor or output.is_nested or not output.is_floating_point():
        return False
    if output.layout is not torch.strided or any(each.calls != call for each in slots):
        return False
    try:
        with torch._C.DisableTorchFunction():  # of plain tensors nobody has to be told
            axis = find_axis()
            if axis == WHOLE or output.shape[axis] != len(slots):
                return False
            if not keep_together(slots, call, output.detach().movedim(axis, 0)):
                return False
    except Exception:  # which is said where it happens again
        return False
    for each in slots:
        each.calls = call + 1
    return True


def keep_together(
    slots: Sequence[OutputSlots],
    call: int,
    images: torch.Tensor,
    exponents: torch.Tensor | None = None,
) -> bool:
    """Copies one call's values for all fixed images, and then notes that they are there.

    Args:
        slots: Where the values of each image go.
        call: The number of the call in this batch, from 0.
        images: The values of each, (N, ...).
        exponents: The exponent of each, whole numbers (N,); None where they have none.

    Returns:
        Whether it was done: where their slots are not known, or not side by side, nothing was.
    """
    if len(slots) != len(images) or any(call >= len(each.slots) for each in slots):
        return False
    target = _side_by_side([each.slots[call] for each in slots])
    if target is None or target.shape != images.shape:
        return False
    if exponents is not None:
        targets = _side_by_side([each.exponent_slots[call] for each in slots])
        if targets is None:
            return False
        targets.copy_(exponents)
    target.copy_(images)
    for each in slots:
        each.in_slots |= 1 << call
    return True


def _side_by_side(parts: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """Returns parts of a buffer that lie at equal distances as one tensor; None of others."""
    first = parts[0]
    starts = [part.data_ptr() for part in parts]
    step = starts[1] - starts[0] if len(parts) > 1 else first.nbytes
    if step < first.nbytes or not first.is_contiguous():
        return None
    for number, (part, start) in enumerate(zip(parts, starts, strict=True)):
        if start != starts[0] + number * step or part.shape != first.shape:
            return None
    if parts[-1].untyped_storage().data_ptr() != first.untyped_storage().data_ptr():
        return None  # and so are those between
    apart = step // first.element_size()
    return first.as_strided((len(parts), *first.shape), (apart, *first.stride()))
