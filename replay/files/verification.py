"""Compares everything in a recording with what the file says about it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from replay import schema
from replay.files.problem import Problem
from replay.files.value_check import WRONG, check_values, damaged_cells
from replay.formatting import format_count
from replay.raster.palette import is_blank
from replay.recording import Recording, open_recording
from replay.recording.address import read_path
from replay.recording.stored import StoredLayer, stored_layers
from replay.schema import FileError, Float16Array, SelectionError
from replay.value_kinds import check_kinds


@dataclass
class Report:
    """What `verify` found.

    Attributes:
        path: The recording.
        frames: Whole frames, (epoch, batch) cells.
        arrays: Maps, kernels and images whose checksums were compared.
        bytes: Their bytes.
        unchecked: Arrays without a checksum in the file.
        closed: Whether the recording was closed; one that was not is no damage.
        problems: What is not as it was recorded.
    """

    path: Path
    frames: int = 0
    arrays: int = 0
    bytes: int = 0
    unchecked: int = 0
    closed: bool = False
    problems: list[Problem] = field(default_factory=list)

    def __bool__(self) -> bool:
        return not self.problems

    def __repr__(self) -> str:
        problems = format_count(len(self.problems), "problem")
        first = f", the first: {self.problems[0]}" if self.problems else ""
        frames = format_count(self.frames, "frame")
        return f"<Report of {str(self.path)!r}: {problems} in {frames}{first}>"

    def to_json(self) -> str:
        """Returns the report as one JSON document."""
        document: dict[str, Any] = {**asdict(self), "path": str(self.path), "whole": bool(self)}
        return json.dumps(document, indent=2)


def verify(
    recording: str | os.PathLike[str] | Recording,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Checks a recording: checksums, ranges against maps, counts, and the commit counter.

    Args:
        recording: The file, or an open recording. Nothing is written to it.
        progress: Called with (cells done, cells in all).

    Returns:
        What was found; true where nothing is wrong. A file that cannot be read as a recording
        is a problem of the report, too.

    Raises:
        FileError: There is no such file.
    """
    check_kinds(locals())
    if isinstance(recording, Recording):
        return _verify(recording, progress)
    path = read_path(recording)
    if not path.is_file():
        open_recording(path)  # which says what is wrong
    try:
        with open_recording(path) as run:
            return _verify(run, progress)
    except FileError as error:
        return Report(path, problems=[Problem("file", str(error))])


def _verify(run: Recording, progress: Callable[[int, int], None] | None) -> Report:
    frames = run.frames  # looks for them each time that it is asked
    report = Report(run.path, frames=len(frames), closed=run.closed)
    report.problems += _check_order(run)
    report.problems += [
        Problem("maps", f"no layer can have the name {name!r}, so that none reads it")
        for name in run.left_out
    ]
    report.problems += check_values(run)
    checks = [_LayerCheck(stored, report) for stored in stored_layers(run)]
    images = _ImageCheck(run, report)
    counts = _CountCheck(run, report)
    for place, (epoch, batch) in enumerate(frames):
        nan = inf = 0
        sound = True
        for check in checks:
            found = check.check(epoch, batch)
            if found is None:
                sound = sound and not check.series.layer.is_main
            elif check.series.layer.is_main:
                nan, inf = nan + found[0], inf + found[1]
        images.check(epoch, batch)
        if sound:
            counts.check(epoch, batch, nan, inf)
        if progress is not None:
            progress(place + 1, len(frames))
    return report


