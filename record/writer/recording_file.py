"""The recording while it is written: frames in, HDF5 out. Imports no torch.

Every frame goes through two steps: its arrays are written as they arrive, and about twice a second
all that arrived is committed (flush, raise the counter, flush). A reader that believes the counter
never sees a frame that is not whole.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from record.locking.lock import Lock
from record.protocol import messages
from record.protocol.layout import GROWTH, BatchLayout, small_chunk
from record.writer.copies import beside, copy_beside, copy_file, keep_epochs, open_h5
from record.writer.datasets import ChunkWriter, LayerDatasets, RowWriter, _numbers
from record.writer.fsync import BackgroundFsync
from record.writer.pending import Checksums, Pending, check, in_rows
from record.writer.summaries import Summaries, Summary
from replay import schema
from replay.schema import Field, Layer

_LARGE = 4 << 20  # bytes of a frame whose values are looked at while it is written


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
        self._path = os.path.realpath(path)  # what a link leads to is written, not the link
        self._state = np.zeros(4, np.int64)
        self._rows, self._columns = 0, 0  # the extent of every dataset
        self._expected: int | None = None  # batches in an epoch, where it is known
        self._layout = BatchLayout((), ())
        self._summaries = Summaries(self._layout)
        self._logged: dict[str, RowWriter] = {}  # where what was logged goes
        self._images: dict[int, ChunkWriter] = {}  # where each of the layout's images goes
        self._parts: list[LayerDatasets] | None = None  # and each layer's values
        self._last: dict[int, int] = {}  # of each epoch, the latest batch that was written
        self._pending: list[Pending] = []
        self._written = 0
        self._fields: dict[str, Field] = {}
        self._probes: list[npt.NDArray[np.float16]] = []  # fixed images
        self._sync = BackgroundFsync() if durability == "fsync" else None
        self._epoch: int | None = None  # of the last frame
        self._aside = ThreadPoolExecutor(2, "mapreel-aside")  # for large frames
        self._beside: str | None = None  # the copy that is being changed
        self._lock = Lock(self._path)
        self._made: str | None = None  # the file that did not exist before
        try:
            if resume is None:
                self._create_file(overwrite, attributes)
            else:
                self._reopen_file(resume, attributes)
            self._begin()
        except BaseException:
            self._take_back()
            raise

    def _create_file(self, overwrite: bool, attributes: dict[str, Any]) -> None:
        """Makes an empty recording, beside the file that it is to replace."""
        if overwrite and os.path.lexists(self._path):
            self._beside = beside(self._path)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._beside)
        target = self._beside or self._path
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        self._made = target
        self._file = open_h5(target, "w")
        for name, value in attributes.items():
            self._file.attrs[name] = value
        state = self._file.create_dataset(
            schema.STATE, shape=(4,), maxshape=(4,), chunks=(4,), dtype="<i8", fillvalue=0
        )
        state.attrs["fields"] = list(schema.STATE_FIELDS)
        self._open_fields(schema.FIELDS)

    def _take_back(self) -> None:
        """Leaves nothing behind of a start that failed, and what was there before as it was.

        The file is not closed: where the disk is full HDF5 may crash in that.
        """
        for path in (self._made, self._beside):
            if path is not None:
                with contextlib.suppress(OSError):
                    os.unlink(path)
        self._lock.release()

    def _reopen_file(self, resume: int, attributes: dict[str, Any]) -> None:
        """Goes on with a file: the frames of the epochs before `resume` stay."""
        keep_epochs(self._path, resume)
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

    def renew(self) -> None:
        """Shows others, now and then, that this process still writes the file."""
        self._lock.renew()

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

    def set_layout(
        self, layout: BatchLayout, batches: int | None, facts: dict[str, Any] | None = None
    ) -> None:
        """What the frames consist of from now on; earlier layers stay.

        Args:
            layout: The layers and the image of each frame.
            batches: Batches in an epoch, if it is known.
            facts: What the run's description did not know yet when the file was made.
        """
        self.commit()
        known = {(layer.group, layer.name) for layer in self._layout.layers}
        self._expected = batches
        self._end()
        self._fill_in(facts or {})
        self._grow(1, batches or GROWTH)
        for place, layer in enumerate(layout.layers):
            if (layer.group, layer.name) not in known:
                self._add_layer(layer, place)
            self._keep_note(layer)
        for place, shape in enumerate(layout.images):
            path = schema.inputs_path(shape if place else None)
            if path not in self._file:
                self._describe_image(self._create(path, shape, schema.FRAME_DTYPE, np.nan))
        for number, image in enumerate(self._probes):
            path = f"{schema.PROBE}/{number}/{schema.PROBE_INPUT}"
            if path not in self._file:
                self._describe_image(self._file.create_dataset(path, data=image))
        self._layout = layout
        self._summaries = Summaries(layout)
        self._begin()

    def set_probes(self, shape: tuple[int, ...], payload: memoryview) -> None:
        """Takes the fixed images; they enter the file with the next layout.

        Args:
            shape: (N, C, H, W).
            payload: Their values, float16.
        """
        images = np.frombuffer(payload, schema.FRAME_DTYPE).reshape(shape)
        self._probes = [image.copy() for image in images]

    def write(
        self, headers: Sequence[messages.FrameHeader], frames: npt.NDArray[np.float16]
    ) -> None:
        """Takes some frames; they count once they are committed.

        Args:
            headers: Where each belongs and what was logged with it.
            frames: The values of the layout, float16 (len(headers), size), rows contiguous.
        """
        if frames.shape != (len(headers), self._layout.size):
            raise ValueError(f"expected frames of {self._layout.size} values, found {frames.shape}")
        missing = [header.missing for header in headers]
        if frames.nbytes < _LARGE:
            summaries = self._summaries.of(frames, missing)
            for header, frame, summary in zip(headers, frames, summaries, strict=True):
                values = frame.view(np.uint8).data
                self._write_frame(header, values)
                self._note(header, summary, check(header, values, self._layout))
            return
        for number, header in enumerate(headers):
            values = frames[number].view(np.uint8).data
            one = slice(number, number + 1)
            summed = self._aside.submit(self._summaries.of, frames[one], missing[one])
            checked = self._aside.submit(check, header, values, self._layout)
            self._write_frame(header, values)
            self._note(header, summed.result()[0], checked.result())

    def _write_frame(self, header: messages.FrameHeader, values: memoryview) -> None:
        late = [name for name in header.values if name not in self._fields]
        if late:
            self.commit()
            self._end()
            self._open_fields([schema.custom_field(name) for name in late])
            self._begin()
        epoch, batch = header.epoch, header.batch
        self._grow(epoch + 1, batch + 1)
        if self._epoch is not None and epoch != self._epoch:
            self.commit()
            self.sync()
        self._epoch = epoch

        if header.image is not None:
            self._image(header.image).write(epoch, batch, values)
        for part in self._places():
            if part.place not in header.missing:
                part.maps.write(epoch, batch, values)
                if part.kernel is not None:
                    part.kernel.write(epoch, batch, values)

    def _note(self, header: messages.FrameHeader, summary: Summary, checked: Checksums) -> None:
        """Keeps what is written beside the frame when it is committed."""
        self._written += 1
        fields: dict[str, float] = {
            **header.values,
            "recorded": self._written,
            "step": header.step,
            "time": header.time,
            "nan": summary.nan,
            "inf": summary.inf,
            "missing": header.absent,
        }
        if checked.image is not None:
            fields["input_checksum"] = checked.image
        epoch, batch = header.epoch, header.batch
        is_last = batch > self._last.get(epoch, -1)
        if is_last:
            self._last[epoch] = batch
        self._pending.append(Pending(epoch, batch, fields, summary.ranges, checked, is_last))
        self._state[1:3] = header.dropped, header.lost

    def commit(self) -> None:
        """Makes every frame written so far visible to readers, all or nothing."""
        if not self._pending:
            return
        for run in in_rows(self._pending):
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
        committed = copy_beside(self._file, self._path, stays, tell)
        self._forget()
        self._file.close()
        os.replace(beside(self._path), self._path)
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

    def _forget(self) -> None:
        """Lets go of the file's datasets."""
        self._logged, self._images, self._parts = {}, {}, None

    def _begin(self) -> None:
        """Begins to write frames: from here on the file is readable at any moment."""
        self._forget()
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
        self._forget()
        self._file.close()
        self._file = self._open_copy()

    def _open_copy(self) -> h5py.File:
        copy = beside(self._path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(copy)
        self._beside = None
        try:
            copy_file(self._path, copy)
            self._beside = copy
        except OSError:  # no room for two
            with contextlib.suppress(OSError):
                os.unlink(copy)
        target = self._beside or self._path
        return open_h5(target, "r+")

    def abandon(self) -> None:
        """Leaves the file readable after a failure between `_end` and `_begin`."""
        self._lock.release()
        copy = self._beside
        if not self._file or self._file.swmr_mode:
            return
        with contextlib.suppress(Exception):
            self._file.close()
        if copy is not None:
            with contextlib.suppress(OSError):
                os.unlink(copy)

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
        self._create(path, cell, dtype, fill, small_chunk(cell_bytes, self._expected))

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

    def _fill_in(self, facts: dict[str, Any]) -> None:
        """Completes the run's description where it is empty."""
        meta = schema.decode_meta(self._file.attrs["meta"])
        news = {name: value for name, value in facts.items() if meta.get(name) is None}
        if news:
            self._file.attrs["meta"] = schema.encode_meta({**meta, **news})

    def _keep_note(self, layer: Layer) -> None:
        """Writes what is to be known of a layer, also where that turned up later than the layer."""
        maps = self._file[f"{layer.group}{schema.MAPS}/{schema.encode_name(layer.name)}"]
        note = _fit(layer.note)
        if note and maps.attrs.get("note") != note:
            maps.attrs["note"] = note

    def _create_layer(self, layer: Layer, place: int) -> None:
        def path(kind: str) -> str:
            return f"{layer.group}{kind}/{schema.encode_name(layer.name)}"

        maps = self._create(path(schema.MAPS), layer.shape, schema.FRAME_DTYPE, np.nan)
        maps.attrs["order"] = place
        maps.attrs["module"] = _fit(layer.module)
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
            columns = max(columns, self._expected or -(-columns // GROWTH) * GROWTH)
        self._resize(max(rows, self._rows), max(columns, self._columns))

    def _resize(self, rows: int, columns: int) -> None:
        def resize(_: str, node: h5py.Group | h5py.Dataset) -> None:
            if isinstance(node, h5py.Dataset) and node.maxshape[:2] == (None, None):
                node.resize((rows, columns, *node.shape[2:]))

        self._file.visititems(resize)
        self._rows, self._columns = rows, columns
        layers = itertools.chain.from_iterable(part.small() for part in self._parts or ())
        for small in (*self._logged.values(), *layers):
            small.notice_size()

    # Values

    def _field(self, name: str) -> RowWriter:
        """Where a value that was logged goes."""
        field = self._logged.get(name)
        if field is None:
            path = f"{schema.BATCHES}/{schema.encode_name(name)}"
            field = self._logged[name] = RowWriter(self._file[path])
        return field

    def _image(self, place: int) -> ChunkWriter:
        """Where an image of the layout goes."""
        chunk = self._images.get(place)
        if chunk is None:
            layout = self._layout
            path = schema.inputs_path(layout.images[place] if place else None)
            chunk = ChunkWriter(self._file[path], layout.image_slots[place])
            self._images[place] = chunk
        return chunk

    def _places(self) -> list[LayerDatasets]:
        """Where the values of each layer of the layout go."""
        if self._parts is None:
            layout = self._layout
            self._parts = []
            for place, layer in enumerate(layout.layers):
                group, link = layer.group, schema.encode_name(layer.name)
                maps = self._file[f"{group}{schema.MAPS}/{link}"]
                kernel = layout.kernel_slots[place]
                part = LayerDatasets(
                    place,
                    self._summaries.spans[place],
                    ChunkWriter(maps, layout.map_slots[place]),
                    RowWriter(self._file[f"{group}{schema.RANGES}/{link}"]),
                    RowWriter(self._file[f"{group}{schema.CHECKSUMS}/{link}"]),
                )
                if kernel is not None:
                    part.kernel = ChunkWriter(self._file[f"{group}{schema.KERNELS}/{link}"], kernel)
                    sums = self._file[f"{group}{schema.KERNEL_CHECKSUMS}/{link}"]
                    part.kernel_checksums = RowWriter(sums)
                self._parts.append(part)
        return self._parts

    def _write_small(self, run: list[Pending]) -> None:
        """Writes the per-batch values of frames that follow each other within one epoch."""
        epoch, first = run[0].epoch, run[0].batch
        count = run[-1].batch - first + 1
        places = slice(None) if count == len(run) else [frame.batch - first for frame in run]

        def put(small: RowWriter, values: npt.NDArray[Any], fill: float) -> None:
            if count != len(run):
                block = np.full((count, *values.shape[1:]), fill, small.dtype)
                block[places] = values
                values = block
            small.write(epoch, first, values)

        for name, entry in self._fields.items():
            values = np.array([frame.fields.get(name, entry.fill) for frame in run], np.float64)
            if entry.dtype.kind in "iu":  # what is not a number becomes the fill
                values[~np.isfinite(values)] = entry.fill
            put(self._field(name), values.astype(entry.dtype), entry.fill)
        ranges = np.stack([frame.ranges for frame in run])
        for part in self._places():
            found = [frame.checksums.maps[part.place] for frame in run]
            if all(checksum is None for checksum in found):
                continue
            put(part.ranges, ranges[:, slice(*part.span)], np.nan)
            put(part.checksums, _numbers(found), 0)
            if part.kernel_checksums is not None:
                found = [frame.checksums.kernels[part.place] for frame in run]
                put(part.kernel_checksums, _numbers(found), 0)


def _fit(text: str) -> str:
    """A text as HDF5 takes it: without zeros, and in UTF-8."""
    return text.replace("\0", "?").encode("utf-8", "replace").decode("utf-8")
