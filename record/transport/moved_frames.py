"""What is said of frames that are not written where the training said."""

from __future__ import annotations

from pathlib import Path

from record.protocol.messages import Moved
from replay import schema


def describe_moved(path: Path, epoch: int, batch: int, row: int, reason: str) -> str:
    """Returns a warning, in one line.

    Args:
        path: The recording.
        epoch: Of the first such frame, as the training counts.
        batch: Of the first such frame.
        row: Its epoch in the file.
        reason: One of `Moved`.
    """
    if reason == Moved.AGAIN:
        return (
            f"batch {batch} of epoch {epoch} came a second time, and nothing is written "
            f"over: from here on epochs are counted further, epoch {epoch} is epoch {row} of "
            f"{path}. Folds, or a loop within a loop? Record each into a file of its own"
        )
    if reason == Moved.FAR:
        return (
            f"epoch {epoch:,} is too far from those before: a file has room for every epoch up to "
            f"its last. It is epoch {row} of {path}, and those behind it follow. Count from 0"
        )
    return (
        f"batch {batch:,} of epoch {epoch:,} is not recorded, nor are others like it: {path} has "
        f"room for {schema.FREE_CELLS:,} batches in all epochs, recorded or not, and for more only "
        "where most of them are. Count batches from 0 in each epoch. They are counted as lost"
    )
