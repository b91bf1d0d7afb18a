"""Where and for how long something was found, in words."""

from __future__ import annotations

from collections.abc import Sequence

from replay.findings import Cell, Finding, LayerHealth
from replay.words import count


def where(cell: Cell, word: str) -> str:
    """`since epoch 3 batch 0`."""
    return f"{word} epoch {cell[0]} batch {cell[1]}"


def batches(number: int) -> str:
    """`1 batch`, `1,200 batches`."""
    return count(number, "batch")


def lasting(
    layer: LayerHealth,
    kind: str,
    words: str,
    channel: int,
    start: int,
    frames: Sequence[Cell],
    value: float | None = None,
) -> Finding:
    """What a channel shows from a frame on, to the end.

    Args:
        layer: The layer.
        kind: One of `KINDS`.
        words: What it shows.
        channel: The channel.
        start: Which of the frames is the first.
        frames: Those that were looked at, in the order of time.
        value: As in `Finding`.
    """
    (epoch, batch), lasts = frames[start], len(frames) - start
    all_of_them = batches(len(frames))
    if len(frames) < layer.frames:
        all_of_them += " that were read"
    if start == 0:
        text = f"{words} in all {all_of_them}"
    else:
        text = f"{words} {where(frames[start], 'since')}, the last {lasts} of {all_of_them}"
    return Finding(kind, text, layer.name, channel, epoch, batch, lasts, value)
