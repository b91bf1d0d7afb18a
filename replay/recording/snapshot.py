"""How much of a recording is there: its whole frames, and the numbers kept of each batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from replay import schema
from replay.recording import small_values
from replay.recording.batch_fields import BatchFields
from replay.recording.safe_file import ExchangedError, SafeFile
from replay.recording.small_values import (
    Vouched,
    mend_numbers,
    read_state,
)
from replay.schema import (
    Cell,
    DamagedError,
    FileError,
    Float16Array,
    Float32Array,
    SelectionError,
    dataset_path,
    format_intervals,
)
from replay.schema.faces import call


@dataclass(frozen=True)
class Header:
    """What the file says of the run as a whole; see `Recording`."""

    version: int
    run_id: str
    created: str
    meta: dict[str, Any]
    packed: dict[str, Any]

    @classmethod
    def read(cls, file: SafeFile) -> Header:
        """Reads it.

        Raises:
            FileError: It is not a mapreel recording, or of a newer version of the format.
        """
        attribute = file.attribute
        if read_text(attribute("format")) != schema.FORMAT:
            raise FileError(
                f"not a mapreel recording: {file.path} is HDF5, but its attribute 'format' is "
                f"not {schema.FORMAT!r}"
            )
        version = attribute("version")
        if not isinstance(version, (int, np.integer)) or version < 1:
            raise FileError(f"damaged recording: {file.path} has no version number")
        if version > schema.PACKED_VERSION:
            raise FileError(
                f"{file.path} has version {int(version)} of the format, and this mapreel reads up "
                f"to {schema.PACKED_VERSION}: upgrade with 'pip install -U mapreel'"
            )
        run_id, created = (read_text(attribute(name)) for name in ("run_id", "created"))
        texts = (read_text(attribute(name), 1 << 22) for name in ("meta", "packed"))
        meta, packed = map(schema.decode_meta, texts)
        return cls(int(version), run_id, created, meta, packed)


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
        vouched: Where the values of a frame all have checksums.
        sound_state: Whether these counts are as they were written; if not, `committed` is how
            many frames have a number, and nothing is known of the others.
        edition: Differs where there are other frames than before, also as many of them: those of a
            file that has taken the place of the one before, as that of a resumed run does.
    """

    def __init__(self, file: SafeFile, probe_number: int | None = None) -> None:
        self._file, self.path, self.probe_number = file, file.path, probe_number
        self.refresh()

    @property
    def file(self) -> SafeFile:
        """The file.

        Raises:
            ExchangedError: It is another one by now, and these are not its frames.
        """
        self._file.check_number(self._number)
        return self._file

    def refresh(self) -> None:
        """Takes in what was committed in the meantime.

        The counter of committed frames is read before anything that it vouches for.
        """
        file = self._file
        file.refresh()
        path, self._number = dataset_path(schema.BATCHES, "recorded"), 0
        while self._number != file.number:  # another file took its place meanwhile
            state = read_state(file)
            self._number = file.number
            order = file.read_numbers(path, 2, np.int64)
        file.expect()
        if order is None:
            order = np.zeros((0, 0), np.int64)
        self.sound_state = schema.is_sound_state(state)
        counts: list[int] = state.tolist() if self.sound_state else [0, 0, 0, 0]
        _, self.dropped, self.lost, closed = [*counts, 0, 0, 0, 0][:4]
        self.closed = bool(closed)
        self.committed = schema.count_whole(state, order) if len(state) else 0
        self.edition = self.committed, self._number
        if not _are_complete(order, self.committed):
            mend_numbers(file, path, order, self.committed)
        whole = (order > 0) & (order <= self.committed)
        small_values.check_frames(file, path, int(whole.sum()))
        self.order: npt.NDArray[np.int64] = np.where(whole, order, 0)
        self.vouched = Vouched(file, self.order)
        self._fields: BatchFields | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(epochs, batches) that the file has room for; a cell may be without a frame."""
        return self.order.shape[0], self.order.shape[1]

    @property
    def fields(self) -> BatchFields:
        """The fields of the batches by name, each of shape (epoch, batch)."""
        file = self.file
        if self._fields is None:
            self._fields = BatchFields(file, self.order, self.vouched)
        return self._fields

    def locate(self, epoch: int, batch: int) -> tuple[int, int]:
        """Returns epoch and batch of a whole frame, negative numbers counted from the last one.

        Raises:
            SelectionError: Nothing was recorded there; the message says what was.
        """
        epoch, batch = parse_key((epoch, batch))
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
            stored = self.file.read_stored(path, epoch, batch)
            if checksum:
                self.compare(stored, epoch, batch, checksum, what)
            return self.file.restore(path, epoch, batch, stored)
        except (DamagedError, ExchangedError):
            raise
        except FileError as error:
            where = self._where(epoch, batch)
            raise DamagedError(f"{what} of {where}: {error}", str(error)) from error

    def compare(
        self, frame: npt.NDArray[Any], epoch: int, batch: int, checksum: int, what: str
    ) -> None:
        """Makes sure that a frame has the checksum that it should have.

        Raises:
            DamagedError: The frame has another one.
        """
        found = schema.checksum(np.ascontiguousarray(frame))
        if found != checksum:
            repaired = self.path.with_name(f"{self.path.stem}-repaired{self.path.suffix}")
            repair = call("repair", self.path, out=repaired)
            sums = f"(checksum {found:#010x}, expected {checksum:#010x})"
            where = self._where(epoch, batch)
            raise DamagedError(
                f"damaged in {self.path}: {what} of {where} {sums}; '{repair}' copies the rest",
                f"damaged {sums}",
            )

    def _where(self, epoch: int, batch: int) -> str:
        at = f"epoch {epoch} batch {batch}"
        return at if self.probe_number is None else f"fixed image {self.probe_number}, {at}"


def cells_of(mask: npt.NDArray[np.bool_]) -> list[Cell]:
    """Returns the (epoch, batch) at which a table is true, in the order of epochs and batches."""
    epochs, batches = np.nonzero(mask)
    return list(zip(epochs.tolist(), batches.tolist(), strict=True))


def _are_complete(order: npt.NDArray[np.int64], committed: int) -> bool:
    """Returns whether each number from 1 to that of committed frames is there once."""
    numbers = np.sort(order[(order > 0) & (order <= committed)])
    return len(numbers) == committed and not (numbers[1:] == numbers[:-1]).any()


def _index(numbers: npt.NDArray[np.intp], number: int) -> int | None:
    """Returns the number itself if it is there; a negative one counts from the end."""
    if number < 0:
        return int(numbers[number]) if -number <= numbers.size else None
    return number if number in numbers else None


def read_text(value: Any, most: int = 1 << 16) -> str:
    """Returns an attribute that is text, cut where it is too long; else an empty one."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value[:most].encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def parse_key(key: Any) -> tuple[int, int]:
    """Returns the epoch and the batch that stand in brackets.

    Raises:
        SelectionError: Something else stands there.
    """
    parts = key if isinstance(key, tuple) else (key,)
    if len(parts) == 2 and all(_is_whole(part) for part in parts):
        return int(parts[0]), int(parts[1])
    found = ", ".join(map(_spell, parts))
    raise SelectionError(
        f"expected [epoch, batch], two whole numbers, which give one frame; found [{found}]"
    )


def _is_whole(part: object) -> bool:
    return isinstance(part, (int, np.integer)) and not isinstance(part, bool)


def _spell(part: object) -> str:
    """Returns what stands in brackets as it was typed: `0:2`, not `slice(0, 2, None)`."""
    if part is Ellipsis:
        return "..."
    if not isinstance(part, slice):
        return repr(part)
    ends = ["" if each is None else repr(each) for each in (part.start, part.stop, part.step)]
    return ":".join(ends[:2] if part.step is None else ends)


def read_vector(value: Any) -> Float32Array | None:
    """Returns an attribute that is a list of numbers, as float32; None if it is something else."""
    if not isinstance(value, np.ndarray) or value.ndim != 1 or value.dtype.kind != "f":
        return None
    return value.astype(np.float32)
