"""The recording while it is written: frames in, HDF5 out. Imports no torch.

Every frame goes through two steps: its arrays are written as they arrive, and about twice a second
all that arrived is committed (flush, raise the counter, flush). A reader that believes the counter
never sees a frame that is not whole.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from record.locking.lock import Lock
from record.protocol import messages
from record.protocol.layout import BatchLayout
from record.writer.cells import Cells, Say
from record.writer.copies import (
    copy_path,
    copy_whole_file,
    create_copy,
    keep_epochs,
    open_h5,
    put_in_place,
    try_to_remove,
    write_copy,
)
from record.writer.datasets import OpenDatasets
from record.writer.fsync import BackgroundFsync, try_to_sync
from record.writer.ownership import create_file
from record.writer.pending import Checksums, PendingFrame, compute_checksums, group_in_rows
from record.writer.structure import FileStructure
from record.writer.summaries import FrameSummarizer, FrameSummary
from record.writer.unfinished_start import is_unfinished_start
from replay import schema

_LARGE = 4 << 20  # bytes of a frame that is summarized while it is written


class RecordingFile:
    """The recording while it is written: `write` frames, `commit` them, `close`.

    Between two layouts the file is in SWMR mode, in which HDF5 keeps it readable at any moment but
    takes no new datasets. A late layer or field closes it, adds what it needs, and goes on.

    Args:
        path: The recording; what a link leads to is written, not the link.
        overwrite: Whether an existing file is replaced.
        attributes: The root attributes.
        resume: The epoch with which an existing recording goes on; None begins a recording.
        durability: `fsync` puts the file's data on the disk now and then, `flush` does not.
        on_moved: See `Say`.

    Raises:
        BusyError: Another process writes the recording.
        OSError: The file exists, or cannot be created or gone on with.

    Attributes:
        acknowledged: The number of frames committed since the start, also those taken out again.
        cells: Where frames have their places.
    """

    def __init__(
        self,
        path: str,
        overwrite: bool,
        attributes: dict[str, Any],
        resume: int | None = None,
        durability: str = "fsync",
        on_moved: Say = lambda epoch, batch, row, reason: None,
    ) -> None:
        self._path = os.path.realpath(path)
        self._state = np.zeros(4, np.int64)
        self._structure = FileStructure()
        self._layout = BatchLayout((), ())
        self._summarizer = FrameSummarizer(self._layout)
        self._last_batches: dict[int, int] = {}  # the latest batch written of each epoch
        self._pending: list[PendingFrame] = []
        self._written = 0  # frames
        self.acknowledged = 0
        self.cells = Cells(np.zeros((0, 0), np.int64), on_moved, self._structure.fits)
        self._fsync = BackgroundFsync() if durability == "fsync" else None
        self._epoch: int | None = None  # of the last frame
        self._helpers = ThreadPoolExecutor(2, "mapreel-helper")  # for large frames
        self._copy: str | None = None  # the copy that is being changed
        self._created: str | None = None  # what keeps a new name until it can be read
        self._lock = Lock(self._path)
        try:
            if resume is None:
                self._create_file(overwrite, attributes)
            else:
                self._resume_file(resume, attributes)
            self._enter_swmr_mode()
        except BaseException:
            self._undo_start()
            raise

    def _create_file(self, overwrite: bool, attributes: dict[str, Any]) -> None:
        """Makes an empty recording, beside what it replaces, or what keeps its name until then."""
        overwrite |= self._lock.took_over and is_unfinished_start(self._path)
        if not overwrite or not os.path.lexists(self._path):
            create_file(self._path)
            self._created = self._path
        self._copy = create_copy(self._path)
        self._file = open_h5(self._copy, "w")
        self._structure.create(self._file, attributes)

    def _resume_file(self, resume: int, attributes: dict[str, Any]) -> None:
        """Goes on with a file: the frames of the epochs before `resume` stay."""
        keep_epochs(self._path, resume)
        self._file = self._open_copy()
        self._structure.resume(self._file, resume, attributes["created"])
        self._state[:] = self._file[schema.STATE][:4]
        self._state[3] = 0
        self._file[schema.STATE][:] = schema.encode_state(self._state)
        self._written = int(self._state[0])
        self.cells.take(self._file[f"{schema.BATCHES}/recorded"][:])

    def _undo_start(self) -> None:
        """Leaves nothing behind of a start that failed, and what was there before as it was.

        The file is not closed: where the disk is full HDF5 may crash in that.
        """
        for path in filter(None, (self._created, self._copy)):
            try_to_remove(path)
        self._lock.release()

    def renew_lock(self) -> None:
        """Shows others, now and then, that this process still writes the file."""
        self._lock.renew()

    @property
    def opening(self) -> dict[str, Any]:
        """What the file holds at the start: `frames`, the last one's `step` and `epoch`.

        And `batches`, the number of batches in an epoch, if the steps say that each had as many,
        else 0: the last ones of an epoch may not have been recorded.
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
        """The number of frames that a reader may see."""
        return int(self._state[0])

    @property
    def dirty(self) -> bool:
        """Whether frames have been written that are not yet committed."""
        return bool(self._pending)

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the values that are kept of each batch."""
        return tuple(self._structure.fields)

    def set_layout(
        self, layout: BatchLayout, batches: int | None, facts: dict[str, Any] | None = None
    ) -> None:
        """Sets what the frames consist of from now on; earlier layers stay.

        Args:
            layout: The layers and the image of each frame.
            batches: The number of batches in an epoch, if it is known.
            facts: What the run's description did not know yet when the file was made.
        """
        self.commit()
        known = {(layer.group, layer.name) for layer in self._layout.layers}
        self._leave_swmr_mode()
        self._structure.complete_meta(facts or {})
        self._structure.grow(1, self._structure.expect(batches))
        self._structure.add_layout(layout, known)
        self._layout = layout
        self._summarizer = FrameSummarizer(layout)
        self._enter_swmr_mode()

    def set_probes(
        self, shape: tuple[int, ...], payload: memoryview, labels: Sequence[int | None] = ()
    ) -> None:
        """Takes the fixed images; they enter the file with the next layout.

        Args:
            shape: (N, C, H, W).
            payload: Their values, float16.
            labels: The class of each, None where it is not known.
        """
        images = np.frombuffer(payload, schema.FRAME_DTYPE).reshape(shape)
        self._structure.probes = [image.copy() for image in images]
        self._structure.labels = labels

    def write(
        self, headers: Sequence[messages.FrameHeader], frames: npt.NDArray[np.float16]
    ) -> None:
        """Takes some frames; they count once they are committed.

        Args:
            headers: Where each belongs and what was logged with it.
            frames: The values of the layout, float16 (len(headers), size), rows contiguous.

        Raises:
            ValueError: The frames do not fit the layout.
        """
        if frames.shape != (len(headers), self._layout.size):
            raise ValueError(f"expected frames of {self._layout.size} values, found {frames.shape}")
        headers, frames = self.cells.place_all(headers, frames)
        missing = [header.missing for header in headers]
        if frames.nbytes < _LARGE * len(headers):
            summaries = self._summarizer.summarize(frames, missing)
            for header, frame, summary in zip(headers, frames, summaries, strict=True):
                values = frame.view(np.uint8).data
                self._write_arrays(header, values)
                checksums = compute_checksums(header, values, self._layout)
                self._add_pending(header, summary, checksums)
            return
        for number, header in enumerate(headers):
            values = frames[number].view(np.uint8).data
            one = slice(number, number + 1)
            summed = self._helpers.submit(self._summarizer.summarize, frames[one], missing[one])
            checked = self._helpers.submit(compute_checksums, header, values, self._layout)
            self._write_arrays(header, values)
            self._add_pending(header, summed.result()[0], checked.result())

    def _write_arrays(self, header: messages.FrameHeader, values: memoryview) -> None:
        """Writes the arrays of a frame, and adds the fields that it is the first to have."""
        late = [name for name in header.values if name not in self._structure.fields]
        if late:
            self.commit()
            self._leave_swmr_mode()
            self._structure.add_fields([schema.custom_field(name) for name in late])
            self._enter_swmr_mode()
        if self._structure.grow(header.epoch + 1, header.batch + 1):
            self._datasets.refresh_extents()
        if self._epoch is not None and header.epoch != self._epoch:
            self.commit()
            self.sync()
        self._epoch = header.epoch
        self._datasets.write_arrays(header, values)

    def _add_pending(
        self, header: messages.FrameHeader, summary: FrameSummary, checksums: Checksums
    ) -> None:
        """Keeps what is written beside a frame when it is committed."""
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
        if checksums.image is not None:
            fields["input_checksum"] = checksums.image
        epoch, batch = header.epoch, header.batch
        is_last = batch > self._last_batches.get(epoch, -1)
        if is_last:
            self._last_batches[epoch] = batch
        self._pending.append(PendingFrame(epoch, batch, fields, summary.ranges, checksums, is_last))
        self._state[1:3] = header.dropped, header.lost + self.cells.refused

    def commit(self) -> None:
        """Makes every frame written so far visible to readers, all or nothing."""
        if not self._pending:
            return
        for group in group_in_rows(self._pending):
            self._datasets.write_rows(group, self._structure.fields)
        self._file.flush()
        self._state[0] += len(self._pending)
        self._datasets.write_state(schema.encode_state(self._state))
        self._file.flush()
        self.acknowledged += len(self._pending)
        self._pending.clear()

    def check_place(self) -> None:
        """Makes sure that what is written still goes to the file of that name.

        Raises:
            OSError: Somebody has removed it, or put another in its place.
        """
        ours = os.fstat(self._file.id.get_vfd_handle())
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            raise OSError("the file was removed by another program") from None
        if (ours.st_dev, ours.st_ino) != (found.st_dev, found.st_ino):
            raise OSError(messages.REPLACED)

    def sync(self) -> None:
        """Has what is committed put on the disk while writing goes on, if that was asked for."""
        if self._fsync is not None:
            self._fsync.request(self._file.id.get_vfd_handle())

    @property
    def must_sync(self) -> bool:
        """Whether `sync` is due, because it was last called long ago."""
        return self._fsync is not None and self._fsync.due

    def thin(self, keep: int, on_progress: Callable[[], None] = lambda: None) -> None:
        """Takes frames out of the file: of every `keep` only the first stays.

        HDF5 cannot give space back in a file that is being read, so the others are copied into a
        new file, which then takes this one's place. A kill at any moment leaves one or the other.

        Args:
            keep: Of how many frames the first stays.
            on_progress: Called now and then: the copying of a large file takes its time.
        """
        self.commit()
        recorded = self._file[f"{schema.BATCHES}/recorded"][:]
        stays = (recorded > 0) & ((recorded - 1) % keep == 0)
        committed = write_copy(self._file, self._path, stays, on_progress)
        self._close_file()
        put_in_place(copy_path(self._path), self._path)
        self._file = self._structure.file = self._open_copy()
        self._state[0] = self._written = committed
        self.cells.take(self._file[f"{schema.BATCHES}/recorded"][:])
        self._enter_swmr_mode()

    def close(self, dropped: int | None = None, lost: int | None = None) -> None:
        """Commits, cuts the datasets to what was recorded and closes the file.

        Args:
            dropped: The number of frames that were given up because the queue was full.
            lost: The number of frames that were lost for any other reason.
        """
        self.commit()
        structure = self._structure
        if structure.batches is None and structure.rows:
            seen = np.flatnonzero((self._file[f"{schema.BATCHES}/recorded"][:] > 0).any(axis=0))
            structure.resize(structure.rows, int(seen[-1]) + 1 if seen.size else 1)
        self._file.flush()
        if dropped is not None and lost is not None:
            self._state[1:3] = dropped, lost + self.cells.refused
        self._state[3] = 1
        self._file[schema.STATE][:] = schema.encode_state(self._state)
        self._file.flush()
        try_to_sync(self._path)  # HDF5 itself never asks the system for that
        self._file.close()
        try_to_sync(self._path)  # what HDF5 wrote while it closed the file
        self._lock.release()

    def abandon(self) -> None:
        """Leaves the file readable after a failure while it was out of SWMR mode."""
        self._lock.release()
        if not self._file or self._file.swmr_mode:
            return
        with contextlib.suppress(Exception):
            self._file.close()
        if self._copy is not None:
            try_to_remove(self._copy)

    # SWMR mode

    def _enter_swmr_mode(self) -> None:
        """Begins to write frames: from here on the file is readable at any moment."""
        self._datasets = OpenDatasets(self._file, self._layout, self._summarizer.spans)
        self._file.swmr_mode = True
        put_in_place(self._copy, self._path, synced=self._fsync is not None)
        self._copy = None

    def _leave_swmr_mode(self) -> None:
        """Leaves SWMR mode, to change what HDF5 cannot change in it.

        A kill while that is done would cost the file. So it is done to a copy, which takes the
        file's place in `_enter_swmr_mode`; a file too large to be copied is changed as it is.
        """
        self._close_file()
        self._file = self._structure.file = self._open_copy()

    def _close_file(self) -> None:
        """Closes the file; what it holds is on the disk before it says that it was closed."""
        self._datasets.close()
        if self._fsync is not None:
            try_to_sync(self._path)
        self._file.close()

    def _open_copy(self) -> h5py.File:
        """Opens a copy of the file for changes; where there is no room for two, the file itself."""
        copy = copy_path(self._path)
        self._copy = copy if copy_whole_file(self._path, copy) else None
        return open_h5(self._copy or self._path, "r+")
