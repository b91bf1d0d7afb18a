"""Which batches are kept, what that costs, what fits a budget.

A schedule decides by the numbers of a batch alone. A budget then thins what the schedule keeps,
by how many bytes a batch takes and how long the run is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from record.wire import Layout, small_chunk
from replay import schema
from replay.schema import OptionError

DENSE = 64  # batches that `dense-early` keeps before it begins to thin

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_KEYS = ("every", "epochs", "first", "dense-early")

# Measured on files of 1 to 20 layers and up to 3,000 frames, h5py 3.16, committed after each frame:
# what HDF5 writes beside the data, because in SWMR mode it never overwrites a node of an index.
_INDEX_BYTES = 1_600  # a dataset and frame, at most
_DATASET_BYTES = 5_000
_FILE_BYTES = 10_000


@dataclass(frozen=True)
class Schedule:
    """Which batches of a run are kept; all conditions have to hold.

    Attributes:
        every: Keeps the batches 0, every, 2 * every ... of each epoch.
        epochs: Keeps these epochs only; None keeps all. A slice is Python's, `0:10:2`.
        first: Keeps the first batches of each epoch only.
        dense: Keeps every batch at first, and from the batch of this number of the run on ever
            fewer, their distance growing with their number; None does not thin.
    """

    every: int = 1
    epochs: tuple[int | slice, ...] | None = None
    first: int | None = None
    dense: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("every", self.every), ("first", self.first), ("dense", self.dense)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise OptionError(f"{name}: expected a whole number from 1, found {value!r}")

    @classmethod
    def parse(cls, text: str | Schedule | None, every: int = 1) -> Schedule:
        """The schedule that a text describes.

        Args:
            text: Such as `every=4`, `epochs=0:10:2`, `first=8`, `dense-early` or
                `dense-early=200`, joined by commas. Epochs are a number, a slice or a list
                (`epochs=0,5,8-11`).
            every: Where the text does not say.

        Raises:
            OptionError: The text is none of that.
        """
        if isinstance(text, Schedule):
            return text if every == 1 else replace(text, every=every)
        found: dict[str, str] = {}
        for part in re.split(r"[,\s]+(?=[a-z])", (text or "").strip()):
            key, _, value = (half.strip() for half in part.partition("="))
            if not part:
                continue
            if key not in _KEYS or (not value and key != "dense-early"):
                raise OptionError(
                    f"schedule {text!r}: expected every=N, epochs=A:B:C, first=N or dense-early, "
                    f"found {part!r}"
                )
            found[key] = value
        return cls(
            every=_number(found.get("every"), "every") or every,
            epochs=_epochs(found["epochs"]) if "epochs" in found else None,
            first=_number(found.get("first"), "first"),
            dense=_number(found["dense-early"] or str(DENSE), "dense-early")
            if "dense-early" in found
            else None,
        )

    def keeps(self, epoch: int, batch: int, step: int) -> bool:
        """Whether a batch is kept.

        Args:
            epoch: From 0.
            batch: Its number in the epoch, from 0.
            step: Its number in the run, from 0.
        """
        return (
            batch % self.every == 0
            and (self.first is None or batch < self.first)
            and (self.epochs is None or any(_holds(part, epoch) for part in self.epochs))
            and (self.dense is None or keeps_dense(step, self.dense))
        )

    def count(self, epochs: int, batches: int) -> int:
        """How many batches of a run of so many epochs and batches are kept."""
        return len(self.kept(epochs, batches))

    def kept(self, epochs: int, batches: int) -> list[tuple[int, int]]:
        """(epoch, batch) of what is kept of a run of so many epochs and batches."""
        numbers = range(min(batches, self.first or batches))
        return [
            (epoch, batch)
            for epoch in range(epochs)
            if self.epochs is None or any(_holds(part, epoch) for part in self.epochs)
            for batch in numbers[:: self.every]
            if self.dense is None or keeps_dense(epoch * batches + batch, self.dense)
        ]

    def in_words(self) -> str:
        """As `parse` reads it."""
        parts = [f"every={self.every}"] if self.every > 1 else []
        if self.epochs is not None:
            parts.append("epochs=" + ",".join(_spell(part) for part in self.epochs))
        if self.first is not None:
            parts.append(f"first={self.first}")
        if self.dense is not None:
            parts.append(f"dense-early={self.dense}")
        return ",".join(parts) or "every=1"


def keeps_dense(number: int, dense: int) -> bool:
    """Whether a number is kept: all below `dense`, then about `dense` for each factor of e.

    The count of the kept grows like `dense * (1 + ln(number / dense))`.
    """
    if number < dense:
        return True
    return math.floor(dense * math.log((number + 1) / dense)) > math.floor(
        dense * math.log(number / dense)
    )


class Budget:
    """Thins what a schedule keeps, so that the whole run fits into so many bytes.

    Of a run of known length the batches are spread evenly, the first and the last among them.
    Of one of unknown length every batch is kept until there is no room; then every second of
    those kept is taken out of the file, and from there on only every second batch is kept, then
    every fourth, and so on: evenly spread at any time, and the late part is never refused.

    Args:
        limit: Bytes of the file.
        schedule: What is thinned.
        epochs: Epochs of the run, if known.
    """

    def __init__(self, limit: int, schedule: Schedule, epochs: int | None = None) -> None:
        self.limit = limit
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
        """Takes in what a file holds that is gone on with; before anything else is asked.

        Args:
            frames: Frames in the file.
            epoch: The epoch to go on with.
            steps: Batches that the run has had so far, recorded or not.
        """
        self._before = (frames, epoch, steps)

    def plan(self, layout: Layout, batches: int | None) -> int:
        """Takes in what a batch consists of, and how many an epoch has.

        Returns:
            How many further batches fit; at least one is kept, whatever it takes.
        """
        before = self._frame
        self._frame = frame_bytes(layout)
        each_epoch = epoch_bytes(layout, batches)
        if self._before is not None:
            self._take_over(*self._before, batches)
            self._before = None
        rest = self.limit - fixed_bytes(layout)
        if self._epochs is not None and batches is not None:
            # What the first batch took is known only now; later ones may have had fewer layers.
            self._used += self._fresh * (before or self._frame)
            self._fresh = 0
            rest -= self._used + self._epochs * each_epoch
            whole = self._schedule.count(self._epochs, batches)
            self._since, self._left = self._seen, max(1, whole - self._seen)
            self._room = max(1, rest // self._frame)
            return self._room
        self._frame += each_epoch  # in the worst case each has an epoch of its own
        self._room = max(2, rest // self._frame)
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
        """Whether the next batch that the schedule keeps is kept; asked once for each."""
        number = self._seen - self._since
        self._seen += 1
        if self._room is None:
            kept = number == 0  # what a batch takes is known after the first one
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
        """Of how many frames in the file only the first is to stay, since this was last asked."""
        thinning, self._thinning = self._thinning, 1
        return thinning


def parse_bytes(size: str | int) -> int:
    """A size such as `20MB`, `1.5 GB` or a number of bytes; k, M, G and T are powers of 1000.

    Raises:
        OptionError: It is none, or not above 0.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b(?:ytes)?)?\s*", str(size).lower())
    if match is None or (count := int(float(match.group(1)) * _UNITS[match.group(2)])) < 1:
        raise OptionError(f"size {size!r}: expected bytes such as 500MB or 2GB")
    return count


