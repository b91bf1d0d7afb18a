"""Which frames a recording has; one that is open is also a list of layers, see `recording`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.recording.live_file import Closing
from replay.recording.snapshot import Snapshot, cells_of


class RecordedFrames(Closing):
    """Which frames a recording has, and the numbers that were kept of each batch."""

    _snapshot: Snapshot

    @property
    def order(self) -> npt.NDArray[np.int64]:
        """Each whole frame's number in the order of recording, or 0, int64 (epoch, batch)."""
        return self._snapshot.order

    @property
    def committed(self) -> int:
        """How many frames were committed."""
        return self._snapshot.committed

    @property
    def dropped(self) -> int:
        """How many frames were left out because the recorder could not keep up."""
        return self._snapshot.dropped

    @property
    def lost(self) -> int:
        """How many frames were lost to a failure."""
        return self._snapshot.lost

    @property
    def closed(self) -> bool:
        """Whether the file was closed cleanly; if not, its writer is at work or was killed."""
        return self._snapshot.closed

    @property
    def shape(self) -> tuple[int, int]:
        """(epochs, batches) that the file has room for; a cell may be without a frame."""
        return self._snapshot.shape

    @property
    def frames(self) -> list[tuple[int, int]]:
        """(epoch, batch) of every whole frame, in the order of epochs and batches."""
        return cells_of(self.order > 0)

    @property
    def batches(self) -> Mapping[str, npt.NDArray[Any]]:
        """The per-batch fields by name, each of shape (epoch, batch); see docs/format.md."""
        return self._snapshot.fields

    @property
    def sound_state(self) -> bool:
        """Whether these counts are as they were written; see `Snapshot`."""
        return self._snapshot.sound_state

    def locate(self, epoch: int, batch: int) -> tuple[int, int]:
        """Returns epoch and batch of a whole frame, negative numbers counted from the last one.

        Raises:
            SelectionError: Nothing was recorded there; the message says what was.
        """
        return self._snapshot.locate(epoch, batch)
