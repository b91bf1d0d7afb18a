"""Copies all that is whole in a recording into a new one that is cleanly closed."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from replay import schema
from replay.files.copy_target import check_copy_target
from replay.files.hdf5_writer import RecordingWriter
from replay.files.problem import Problem
from replay.files.value_check import check_values
from replay.formatting import format_bytes, format_count
from replay.output import replacing
from replay.recording import Recording, open_recording
from replay.recording.stored import StoredLayer, stored_layers
from replay.schema import DamagedError, FileError, SelectionError
from replay.value_kinds import check_kinds


@dataclass(frozen=True)
class Repaired:
    """What `repair` wrote.

    Attributes:
        path: The new recording.
        frames: (epoch, batch) cells in it.
        left_out: What was damaged and is not in it.
        bytes: Its size.
    """

    path: Path
    frames: int
    left_out: tuple[Problem, ...]
    bytes: int

    def __repr__(self) -> str:
        left = format_count(len(self.left_out), "damaged array")
        frames, size = format_count(self.frames, "frame"), format_bytes(self.bytes)
        return f"<Repaired {str(self.path)!r}: {frames}, {size}; {left} left out>"


def repair(
    recording: str | os.PathLike[str],
    out: str | os.PathLike[str],
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Repaired:
    """Copies all that is whole; the recording itself is never written to.

    A damaged frame of a layer is left out, those of other layers in the same batch stay. Ranges,
    counts and numbers are made anew from what is there, so that the new file verifies.

    Args:
        recording: The file, also one whose writer was killed.
        out: The new file.
        overwrite: Whether it may replace another one.
        progress: Called with (cells done, cells in all).

    Returns:
        What was written, and what was left out because it is damaged.

    Raises:
        FileError: The file cannot be read as a recording at all.
        OutputError: The new file exists, is the old one, or cannot be written.
    """
    check_kinds(locals(), "out")
    target = Path(out)
    with open_recording(recording) as run:
        check_copy_target(target, run.path, overwrite)
        left_out: list[Problem] = []
        with replacing(target) as unfinished:
            unfinished.unlink()
            _copy(run, unfinished, left_out, progress)
            left_out += check_values(run)
        return Repaired(target, len(run.frames), tuple(left_out), target.stat().st_size)


def _copy(
    run: Recording,
    path: Path,
    left_out: list[Problem],
    progress: Callable[[int, int], None] | None,
) -> None:
    probes = [run.probe(number) for number in range(run.probes)]
    meta = {
        **run.meta,
        "repaired": {
            "from": run.path.name,
            "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        },
    }
    attributes = {
        "format": schema.FORMAT,
        "version": schema.VERSION,
        "run_id": run.run_id,
        "created": run.created,
        "meta": schema.encode_meta(meta),
    }
    with RecordingWriter(path, run.shape, attributes) as writer:
        layers = [_LayerCopy(stored, writer, left_out) for stored in stored_layers(run)]
        for place, layer in enumerate(layers):
            writer.add_layer(layer.layer, place)
        images = _ImageCopy(run, writer, left_out)
        counts = {name: np.zeros(run.shape, "<i8") for name in ("nan", "inf")}
        missing = run.batches["missing"].copy() if "missing" in run.batches else None
        frames = run.frames
        for place, (epoch, batch) in enumerate(frames):
            for layer in layers:
                found = layer.copy(epoch, batch)
                if found is None and missing is not None and layer.layer.is_main:
                    missing[epoch, batch] += 1
                elif found is not None and layer.layer.is_main:
                    counts["nan"][epoch, batch] += found[0]
                    counts["inf"][epoch, batch] += found[1]
            images.copy(epoch, batch)
            if progress is not None:
                progress(place + 1, len(frames))
        for layer in layers:
            layer.finish()
        fields: dict[str, npt.NDArray[Any]] = {**counts, "input_checksum": images.sums}
        if missing is not None:
            fields["missing"] = missing
        fields["recorded"] = _numbered(run.order)
        for name in run.batches:
            if name not in fields:
                fields[name] = run.batches[name]
        known = {entry.name: entry for entry in schema.FIELDS}
        for name, values in fields.items():
            entry = known.get(name, schema.custom_field(name))
            values = np.where(run.order > 0, values, entry.fill).astype(entry.dtype)
            into = schema.dataset_path(schema.BATCHES, name)
            writer.write_field(into, values, entry.fill, run.order > 0)
        for number, view in enumerate(probes):
            if view.inputs and run.frames:
                at = f"{schema.PROBE}/{number}/{schema.PROBE_INPUT}"
                with contextlib.suppress(DamagedError):  # which `check_values` tells
                    writer.write_single_image(at, view.inputs[run.frames[0]], images.about)
            writer.describe_probe(number, view.label)
        writer.finish([len(run.frames), run.dropped, run.lost + len(left_out), 1])


class _LayerCopy:
    """One layer on its way into the new file."""

    def __init__(
        self, stored: StoredLayer, writer: RecordingWriter, left_out: list[Problem]
    ) -> None:
        series = stored.series
        self._stored, self._series, self._writer, self._left_out = stored, series, writer, left_out
        self.layer = series.layer
        self._shape = (series.shape[0], series.shape[1])
        self._present = series.present
        known = None
        if self.layer.kernel is not None:
            known = series.checksums(schema.KERNEL_CHECKSUMS)
        self._kernels_present = self._present if known is None else known > 0
        self._small: dict[str, npt.NDArray[Any]] = {}
        for sums in (schema.CHECKSUMS, schema.KERNEL_CHECKSUMS):
            if sums == schema.CHECKSUMS or self.layer.kernel is not None:
                self._small[sums] = np.zeros(self._shape, schema.CHECKSUM_DTYPE)
        if stored.scaled is not None:
            self._small[schema.EXPONENTS] = np.zeros(self._shape, schema.EXPONENT_DTYPE)
        cell = (*self._shape, self.layer.channels, 2)
        self._small[schema.RANGES] = np.full(cell, np.nan, schema.RANGE_DTYPE)

    def copy(self, epoch: int, batch: int) -> tuple[int, int] | None:
        """Copies what is whole of one batch.

        Returns:
            The maps' counts of NaN and infinite values; None where the maps are damaged.
        """
        if not self._present[epoch, batch]:
            return 0, 0
        at, series = (epoch, batch), self._series
        if self.layer.kernel is not None and self._kernels_present[at]:
            self._copy_array(schema.KERNELS, at, lambda: series.kernels(*at))
        frame = self._copy_array(schema.MAPS, at, lambda: self._read(at))
        if frame is None:
            return None
        if self._stored.scaled is not None:
            self._small[schema.EXPONENTS][at] = self._stored.scaled.exponent(at)
        summary = schema.summarize(self.layer.channels_first(frame))
        self._small[schema.RANGES][at] = summary.ranges
        return summary.nan, summary.inf

    def _read(self, at: tuple[int, int]) -> schema.Float16Array:
        self._stored.check_exponent(at)
        return self._series[at]

    def _copy_array(
        self, group: str, at: tuple[int, int], read: Callable[[], schema.Float16Array]
    ) -> schema.Float16Array | None:
        try:
            array = np.ascontiguousarray(read())
        except (FileError, SelectionError) as error:
            what = self.layer.kind or group
            self._left_out.append(Problem.told(error, what, self._stored.name, *at))
            return None
        self._writer.write(self.layer, group, at, array)
        kind = schema.CHECKSUMS if group == schema.MAPS else schema.KERNEL_CHECKSUMS
        self._small[kind][at] = schema.checksum(array)
        return array

    def finish(self) -> None:
        """Writes the small datasets."""
        there = self._small[schema.CHECKSUMS] > 0
        for group, values in self._small.items():
            fill = np.nan if group == schema.RANGES else 0
            checked = there if group in (schema.RANGES, schema.EXPONENTS) else None
            self._writer.write_layer_field(self.layer, group, values, fill, checked)


class _ImageCopy:
    """The input images on their way into the new file."""

    def __init__(self, run: Recording, writer: RecordingWriter, left_out: list[Problem]) -> None:
        self._inputs, self._writer, self._left_out = run.inputs, writer, left_out
        self._kept = run.batches.get("input_checksum")
        self.sums = np.zeros(run.shape, schema.CHECKSUM_DTYPE)
        about = {"mean": self._inputs.mean, "std": self._inputs.std}
        self.about = {name: value for name, value in about.items() if value is not None}
        self._paths: dict[tuple[int, ...], str] = {}
        for place, shape in enumerate(self._inputs.shapes):
            self._paths[shape] = schema.inputs_path(shape if place else None)
            writer.add_images(self._paths[shape], shape, self.about)

    def copy(self, epoch: int, batch: int) -> None:
        """Copies the image of one batch, if it is whole."""
        expected = None if self._kept is None else int(self._kept[epoch, batch])
        if not self._inputs or expected == 0:
            return
        at = (epoch, batch)
        try:
            image = np.ascontiguousarray(self._inputs[at])
        except (FileError, SelectionError) as error:
            self._left_out.append(Problem.told(error, "input", "", *at))
            return
        self._writer.write_image(self._paths[image.shape], at, image)
        self.sums[at] = schema.checksum(image)


def _numbered(order: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Returns the frames' numbers without gaps, in the same order."""
    numbers = np.zeros_like(order)
    places = np.nonzero(order > 0)
    ranks = np.argsort(np.argsort(order[places], kind="stable"), kind="stable")
    numbers[places] = ranks + 1
    return numbers
