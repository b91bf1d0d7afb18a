"""Frames whose maps are written and whose small values wait for the commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from record.protocol import messages
from record.protocol.layout import BatchLayout, Slot
from replay import schema


@dataclass
class Pending:
    """A frame whose maps are written and whose small values wait for the commit.

    Attributes:
        epoch: Its epoch.
        batch: Its number in the epoch.
        fields: What is kept in `/batches`.
        ranges: The least and the greatest value of each map.
        checksums: Of its parts.
        is_last: Whether no later batch of its epoch was written before it.
    """

    epoch: int
    batch: int
    fields: dict[str, float]
    ranges: npt.NDArray[np.float32]
    checksums: Checksums
    is_last: bool = True


def in_rows(frames: Sequence[Pending]) -> list[list[Pending]]:
    """The frames in groups of one epoch each, batches ascending within a group.

    A group is written as one block, the cells between its batches too: there is nothing in them,
    since a frame that comes behind a later one of its epoch is a group of its own.
    """
    runs: list[list[Pending]] = []
    for frame in frames:
        before = runs[-1][-1] if runs else None
        if before and before.epoch == frame.epoch and before.is_last and frame.is_last:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return runs


class Checksums(NamedTuple):
    """Those of the parts of a frame, by place in the layout; None for what it does not have."""

    image: int | None
    maps: list[int | None]
    kernels: list[int | None]


def check(header: messages.FrameHeader, values: memoryview, layout: BatchLayout) -> Checksums:
    """The checksums of a frame's parts."""

    def sum_of(slot: Slot | None, place: int) -> int | None:
        if slot is None or place in header.missing:
            return None
        return schema.checksum(slot.of(values))

    image = None if header.image is None else layout.image_slots[header.image]
    return Checksums(
        None if image is None else schema.checksum(image.of(values)),
        [sum_of(slot, place) for place, slot in enumerate(layout.map_slots)],
        [sum_of(slot, place) for place, slot in enumerate(layout.kernel_slots)],
    )