class _LayerCheck:
    """One layer's maps, ranges and kernels."""

    def __init__(self, stored: StoredLayer, report: Report) -> None:
        series = stored.series
        self.stored, self.series, self.report = stored, series, report
        self.name = stored.name
        self.present = series.present
        self.sums = self._numbers(schema.CHECKSUMS)
        self.kernel_sums = self._numbers(schema.KERNEL_CHECKSUMS)
        self.ranges: npt.NDArray[np.float32] | None = None
        try:
            if series.has_ranges:
                self.ranges = series.ranges()
        except FileError as error:
            report.problems.append(Problem("ranges", str(error), self.name))

    def _numbers(self, group: str) -> npt.NDArray[Any] | None:
        try:
            return self.series.checksums(group)
        except FileError as error:
            self.report.problems.append(Problem("maps", str(error), self.name))
            return None

    def check(self, epoch: int, batch: int) -> tuple[int, int] | None:
        """Compares the arrays of one batch.

        Returns:
            The maps' counts of NaN and infinite values; None where the maps are damaged.
        """
        if not self.present[epoch, batch]:
            self._check_absence(epoch, batch)
            return 0, 0
        what = self.series.layer.kind or "maps"
        frame = self._compare(what, self.sums, epoch, batch, lambda: self._read(epoch, batch))
        if self.series.layer.kernel is not None:
            self._compare(
                "kernels",
                self.kernel_sums,
                epoch,
                batch,
                lambda: self.series.kernels(epoch, batch),
            )
        if frame is None:
            return None
        found = schema.summarize(self.series.layer.channels_first(frame))
        if (epoch, batch) in self.series.mended_ranges:
            self.report.problems.append(Problem("ranges", WRONG, self.name, epoch, batch))
        elif self.ranges is not None:
            kept = self.ranges[epoch, batch]
            wrong = ~((found.ranges == kept) | (np.isnan(found.ranges) & np.isnan(kept)))
            if wrong.any():
                channel = int(np.argwhere(wrong)[0, 0])
                text = (
                    f"channel {channel} has {found.ranges[channel]}, the file says {kept[channel]}"
                )
                self.report.problems.append(Problem("ranges", text, self.name, epoch, batch))
        return found.nan, found.inf

    def _check_absence(self, epoch: int, batch: int) -> None:
        """Makes sure that what seems not to be there has no ranges either."""
        if (epoch, batch) in self.series.mended_ranges.stray:
            text = "it has ranges, and no checksum"
            self.report.problems.append(Problem("maps", text, self.name, epoch, batch))

    def _read(self, epoch: int, batch: int) -> Float16Array:
        self.stored.check_exponent((epoch, batch))
        return self.series[epoch, batch]

    def _compare(
        self,
        what: str,
        sums: npt.NDArray[Any] | None,
        epoch: int,
        batch: int,
        read: Callable[[], Float16Array],
    ) -> Float16Array | None:
        report = self.report
        try:
            array = read()
        except (FileError, SelectionError) as error:
            report.problems.append(Problem.told(error, what, self.name, epoch, batch))
            return None
        if sums is None or not sums[epoch, batch]:  # which NaN, not recorded, needs not
            report.unchecked += not is_blank(array)
            return array
        report.arrays += 1
        report.bytes += array.nbytes
        return array


class _ImageCheck:
    """The input images."""

    def __init__(self, run: Recording, report: Report) -> None:
        self.run, self.report = run, report
        self.inputs = run.inputs
        self.sums = run.batches.get("input_checksum")

    def check(self, epoch: int, batch: int) -> None:
        """Compares the image of one batch."""
        if not self.inputs or self.sums is None or not self.sums[epoch, batch]:
            return
        report = self.report
        try:
            image = self.inputs[epoch, batch]
        except (FileError, SelectionError) as error:
            report.problems.append(Problem.told(error, "input", "", epoch, batch))
            return
        report.arrays += 1
        report.bytes += image.nbytes


class _CountCheck:
    """How many values the file says are NaN and infinite."""

    def __init__(self, run: Recording, report: Report) -> None:
        self.report = report
        self.kept = {name: run.batches.get(name) for name in ("nan", "inf")}
        self.damaged = {name: damaged_cells(run, name) for name in self.kept}

    def check(self, epoch: int, batch: int, nan: int, inf: int) -> None:
        """Compares the counts of one batch with those that were found."""
        for name, found in (("nan", nan), ("inf", inf)):
            kept = self.kept[name]
            if (epoch, batch) in self.damaged[name]:
                continue  # which is said of the value itself
            if kept is not None and int(kept[epoch, batch]) != found:
                values = f"{format_count(found, 'value')} {'is' if found == 1 else 'are'} {name}"
                text = f"{values}, the file says {int(kept[epoch, batch])}"
                self.report.problems.append(Problem("counts", text, "", epoch, batch))


def _check_order(run: Recording) -> Iterator[Problem]:
    """Checks that the frames up to the counter are numbered from 1, each number once."""
    numbers = np.sort(run.order[run.order > 0])
    if run.committed != len(numbers) or (numbers != np.arange(1, len(numbers) + 1)).any():
        text = (
            f"the file vouches for {format_count(run.committed, 'frame')}, "
            f"and {len(numbers)} are there "
            f"with {format_count(len(np.unique(numbers)), 'different number')} up to it"
        )
        yield Problem("order", text)
