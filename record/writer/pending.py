"""Frames whose arrays are written and whose values of one batch each wait for the commit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from record.protocol import messages
from record.protocol.layout import BatchLayout, Slot
from replay import schema


@dataclass
class PendingFrame:
    """A frame whose arrays are written, and what is to be written beside it at the commit.

    Attributes:
        epoch: Its epoch.
        batch: Its batch within the epoch.
        fields: The values of `/batches`, by name.
        ranges: The smallest and the largest value of each map, float32 (channels of all layers, 2).
        checksums: The checksums of its parts.
        is_last: Whether no later batch of its epoch was written before it.
    """

    epoch: int
    batch: int
    fields: dict[str, float]
    ranges: npt.NDArray[np.float32]
    checksums: Checksums
    is_last: bool = True


def group_in_rows(frames: Sequence[PendingFrame]) -> list[list[PendingFrame]]:
    """Groups frames by epoch, with batches ascending within a group.

    A group is written as one block, with the batches between its own: nothing is written for these
    yet, since a frame that comes behind a later one of its epoch is a group of its own.
    """
    groups: list[list[PendingFrame]] = []
    for frame in frames:
        before = groups[-1][-1] if groups else None
        if before and before.epoch == frame.epoch and before.is_last and frame.is_last:
            groups[-1].append(frame)
        else:
            groups.append([frame])
    return groups


class Checksums(NamedTuple):
    """The CRC-32 checksums of the parts of a frame; None for a part that it does not have.

    Attributes:
        image: The checksum of the first image of the batch.
        maps: The checksums of the maps of each layer, in the order of the layout.
        kernels: The checksums of the kernels of each layer, in the order of the layout.
        exponents: The exponents of the values of each layer, likewise: they are as small.
    """

    image: int | None
    maps: list[int | None]
    kernels: list[int | None]
    exponents: list[int | None]


def compute_checksums(
    header: messages.FrameHeader, values: memoryview, layout: BatchLayout
) -> Checksums:
    """Computes the checksums of a frame's parts.

    Args:
        header: Says which image and which layers the frame has.
        values: The bytes of the whole frame.
        layout: What the frame consists of.
    """

    def checksum_of(slot: Slot | None, place: int) -> int | None:
        if slot is None or place in header.missing:
            return None
        return schema.checksum(slot.of(values))

    def exponent_of(slot: Slot | None, place: int) -> int | None:
        if slot is None or place in header.missing:
            return None
        value = float(np.frombuffer(slot.of(values), schema.FRAME_DTYPE)[0])
        return int(value) if math.isfinite(value) else 0

    image = None if header.image is None else layout.image_slots[header.image]
    return Checksums(
        None if image is None else schema.checksum(image.of(values)),
        [checksum_of(slot, place) for place, slot in enumerate(layout.map_slots)],
        [checksum_of(slot, place) for place, slot in enumerate(layout.kernel_slots)],
        [exponent_of(slot, place) for place, slot in enumerate(layout.exponent_slots)],
    )
