"""Frames that are stored times a power of two: in their true values, or of one power for a run.

A gradient may be too small for float16, so that a file keeps an exponent beside each frame.
"""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from replay import schema
from replay.formatting import clean_line, format_count, format_shape
from replay.recording.notebook_views import show
from replay.recording.series import Series
from replay.recording.small_values import read_checked
from replay.recording.snapshot import Snapshot, parse_key
from replay.schema import Cell, DamagedError, Float16Array, Float32Array, Layer, dataset_path

LARGEST_EXPONENT = 200  # float32 ends at 2 ** 128, and at 2 ** -149 on the other side
_DAMAGED = 1 << 20  # stands for an exponent whose checksum is wrong
_MOST = 65_504  # of float16


class ScaledFrames:
    """A layer's gradients, or weights: `frames[epoch, batch]` -> float32, in their true values.

    Args:
        snapshot: The frames that there are.
        layer: The layer.

    Attributes:
        layer: Name, module, frame shape, and what was differentiated.
        stored: The frames as the file has them, float16, without their exponents.
    """

    def __init__(self, snapshot: Snapshot, layer: Layer) -> None:
        self.layer = layer
        self.stored = Series(snapshot, layer)
        self._snapshot = snapshot
        self._read_at: tuple[int, int] | None = None  # the edition of the frames
        self._largest_at: tuple[int, int] | None = None
        self._largest = np.zeros((0, 0))
        self._exponents = np.zeros((0, 0), np.int64)

    def __repr__(self) -> str:
        of = f", of the {self.layer.of}" if self.layer.of else ""
        frames = format_count(int(self.present.sum()), "frame")
        return clean_line(
            f"<{self.layer.kind.capitalize()} of {self.name!r} of {str(self.path)!r}: "
            f"{format_shape(self.layer.shape)}{of}; {frames}, [epoch, batch] reads one>"
        )

    def _repr_html_(self) -> str | None:
        return show(self.stored)

    @property
    def name(self) -> str:
        """The layer's name, e.g. `layer1.0.conv1`."""
        return self.layer.name

    @property
    def path(self) -> Path:
        """The recording's file."""
        return self.stored.path

    @property
    def probe_number(self) -> int | None:
        """The number of the fixed image that the frames belong to; None for the batches' own."""
        return self.stored.probe_number

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Where there is a frame, bool (epoch, batch)."""
        return self.stored.present

    @property
    def frames(self) -> list[Cell]:
        """(epoch, batch) of every frame, in the order of epochs and batches."""
        return self.stored.frames

    @property
    def shape(self) -> tuple[int, ...]:
        """(epoch, batch, C, H, W); what lies in between was not necessarily recorded."""
        return self.stored.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of a frame, which is always float32."""
        return np.dtype(np.float32)

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, key: tuple[int, int]) -> Float32Array:
        """Returns one frame; negative numbers count from the last recorded epoch and batch.

        Returns:
            float32 of the shape that the layer put out. All NaN where there is none.

        Raises:
            SelectionError: Nothing was recorded at that epoch and batch.
            DamagedError: Its checksum is wrong, its exponent cannot be, or it cannot be read.
        """
        cell = self._snapshot.locate(*parse_key(key))
        return scale(self.stored[cell], self.exponent(cell))

    @property
    def exponents(self) -> npt.NDArray[np.int64]:
        """The exponent of every frame, int64 (epoch, batch); 0 where there is none.

        A damaged one is beyond `LARGEST_EXPONENT`.

        Raises:
            FileError: They cannot be read.
        """
        snapshot = self._snapshot
        if self._read_at != snapshot.edition:
            path = self.layer.group + dataset_path(schema.EXPONENTS, self.name)
            found, damaged = read_checked(snapshot.file, path, np.int64, self.stored.vouched)
            fitted = np.zeros(snapshot.shape, np.int64)
            if found is not None:
                if damaged is not None:
                    found[damaged] = _DAMAGED
                rows, columns = np.minimum(fitted.shape, found.shape)
                fitted[:rows, :columns] = found[:rows, :columns]
            self._exponents, self._read_at = fitted, snapshot.edition
        return self._exponents

    def exponent(self, cell: Cell) -> int:
        """Returns the exponent of one frame.

        Raises:
            DamagedError: It is none that a float32 value can have.
        """
        found = int(self.exponents[cell])
        if found == _DAMAGED:
            raise DamagedError(
                f"damaged in {self.path}: the exponent of {self.name} {self.layer.kind} of epoch "
                f"{cell[0]} batch {cell[1]} (its checksum is wrong)"
            )
        if abs(found) > LARGEST_EXPONENT:
            raise DamagedError(
                f"damaged in {self.path}: {self.name} {self.layer.kind} of epoch {cell[0]} batch "
                f"{cell[1]} have the exponent {found:,}; expected at most {LARGEST_EXPONENT}"
            )
        return found

    def ranges(self, epochs: range | None = None, batches: range | None = None) -> Float32Array:
        """Returns smallest and largest finite value of every channel, float32 (epoch, batch, C, 2).

        NaN where there is no frame, or an exponent that cannot be. See `Series.ranges`.
        """
        rows = range(self.shape[0]) if epochs is None else epochs
        columns = range(self.shape[1]) if batches is None else batches
        exponents = self.exponents[rows.start : rows.stop, columns.start : columns.stop]
        ranges = scale(self.stored.ranges(rows, columns), exponents[..., None, None])
        ranges[np.abs(exponents) > LARGEST_EXPONENT] = np.nan
        return ranges

    def ranges_by(
        self, exponent: int, epochs: range | None = None, batches: range | None = None
    ) -> Float32Array:
        """Returns `ranges` divided by 2 to a power."""
        return scale(self.ranges(epochs, batches), -exponent)

    def scaled_by(self, key: tuple[int, int], exponent: int) -> Float16Array:
        """Returns one frame divided by 2 to a power, float16; see `__getitem__`.

        What is beyond float16 then is as large as float16 can be.
        """
        cell = self._snapshot.locate(*parse_key(key))
        stored = self.stored[cell]
        values = scale(stored, self.exponent(cell) - exponent)
        held = np.clip(values, -_MOST, _MOST, out=values, where=np.isfinite(stored))
        return held.astype(np.float16)

    def largest_of(self, cell: Cell) -> float:
        """Returns the largest magnitude of one frame; NaN without one.

        Raises:
            DamagedError: Of a file without ranges, whose frame is damaged.
        """
        epoch, batch = cell
        if not self.present[cell]:
            return math.nan
        if self.stored.has_ranges:
            values = self.ranges(range(epoch, epoch + 1), range(batch, batch + 1))
        else:
            values = self[cell]
        finite = np.abs(values[np.isfinite(values)])
        return float(finite.max()) if finite.size else math.nan

    @property
    def largest(self) -> npt.NDArray[np.float64]:
        """The largest magnitude of every frame, float64 (epoch, batch); NaN without one."""
        if self._largest_at != self._snapshot.edition:
            self._largest, self._largest_at = self._find_largest(), self._snapshot.edition
        return self._largest

    def _find_largest(self) -> npt.NDArray[np.float64]:
        largest = np.full(self.shape[:2], np.nan)
        if not self.stored.has_ranges:
            for cell in self.frames:
                with contextlib.suppress(DamagedError):
                    largest[cell] = self.largest_of(cell)
            return largest
        with np.errstate(invalid="ignore"):
            found = np.abs(self.ranges().astype(np.float64)).reshape(*largest.shape, -1)
            largest[...] = np.fmax.reduce(found, axis=2)
        largest[~self.present] = np.nan
        return largest


