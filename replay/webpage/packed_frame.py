"""A frame of a layer as a page has it, and what the manifest and the notes say of all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.formatting import format_count
from replay.schema import Cell
from replay.webpage.eight_bit import COUNT
from replay.webpage.frame_block import FrameBlock


@dataclass(frozen=True)
class PackedFrame:
    """A frame, packed, and what was found in it.

    Attributes:
        block: Its block.
        range: The ends of the range of all its values.
        unfinite: How many of its values are NaN, and infinite.
        remark: What is said of it.
        extremes: float32 (C, 2), the extremes of each map.
        bare: Whether it has no kernels though the layer has.
        absent: Whether the layer put out nothing then; its maps are NaN.
        square: As in `squared_error`.
        maps_damaged: Whether its maps are.
        kernels_damaged: Whether its kernels are.
    """

    block: bytes
    range: list[float]
    unfinite: list[int]
    remark: str
    extremes: npt.NDArray[np.float32]
    bare: bool
    absent: bool
    square: float
    maps_damaged: bool
    kernels_damaged: bool


def squared_error(maps: npt.NDArray[np.float16], made: FrameBlock) -> float:
    """Returns the mean square of what pixels are off, in 254ths of the adaptive range.

    Args:
        maps: float16 (C, H, W), as they were packed.
        made: What a reader finds of them.
    """
    width = (made.bounds[:, 1] - made.bounds[:, 0])[:, None, None]
    away = made.values
    np.subtract(maps, away, out=away)
    away /= width
    finite = maps.size
    if made.odd is not None:
        known = np.isfinite(maps)
        away[~known] = 0.0
        finite = int(known.sum())
    np.square(away, out=away)
    return float(away.sum() * (COUNT - 1) ** 2 / max(finite, 1))


def error_of(frames: Sequence[PackedFrame]) -> float:
    """Returns the root of the mean of the frames' squares."""
    return math.sqrt(sum(frame.square for frame in frames) / max(len(frames), 1))


def describe_packed(frames: Sequence[PackedFrame]) -> dict[str, Any]:
    """Returns what a layer's part of the manifest says of frames that are not as others."""
    unfinite = [frame.unfinite for frame in frames]
    remarks = [frame.remark for frame in frames]
    bare = [frame.bare for frame in frames]
    absent = [frame.absent for frame in frames]
    return {
        "unfinite": unfinite if any(map(any, unfinite)) else None,
        "bare": bare if any(bare) else None,
        "absent": absent if any(absent) else None,
        "remarks": remarks if any(remarks) else None,
    }


def damage_of(name: str, cells: Sequence[Cell], frames: Sequence[PackedFrame]) -> list[str]:
    """Returns what is damaged in the frames of a layer, a sentence each.

    Args:
        name: What to call the layer.
        cells: (epoch, batch) of each frame.
        frames: The frames.
    """
    found = (
        ("maps", [frame.maps_damaged for frame in frames], "shown as NaN"),
        ("kernels", [frame.kernels_damaged for frame in frames], "left out"),
    )
    notes = []
    for what, damaged, outcome in found:
        there = [cell for cell, bad in zip(cells, damaged, strict=True) if bad]
        if there:
            where = f"first epoch {there[0][0]} batch {there[0][1]}"
            notes.append(
                f"{name}: damaged {what} of {format_count(len(there), 'frame')}, {where}, {outcome}"
            )
    return notes
