"""Reads the small values beside the maps, and says which of them are damaged.

What was kept of each batch (loss, step, label ...), the ranges of maps and the exponents of
gradients have a checksum for each epoch and batch. An older file has none, which is no damage.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from replay import schema
from replay.formatting import clean_line
from replay.recording.live_file import file_errors
from replay.schema import (
    Cell,
    DamagedError,
    FileError,
    Float16Array,
    Float32Array,
    Layer,
)
from replay.schema.suggestions import listed

_MOST_MEASURED = 1_000  # frames; of more whose ranges are damaged nothing is known
_FREE_FRAMES, _LEAST_FRAME = 5_000, 16  # bytes in the file, of its place alone
Mask = npt.NDArray[np.bool_]
T = TypeVar("T")

Fields: TypeAlias = Mapping[str, npt.NDArray[Any]]
"""Fields by name, each of shape (epoch, batch)."""


def fields_in_words(of: str, names: Sequence[str], shape: tuple[int, ...]) -> str:
    """Returns what stands for fields in a terminal: whose they are, and their names, in a line."""
    epochs, batches = shape
    named = clean_line(f"{of}: {listed(names)}")
    return f"<Fields of {named}; each ({epochs}, {batches}), of epoch and batch>"


def check_frames(file: Any, path: str, count: int) -> None:
    """Makes sure that a file of this size can have so many frames.

    Raises:
        FileError: It cannot: each takes some bytes in the file.
    """
    if count > max(_FREE_FRAMES, file.size // _LEAST_FRAME):
        raise FileError(
            f"refused: {path!r} in {file.path} declares {count:,} frames, and the file has "
            f"{file.size:,} bytes"
        )


def read_checked(
    file: Any,
    path: str,
    dtype: npt.DTypeLike,
    vouched: Mask | None = None,
    fill: float | None = None,
) -> tuple[npt.NDArray[Any] | None, Mask | None]:
    """Reads a dataset of one number an epoch and batch, see `SafeFile.read_numbers`.

    Args:
        file: A `SafeFile`, here and below.
        path: The dataset.
        dtype: Of the numbers.
        vouched: bool (epoch, batch), where what was kept has a checksum.
        fill: The number that may stand there without one, as nothing was kept; None for none.

    Returns:
        The numbers, and where they are damaged, bool (epoch, batch); None where there are no
        numbers, and where nothing vouches for them.

    Raises:
        FileError: They cannot be read.
    """

    def read() -> tuple[npt.NDArray[Any] | None, Mask | None]:
        values = file.read_numbers(path, 2, dtype)
        expected = None if values is None else checksums_of(file, path, values.shape)
        if values is None or expected is None:
            return values, None
        damaged = _differ(file, path, values, expected)
        if vouched is not None:
            rows, columns = np.minimum(values.shape, vouched.shape)
            part = slice(rows), slice(columns)
            lost = vouched[part] & (expected[part] == 0)
            if fill is not None:
                lost &= (values[part] != fill) & ~np.isnan(values[part])
            damaged[part] |= lost
        return values, damaged

    return _together(file, read)


def read_checked_block(
    file: Any,
    path: str,
    shape: tuple[int, ...],
    rows: range,
    columns: range,
    vouched: Mask,
) -> tuple[Float32Array, Mask | None]:
    """Reads a part of a dataset of several numbers an epoch and batch, see `SafeFile.read_block`.

    Args:
        file: A `SafeFile`.
        path: The dataset.
        shape: Of the numbers of an epoch and batch.
        rows: The epochs.
        columns: The batches.
        vouched: bool (rows, columns), or fewer, where numbers that have no checksum have lost it.

    Returns:
        The numbers, and where they are damaged, bool (rows, columns); None where nothing vouches
        for them.

    Raises:
        FileError: They cannot be read.
    """

    def read() -> tuple[Float32Array, Mask | None]:
        values = file.read_block(path, shape, rows, columns)
        expected = checksums_of(file, path, values.shape, rows.start, columns.start)
        if expected is None:
            return values, None
        damaged = _differ(file, path, values, expected)
        high, wide = np.minimum(vouched.shape, expected.shape)
        damaged[:high, :wide] |= vouched[:high, :wide] & (expected[:high, :wide] == 0)
        return values, damaged

    return _together(file, read)


def is_sound(file: Any, path: str, values: npt.NDArray[Any]) -> bool:
    """Returns whether a small array, read whole, has its checksum, if there is one.

    Raises:
        FileError: It cannot be read.
    """
    sums = file.read_numbers(schema.value_checksums_path(path), 1, schema.CHECKSUM_DTYPE)
    return sums is None or len(sums) != 1 or sums[0] == schema.checksum(values)


class MendedRanges:
    """The ranges of a layer's frames by their own values, where the file has damaged ones.

    Attributes:
        stray: The (epoch, batch) that have ranges, and no frame of the layer.
    """

    def __init__(self) -> None:
        self._known: dict[Cell, Float32Array] = {}
        self.stray: set[Cell] = set()

    def __contains__(self, cell: object) -> bool:
        return cell in self._known

    def mend(
        self,
        ranges: Float32Array,
        damaged: Mask,
        there: Mask,
        first: Cell,
        layer: Layer,
        read: Callable[[int, int], Float16Array],
    ) -> None:
        """Puts a frame's own ranges where those of the file are damaged.

        They become NaN where the frame is damaged, too.

        Args:
            ranges: float32 (rows, columns, C, 2), changed in place.
            damaged: bool (rows, columns).
            there: bool (rows, columns), where the layer has a frame.
            first: The epoch and the batch with which rows and columns begin.
            layer: The layer.
            read: Reads a frame of an epoch and batch.
        """
        stray = ~there & np.isfinite(ranges).any(axis=(2, 3))
        self.stray |= {(first[0] + int(e), first[1] + int(b)) for e, b in np.argwhere(stray)}
        for row, column in np.argwhere(damaged & there):
            cell = first[0] + int(row), first[1] + int(column)
            if cell not in self._known:
                found = np.full((layer.channels, 2), np.nan, np.float32)
                if len(self._known) < _MOST_MEASURED:
                    with contextlib.suppress(DamagedError):
                        found = schema.summarize(layer.channels_first(read(*cell))).ranges
                self._known[cell] = found
            ranges[row, column] = self._known[cell]


def read_checksums(file: Any, path: str, shape: tuple[int, ...]) -> npt.NDArray[np.uint32] | None:
    """Returns the checksums of values, see `checksums_of`, also where a writer is at work.

    Raises:
        FileError: They cannot be read.
    """
    return _together(file, lambda: checksums_of(file, path, shape))


def vouched_by(sums: npt.NDArray[np.uint32] | None, order: npt.NDArray[np.int64]) -> Mask:
    """Returns where everything that was kept has a checksum, bool (epoch, batch).

    A writer that writes checksums writes them of all values: of a frame behind the first that has
    one, they are lost where there is none.

    Args:
        sums: The checksums of the frames' numbers; None in a file that has none.
        order: int64 (epoch, batch), each whole frame's number, or 0.
    """
    if sums is None:
        return np.zeros(order.shape, bool)
    first = order[(sums > 0) & (order > 0)].min(initial=np.iinfo(np.int64).max)
    vouched: Mask = (sums > 0) | (order >= first)
    return vouched


class Vouched:
    """Where the values of a file's frames all have checksums, see `vouched_by`.

    Args:
        file: The file.
        order: int64 (epoch, batch), each whole frame's number, or 0.
    """

    def __init__(self, file: Any, order: npt.NDArray[np.int64]) -> None:
        self._file, self._order = file, order
        self._mask: Mask | None = None

    @property
    def mask(self) -> Mask:
        """That, bool (epoch, batch), read when it is first asked for.

        Raises:
            FileError: The checksums of the frames' numbers cannot be read.
        """
        if self._mask is None:
            numbers = schema.dataset_path(schema.BATCHES, "recorded")
            sums = read_checksums(self._file, numbers, self._order.shape)
            self._mask = vouched_by(sums, self._order)
        return self._mask


def read_state(file: Any) -> npt.NDArray[np.int64]:
    """Reads the counters of a file, also damaged ones; zeros where there are none.

    Returns:
        int64 (N,), see `schema.is_sound_state`.

    Raises:
        FileError: They cannot be read.
    """
    found = np.zeros(4, np.int64)

    def read() -> None:
        nonlocal found
        state = file.read_numbers(schema.STATE, 1, np.int64)
        if state is not None and len(state):
            found = state
        if not schema.is_sound_state(found):
            raise _UnsoundError  # a writer may be in the middle of writing them: then read again

    with contextlib.suppress(_UnsoundError):
        file.together(read)
    return found


def _together(file: Any, read: Callable[[], T]) -> T:
    result: T = file.together(read)
    return result


class _UnsoundError(FileError):
    """The counters have another checksum than they should have."""


def mend_numbers(file: Any, path: str, order: npt.NDArray[np.int64], committed: int) -> None:
    """Gives frames whose number is damaged one of those that are missing.

    Which batches hold a frame their checksums say. The order among several damaged ones, and no
    more than that, is a guess: that of their epochs and batches.

    Args:
        file: The file.
        path: Where the numbers lie.
        order: The frames' numbers, int64 (epoch, batch); changed in place.
        committed: The number of committed frames.
    """
    damaged = _together(file, lambda: _find_damaged(file, path, order))
    if damaged is None or not damaged.any():
        return
    missing = np.setdiff1d(np.arange(1, committed + 1), order[~damaged])
    found = np.zeros(np.count_nonzero(damaged), np.int64)
    found[: len(missing)] = missing[: len(found)]
    order[damaged] = found


def _find_damaged(file: Any, path: str, values: npt.NDArray[Any]) -> Mask | None:
    """Returns where values are not what their checksums are of; None where there are none.

    Args:
        file: The file.
        path: Where the values lie.
        values: They, (epoch, batch, ...), maybe of a wider type than in the file.
    """
    expected = checksums_of(file, path, values.shape)
    return None if expected is None else _differ(file, path, values, expected)


def _differ(
    file: Any, path: str, values: npt.NDArray[Any], expected: npt.NDArray[np.uint32]
) -> Mask:
    """Returns where values have another checksum than they should have, if they should."""
    dataset = file.find(path, None)
    dtype = values.dtype if dataset is None else dataset.dtype  # it may be gone, and its sums not
    with file_errors(file.path):
        at = np.nonzero(expected)
        found = schema.checksum_cells(values[at].astype(dtype, copy=False))
    damaged = np.zeros(expected.shape, bool)
    damaged[at] = found != expected[at]
    return damaged


def checksums_of(
    file: Any, path: str, shape: tuple[int, ...], row: int = 0, column: int = 0
) -> npt.NDArray[np.uint32] | None:
    """Returns the checksums of values, uint32 (rows, columns), 0 where there is none.

    Args:
        file: The file.
        path: Where the values lie.
        shape: (rows, columns, ...).
        row: The first of their epochs.
        column: The first of their batches.

    Returns:
        None for values that have no checksums at all.
    """
    sums_path = schema.value_checksums_path(path)
    sums = file.find(sums_path, 2)
    if sums is None or sums.dtype != schema.CHECKSUM_DTYPE:
        return None
    expected = np.zeros(shape[:2], schema.CHECKSUM_DTYPE)
    height, width = (
        max(0, min(size, there - first))
        for size, there, first in zip(shape, sums.shape, (row, column), strict=False)
    )
    with file_errors(file.path):
        file.check_bytes(sums_path, height * width * sums.dtype.itemsize, "checksums")
        ends = (row, row + height), (column, column + width)
        expected[:height, :width] = file.part(sums_path, sums, *ends)
    return expected


def read_losses(fields: Fields, cells: Sequence[Cell]) -> npt.NDArray[np.float64] | None:
    """Returns the loss of each of some frames.

    A loss that is NaN throughout was not logged; one that became NaN is news.

    Args:
        fields: The fields of a recording, see `Recording.batches`.
        cells: (epoch, batch) of the frames, at least one.

    Returns:
        float64 (frames,), or None where no loss was logged.
    """
    if "loss" not in fields:
        return None
    losses: npt.NDArray[np.float64] = fields["loss"][tuple(np.array(cells).T)].astype(np.float64)
    return None if np.isnan(losses).all() else losses
