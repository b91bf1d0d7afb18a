"""How many bytes a recording takes on disk, and which of its batches fit into a budget."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator

import numpy as np

from record.protocol.layout import BatchLayout, small_chunk
from record.schedule.schedule import Schedule
from replay import schema
from replay.schema import OptionError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


# Measured on files of 1 to 20 layers and up to 3,000 frames, h5py 3.16, committed after each frame:
# what HDF5 writes beside the data, because in SWMR mode it never overwrites a node of an index.
_INDEX_BYTES = 1_600  # a dataset and frame, at most
_DATASET_BYTES = 5_000
_FILE_BYTES = 10_000
_AHEAD = 16  # batches, at most, that are handed out before the forward of an earlier one


class Budget:
    """Thins what a schedule keeps, so that the whole run fits into so many bytes.

    Of a run of known length the batches are spread evenly, the first and the last among them.
    Of one of unknown length every batch is kept until there is no room; then every second of
    those kept is taken out of the file, and from there on only every second batch is kept, then
    every fourth, and so on: evenly spread at any time, and the late part is never refused.

    Args:
        limit: Bytes of the file.
        schedule: The schedule that is thinned.
        epochs: Epochs of the run, if that is known.

    Attributes:
        limit: Bytes of the file.
        capacity: How many batches of the latest layout the whole of it has room for; 0 before one.
    """

    def __init__(self, limit: int, schedule: Schedule, epochs: int | None = None) -> None:
        self.limit = limit
        self.capacity = 0
        self._schedule = schedule
        self._epochs = epochs
        self._seen = 0  # batches that the schedule kept, up to now
        self._kept = 0  # and those of them that are in the file
        self._fresh = 0  # kept since the plan was made
        self._since = 0  # the number of batches seen when the plan was made
        self._room: int | None = None  # frames that the plan has, None before there is one
        self._left: int | None = None  # batches that the plan is for, None if unknown
        self._used = 0  # bytes of frames kept before the plan was made
        self._frame = 0
        self._stride = 1
        self._thinning = 1
        self._before: tuple[int, int, int] | None = None  # of a file that is resumed

    def resume(self, frames: int, epoch: int, steps: int) -> None:
        """Takes in what a file holds that is gone on with, before anything else is asked.

        Args:
            frames: Frames in the file.
            epoch: The epoch to go on with.
            steps: Batches that the run has had so far, recorded or not.
        """
        self._before = (frames, epoch, steps)

    def plan(self, layout: BatchLayout, batches: int | None) -> int:
        """Takes in what a batch consists of, and how many batches an epoch has.

        Args:
            layout: What one batch consists of.
            batches: The number of batches in an epoch, if that is known.

        Returns:
            How many further batches fit; at least one is kept, however large it is.
        """
        if self._room is None:  # the others came to nothing: this is the first that has frames
            self._fresh = self._kept = min(self._fresh, 1 + _AHEAD)
            self._since = max(0, self._seen - 1)
        before = self._frame
        self._frame = frame_bytes(layout)
        each_epoch = epoch_bytes(layout, batches)
        if self._before is not None:
            self._take_over(*self._before, batches)
            self._before = None
        rest = self.limit - fixed_bytes(layout, batches)
        if self._epochs is not None and batches is not None:
            # What the first batch took is known only now; later ones may have had fewer layers.
            self._used += self._fresh * (before or self._frame)
            self._fresh = 0
            rest -= self._epochs * each_epoch
            self.capacity = max(0, rest // self._frame)
            rest -= self._used
            whole = self._schedule.count(self._epochs, batches)
            self._since, self._left = self._seen, max(1, whole - self._seen)
            self._room = max(1, rest // self._frame)
            return self._room
        self._frame += each_epoch  # in the worst case each has an epoch of its own
        self.capacity = max(0, rest // self._frame)
        self._room = max(2, self.capacity)
        return int(max(0, self._room - self._kept))

    def _take_over(self, frames: int, epoch: int, steps: int, batches: int | None) -> None:
        """Goes on counting where the file's last recorder stopped."""
        seen = steps if batches is None else self._schedule.count(epoch, batches)
        self._used += frames * self._frame
        self._kept += frames
        self._seen += seen
        if frames and self._epochs is None:
            self._stride = 2 ** max(0, round(math.log2(max(seen, 1) / frames)))

    def keeps(self) -> bool:
        """Decides whether the next batch that the schedule keeps is kept; asked once for each."""
        number = self._seen - self._since
        self._seen += 1
        if self._room is None:
            kept = True  # until one shows what it takes: the first may be skipped, or fail
        elif self._left is None:
            kept = number % self._stride == 0
            if kept and self._kept >= self._room:
                while self._kept >= self._room:
                    self._stride *= 2
                    self._thinning *= 2
                    self._kept = -(-self._kept // 2)
                kept = number % self._stride == 0
        elif self._room >= self._left:
            kept = True
        elif number >= self._left:  # the run is longer than it said
            kept = False
        elif self._room == 1:
            kept = number == self._left - 1
        else:  # evenly, the first and the last among them
            place = round(number * (self._room - 1) / (self._left - 1))
            kept = round(place * (self._left - 1) / (self._room - 1)) == number
        self._kept += kept
        self._fresh += kept
        return kept

    def take_thinning(self) -> int:
        """Returns of how many frames in the file only the first is to stay, and forgets it."""
        thinning, self._thinning = self._thinning, 1
        return thinning


def parse_bytes(size: str | int) -> int:
    """Reads a number of bytes.

    Args:
        size: A size such as `20MB` or `1.5 GB`, or a number; k, M, G and T are powers of 1000.

    Raises:
        OptionError: The text is no size, or it is not above 0.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b(?:ytes)?)?\s*", str(size).lower())
    if match is None or (count := int(float(match.group(1)) * _UNITS[match.group(2)])) < 1:
        raise OptionError(f"size {size!r}: expected bytes such as 500MB or 2GB")
    return count


def frame_bytes(layout: BatchLayout) -> int:
    """Returns the bytes that a recorded batch adds to the file, at most: its data and indices."""
    values = sum(layer.nbytes for layer in layout.layers)
    images = sum(_nbytes(shape) for shape in layout.images[:1])
    return images + values + _datasets(layout) * _INDEX_BYTES


def epoch_bytes(layout: BatchLayout, batches: int | None) -> int:
    """Returns the bytes that an epoch adds, in the mean: its share of chunks of small numbers."""
    return sum(-(-nbytes // epochs) for nbytes, epochs in _small_chunks(layout, batches))


def _small_chunks(layout: BatchLayout, batches: int | None) -> Iterator[tuple[int, int]]:
    """Yields the bytes of a chunk of each dataset of small numbers, and how many epochs share it.

    Args:
        layout: What one batch consists of.
        batches: The number of batches in an epoch, if that is known.
    """
    cells = [field.dtype.itemsize for field in schema.FIELDS]
    for layer in layout.layers:
        cells.append(2 * layer.channels * schema.RANGE_DTYPE.itemsize)
        cells += [4] if layer.kernel is None else [4, 4]
    for cell in cells:
        epochs, across = small_chunk(cell, batches)
        yield epochs * across * cell, epochs


def fixed_bytes(layout: BatchLayout, batches: int | None) -> int:
    """Returns the bytes of a file without frames, but with the fixed images.

    And those of the chunks that a first epoch shares with others which may never come.
    """
    probes = len({layer.probe for layer in layout.layers} - {None})
    images = probes * sum(_nbytes(shape) for shape in layout.images[:1])
    chunks = sum(nbytes for nbytes, _ in _small_chunks(layout, batches))
    shared = chunks - epoch_bytes(layout, batches)
    return _FILE_BYTES + _datasets(layout) * _DATASET_BYTES + images + shared


def _datasets(layout: BatchLayout) -> int:
    """Returns the number of datasets in a file."""
    large = len(schema.FIELDS) + 1 + len(layout.images)
    return large + sum(3 if layer.kernel is None else 5 for layer in layout.layers)


def _nbytes(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * schema.FRAME_DTYPE.itemsize


def file_bytes(layout: BatchLayout, frames: Iterable[tuple[int, int]], batches: int | None) -> int:
    """Returns the bytes of a file.

    Args:
        layout: What one batch consists of.
        frames: (epoch, batch) of each recorded batch.
        batches: The number of batches in an epoch, if that is known.
    """
    cells = list(frames)
    epochs = len({epoch for epoch, _ in cells})
    return (
        fixed_bytes(layout, batches)
        + epochs * epoch_bytes(layout, batches)
        + len(cells) * frame_bytes(layout)
    )
