"""The checksums of a frame's parts."""

from __future__ import annotations

from typing import NamedTuple

from record import wire
from replay import schema


class Checksums(NamedTuple):
    """Those of the parts of a frame, by place in the layout; None for what it does not have."""

    image: int | None
    maps: list[int | None]
    kernels: list[int | None]


def check(header: wire.FrameHeader, values: memoryview, layout: wire.Layout) -> Checksums:
    """The checksums of a frame's parts."""

    def sum_of(slot: wire.Slot | None, place: int) -> int | None:
        if slot is None or place in header.missing:
            return None
        return schema.checksum(slot.of(values))

    image = None if header.image is None else layout.image_slots[header.image]
    return Checksums(
        None if image is None else schema.checksum(image.of(values)),
        [sum_of(slot, place) for place, slot in enumerate(layout.map_slots)],
        [sum_of(slot, place) for place, slot in enumerate(layout.kernel_slots)],
    )