class EvenSeries(Series):
    """A layer's gradients times one power of two, so that all of a run are float16.

    They are drawn like maps: `series[epoch, batch]` -> float16. What is smaller than the largest
    of the run by more than 2 ** 39 becomes 0.

    Args:
        snapshot: The frames that there are.
        layer: The layer.
    """

    def __init__(self, snapshot: Snapshot, layer: Layer) -> None:
        super().__init__(snapshot, layer)
        self.true = ScaledFrames(snapshot, layer)

    @property
    def exponent(self) -> int:
        """What the values are to be multiplied by, 2 to this power, to be the true ones."""
        largest = self.true.largest
        known = largest[np.isfinite(largest) & (largest > 0)]
        return schema.exponent_of(float(known.max())) if known.size else 0

    def __getitem__(self, key: tuple[int, int]) -> Float16Array:
        """Returns one frame, as `Series` does, times one power of two."""
        return self.true.scaled_by(key, self.exponent)

    def ranges(self, epochs: range | None = None, batches: range | None = None) -> Float32Array:
        """Returns the ranges of these frames, as `Series` does."""
        return self.true.ranges_by(self.exponent, epochs, batches)


def true_frames(series: Series) -> Series | ScaledFrames:
    """Returns a layer's frames in their true values, also where `series` has them scaled."""
    return series.true if isinstance(series, EvenSeries) else series


def scale(values: npt.NDArray[Any], exponent: int | npt.NDArray[np.int64]) -> Float32Array:
    """Returns values times 2 to a power, float32; what is beyond float32 is infinite, or 0."""
    held = np.clip(exponent, -1000, 1000).astype(np.int32) if np.ndim(exponent) else exponent
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.ldexp(values.astype(np.float64), held).astype(np.float32)
