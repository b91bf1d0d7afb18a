"""Copies one dataset of frames: found and written by one thread, read and compressed by all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from replay import schema
from replay.files.chunk_writing import FrameTarget, Workers
from replay.recording import Recording, eight_bits
from replay.recording.live_file import file_errors
from replay.recording.safe_file import SafeFile
from replay.recording.snapshot import cells_of
from replay.recording.stored_chunks import Place, StoredChunks
from replay.recording.tree import Entry
from replay.schema import FRAME_DTYPE, Cell, FileError

_AT_ONCE = 1 << 19  # bytes of frames that a thread is given at a time
_MOST_AT_ONCE = 64  # frames, likewise
_STACKED = 1 << 16  # bytes of a frame below which calls of numpy cost more than its values


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
        at_once: Frames that are best given to `add` together.
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
        self.at_once = max(1, min(_MOST_AT_ONCE, _AT_ONCE // max(1, self.frame_bytes)))
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
        return cells_of(there)

    def begin(self, compression: str, run: Recording, left_out: frozenset[str]) -> None:
        """Makes the new dataset."""
        dtype = np.dtype(np.uint8) if self._quantizes else self._dtype
        dtype = FRAME_DTYPE if self._restores else dtype
        self._filter = compression
        self._made = self._make(self.path, dtype)
        self._made_whole: FrameTarget | None = None
        self._chunks = self._find_chunks()
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

    def add(self, cells: Sequence[Cell], workers: Workers) -> None:
        """Finds some frames, and has them read and copied."""
        found = [each for at in cells if (each := self._find(at)) is not None]
        if found:
            workers.add(partial(self._work, found), self._take)

    def finish(self) -> None:
        """Says in the new dataset what is to be known of it, and forgets where frames lie."""
        self._chunks = []
        if self._quantizes:
            self.dataset.attrs[eight_bits.LARGEST_ERROR] = np.float32(self._error)

    def _find_chunks(self) -> list[StoredChunks]:
        """Returns where frames are looked for by whoever reads them; empty where HDF5 has to."""
        beside = eight_bits.beside(self.path, eight_bits.WHOLE) if self._restores else None
        whole = beside is not None and self._source.frames(beside) is not None
        paths = [beside, self.path] if whole else [self.path]
        found = [self._source.packed.chunks(path) for path in paths if path is not None]
        return [] if None in found else [each for each in found if each is not None]

    def _find(self, at: Cell) -> _Found | None:
        """Returns a frame, or where it lies; None where it was never written."""
        ranges = None
        try:
            with file_errors(self._source.path):
                there = self._place(at)
            if there is None and self._restores:
                return _Found(at, frame=self._source.read_frame(self.path, *at))
            if there is None and self._chunks:
                return None
            if self._quantizes or (self._restores and there is not None):
                ranges = self._ranges(at)
            if there is not None:
                return _Found(at, ranges, *there)
            frame = self._source.packed.own(self.path, *at)
            return None if frame is None else _Found(at, ranges, frame=frame)
        except FileError:
            return _Found(at)

    def _place(self, at: Cell) -> tuple[StoredChunks, Place] | None:
        for chunks in self._chunks:
            place = chunks.find(*at)
            if place is not None:
                return chunks, place
        return None

    def _ranges(self, at: Cell) -> schema.Float32Array:
        path = eight_bits.ranges_path(self.path)
        assert path is not None
        channels = 1 if self._axis is None else self._shape[2 + self._axis]
        return self._source.packed.ranges(path, *at, channels)

    def _work(self, found: list[_Found]) -> list[_Done]:
        """Reads, changes and compresses frames, in a thread."""
        frames: list[tuple[_Found, npt.NDArray[Any]]] = []
        done: dict[Cell, _Done] = {}
        for each in found:
            try:
                with file_errors(self._source.path):
                    frames.append((each, self._read(each)))
            except FileError:
                done[each.at] = _Done(each.at, unreadable=True)
        for made in self._work_on(frames):
            done[made.at] = made
        return [done[each.at] for each in found]

    def _read(self, found: _Found) -> npt.NDArray[Any]:
        if found.chunks is not None and found.place is not None:
            frame = found.chunks.read(found.place)
            if self._restores and frame.dtype != FRAME_DTYPE and found.ranges is not None:
                return eight_bits.restore(frame, found.ranges, self._axis)
            return frame
        if found.frame is None:
            raise FileError("unreadable")
        return found.frame

    def _work_on(self, frames: list[tuple[_Found, npt.NDArray[Any]]]) -> Iterator[_Done]:
        stacked = self._quantize_together(frames)
        for number, (found, stored) in enumerate(frames):
            at = found.at
            known = 0 if self._sums is None else int(self._sums[at])
            checksum = schema.checksum(stored) if known else 0
            damaged = not self._restores and checksum != known
            counts = None
            if self.counts and self._count[at] and stored.dtype == FRAME_DTYPE:
                summary = schema.summarize(stored.reshape(1, -1))
                counts = summary.nan, summary.inf
            if not self._quantizes or found.ranges is None:
                chunk = self._made.encode(stored)
                yield _Done(at, *chunk, checksum, damaged=damaged, counts=counts)
                continue
            steps = None if damaged or stacked is None else stacked[number]
            if steps is None and not damaged:
                steps = eight_bits.quantize(stored, found.ranges, self._axis)
            if steps is None:
                yield _Done(at, b"", 0, known, damaged=damaged, counts=counts, whole=stored)
                continue
            error = eight_bits.largest_error(found.ranges)
            chunk = self._made.encode(steps)
            yield _Done(at, *chunk, schema.checksum(steps), counts=counts, error=error)

    def _quantize_together(
        self, frames: list[tuple[_Found, npt.NDArray[Any]]]
    ) -> npt.NDArray[np.uint8] | None:
        """Returns small frames in 8 bits; None where each has to be looked at for itself."""
        ranges = [found.ranges for found, _ in frames if found.ranges is not None]
        together = self._quantizes and self._axis == 0 and self.frame_bytes < _STACKED
        if not together or len(frames) < 2 or len(ranges) < len(frames):
            return None
        stored = np.concatenate([frame for _, frame in frames])  # (frames * C, ...)
        steps = eight_bits.quantize(stored, np.concatenate(ranges), 0)
        return None if steps is None else steps.reshape(len(frames), *self._shape[2:])

    def _take(self, done: list[_Done]) -> None:
        """Writes what was worked out."""
        for each in done:
            if each.unreadable:
                self.unreadable.append(each.at)
            else:
                self._write(each)

    def _write(self, done: _Done) -> None:
        made, data, mask, at = self._made, done.data, done.mask, done.at
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
class _Found:
    """A frame that is to be copied; neither where it lies nor itself if HDF5 cannot read it.

    Attributes:
        at: Its epoch and batch.
        ranges: Those of its channels, where they are needed.
        chunks, place: What reads it in a thread, and where it lies.
        frame: The frame itself, where HDF5 had to read it.
    """

    at: Cell
    ranges: schema.Float32Array | None = None
    chunks: StoredChunks | None = None
    place: Place | None = None
    frame: npt.NDArray[Any] | None = None


@dataclass(frozen=True)
class _Done:
    """A frame that was worked on.

    Attributes:
        at: Its epoch and batch.
        data: Its chunk.
        mask: The filters that were left out of it.
        checksum: Of what is stored; 0 where the file keeps none.
        unreadable: Whether it cannot be read.
        damaged: Whether the frame had another checksum than it should have.
        counts: How many of its values are NaN and infinite, where that was asked for.
        whole: The frame itself, where it stays in 16 bits beside those of 8.
        error: The most by which a value can differ from what it was.
    """

    at: Cell
    data: Any = b""
    mask: int = 0
    checksum: int = 0
    unreadable: bool = False
    damaged: bool = False
    counts: tuple[int, int] | None = None
    whole: npt.NDArray[Any] | None = None
    error: float = 0.0
