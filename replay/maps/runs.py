"""Several recordings in one picture: the ranks of a distributed run, or runs to be compared.

A picture has a row for each layer of each recording, and shows the epochs and batches that all of
them have. What was left out, and what a reader might not expect, is a remark.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from replay.formatting import format_count, format_numbers, format_shape
from replay.maps.axes import JointMaps, Maps
from replay.maps.selection import choose_cells, choose_layers, choose_maps
from replay.options import Numbers
from replay.recording import Recording, open_recording
from replay.schema import OptionError, SelectionError

Path: TypeAlias = "str | os.PathLike[str]"
Recordings: TypeAlias = "Recording | Path | Sequence[Recording | Path]"
"""An open recording, the path of one, or several of either."""


@contextmanager
def open_runs(recordings: Recordings, probe: int | None = None) -> Iterator[list[Recording]]:
    """Opens what is not open yet, and closes that again.

    Args:
        recordings: One or several.
        probe: The number of a fixed image, whose frames are given instead of the batches'.

    Raises:
        FileError: One of them cannot be read.
        SelectionError: One of them has no such fixed image.
        OptionError: There is none.
    """
    given: list[Recording | Path]
    if isinstance(recordings, (Recording, str, os.PathLike)):
        given = [recordings]
    else:
        given = list(recordings)
    if not given:
        raise OptionError("no recording was given")
    with ExitStack() as stack:
        found = [
            which if isinstance(which, Recording) else stack.enter_context(open_recording(which))
            for which in given
        ]
        yield found if probe is None else [recording.probe(probe) for recording in found]


@dataclass(frozen=True)
class Row:
    """One layer of one recording.

    Attributes:
        place: The recording's place among those shown.
        maps: What the layer put out.
    """

    place: int
    maps: Maps


class RunSet:
    """Recordings that are shown in one picture.

    Args:
        recordings: One or several.
        layers: Names of layers; each must be in one of the recordings at least.
        slices: As in `choose_maps`.
        tokens: As in `choose_maps`.

    Raises:
        SelectionError: A recording has none of the layers, or they have no batch in common.
        FileError: A recording is empty.

    Attributes:
        recordings: The recordings.
        labels: What to call each; empty where there is but one.
        rows: The layers of each, those of one name under one another.
        present: bool (epoch, batch), where every recording has a frame of one of the layers.
        remarks: What a reader should know, a line each.
    """

    def __init__(
        self,
        recordings: Recording | Sequence[Recording],
        layers: Sequence[str],
        slices: Numbers = "middle",
        tokens: str = "auto",
    ) -> None:
        self.recordings: list[Recording] = (
            [recordings] if isinstance(recordings, Recording) else list(recordings)
        )
        self.remarks: list[str] = []
        self.labels = self._choose_labels()
        for recording in self.recordings:
            recording.require_frames()
            if not any(name in recording for name in layers):
                choose_layers(recording, list(layers))  # which raises, and says what is there
        self.rows = [
            Row(place, choose_maps(recording[name], slices, tokens))
            for name in layers
            for place, recording in enumerate(self.recordings)
            if name in recording
        ]
        self.present = self._find_common()

    @property
    def all_cells(self) -> list[tuple[int, int]]:
        """Every (epoch, batch) that all recordings have, with or without these layers."""
        rows, columns = np.min([r.shape for r in self.recordings], axis=0)
        recorded = np.all([r.order[:rows, :columns] > 0 for r in self.recordings], axis=0)
        return [(int(epoch), int(batch)) for epoch, batch in np.argwhere(recorded)]

    @property
    def several(self) -> bool:
        """Whether there is more than one recording."""
        return len(self.recordings) > 1

    def cells(self, epochs: Numbers = None, batches: Numbers = None) -> list[tuple[int, int]]:
        """Returns the (epoch, batch) that were asked for, of those that all recordings have."""
        return choose_cells(self.present, epochs, batches)

    def groups(self) -> list[tuple[JointMaps, list[Row]]]:
        """Returns the rows that share channels and a range of values: those of one layer."""
        groups: dict[tuple[str, int], list[Row]] = {}
        for row in self.rows:
            groups.setdefault((row.maps.layer.name, row.maps.channels), []).append(row)
        return [(JointMaps([row.maps for row in rows]), rows) for rows in groups.values()]

    def describe(self) -> str:
        """Returns what they are: `2 of 8 ranks`, `2 recordings`; empty where there is but one."""
        if not self.several:
            return ""
        number = len(self.recordings)
        if not all(label.startswith("rank ") for label in self.labels):
            return f"{number} recordings"
        world = self.recordings[0].meta.get("world_size")
        more = isinstance(world, int) and world > number
        return f"{number} of {world} ranks" if more else f"{number} ranks"

    def _choose_labels(self) -> list[str]:
        if not self.several:
            return [""]
        paths = [recording.path for recording in self.recordings]
        if len({recording.run_id for recording in self.recordings} - {""}) > 1:
            names = ", ".join(path.name for path in paths)
            self.remarks.append(f"{names} are of different runs")
        else:
            ranks = [recording.meta.get("rank") for recording in self.recordings]
            if all(type(rank) is int for rank in ranks) and len(set(ranks)) == len(ranks):
                return [f"rank {rank}" for rank in ranks]
        for labels in (
            [path.stem for path in paths],
            [f"{path.absolute().parent.name}/{path.stem}" for path in paths],
        ):
            if len(set(labels)) == len(labels):
                return labels
        return [f"{path.stem} ({place})" for place, path in enumerate(paths)]

    def _find_common(self) -> npt.NDArray[np.bool_]:
        each = [
            np.logical_or.reduce([r.maps.series.present for r in self.rows if r.place == place])
            for place in range(len(self.recordings))
        ]
        shape = np.max([recorded.shape for recorded in each], axis=0)
        fitted = np.zeros((len(each), *shape), bool)
        for whole, recorded in zip(fitted, each, strict=True):
            whole[: recorded.shape[0], : recorded.shape[1]] = recorded
        common: npt.NDArray[np.bool_] = np.logical_and.reduce(fitted, axis=0)
        if not common.any():
            if not self.several:
                names = ", ".join(row.maps.layer.name for row in self.rows)
                raise SelectionError(f"no frame of {names} in {self.recordings[0].path}")
            found = "; ".join(
                f"{recording.path} has {_span(recorded)}"
                for recording, recorded in zip(self.recordings, each, strict=True)
            )
            raise SelectionError(f"no epoch and batch is in every recording: {found}")
        if left_out := int((fitted.any(axis=0) & ~common).sum()):
            batches = format_count(left_out, "batch")
            self.remarks.append(f"left out {batches} that not every recording has")
        return common


def choose_layers_of(
    recordings: Sequence[Recording], patterns: str | Sequence[str] | None
) -> list[str]:
    """Returns the names of layers, as in `choose_layers`, of one or several recordings.

    Raises:
        SelectionError: Nothing matches one of the patterns in any of the recordings.
        FileError: A recording is empty.
    """
    if patterns is None or len(recordings) == 1:
        return choose_layers(recordings[0], patterns)
    chosen: list[str] = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        found: list[str] = []
        errors: list[SelectionError] = []
        for recording in recordings:
            try:
                found += choose_layers(recording, pattern)
            except SelectionError as error:
                errors.append(error)
        if not found:
            raise errors[0]
        chosen += found
    return list(dict.fromkeys(chosen)) or choose_layers(recordings[0], [])


def _span(recorded: npt.NDArray[np.bool_]) -> str:
    epochs, batches = (np.flatnonzero(recorded.any(axis=axis)).tolist() for axis in (1, 0))
    return f"{format_numbers('epoch', epochs)}, {format_numbers('batch', batches)}"


def choose_common_layers(
    recordings: Sequence[Recording], patterns: str | Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """Returns the names of the layers to compare, and remarks on those that only one run has.

    Raises:
        SelectionError: A layer that was asked for is not in both, or none is.
    """
    for recording in recordings:
        recording.require_frames()
    a, b = recordings
    common = [name for name in a.layers if name in b]
    if not common:
        raise SelectionError(
            f"no layer is in both recordings: {a.path} has {', '.join(a.layers)}; "
            f"{b.path} has {', '.join(b.layers)}"
        )
    if patterns is None:
        return common[:1], []
    found: list[str] = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if (pattern in a) != (pattern in b):
            has, lacks = (a, b) if pattern in a else (b, a)
            raise SelectionError(
                f"layer {pattern!r} is in {has.path} and not in {lacks.path}; both have "
                f"{', '.join(common)}"
            )
        found += choose_layers_of(recordings, [pattern])
    found = list(dict.fromkeys(found))
    chosen = [name for name in found if name in common]
    alone = [name for name in found if name not in common]
    if not chosen:
        raise SelectionError(
            f"{', '.join(alone) or 'no layer'}: not in both recordings; both have "
            f"{', '.join(common)}"
        )
    return chosen, [f"left out {', '.join(alone)}: not in both recordings"] if alone else []


def pair_rows(shown: RunSet) -> list[tuple[JointMaps, tuple[Row, Row]]]:
    """Returns the rows of each layer, that of run a first.

    Raises:
        SelectionError: A layer's maps are not of the same shape in both.
    """
    pairs = []
    for a, b in zip(shown.rows[::2], shown.rows[1::2], strict=True):
        if a.maps.layout.shape != b.maps.layout.shape:
            first, second = (shown.recordings[row.place].path for row in (a, b))
            raise SelectionError(
                f"layer {a.maps.layer.name!r} has frames of {format_shape(a.maps.layer.shape)} "
                f"in {first} and of {format_shape(b.maps.layer.shape)} in {second}; "
                "a comparison needs equal ones, so choose another layer"
            )
        pairs.append((JointMaps([a.maps, b.maps]), (a, b)))
    return pairs
