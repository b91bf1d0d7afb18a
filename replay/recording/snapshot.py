"""How much of a recording is there: which frames are whole, as of when that was last read."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from replay import schema
from replay.recording.fields import BatchFields
from replay.recording.safe_file import SafeFile
from replay.schema import (
    DamagedError,
    FileError,
    Float16Array,
    SelectionError,
    dataset_path,
    format_intervals,
)


class Snapshot:
    """The frames that were whole when the file was last looked at.

    A recording shares one with its layers and images, so that all of them speak of the same
    frames, also after a refresh.

    Args:
        file: The file.
        probe_number: The number of the fixed image that the frames belong to; None for those of
            the batches.

    Attributes:
        file: As given.
        probe_number: As given.
        path: The path of the file.
        order: int64 (epoch, batch), each whole frame's number in the order of recording, or 0.
        committed: How many frames were committed.
        dropped: How many were left out because the recorder could not keep up.
        lost: How many were lost to a failure.
        closed: Whether the file was closed cleanly; if not, its writer is at work or was killed.
    """

    def __init__(self, file: SafeFile, probe_number: int | None = None) -> None:
        self.file, self.path, self.probe_number = file, file.path, probe_number
        self.refresh()

    def refresh(self) -> None:
        """Takes in what was committed in the meantime.

        The counter of committed frames is read before anything that it vouches for.
        """
        self.file.refresh()
        state = self.file.read_numbers(schema.STATE, 1, np.int64)
        counts: list[int] = [] if state is None else state.tolist()
        self.committed, self.dropped, self.lost, closed = [*counts, 0, 0, 0, 0][:4]
        self.closed = bool(closed)

        order = self.file.read_numbers(dataset_path(schema.BATCHES, "recorded"), 2, np.int64)
        if order is None:
            order = np.zeros((0, 0), np.int64)
        whole = (order > 0) & (order <= self.committed)
        self.order: npt.NDArray[np.int64] = np.where(whole, order, 0)
        self._fields: BatchFields | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(epochs, batches) that the file has room for; a cell may be without a frame."""
        return self.order.shape[0], self.order.shape[1]

    @property
    def fields(self) -> BatchFields:
        """The fields of the batches by name, each of shape (epoch, batch)."""
        if self._fields is None:
            self._fields = BatchFields(self.file, self.order)
        return self._fields

    def locate(self, epoch: int, batch: int) -> tuple[int, int]:
        """Returns epoch and batch of a whole frame, negative numbers counted from the last one.

        Raises:
            SelectionError: Nothing was recorded there; the message says what was.
        """
        rows, columns = self.shape
        if 0 <= epoch < rows and 0 <= batch < columns and self.order[epoch, batch] > 0:
            return epoch, batch
        epochs = np.flatnonzero((self.order > 0).any(axis=1))
        found_epoch = _index(epochs, epoch)
        if found_epoch is None:
            raise SelectionError(
                f"no epoch {epoch} in {self.path}; recorded: {format_intervals(epochs.tolist())}"
            )
        batches = np.flatnonzero(self.order[found_epoch] > 0)
        found_batch = _index(batches, batch)
        if found_batch is None:
            raise SelectionError(
                f"no batch {batch} in epoch {found_epoch} of {self.path}; "
                f"recorded: {format_intervals(batches.tolist())}"
            )
        return found_epoch, found_batch

    def read_frame(
        self, path: str, epoch: int, batch: int, checksum: int, what: str
    ) -> Float16Array:
        """Reads a frame and compares it with its checksum.

        Args:
            path: The dataset's path in the file.
            epoch: The frame's epoch, as `locate` gives it.
            batch: The frame's batch, as `locate` gives it.
            checksum: The CRC-32 that the frame has to have; 0 where the file has none of it.
            what: What to call the frame in a message, such as `conv1 maps`.

        Raises:
            DamagedError: The checksum is wrong, or the frame cannot be read.
        """
        try:
            frame = self.file.read_frame(path, epoch, batch)
        except FileError as error:
            raise DamagedError(f"{what} of epoch {epoch} batch {batch}: {error}") from error
        if checksum:
            self.compare(frame, epoch, batch, checksum, what)
        return frame

    def compare(
        self, frame: Float16Array, epoch: int, batch: int, checksum: int, what: str
    ) -> None:
        """Makes sure that a frame has the checksum that it should have.

        Raises:
            DamagedError: The frame has another one.
        """
        found = schema.checksum(np.ascontiguousarray(frame))
        if found != checksum:
            raise DamagedError(
                f"damaged in {self.path}: {what} of epoch {epoch} batch {batch} (checksum "
                f"{found:#010x}, expected {checksum:#010x}); "
                "'python -m replay repair' copies the rest"
            )


def _index(numbers: npt.NDArray[np.intp], number: int) -> int | None:
    """Returns the number itself if it is there; a negative one counts from the end."""
    if number < 0:
        return int(numbers[number]) if -number <= numbers.size else None
    return number if number in numbers else None
