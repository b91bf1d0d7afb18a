"""What a recording has of every batch: the frames of a layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from replay import schema
from replay.formatting import clean_line, format_count, format_module, format_shape
from replay.recording.inputs import Inputs, read_inputs
from replay.recording.notebook_views import show
from replay.recording.small_values import Mask, MendedRanges, read_checked_block
from replay.recording.snapshot import Snapshot, cells_of, parse_key
from replay.schema import (
    Float16Array,
    Float32Array,
    Layer,
    SelectionError,
    dataset_path,
)


class Series:
    """What one layer put out, frame by frame: `series[epoch, batch]` -> float16 (C, H, W).

    Args:
        snapshot: The frames that there are.
        layer: The layer.
        run_series: Of a layer's frames of a fixed image, those of the batches.

    Attributes:
        layer: Name, module, frame shape and what its axes are.
        run_series: The layer's frames of the batches; the series itself where it is that.
        labels: What each map is called; empty for its number.
        in_colour: Whether the frames are pictures in colours; see `ColourSeries`.
        unit: What a value of 1 stands for; 0 where that differs from frame to frame.
        tile: What one of the maps is called.
        mended_ranges: The ranges of frames for which the file has damaged ones.
    """

    labels: tuple[str, ...] = ()
    in_colour = False
    unit: Any = 1.0
    tile = "map"

    def __init__(self, snapshot: Snapshot, layer: Layer, run_series: Series | None = None) -> None:
        self._snapshot = snapshot
        self.layer, self.run_series = layer, run_series or self
        self._present: npt.NDArray[np.bool_] | None = None
        self._vouched: Mask | None = None
        self._has_sums = False
        self._sums: dict[str, npt.NDArray[np.uint32] | None] = {}
        self.mended_ranges = MendedRanges()
        self._read_at = snapshot.edition  # of the frames when those were read

    def __repr__(self) -> str:
        module, maps = format_module(self.layer.module), format_shape(self.layer.shape)
        what = f"{module}, {maps}" if module else maps
        of = "" if self.probe_number is None else f", fixed image {self.probe_number}"
        kind = (self.layer.kind or "layer").capitalize()
        return clean_line(
            f"<{kind} {self.name!r} of {str(self.path)!r}{of}: {what}; "
            f"{format_count(int(self.present.sum()), 'frame')}, [epoch, batch] reads one>"
        )

    def _repr_html_(self) -> str | None:
        return show(self)

    @property
    def name(self) -> str:
        """The layer's name, e.g. `layer1.0.conv1`."""
        return self.layer.name

    @property
    def path(self) -> Path:
        """The recording's file."""
        return self._snapshot.path

    @property
    def probe_number(self) -> int | None:
        """The number of the fixed image that the frames belong to; None for the batches' own."""
        return self._snapshot.probe_number

    @property
    def inputs(self) -> Inputs:
        """The images that the frames belong to."""
        return read_inputs(self._snapshot)

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Where the layer has a frame, bool (epoch, batch).

        A layer that put out nothing in a batch, or something of another shape, has none there.
        In a file without checksums every whole frame is taken to be there.
        """
        if self._present is None or self._read_at != self._snapshot.edition:
            self._forget()
            self._present = self._snapshot.order > 0
            sums = self.checksums()
            self._has_sums = sums is not None
            if sums is not None:
                self._present &= sums > 0
        return self._present

    @property
    def vouched(self) -> Mask:
        """Where a value beside a frame is damaged if it has no checksum, bool (epoch, batch)."""
        present = self.present
        if self._vouched is None:
            known = self._has_sums  # else it is not known where there is a frame
            self._vouched = present & self._snapshot.vouched.mask & known
        return self._vouched

    @property
    def frames(self) -> list[tuple[int, int]]:
        """(epoch, batch) of every frame of the layer, in the order of epochs and batches."""
        return cells_of(self.present)

    @property
    def shape(self) -> tuple[int, ...]:
        """(epoch, batch, C, H, W); what lies in between was not necessarily recorded."""
        return (*self._snapshot.shape, *self.layer.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of a frame, which is always float16."""
        return schema.FRAME_DTYPE

    def __len__(self) -> int:
        return self._snapshot.shape[0]

    def __getitem__(self, key: tuple[int, int]) -> Float16Array:
        """Returns one frame; negative numbers count from the last recorded epoch and batch.

        Returns:
            float16 (C, H, W), or the shape that the layer put out. All NaN where this layer put
            out nothing in that batch.

        Raises:
            SelectionError: Nothing was recorded at that epoch and batch.
            DamagedError: Its checksum is wrong, or it cannot be read.
        """
        return self._read_maps(*self._snapshot.locate(*parse_key(key)))

    def _read_maps(self, epoch: int, batch: int) -> Float16Array:
        return self._read(schema.MAPS, schema.CHECKSUMS, epoch, batch)

    def bar(self, steps: int) -> npt.NDArray[np.uint8] | None:
        """Returns the colours of a colour bar, uint8 (steps, 3); None for those of the colormap."""
        return None

    def remark(self, cell: tuple[int, int]) -> str:
        """Returns what is to be said of one frame, in words; empty where nothing is."""
        return ""

    def kernels(self, epoch: int, batch: int) -> Float16Array:
        """Returns the kernels that made a frame, float16 (C_out, C_in/groups, kH, kW).

        All NaN where they were not recorded.

        Raises:
            SelectionError: The layer has none in this file, or nothing was recorded there.
            DamagedError: Their checksum is wrong, or they cannot be read.
        """
        if self.layer.kernel is None:
            raise SelectionError(
                f"no kernels of {self.name!r} in {self.path}: they are kept for "
                "convolutions whose kernels are no larger than their maps"
            )
        epoch, batch = self._snapshot.locate(epoch, batch)
        return self._read(schema.KERNELS, schema.KERNEL_CHECKSUMS, epoch, batch)

    @property
    def has_ranges(self) -> bool:
        """Whether the file keeps the layer's ranges, which a foreign one may not."""
        return self._snapshot.file.exists(self._dataset(schema.RANGES), 4)

    def unfinite(self) -> npt.NDArray[np.bool_] | None:
        """Returns where a value of any layer is NaN or infinite, bool (epoch, batch).

        None where the file does not say: of a fixed image, what is no map, or without the counts.
        """
        own = self.probe_number is None and not self.layer.kind
        return self._snapshot.fields.unfinite() if own else None

    def ranges(self, epochs: range | None = None, batches: range | None = None) -> Float32Array:
        """Returns smallest and largest finite value of every map, float32 (epoch, batch, C, 2).

        NaN where there is no frame. Where a range is damaged, that of the frame itself.

        Args:
            epochs: Those that are read, one after the other; all by default.
            batches: Those that are read of each, likewise.

        Raises:
            FileError: They cannot be read.
        """
        snapshot = self._snapshot
        rows = range(snapshot.shape[0]) if epochs is None else epochs
        columns = range(snapshot.shape[1]) if batches is None else batches
        path, shape = self._dataset(schema.RANGES), (self.layer.channels, 2)
        part = slice(rows.start, rows.stop), slice(columns.start, columns.stop)
        there, vouched = self.present[part], self.vouched[part]
        ranges, damaged = read_checked_block(snapshot.file, path, shape, rows, columns, vouched)
        first = rows.start, columns.start
        if damaged is not None:
            self.mended_ranges.mend(ranges, damaged, there, first, self.layer, self._read_maps)
        ranges[~there] = np.nan
        return ranges

    @property
    def image_numbers(self) -> npt.NDArray[np.uint32]:
        """A number for the image that each frame belongs to, uint32 (epoch, batch).

        Equal numbers are those of equal images; 0 where nothing is known of the image.
        """
        snapshot = self._snapshot
        if snapshot.probe_number is not None:
            return (snapshot.order > 0).astype(np.uint32)
        sums = snapshot.fields.get("input_checksum")
        return np.zeros(snapshot.shape, np.uint32) if sums is None else sums.astype(np.uint32)

    def checksums(self, group: str = schema.CHECKSUMS) -> npt.NDArray[np.uint32] | None:
        """Returns the CRC-32 of every frame, uint32 (epoch, batch); None in a file without them.

        Args:
            group: `checksums` for the maps, `kernel_checksums` for the kernels.

        Raises:
            FileError: They cannot be read.
        """
        snapshot = self._snapshot
        sums = snapshot.file.read_numbers(self._dataset(group), 2, schema.CHECKSUM_DTYPE)
        if sums is None:
            return None
        fitted = np.zeros(snapshot.shape, schema.CHECKSUM_DTYPE)
        rows, columns = np.minimum(fitted.shape, sums.shape)
        fitted[:rows, :columns] = sums[:rows, :columns]
        return fitted

    def _forget(self) -> None:
        """Forgets what was read before the recording was refreshed."""
        self._present, self._vouched, self._sums = None, None, {}
        self._read_at = self._snapshot.edition
        self.mended_ranges = MendedRanges()

    def _read(self, group: str, sums: str, epoch: int, batch: int) -> Float16Array:
        if self._read_at != self._snapshot.edition:
            self._forget()
        if sums not in self._sums:
            self._sums[sums] = self.checksums(sums)
        checksum = None if (known := self._sums[sums]) is None else int(known[epoch, batch])
        if checksum == 0:  # nothing was recorded; what a loss of power left there is no frame
            shape = self.layer.shape if group == schema.MAPS else self.layer.kernel
            return np.full(shape or (), np.nan, schema.FRAME_DTYPE)
        what = f"{self.name} {self.layer.kind or group}"
        return self._snapshot.read_frame(self._dataset(group), epoch, batch, checksum or 0, what)

    def _dataset(self, group: str) -> str:
        return self.layer.group + dataset_path(group, self.name)
