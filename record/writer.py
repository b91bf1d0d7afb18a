"""The process that owns the file: messages in, HDF5 out. Imports no torch.

Run as `python -m record.writer` by `courier.py`. It ignores Ctrl-C and takes the end of its input
as "close the file", so that a training process killed with SIGKILL still leaves a cleanly closed
recording. Every frame goes through two steps: its arrays are written as they arrive, and about
twice a second all that arrived is committed (flush, raise the counter, flush). A reader that
believes the counter never sees a frame that is not whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from record import wire
from record.lock import BusyError, Lock
from record.summaries import Summaries
from replay import schema
from replay.schema import Field, Layer

COMMIT_SECONDS = 0.5
SYNC_SECONDS = 30.0
_CLONE = 0x40049409  # Linux' FICLONE: a copy that shares its blocks with the original
_PARENT_SECONDS = 0.5  # how often to look whether the training process is still there


class RecordingFile:
    """The recording while it is written; `write` frames, `commit` them, `close`.

    Between two layouts the file is in SWMR mode, in which HDF5 keeps it readable at any moment
    but takes no new datasets. A layer or a field that turns up late closes it, adds them, and
    goes on.
    """

    def __init__(
        self,
        path: str,
        overwrite: bool,
        attributes: dict[str, Any],
        resume: int | None = None,
        durability: str = "fsync",
    ) -> None:
        self._path = path
        self._state = np.zeros(4, np.int64)
        self._rows, self._columns = 0, 0  # the extent of every dataset
        self._expected: int | None = None  # batches in an epoch, where it is known
        self._layout = wire.Layout((), ())
        self._summaries: Summaries | None = None
        self._cells: dict[str, tuple[tuple[int, ...], np.dtype[Any], Any]] = {}
        self._pending: list[_Pending] = []
        self._written = 0
        self._fields: dict[str, Field] = {}
        self._probes: list[npt.NDArray[np.float16]] = []  # fixed images
        self._sync = Sync() if durability == "fsync" else None
        self._epoch: int | None = None  # of the last frame
        self._beside: str | None = None  # the copy that is being changed
        self._lock = Lock(path)
        try:
            if resume is None:
                self._create_file(overwrite, attributes)
            else:
                self._reopen_file(resume, attributes)
        except BaseException:
            self._lock.release()
            raise
        self._begin()

    def _create_file(self, overwrite: bool, attributes: dict[str, Any]) -> None:
        if overwrite:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
        self._file = h5py.File(self._path, "x", libver=("v110", "v110"), locking="best-effort")
        for name, value in attributes.items():
            self._file.attrs[name] = value
        state = self._file.create_dataset(
            schema.STATE, shape=(4,), maxshape=(4,), chunks=(4,), dtype="<i8", fillvalue=0
        )
        state.attrs["fields"] = list(schema.STATE_FIELDS)
        self._open_fields(schema.FIELDS)

    def _reopen_file(self, resume: int, attributes: dict[str, Any]) -> None:
        """Goes on with a file: the frames of the epochs before `resume` stay."""
        self._check_ours()
        self._keep_epochs(resume)
        self._file = file = self._open_copy()
        meta = schema.decode_meta(file.attrs["meta"])
        again = {"epoch": resume, "created": attributes["created"]}
        meta["resumed"] = [*meta.get("resumed", []), again]
        file.attrs["meta"] = schema.encode_meta(meta)
        recorded = file[f"{schema.BATCHES}/recorded"]
        self._rows, self._columns = recorded.shape
        self._state[:] = file[schema.STATE][:]
        self._state[3] = 0
        file[schema.STATE][:] = self._state
        self._written = int(self._state[0])
        for link in file[schema.BATCHES]:
            name = schema.decode_name(link)
            known = (entry for entry in schema.FIELDS if entry.name == name)
            self._fields[name] = next(known, schema.custom_field(name))

    def _check_ours(self) -> None:
        """Looks at it as a reader: its writer may have been killed, which leaves it so marked."""
        try:
            with _reading(self._path) as file:
                ours = file.attrs.get("format") == schema.FORMAT
                version = int(file.attrs.get("version", 0))
                complete = f"{schema.BATCHES}/recorded" in file and schema.STATE in file
        except OSError as error:
            raise OSError(f"cannot resume: {' '.join(str(error).split())[:200]}") from error
        if not ours or version != schema.VERSION or not complete:
            raise OSError("cannot resume: it is no recording of this version of the format")

    def _keep_epochs(self, resume: int) -> None:
        """Makes it a cleanly closed file with the whole frames of the epochs before `resume`."""
        with _reading(self._path) as file:
            state, recorded = file[schema.STATE][:], file[f"{schema.BATCHES}/recorded"][:]
            whole = (recorded > 0) & (recorded <= state[0])
            stays = whole.copy()
            stays[resume:] = False
            if state[3] and (stays == (recorded > 0)).all():
                return
            self._copy_beside(file, stays, lambda: None)
        os.replace(f"{self._path}.copying", self._path)

    def _copy_beside(
        self, source: h5py.File, stays: npt.NDArray[np.bool_], tell: Callable[[], None]
    ) -> int:
        """Copies what stays into a file beside this one; returns how many frames."""
        beside = f"{self._path}.copying"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        try:
            with h5py.File(beside, "x", libver=("v110", "v110"), locking="best-effort") as target:
                count = copy_frames(source, target, stays, tell)
                target.flush()
                with contextlib.suppress(OSError):
                    os.fsync(target.id.get_vfd_handle())
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(beside)
            raise
        return count

    @property
    def opening(self) -> dict[str, Any]:
        """What the file holds at the start: frames, the last one's step and epoch.

        And the batches of an epoch, if the steps say that each had as many, else 0: the last ones
        of an epoch may not have been recorded.
        """
        if not self._written:
            return {"frames": 0, "step": -1, "epoch": -1, "batches": 0}
        recorded = self._file[f"{schema.BATCHES}/recorded"][:]
        steps = self._file[f"{schema.BATCHES}/step"][: recorded.shape[0], : recorded.shape[1]]
        epochs, numbers = np.nonzero(recorded > 0)
        before = (steps[recorded > 0] - numbers)[epochs > 0]  # steps before the epoch
        each = np.unique(before / epochs[epochs > 0])
        regular = len(each) == 1 and each[0] == int(each[0])
        return {
            "frames": self._written,
            "step": int(steps.max()),
            "epoch": int(epochs[-1]),
            "batches": int(each[0]) if regular else 0,
        }

    @property
    def committed(self) -> int:
        """Frames that a reader may see."""
        return int(self._state[0])

    @property
    def dirty(self) -> bool:
        """Whether frames have been written that are not yet committed."""
        return bool(self._pending)

    def set_layout(self, layout: wire.Layout, batches: int | None) -> None:
        """What the frames consist of from now on; earlier layers stay.

        Args:
            layout: The layers and the image of each frame.
            batches: Batches in an epoch, if it is known.
        """
        self.commit()
        known = {(layer.group, layer.name) for layer in self._layout.layers}
        self._expected = batches
        self._end()
        self._grow(1, batches or wire.GROWTH)
        for place, layer in enumerate(layout.layers):
            if (layer.group, layer.name) not in known:
                self._add_layer(layer, place)
        for place, shape in enumerate(layout.images):
            path = schema.inputs_path(shape if place else None)
            if path not in self._file:
                self._describe_image(self._create(path, shape, schema.FRAME_DTYPE, np.nan))
        for number, image in enumerate(self._probes):
            path = f"{schema.PROBE}/{number}/{schema.PROBE_INPUT}"
            if path not in self._file:
                self._describe_image(self._file.create_dataset(path, data=image))
        self._layout = layout
        self._summaries = None
        self._begin()

    def set_probes(self, shape: tuple[int, ...], payload: memoryview) -> None:
        """Takes the fixed images; they enter the file with the next layout.

        Args:
            shape: (N, C, H, W).
            payload: Their values, float16.
        """
        images = np.frombuffer(payload, schema.FRAME_DTYPE).reshape(shape)
        self._probes = [image.copy() for image in images]

    def write(self, header: wire.FrameHeader, payload: memoryview) -> None:
        """Takes one frame; it counts once it is committed.

        Args:
            header: Where the frame belongs and what was logged with it.
            payload: The values of the layout, float16.
        """
        layout = self._layout
        if len(payload) != layout.nbytes:
            raise ValueError(f"expected a frame of {layout.nbytes} bytes, found {len(payload)}")
        late = [n for n in header.values if n not in self._fields]
        if late:
            self.commit()
            self._end()
            self._open_fields([schema.custom_field(name) for name in late])
            self._begin()
        epoch, batch = header.epoch, header.batch
        self._grow(epoch + 1, batch + 1)

        values: npt.NDArray[np.float16] = np.frombuffer(payload, schema.FRAME_DTYPE)
        frame = _Pending(epoch, batch)
        if self._epoch is not None and epoch != self._epoch:
            self.commit()
            self.sync()
        self._epoch = epoch
        if header.image is not None:
            shape = layout.images[header.image] if header.image else None
            image = self._write_chunk(
                schema.inputs_path(shape), values, layout.image_slots[header.image], epoch, batch
            )
            frame.fields["input_checksum"] = schema.checksum(image)
        nan = inf = 0
        missing = set(header.missing)
        if self._summaries is None:
            self._summaries = Summaries(layout)
        summaries = self._summaries.of(values, missing)
        for place, layer in enumerate(layout.layers):
            if place in missing:
                continue
            group, link = layer.group, schema.encode_name(layer.name)
            maps = self._write_chunk(
                f"{group}{schema.MAPS}/{link}", values, layout.map_slots[place], epoch, batch
            )
            summary = summaries[place]
            if layer.probe is None:
                nan, inf = nan + summary.nan, inf + summary.inf
            frame.arrays[f"{group}{schema.RANGES}/{link}"] = summary.ranges
            frame.arrays[f"{group}{schema.CHECKSUMS}/{link}"] = schema.checksum(maps)
            kernel = layout.kernel_slots[place]
            if kernel is not None:
                stack = self._write_chunk(
                    f"{group}{schema.KERNELS}/{link}", values, kernel, epoch, batch
                )
                frame.arrays[f"{group}{schema.KERNEL_CHECKSUMS}/{link}"] = schema.checksum(stack)
        self._written += 1
        frame.fields.update(
            header.values,
            recorded=self._written,
            step=header.step,
            time=header.time,
            nan=nan,
            inf=inf,
            missing=header.absent,
        )
        self._pending.append(frame)
        self._state[1:3] = header.dropped, header.lost

    def commit(self) -> None:
        """Makes every frame written so far visible to readers, all or nothing."""
        if not self._pending:
            return
        for run in _runs(self._pending):
            self._write_small(run)
        self._file.flush()
        self._state[0] += len(self._pending)
        self._pending.clear()
        self._file[schema.STATE][:] = self._state
        self._file.flush()

    def check_place(self) -> None:
        """Makes sure that what is written still goes to the file of that name.

        Raises:
            OSError: Somebody has removed it, or put another in its place.
        """
        here = os.fstat(self._file.id.get_vfd_handle())
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            raise OSError("the file was removed by another program") from None
        if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
            raise OSError("another program has put a file in its place")

    def sync(self) -> None:
        """Has what is committed put on the disk, beside the writing; a loss of power spares it."""
        if self._sync is not None:
            with contextlib.suppress(OSError, ValueError):
                self._sync.request(self._file.id.get_vfd_handle())

    @property
    def must_sync(self) -> bool:
        """Whether that was last done so long ago that it is due."""
        return self._sync is not None and self._sync.due

    def thin(self, keep: int, tell: Callable[[], None] = lambda: None) -> None:
        """Takes frames out of the file: of every `keep` only the first stays.

        HDF5 cannot give space back in a file that is being read, so the others are copied into a
        new file, which then takes this one's place. A kill at any moment leaves one or the other.

        Args:
            keep: Of how many frames the first stays.
            tell: Called now and then: the copying of a large file takes its time.
        """
        self.commit()
        recorded = self._file[f"{schema.BATCHES}/recorded"][:]
        stays = (recorded > 0) & ((recorded - 1) % keep == 0)
        committed = self._copy_beside(self._file, stays, tell)
        self._datasets.clear()
        self._file.close()
        os.replace(f"{self._path}.copying", self._path)
        self._file = self._open_copy()
        self._state[0] = self._written = committed
        self._begin()

    def close(self, dropped: int | None = None, lost: int | None = None) -> None:
        """Commits, cuts the datasets to what was recorded and closes the file."""
        self.commit()
        if self._expected is None and self._rows:
            seen = np.flatnonzero((self._file[f"{schema.BATCHES}/recorded"][:] > 0).any(axis=0))
            self._resize(self._rows, int(seen[-1]) + 1 if seen.size else 1)
        self._file.flush()
        if dropped is not None and lost is not None:
            self._state[1:3] = dropped, lost
        self._state[3] = 1
        self._file[schema.STATE][:] = self._state
        self._file.flush()
        # HDF5 itself never asks the system to put its data on the disk.
        with contextlib.suppress(OSError):
            os.fsync(self._file.id.get_vfd_handle())
        self._file.close()
        self._lock.release()

    # The file's structure

    def _begin(self) -> None:
        """Begins to write frames: from here on the file is readable at any moment."""
        self._datasets: dict[str, h5py.Dataset] = {}
        self._file.swmr_mode = True
        if self._beside is not None:
            if self._sync is not None:
                os.fsync(self._file.id.get_vfd_handle())
            os.replace(self._beside, self._path)
            self._beside = None

    def _end(self) -> None:
        """Ends that, to change what HDF5 cannot change meanwhile.

        A kill while that is done would cost the file. So it is done to a copy, which takes the
        file's place in `_begin`; a file too large to be copied is changed as it is.
        """
        self._datasets = {}
        self._file.close()
        self._file = self._open_copy()

    def _open_copy(self) -> h5py.File:
        beside = f"{self._path}.copying"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        self._beside = None
        try:
            _copy_file(self._path, beside)
            self._beside = beside
        except OSError:  # no room for two
            with contextlib.suppress(OSError):
                os.unlink(beside)
        target = self._beside or self._path
        return h5py.File(target, "r+", libver=("v110", "v110"), locking="best-effort")

    def abandon(self) -> None:
        """Leaves the file readable after a failure between `_end` and `_begin`."""
        self._lock.release()
        beside = self._beside
        if not self._file or self._file.swmr_mode:
            return
        with contextlib.suppress(Exception):
            self._file.close()
        if beside is not None:
            with contextlib.suppress(OSError):
                os.unlink(beside)

    def _create(
        self, path: str, cell: tuple[int, ...], dtype: np.dtype[Any], fill: float, batches: int = 1
    ) -> h5py.Dataset:
        """A dataset (epoch, batch, *cell), chunks of `batches` cells of one epoch."""
        return self._file.create_dataset(
            path,
            shape=(self._rows, self._columns, *cell),
            maxshape=(None, None, *cell),
            chunks=(1, batches, *(max(1, n) for n in cell)),
            dtype=dtype,
            fillvalue=fill,
        )

    def _create_small(
        self, path: str, cell: tuple[int, ...], dtype: np.dtype[Any], fill: float
    ) -> None:
        cell_bytes = dtype.itemsize * int(np.prod(cell, dtype=np.int64))
        self._create(path, cell, dtype, fill, wire.small_chunk(cell_bytes, self._expected))

    def _add_layer(self, layer: Layer, place: int) -> None:
        """Creates a layer's datasets; those of a file that is resumed have to fit it."""
        path = f"{layer.group}{schema.MAPS}/{schema.encode_name(layer.name)}"
        if path not in self._file:
            self._create_layer(layer, place)
            return
        there = self._file[path].shape[2:]
        kernels = f"{layer.group}{schema.KERNELS}/{schema.encode_name(layer.name)}"
        kernel = self._file[kernels].shape[2:] if kernels in self._file else None
        if there != layer.shape or kernel != layer.kernel:
            raise ValueError(
                f"cannot go on with {layer.name}: it has frames of {there} in the file and of "
                f"{layer.shape} now"
            )

    def _create_layer(self, layer: Layer, place: int) -> None:
        def path(kind: str) -> str:
            return f"{layer.group}{kind}/{schema.encode_name(layer.name)}"

        maps = self._create(path(schema.MAPS), layer.shape, schema.FRAME_DTYPE, np.nan)
        maps.attrs["order"] = place
        maps.attrs["module"] = layer.module
        maps.attrs["axes"] = layer.axes
        maps.attrs["pooled"] = layer.pooled
        self._create_small(path(schema.RANGES), (layer.channels, 2), schema.RANGE_DTYPE, np.nan)
        self._create_small(path(schema.CHECKSUMS), (), schema.CHECKSUM_DTYPE, 0)
        if layer.kernel is not None:
            self._create(path(schema.KERNELS), layer.kernel, schema.FRAME_DTYPE, np.nan)
            self._create_small(path(schema.KERNEL_CHECKSUMS), (), schema.CHECKSUM_DTYPE, 0)

    def _describe_image(self, dataset: h5py.Dataset) -> None:
        """Says how to undo the input's normalisation, where the run's description does."""
        meta = schema.decode_meta(self._file.attrs["meta"])
        for name in ("mean", "std"):
            if meta.get(name) is not None:
                dataset.attrs[name] = np.atleast_1d(np.asarray(meta[name], np.float32))

    def _open_fields(self, fields: tuple[Field, ...] | list[Field]) -> None:
        for entry in fields:
            path = f"{schema.BATCHES}/{schema.encode_name(entry.name)}"
            self._create_small(path, (), entry.dtype, entry.fill)
            self._fields[entry.name] = entry

    def _grow(self, rows: int, columns: int) -> None:
        if rows <= self._rows and columns <= self._columns:
            return
        if columns > self._columns:
            columns = max(columns, self._expected or -(-columns // wire.GROWTH) * wire.GROWTH)
        self._resize(max(rows, self._rows), max(columns, self._columns))

    def _resize(self, rows: int, columns: int) -> None:
        def resize(_: str, node: h5py.Group | h5py.Dataset) -> None:
            if isinstance(node, h5py.Dataset) and node.maxshape[:2] == (None, None):
                node.resize((rows, columns, *node.shape[2:]))

        self._file.visititems(resize)
        self._rows, self._columns = rows, columns

    # Values

    def _dataset(self, path: str) -> h5py.Dataset:
        dataset = self._datasets.get(path)
        if dataset is None:
            dataset = self._datasets[path] = self._file[path]
        return dataset

    def _write_chunk(
        self, path: str, values: npt.NDArray[np.float16], slot: wire.Slot, epoch: int, batch: int
    ) -> npt.NDArray[np.float16]:
        """Writes one cell as one chunk, past HDF5's conversion and cache: see facts in docs."""
        array = values[slot.start : slot.stop].reshape(slot.shape)
        offset = (epoch, batch) + (0,) * len(slot.shape)
        if array.size:
            self._dataset(path).id.write_direct_chunk(offset, array)
        return array

    def _write_small(self, run: list[_Pending]) -> None:
        """Writes the per-batch values of frames that follow each other within one epoch."""
        epoch, first, last = run[0].epoch, run[0].batch, run[-1].batch
        places = [frame.batch - first for frame in run]
        for name, entry in self._fields.items():
            column = np.full(last - first + 1, entry.fill, entry.dtype)
            column[places] = [_as_dtype(frame.fields.get(name, entry.fill), entry) for frame in run]
            self._put(f"{schema.BATCHES}/{schema.encode_name(name)}", epoch, first, column)
        for path in dict.fromkeys(path for frame in run for path in frame.arrays):
            cell, dtype, fill = self._cell(path)
            block = np.full((last - first + 1, *cell), fill, dtype)
            for place, frame in zip(places, run, strict=True):
                if path in frame.arrays:
                    block[place] = frame.arrays[path]
            self._put(path, epoch, first, block)

    def _cell(self, path: str) -> tuple[tuple[int, ...], np.dtype[Any], Any]:
        """Shape, dtype and fill value of a batch's cell in a dataset."""
        if path not in self._cells:
            dataset = self._dataset(path)
            self._cells[path] = dataset.shape[2:], dataset.dtype, dataset.fillvalue
        return self._cells[path]

    def _put(self, path: str, epoch: int, first: int, block: npt.NDArray[Any]) -> None:
        """Writes cells of one epoch from batch `first` on: a fifth of what slicing costs."""
        identity = self._dataset(path).id
        space = identity.get_space()
        cell = block.shape[1:]
        space.select_hyperslab((epoch, first, *[0] * len(cell)), (1, len(block), *cell))
        identity.write(h5py.h5s.create_simple((1, *block.shape)), space, block)


def copy_frames(
    source: h5py.File,
    target: h5py.File,
    stays: npt.NDArray[np.bool_],
    tell: Callable[[], None],
) -> int:
    """Copies a recording with some of its frames, which are numbered anew in their order.

    Args:
        source: The recording.
        target: An empty file.
        stays: bool (epoch, batch), which frames to copy.
        tell: Called now and then.

    Returns:
        The number of frames in the new file.
    """
    recorded = source[f"{schema.BATCHES}/recorded"][:]
    numbers = np.zeros_like(recorded)
    order = np.argsort(recorded[stays])
    numbers[tuple(part[order] for part in np.nonzero(stays))] = np.arange(1, len(order) + 1)
    cells = [(int(epoch), int(batch)) for epoch, batch in np.argwhere(stays)]
    for name, value in source.attrs.items():
        target.attrs[name] = value

    def copy(path: str, node: h5py.Group | h5py.Dataset) -> None:
        if not isinstance(node, h5py.Dataset):
            return
        tell()
        if node.maxshape[:2] != (None, None):
            source.copy(node, target, name=path)
            return
        made = target.create_dataset(
            path,
            shape=node.shape,
            maxshape=node.maxshape,
            chunks=node.chunks,
            dtype=node.dtype,
            fillvalue=node.fillvalue,
        )
        for name, value in node.attrs.items():
            made.attrs[name] = value
        if node.chunks[1] == 1 and node.ndim > 2:  # a frame is a chunk
            rest = (0,) * (node.ndim - 2)
            for place, cell in enumerate(cells):
                if place % 256 == 0:
                    tell()
                with contextlib.suppress(KeyError):
                    chunk = _read_chunk(node, (*cell, *rest))
                    made.id.write_direct_chunk((*cell, *rest), chunk)
            return
        for epoch in np.flatnonzero(stays.any(axis=1)):
            row = node[epoch]
            row[~stays[epoch][: len(row)]] = node.fillvalue
            made[epoch] = numbers[epoch] if path == f"{schema.BATCHES}/recorded" else row

    source.visititems(copy)
    state = source[schema.STATE][:]
    state[0] = len(cells)
    target[schema.STATE][:] = state
    return len(cells)


def _copy_file(source: str, target: str) -> None:
    """Copies a file, in no time where the file system can share blocks."""
    with contextlib.suppress(ImportError, OSError), open(source, "rb") as old:
        import fcntl

        with open(target, "xb") as new:
            fcntl.ioctl(new, _CLONE, old.fileno())
            return
    shutil.copyfile(source, target)


def _reading(path: str) -> h5py.File:
    """A file for reading, also one whose writer was killed."""
    try:
        return h5py.File(path, "r", locking=False)
    except OSError:
        return h5py.File(path, "r", libver="latest", swmr=True, locking=False)


def _read_chunk(dataset: h5py.Dataset, at: tuple[int, ...]) -> bytes:
    """A chunk's bytes; KeyError where none was written."""
    if dataset.id.get_chunk_info_by_coord(at).byte_offset is None:
        raise KeyError(at)
    data: bytes = dataset.id.read_direct_chunk(at)[1]
    return data


@dataclass
class _Pending:
    """A frame whose arrays are written and whose small values wait for the commit."""

    epoch: int
    batch: int
    fields: dict[str, float] = field(default_factory=dict)
    arrays: dict[str, Any] = field(default_factory=dict)


def _runs(frames: list[_Pending]) -> list[list[_Pending]]:
    """The frames in groups of one epoch each, batches ascending within a group."""
    runs: list[list[_Pending]] = []
    for frame in frames:
        if runs and runs[-1][-1].epoch == frame.epoch and runs[-1][-1].batch < frame.batch:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return runs


def _as_dtype(value: float, entry: Field) -> float:
    """The value as the field can hold it: what is not a number becomes the fill of an integer."""
    if entry.dtype.kind in "iu":
        return int(value) if np.isfinite(value) else int(entry.fill)
    return float(value)


class Sync:
    """Puts a file's data on the disk in a thread: a slow disk does not hold up the writing."""

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._busy = threading.Event()
        self._last = time.monotonic()
        threading.Thread(target=self._work, daemon=True).start()

    @property
    def due(self) -> bool:
        """Whether the last request is SYNC_SECONDS old."""
        return time.monotonic() - self._last > SYNC_SECONDS

    def request(self, descriptor: int) -> None:
        """Asks for it; while one is under way nothing is asked for twice."""
        self._last = time.monotonic()
        if not self._busy.is_set():
            self._busy.set()
            self._requests.put(os.dup(descriptor))

    def _work(self) -> None:
        while True:
            descriptor = self._requests.get()
            with contextlib.suppress(OSError):
                os.fsync(descriptor)
            with contextlib.suppress(OSError):
                os.close(descriptor)
            self._busy.clear()


class Inbox:
    """Messages from the pipe, read ahead by a thread so that reading and writing overlap."""

    def __init__(self, descriptor: int, depth: int = 3) -> None:
        self._file = os.fdopen(descriptor, "rb", buffering=0)
        self._messages: queue.Queue[wire.Message | Exception | None] = queue.Queue()
        self._free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        for _ in range(depth):
            self._free.put(bytearray())
        threading.Thread(target=self._read, daemon=True).start()

    def get(self, timeout: float) -> wire.Message | None:
        """The next message, None at the end; raises queue.Empty after `timeout` seconds."""
        message = self._messages.get(timeout=timeout)
        if isinstance(message, Exception):
            raise message
        return message

    def give_back(self, message: wire.Message) -> None:
        """Lets the message's buffer be used again."""
        self._free.put(message.buffer)

    def _read(self) -> None:
        while True:
            message: wire.Message | Exception | None
            try:
                message = wire.unpack(self._fill, self._free.get())
            except Exception as error:  # raised again where the message is taken
                message = error
            self._messages.put(message)
            if not isinstance(message, wire.Message):
                return

    def _fill(self, view: memoryview) -> bool:
        while view:
            count = self._file.readinto(view)
            if not count:
                return False
            view = view[count:]
        return True


_held: list[RecordingFile] = []


def serve(inbox: Inbox, answer: Callable[[dict[str, Any]], None], stopped: threading.Event) -> None:
    """Writes what arrives until DONE, the end of the pipe or the end of the training process.

    Args:
        inbox: The messages.
        answer: Called with each answer, a JSON-ready dict.
        stopped: Once it is set, the file is closed with what has arrived.
    """
    parent = os.getppid()
    file: RecordingFile | None = None
    due = time.monotonic()
    final: dict[str, Any] = {}
    while not stopped.is_set():
        wait = _PARENT_SECONDS
        if file is not None and file.dirty:
            wait = max(0.0, min(wait, due - time.monotonic()))
        try:
            message = inbox.get(timeout=wait)
        except queue.Empty:
            if os.getppid() != parent:  # it died, and a forked child holds its end of the pipe
                break
        else:
            if message is None or message.kind == wire.DONE:
                final = message.data if message is not None else {}
                break
            if message.kind == wire.OPEN:
                data = message.data
                file = RecordingFile(
                    data["path"],
                    data["overwrite"],
                    data["attributes"],
                    data["resume"],
                    data["durability"],
                )
                # Kept to the end: letting go of a file whose disk is full would make HDF5 close it,
                # which writes half of a closed file over a readable one.
                _held.append(file)
                answer({"ready": True, "opening": file.opening, "committed": file.committed})
            elif file is not None and message.kind == wire.LAYOUT:
                layout = wire.Layout.decode(message.data["layout"])
                file.set_layout(layout, message.data["batches"])
            elif file is not None and message.kind == wire.FLUSH:
                file.commit()
                file.sync()
                answer({"committed": file.committed, "flushed": message.data["number"]})
            elif file is not None and message.kind == wire.THIN:
                file.thin(message.data["keep"], lambda: answer({}))
                answer({"committed": file.committed})
            elif file is not None and message.kind == wire.PROBES:
                file.set_probes(tuple(message.data["shape"]), message.payload)
            elif file is not None:
                if not file.dirty:
                    due = time.monotonic() + COMMIT_SECONDS
                file.write(wire.FrameHeader.decode(message.data), message.payload)
            inbox.give_back(message)
        if file is not None and file.dirty and time.monotonic() >= due:
            file.commit()
            if file.must_sync:
                file.sync()
            file.check_place()
            answer({"committed": file.committed})
    if file is not None:
        file.close(final.get("dropped"), final.get("lost"))
        answer({"committed": file.committed, "closed": True})


def main() -> None:
    """Serves the messages on standard input; answers on standard output."""
    stopped = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    output = os.fdopen(os.dup(1), "w")

    def answer(data: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # nobody may be left to listen
            output.write(json.dumps(data) + "\n")
            output.flush()

    code = 0
    try:
        serve(Inbox(0), answer, stopped)
        if stopped.is_set():
            answer({"error": "the writer process was told to stop (SIGTERM)"})
    except Exception as error:
        answer({"error": describe(error)})
        code = 1
        for file in _held:
            file.abandon()
    # After a failed flush HDF5 crashes in its own clean-up at exit; what is committed is on its
    # way to the disk already, and there is nothing else to clean up.
    os._exit(code)


def describe(error: Exception) -> str:
    """An exception in one line; HDF5 hides the errno of a full disk in its text."""
    text = " ".join(str(error).split())
    reason = re.search(r"errno = \d+, error message = '([^']+)'", text)
    if reason is not None:
        return f"cannot write: {reason.group(1)}"
    if isinstance(error, BusyError):
        return "another process is recording into it"
    if isinstance(error, FileExistsError) or "file exists" in text.lower():
        return "the file exists"
    return f"{type(error).__name__}: {text[:300]}"


if __name__ == "__main__":
    main()