def frame_bytes(layout: Layout) -> int:
    """Bytes that a recorded batch adds to the file, at most: its data and their indices."""
    values = sum(layer.nbytes for layer in layout.layers)
    images = sum(_nbytes(shape) for shape in layout.images[:1])
    return images + values + _datasets(layout) * _INDEX_BYTES


def epoch_bytes(layout: Layout, batches: int | None) -> int:
    """Bytes that an epoch adds with its first recorded batch: chunks of the small numbers."""
    total = 0
    for field in schema.FIELDS:
        total += small_chunk(field.dtype.itemsize, None) * field.dtype.itemsize
    for layer in layout.layers:
        ranges = 2 * layer.channels * schema.RANGE_DTYPE.itemsize
        total += small_chunk(ranges, batches) * ranges
        total += small_chunk(4, batches) * 4 * (1 if layer.kernel is None else 2)
    return total


def fixed_bytes(layout: Layout) -> int:
    """Bytes of a file without frames, the fixed images among them."""
    probes = len({layer.probe for layer in layout.layers} - {None})
    images = probes * sum(_nbytes(shape) for shape in layout.images[:1])
    return _FILE_BYTES + _datasets(layout) * _DATASET_BYTES + images


def _datasets(layout: Layout) -> int:
    large = len(schema.FIELDS) + 1 + len(layout.images)
    return large + sum(3 if layer.kernel is None else 5 for layer in layout.layers)


def _nbytes(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * schema.FRAME_DTYPE.itemsize


def file_bytes(layout: Layout, frames: Iterable[tuple[int, int]], batches: int | None) -> int:
    """Bytes of a file with these frames, (epoch, batch)."""
    cells = list(frames)
    epochs = len({epoch for epoch, _ in cells})
    return (
        fixed_bytes(layout)
        + epochs * epoch_bytes(layout, batches)
        + len(cells) * frame_bytes(layout)
    )


def _number(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"\d+", text) or int(text) < 1:
        raise OptionError(f"schedule: expected {name}=N with N from 1, found {name}={text}")
    return int(text)


def _epochs(text: str) -> tuple[int | slice, ...]:
    parts: list[int | slice] = []
    for part in text.split(","):
        if match := re.fullmatch(r"\s*(\d*):(\d*)(?::(\d*))?\s*", part):
            start, stop, step = (int(n) if n else None for n in match.groups())
            if step == 0:
                raise OptionError(f"schedule: epochs={text}: a step of 0 leads nowhere")
            parts.append(slice(start, stop, step))
        elif match := re.fullmatch(r"\s*(\d+)\s*-\s*(\d+)\s*", part):
            parts.append(slice(int(match.group(1)), int(match.group(2)) + 1))
        elif match := re.fullmatch(r"\s*(\d+)\s*", part):
            parts.append(int(match.group(1)))
        else:
            raise OptionError(
                f"schedule: epochs={text}: expected a slice such as 0:10:2 or a list such as "
                "0,5,8-11"
            )
    return tuple(parts)


def _holds(part: int | slice, epoch: int) -> bool:
    if isinstance(part, int):
        return part == epoch
    start, step = part.start or 0, part.step or 1
    ends = part.stop is not None and epoch >= part.stop
    return epoch >= start and not ends and (epoch - start) % step == 0


def _spell(part: int | slice) -> str:
    if isinstance(part, int):
        return str(part)
    ends = ["" if end is None else str(end) for end in (part.start, part.stop)]
    return ":".join(ends) + (f":{part.step}" if part.step is not None else "")
