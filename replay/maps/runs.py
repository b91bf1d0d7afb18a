"""Several recordings in one picture: the ranks of a distributed run, or runs to be compared.

A picture has a row for each layer of each recording, and shows the epochs and batches that all of
them have. What was left out, and what a reader might not expect, is a remark.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from replay.formatting import clean, format_count, format_numbers
from replay.maps.axes import JointMaps, Maps, choose_maps
from replay.maps.input_picture import InputPicture
from replay.maps.selection import choose_cells, choose_layers
from replay.option_values import Numbers
from replay.raster.mosaic import Mosaic
from replay.recording import Recording, open_recording, read_logged
from replay.recording.snapshot import cells_of
from replay.schema import Cell, OptionError, SelectionError
from replay.value_kinds import check_kinds

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
    check_kinds({"recording": recordings})
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

    @functools.cached_property
    def recorded(self) -> npt.NDArray[np.bool_]:
        """Where all recordings have a frame, with or without these layers: bool (epoch, batch)."""
        rows, columns = np.min([r.shape for r in self.recordings], axis=0)
        found: npt.NDArray[np.bool_] = np.all(
            [r.order[:rows, :columns] > 0 for r in self.recordings], axis=0
        )
        return found

    @functools.cached_property
    def all_cells(self) -> list[tuple[int, int]]:
        """Every (epoch, batch) that all recordings have, with or without these layers."""
        return cells_of(self.recorded)

    @property
    def several(self) -> bool:
        """Whether there is more than one recording."""
        return len(self.recordings) > 1

    def cells(self, epochs: Numbers = None, batches: Numbers = None) -> list[tuple[int, int]]:
        """Returns the (epoch, batch) that were asked for, of those that all recordings have."""
        if epochs is None and batches is None:
            return cells_of(self.present)
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
    if patterns is None:
        return choose_layers(recordings[0])
    if len(recordings) == 1:
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


Count: TypeAlias = tuple[int, int] | str
"""Numbers of values that are NaN and infinite; in words where there is no frame to show."""


@dataclass(frozen=True)
class FilmFacts:
    """What the captions tell of the run; arrays have one entry for every frame of the run.

    Attributes:
        cells: (epoch, batch) of every frame, in order.
        loss: float64, or None where none was logged.
        logged: Whether each loss was logged, bool; None where none was.
        loss_of: Which of several recordings the loss is of; empty where there is but one.
    """

    cells: list[Cell]
    loss: npt.NDArray[np.float64] | None = None
    logged: npt.NDArray[np.bool_] | None = None
    loss_of: str = ""

    @classmethod
    def read(cls, runs: RunSet) -> FilmFacts:
        """Reads the frames of the run and its loss; of several recordings, that of the first."""
        cells, fields = runs.all_cells, runs.recordings[0].batches
        loss, logged = read_logged(fields, cells)
        return cls(cells, loss, logged, clean(runs.labels[0]))


@dataclass(frozen=True)
class InputCaption:
    """What the network of a recording saw, and answered; an entry for every frame of the run.

    Attributes:
        size: Height and width of the input picture in the frame; None without one.
        text: What the picture is.
        label: int64, -1 where none was logged; None where there is none at all.
        prediction: As `label`.
        classes: Names of the classes, as far as they are known.
    """

    size: tuple[int, int] | None = None
    text: str = ""
    label: npt.NDArray[np.int64] | None = None
    prediction: npt.NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()

    @classmethod
    def read(
        cls, recording: Recording, runs: RunSet, name: str, picture: InputPicture | None
    ) -> InputCaption:
        """Reads what a recording holds of its inputs.

        Args:
            recording: One of those of `runs`.
            runs: Whose frames are shown.
            name: What to call the input; empty for `input`.
            picture: The input picture, if it is shown.
        """
        frames = tuple(np.array(runs.all_cells).T)

        def logged(field: str) -> npt.NDArray[np.int64] | None:
            if field not in recording.batches:
                return None
            values: npt.NDArray[np.int64] = recording.batches[field][frames].astype(np.int64)
            return values if (values >= 0).any() else None

        names = recording.meta.get("classes")
        classes = tuple(clean(str(each)) for each in names) if isinstance(names, list) else ()
        size, text = None, ""
        if picture is not None:
            size, text = picture.size, _picture_text(recording, name) + picture.channels_in_words
        return cls(size, text, logged("label"), logged("prediction"), classes)

    @property
    def fields(self) -> list[tuple[str, npt.NDArray[np.int64]]]:
        """What there is of label and prediction, each with its word."""
        both = (("label", self.label), ("predicted", self.prediction))
        return [(word, field) for word, field in both if field is not None]

    def class_name(self, number: int) -> str:
        """Returns the name of a class, or its number where it has none."""
        if number < 0:
            return "–"
        return self.classes[number] if number < len(self.classes) else str(number)


@dataclass(frozen=True)
class LayerPanel:
    """One layer in the frame: its mosaic and what is written about it.

    Attributes:
        mosaic: Where its tiles go.
        labels: What each tile is called.
        name: What it is.
        details: Its module, its maps, and how they are shown.
        entries: The palette's entries in its colour bar; those of the colormap by default.
        color_bar: Whether it has a colour bar.
        gains: Whether its tiles have gain bars.
    """

    mosaic: Mosaic
    labels: list[str]
    name: str
    details: str
    entries: range | None = None
    color_bar: bool = True
    gains: bool = False


@dataclass(frozen=True)
class Headings:
    """What is written in every frame alike.

    Attributes:
        title: Bold, at the top.
        subtitle: What follows it.
        scales: What the colours stand for, a paragraph each.
    """

    title: str
    subtitle: str
    scales: tuple[str, ...]


def choose_headings(
    runs: RunSet, panels: Sequence[LayerPanel], layers: Sequence[str], title: str | None, scale: str
) -> Headings:
    """Returns what stands over a film.

    Args:
        runs: What is shown.
        panels: The layers, from top to bottom.
        layers: Their names, each once.
        title: The heading that was asked for, if any.
        scale: What the range of values is.
    """
    scales = (f"{runs.recordings[0].quantity}, {scale}",)
    if len(panels) == 1:
        name, details = panels[0].name, panels[0].details
        if title:
            return Headings(clean(title), f"{name}   {details}", scales)
        return Headings(name, details, scales)
    name = clean(layers[0]) if len(layers) == 1 else f"{len(layers)} layers"
    if title:
        return Headings(clean(title), ", ".join(filter(None, [name, runs.describe()])), scales)
    return Headings(name, runs.describe(), scales)


def _picture_text(recording: Recording, name: str) -> str:
    if recording.probe_number is None:
        return f"{clean(name) or 'input'}: first image of the batch"
    text = f"fixed image {recording.probe_number}, evaluation mode"
    return f"{clean(name)}: {text}" if name else text
