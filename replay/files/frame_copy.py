"""Copies one dataset of frames: read by one thread, changed and compressed by all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from replay import schema
from replay.files.chunk_writing import FrameTarget, Workers
from replay.recording import Recording, eight_bits
from replay.recording.safe_file import SafeFile
from replay.recording.tree import Entry
from replay.schema import FRAME_DTYPE, Cell, FileError


class FrameCopy:
    """A dataset of frames on its way into a new file.

    Args:
        source: The recording's file.
        target: The new file.
        entry: The dataset.
        bits: As in `CopyPlan`.

    Attributes:
        entry: As given.
        path: Of the dataset.
        frame_bytes: Bytes of a frame in the recording.
        full_frame_bytes: Bytes of a frame in 16 bits.
        dataset: The new dataset, from `begin` on.
        checksums_path: Where the frames' checksums lie; None where nothing is known of any.
        new_checksums: The checksums in the new file; None where they are as before.
        hidden: Attributes of the dataset that the new one does not have.
        arrays, whole, damaged, unreadable: As in `Copied`.
        counts: How many values of the frames are NaN and infinite, where that has to be known.
        written: Bytes in the new file.
        bytes_done: Bytes of the frames that were copied, as they were in the recording.
    """

    dataset: h5py.Dataset

    def __init__(self, source: SafeFile, target: h5py.File, entry: Entry, bits: int) -> None:
        self._source, self._target, self.entry, self.path = source, target, entry, entry.path
        node = entry.node
        self._shape, self._dtype = tuple(node.shape), np.dtype(node.dtype)
        values = int(np.prod(self._shape[2:], dtype=np.int64))
        self.frame_bytes = values * self._dtype.itemsize
        self.full_frame_bytes = values * FRAME_DTYPE.itemsize
        packed = self._dtype != FRAME_DTYPE
        self._axis = source.packed.channel_axis(entry.path)
        self._restores = packed and bits == 0
        self._quantizes = not packed and bits == 8 and self._has_ranges()
        self.hidden = frozenset((eight_bits.BITS, "note") if self._restores else ())
        self.arrays = self.whole = self.written = self.bytes_done = 0
        self.damaged: list[Cell] = []
        self.unreadable: list[Cell] = []
        self.counts: dict[str, npt.NDArray[np.int64]] = {}
        self.checksums_path = self._find_checksums()
        self.new_checksums: npt.NDArray[np.uint32] | None = None
        self._sums = self._read_sums()
        self._error = 0.0

    def cells(self, keep: npt.NDArray[np.bool_]) -> list[Cell]:
        """Returns the (epoch, batch) of the frames that are copied."""
        rows, columns = np.minimum(keep.shape, self._shape[:2])
        there = keep[:rows, :columns].copy()
        if self._sums is not None:
            high, wide = np.minimum(there.shape, self._sums.shape)
            there[:high, :wide] &= self._sums[:high, :wide] > 0
        return [(int(epoch), int(batch)) for epoch, batch in np.argwhere(there)]

    def begin(self, compression: str, run: Recording, left_out: frozenset[str]) -> None:
        """Makes the new dataset."""
        dtype = np.dtype(np.uint8) if self._quantizes else self._dtype
        dtype = FRAME_DTYPE if self._restores else dtype
        self._filter = compression
        self._made = self._make(self.path, dtype)
        self._made_whole: FrameTarget | None = None
        self.dataset = self._made.dataset
        if (self._quantizes or self._restores) and self._sums is not None:
            self.new_checksums = self._sums.copy()
        if self._restores:
            note = self.entry.node.attrs.get("note", "")
            notes = filter(None, (note, f"once {eight_bits.NOTE}"))
            self.dataset.attrs["note"] = "; ".join(map(str, notes))
        if self._quantizes:
            self.dataset.attrs[eight_bits.BITS] = 8
            if "axes" not in self.entry.node.attrs:
                self.dataset.attrs["axes"] = self._source.packed.axes(self.path)
        if left_out and self.path.startswith(f"{schema.MAPS}/"):
            self._count = (run.batches.get("nan", np.zeros(run.shape)) > 0) | (
                run.batches.get("inf", np.zeros(run.shape)) > 0
            )
            self.counts = {name: np.zeros(run.shape, "<i8") for name in ("nan", "inf")}

    def add(self, at: Cell, workers: Workers) -> None:
        """Reads a frame and has it copied."""
        try:
            stored, ranges = self._read(at)
        except FileError:
            self.unreadable.append(at)
            return
        if stored is not None:
            workers.add(partial(self._work, at, stored, ranges), partial(self._take, at))

    def finish(self) -> None:
        """Says in the new dataset what is to be known of it."""
        if self._quantizes:
            self.dataset.attrs[eight_bits.LARGEST_ERROR] = np.float32(self._error)

    def _read(self, at: Cell) -> tuple[npt.NDArray[Any] | None, schema.Float32Array | None]:
        ranges = None
        if self._quantizes:
            path = eight_bits.ranges_path(self.path)
            assert path is not None
            channels = 1 if self._axis is None else self._shape[2 + self._axis]
            ranges = self._source.packed.ranges(path, *at, channels)
        if self._restores:
            return self._source.read_frame(self.path, *at), None
        return self._source.packed.own(self.path, *at), ranges

    def _work(
        self, at: Cell, stored: npt.NDArray[Any], ranges: schema.Float32Array | None
    ) -> _Done:
        """Changes and compresses a frame, in a thread."""
        known = 0 if self._sums is None else int(self._sums[at])
        found = schema.checksum(stored) if known else 0
        damaged = not self._restores and found != known
        counts = None
        if self.counts and self._count[at] and stored.dtype == FRAME_DTYPE:
            summary = schema.summarize(stored.reshape(1, -1))
            counts = summary.nan, summary.inf
        if ranges is not None:
            steps = None if damaged else eight_bits.quantize(stored, ranges, self._axis)
            if steps is None:
                return _Done(b"", 0, known, damaged, counts, stored)
            error = eight_bits.largest_error(ranges)
            chunk = self._made.encode(steps)
            return _Done(*chunk, schema.checksum(steps), False, counts, error=error)
        return _Done(*self._made.encode(stored), found, damaged, counts)

    def _take(self, at: Cell, done: _Done) -> None:
        """Writes what was worked out."""
        made, data, mask = self._made, done.data, done.mask
        if done.whole is not None:
            made = self._whole_target()
            data, mask = made.encode(done.whole)
            self.whole += 1
        made.write(at, data, mask)
        self.arrays += 1
        self.written += len(data)
        self.bytes_done += self.frame_bytes
        self._error = max(self._error, done.error)
        if done.damaged:
            self.damaged.append(at)
        if self.new_checksums is not None and self.new_checksums[at]:
            self.new_checksums[at] = done.checksum
        if done.counts is not None:
            self.counts["nan"][at], self.counts["inf"][at] = done.counts

    def _whole_target(self) -> FrameTarget:
        """Returns the dataset of the frames that stay in 16 bits, made when it is first needed."""
        if self._made_whole is None:
            path = eight_bits.beside(self.path, eight_bits.WHOLE)
            assert path is not None  # those of 8 bits are maps
            self._made_whole = self._make(path, FRAME_DTYPE)
        return self._made_whole

    def _make(self, path: str, dtype: np.dtype[Any]) -> FrameTarget:
        fill = np.nan if dtype == FRAME_DTYPE else 0
        return FrameTarget(self._target, path, self._shape, dtype, fill, self._filter)

    def _has_ranges(self) -> bool:
        """Returns whether the file keeps ranges of the frames' channels."""
        path = eight_bits.ranges_path(self.path)
        ranges = None if path is None else self._source.find(path, None)
        channels = 1 if self._axis is None else self._shape[2 + self._axis]
        return (
            ranges is not None
            and ranges.dtype.kind == "f"
            and ranges.ndim == 4
            and (ranges.shape[2:] == (channels, 2))
        )

    def _find_checksums(self) -> str | None:
        """Returns the path of the frames' checksums, if the file has some."""
        if self.path.split("@")[0] == schema.INPUTS:
            path: str | None = f"{schema.BATCHES}/input_checksum"
        elif self.path.startswith(f"{schema.KERNELS}/"):
            path = f"{schema.KERNEL_CHECKSUMS}{self.path[len(schema.KERNELS) :]}"
        else:
            maps = self.path.replace(f"{eight_bits.WHOLE}/", f"{schema.MAPS}/")
            path = eight_bits.beside(maps, schema.CHECKSUMS)
        return path if path is not None and self._source.exists(path, 2) else None

    def _read_sums(self) -> npt.NDArray[np.uint32] | None:
        if self.checksums_path is None:
            return None
        return self._source.read_numbers(self.checksums_path, 2, schema.CHECKSUM_DTYPE)


@dataclass(frozen=True)
class _Done:
    """A frame that was worked on.

    Attributes:
        data: Its chunk.
        mask: The filters that were left out of it.
        checksum: Of what is stored; 0 where the file keeps none.
        damaged: Whether the frame had another checksum than it should have.
        counts: How many of its values are NaN and infinite, where that was asked for.
        whole: The frame itself, where it stays in 16 bits beside those of 8.
        error: The most by which a value can differ from what it was.
    """

    data: bytes
    mask: int
    checksum: int
    damaged: bool
    counts: tuple[int, int] | None
    whole: npt.NDArray[Any] | None = None
    error: float = 0.0
