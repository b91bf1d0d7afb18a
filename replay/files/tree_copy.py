"""Copies a recording with all that is in it, frames in another form, into a new file.

What nothing is known of is copied as it is. Where only some frames or layers are asked for, the
others are left out of everything that is kept by epoch and batch, or by layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from replay import schema
from replay.files.chunk_writing import Workers
from replay.files.frame_copy import FrameCopy
from replay.files.hdf5_writer import create_file, small_chunk
from replay.recording import Recording
from replay.recording.eight_bits import WHOLE
from replay.recording.live_file import file_errors
from replay.recording.plain_chunks import written_epochs
from replay.recording.safe_file import SafeFile
from replay.recording.tree import Entry, attributes_of, walk
from replay.schema.chunks import group_epochs

_WORTH = 1 << 16  # bytes of small numbers that are worth a filter


@dataclass(frozen=True)
class CopyPlan:
    """What is copied, and how.

    Attributes:
        bits: 8 for maps in 8 bits; 16 to keep frames as they are; 0 to make 16 of 8.
        filter: One of `chunk_filters.FILTERS`.
        keep: bool (epoch, batch): the frames; None for all.
        left_out: Links of the layers that are left out.
        limit: Bytes that the new file may have; None for any number.
        about: Attributes that the new file's root gets; those that are None are left out.
    """

    bits: int
    filter: str
    keep: npt.NDArray[np.bool_] | None = None
    left_out: frozenset[str] = frozenset()
    limit: int | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


class TooLargeError(Exception):
    """The new file would be larger than it may be; `expected` are the bytes that it would have."""

    def __init__(self, expected: int) -> None:
        super().__init__(f"{expected:,} bytes")
        self.expected = expected


@dataclass
class Copied:
    """What became of it.

    Attributes:
        arrays: Frames that were copied, of all datasets.
        damaged: (path, epoch, batch) of those whose checksum was wrong before; they are as
            they were.
        unreadable: Likewise of those that could not be read, and are missing.
        whole: Frames that stayed in 16 bits where 8 were asked for.
        links: Paths of links that lead elsewhere, and were left out.
        eight_bits: Whether some dataset has 8 bits.
        frame_bytes: Bytes of the frames, as they were in 16 bits.
    """

    arrays: int = 0
    damaged: list[tuple[str, int, int]] = field(default_factory=list)
    unreadable: list[tuple[str, int, int]] = field(default_factory=list)
    whole: int = 0
    links: list[str] = field(default_factory=list)
    eight_bits: bool = False
    frame_bytes: int = 0


def copy_tree(
    run: Recording,
    path: Path,
    plan: CopyPlan,
    progress: Callable[[int, int], None] | None = None,
) -> Copied:
    """Copies a recording into a new file.

    Args:
        run: An open recording.
        path: A file that does not exist.
        plan: What, and how.
        progress: Called with (frames done, frames in all), of all datasets.

    Raises:
        FileError: Something in the recording cannot be read safely.
        TooLargeError: The new file would become larger than the plan allows.
    """
    with SafeFile(run.path) as source, create_file(path) as target:
        copied = _TreeCopy(source, target, run, plan, progress).copy()
        target.flush()
    return copied


class _TreeCopy:
    def __init__(
        self,
        source: SafeFile,
        target: h5py.File,
        run: Recording,
        plan: CopyPlan,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.source, self.target, self.run, self.plan = source, target, run, plan
        self.keep = run.order > 0 if plan.keep is None else plan.keep
        self.progress = progress
        self.copied = Copied()
        self.checksums: dict[str, npt.NDArray[np.uint32]] = {}  # those that change
        self.counts = {"nan": np.zeros(run.shape, "<i8"), "inf": np.zeros(run.shape, "<i8")}

    def copy(self) -> Copied:
        """Copies everything: frames first, whose checksums and counts other things depend on."""
        entries = [entry for entry in walk(self.source) if self._is_kept(entry)]
        for name, value in attributes_of(self.source, None).items():
            self._set(self.target, name, value, self.source.node(None))
        for entry in entries:
            if entry.kind == "group":
                self._copy_attributes(entry, self.target.require_group(entry.path))
        self._copy_frames([entry for entry in entries if entry.kind == "frames"])
        for entry in entries:
            if entry.kind == "link":
                self.copied.links.append(entry.path)
            elif entry.kind == "cells" and self._is_changed(entry):
                self._copy_cells(entry)
            elif entry.kind in ("cells", "other"):
                self._copy_as_it_is(entry)
        version = schema.PACKED_VERSION if self.copied.eight_bits else schema.VERSION
        for name, value in {"version": version, **self.plan.about}.items():
            if name in self.target.attrs:
                del self.target.attrs[name]
            if value is not None:
                self.target.attrs[name] = value
        return self.copied

    def _is_kept(self, entry: Entry) -> bool:
        of_batches = _checked_path(entry.path).startswith(f"{schema.BATCHES}/")
        if self.plan.bits == 0 and f"/{WHOLE}/" in f"/{entry.path}/":
            return False  # its frames are among those that are made of 8 bits
        return of_batches or entry.layer not in self.plan.left_out

    def _copy_frames(self, entries: list[Entry]) -> None:
        copies = [FrameCopy(self.source, self.target, entry, self.plan.bits) for entry in entries]
        cells = {copy.path: copy.cells(self.keep) for copy in copies}
        raw = sum(copy.frame_bytes * len(cells[copy.path]) for copy in copies)
        total, done = sum(map(len, cells.values())), 0
        self.copied.frame_bytes = sum(c.full_frame_bytes * len(cells[c.path]) for c in copies)
        with Workers() as workers:
            for copy in copies:
                copy.begin(self.plan.filter, self.run, self.plan.left_out)
                self._copy_attributes(copy.entry, copy.dataset, copy.hidden)
                for first in range(0, len(cells[copy.path]), copy.at_once):
                    together = cells[copy.path][first : first + copy.at_once]
                    copy.add(together, workers)
                    self._check_limit(copies, raw)
                    for _ in together:
                        done += 1
                        if self.progress is not None:
                            self.progress(done, total)
                workers.finish()
                copy.finish()
                self._take_note_of(copy)
            self._check_limit(copies, raw)

    def _check_limit(self, copies: list[FrameCopy], raw: int) -> None:
        if self.plan.limit is None:
            return
        written = sum(copy.written for copy in copies)
        if written > self.plan.limit:
            done = sum(copy.bytes_done for copy in copies)
            raise TooLargeError(int(written * raw / max(1, done)))

    def _take_note_of(self, copy: FrameCopy) -> None:
        self.copied.arrays += copy.arrays
        self.copied.damaged += [(copy.path, *at) for at in copy.damaged]
        self.copied.unreadable += [(copy.path, *at) for at in copy.unreadable]
        self.copied.whole += copy.whole
        self.copied.eight_bits |= copy.dataset.dtype == np.uint8
        if copy.new_checksums is not None and copy.checksums_path is not None:
            self.checksums[copy.checksums_path] = copy.new_checksums
        for name, found in copy.counts.items():
            self.counts[name] += found

    def _is_changed(self, entry: Entry) -> bool:
        if self.plan.keep is not None or entry.path in self.checksums:
            return True
        fields = (f"{schema.BATCHES}/{name}" for name in (*self.counts, "missing"))
        recounted = _checked_path(entry.path) in fields
        large = entry.node.size * entry.node.dtype.itemsize >= _WORTH
        return bool(self.plan.left_out and recounted) or large

    def _copy_cells(self, entry: Entry) -> None:
        """Copies small numbers by epoch and batch: of what is left out, the fill."""
        dataset, plan = entry.node, self.plan
        fill = dataset.fillvalue
        size = int(np.prod(dataset.shape[2:], dtype=np.int64)) * dataset.dtype.itemsize
        epochs, batches = small_chunk(dataset.shape, dataset.dtype)
        packed = plan.filter != "none" and size * dataset.shape[0] * dataset.shape[1] >= _WORTH
        made = self.target.create_dataset(
            entry.path,
            dataset.shape,
            dataset.dtype,
            maxshape=(None, None, *dataset.shape[2:]),
            chunks=(epochs, batches, *(max(1, n) for n in dataset.shape[2:])),
            fillvalue=fill,
            compression="gzip" if packed else None,  # small: plain HDF5 reads it anywhere
            shuffle=packed,
        )
        self._copy_attributes(entry, made)
        for first, stop in group_epochs(self._epochs(entry), epochs):
            values = self.source.packed.rows(entry.path, first, stop)
            if plan.keep is not None:
                wide = min(values.shape[1], self.keep.shape[1])
                kept = np.zeros(values.shape[:2], bool)
                kept[:, :wide] = self.keep[first:stop, :wide]
                values[~kept] = fill
            made[first:stop] = self._changed(entry.path, first, values)

    def _epochs(self, entry: Entry) -> list[int]:
        """Returns the epochs of small numbers that are not the fill throughout."""
        with file_errors(self.source.path):
            epochs = written_epochs(entry.node)
        if self._new_numbers(_checked_path(entry.path)) is not None:
            epochs = np.union1d(epochs, np.flatnonzero(self.run.order.any(axis=1)))
        most = len(entry.node) if self.plan.keep is None else len(self.keep)
        found: list[int] = epochs[epochs < min(most, len(entry.node))].tolist()
        return found

    def _changed(self, path: str, first: int, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Returns some epochs' numbers, or their checksums, as they are in the new file."""
        new = self._new_numbers(_checked_path(path))
        if new is None:
            return values
        new = new[first : first + len(values), : values.shape[1]]
        old = values[: len(new), : new.shape[1]]  # a view of them
        if path == _checked_path(path):
            old[:] = new
            return values
        there = old != 0
        old[there] = schema.checksum_cells(new[there])
        return values

    def _new_numbers(self, path: str) -> npt.NDArray[Any] | None:
        """Returns the numbers of the new file where they are not those of the old one."""
        new: npt.NDArray[Any] | None = self.checksums.get(path)
        name = path.removeprefix(f"{schema.BATCHES}/")
        if name == "recorded" and self.plan.keep is not None:
            new = renumbered(self.run.order, self.keep)
        elif path != name and self.plan.left_out:
            if name in self.counts:
                new = self.counts[name]
            elif name == "missing":
                new = self._missing()
        return new

    def _missing(self) -> npt.NDArray[np.int64]:
        """Returns how many of the layers that are kept put out nothing in each batch."""
        there: dict[str, npt.NDArray[np.bool_]] = {}
        for name in self.run.layers:
            if schema.encode_name(name) not in self.plan.left_out:
                known = there.get(name.split("@")[0], False)
                there[name.split("@")[0]] = self.run[name].present | known
        absent = sum((~each).astype("<i8") for each in there.values())
        counted = np.maximum(self.run.batches["missing"], 0)
        return np.asarray(np.minimum(counted, absent), "<i8")

    def _copy_as_it_is(self, entry: Entry) -> None:
        with file_errors(self.source.path):
            *groups, name = entry.path.split("/")
            into = self.target.require_group("/".join(groups)) if groups else self.target
            h5py.h5o.copy(entry.node.id, b".", into.id, name.encode())
        if entry.path == schema.STATE and self.plan.keep is not None:
            state = self.target[schema.STATE][:]
            state[0] = int(self.keep.sum())
            self.target[schema.STATE][:] = schema.encode_state(state)[: len(state)]

    def _copy_attributes(
        self, entry: Entry, made: Any, hidden: frozenset[str] = frozenset()
    ) -> None:
        for name, value in attributes_of(self.source, entry.path).items():
            if name not in hidden:
                self._set(made, name, value, entry.node)

    def _set(self, made: Any, name: str, value: Any, node: Any) -> None:
        if name in made.attrs:
            return
        with file_errors(self.source.path):
            if isinstance(value, h5py.Empty):
                made.attrs[name] = value
            else:
                about = node.attrs.get_id(name)
                made.attrs.create(name, value, about.shape, about.dtype)


def _checked_path(path: str) -> str:
    """Returns the path of what is checked by the checksums at a path; the path of anything else."""
    return path.removeprefix(schema.value_checksums_path(""))


def renumbered(order: npt.NDArray[np.int64], keep: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Returns the numbers of the frames that are kept, without gaps, in the same order."""
    numbers = np.zeros_like(order)
    places = np.nonzero(keep)
    numbers[places] = np.argsort(np.argsort(order[places], kind="stable"), kind="stable") + 1
    return numbers
