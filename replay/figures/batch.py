"""One batch of one recording, as figures draw it: its levels, its picture, what is said of it."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from replay.formatting import clean, format_loss, format_shape
from replay.maps.axes import JointMaps
from replay.maps.input_picture import InputPicture
from replay.maps.kernels import kernel_series
from replay.maps.runs import Row, RunSet
from replay.maps.scaling import Scaler
from replay.maps.selection import choose
from replay.option_values import Numbers
from replay.raster.palette import Pixels, Range
from replay.raster.tile_captions import Gains
from replay.recording import Logged, Recording, read_logged
from replay.schema import DamagedError, SelectionError, format_intervals
from replay.schema.faces import call

LEVELS = 254  # of the colormap; NaN and infinity take the two that are left of 256
_NAMED = 4  # batches that are left out; of more it is said how many


@dataclass(frozen=True)
class BatchPanel:
    """One batch of one recording: its maps as levels, and what is said beside them."""

    label: str
    epoch: int
    batch: int
    levels: npt.NDArray[np.uint8]  # (C * S, H, W)
    range: Range | None
    kernels: npt.NDArray[np.float16] | None
    image: Pixels | None
    input_text: str
    facts: list[str]
    answers: list[str]
    gains: Gains | None  # of each channel, where each map has a range of its own
    quantity: str  # what the values are
    tiles: Pixels | None = None  # (C * S, H, W, 3), of what has colours of its own
    bar: Pixels | None = None  # (LEVELS, 3), the colours of its colour bar, if it has its own
    scale: str = ""  # what the colours stand for; empty where the scaler says it

    def picture(self, place: int, colors: Pixels) -> Pixels:
        """Returns the picture of one map, uint8 (H, W, 3).

        Args:
            place: Which map it is.
            colors: The colors of the levels, uint8 (256, 3).
        """
        found: Pixels = colors[self.levels[place]] if self.tiles is None else self.tiles[place]
        return found


def choose_batches(shown: RunSet, epochs: Numbers, batch: int) -> list[tuple[int, int]]:
    """Returns the batch in each of the epochs; -1 is the last one that there is in an epoch."""
    cells = []
    for epoch in choose(epochs, np.flatnonzero(shown.present.any(axis=1)).tolist(), "epoch"):
        recorded = np.flatnonzero(shown.present[epoch]).tolist()
        if batch not in recorded and not -len(recorded) <= batch < 0:
            where = " and ".join(str(recording.path) for recording in shown.recordings)
            raise SelectionError(
                f"no batch {batch} in epoch {epoch} of {where}; "
                f"recorded: {format_intervals(recorded)}"
            )
        cells.append((epoch, batch if batch >= 0 else recorded[batch]))
    return cells


def one_group(shown: RunSet) -> tuple[JointMaps, list[Row]]:
    """Returns the rows of a figure, which has one arrangement for all of them."""
    first = shown.rows[0].maps
    for row in shown.rows:
        if row.maps.layout.shape != first.layout.shape:
            raise SelectionError(
                f"layer {first.layer.name!r} has frames of {format_shape(first.layer.shape)} in "
                f"{shown.recordings[0].path} and of {format_shape(row.maps.layer.shape)} in "
                f"{shown.recordings[row.place].path}; a figure needs equal ones"
            )
    return shown.groups()[0]


def load_panels(
    shown: RunSet,
    rows: Sequence[Row],
    cells: Sequence[tuple[int, int]],
    channels: Sequence[int],
    scalers: Sequence[Scaler],
    kernels: bool,
    pictures: Sequence[InputPicture | None],
    remarks: list[str],
) -> tuple[list[BatchPanel], str]:
    """Reads the batches of a figure, from the top down; damaged ones are left out.

    Args:
        shown: The recordings.
        rows: Those of the figure.
        cells: The (epoch, batch) of each, all rows of one beside each other.
        channels: As for `load_panel`, like those that follow.
        scalers: The scale of each row.
        kernels: Whether kernels are drawn.
        pictures: The input picture of each recording.
        remarks: To which is added which are left out.

    Returns:
        What can be drawn, and what the figure says of the rest; nothing where there is none.

    Raises:
        DamagedError: Nothing can be drawn.
    """
    panels, without, damage = [], [], []
    losses = [read_logged(run.batches, run.frames) for run in shown.recordings]
    for cell in cells:
        for row, scaler in zip(rows, scalers, strict=True):
            try:
                panels.append(
                    load_panel(
                        shown, row, cell, channels, scaler, kernels, pictures, losses[row.place]
                    )
                )
            except DamagedError as error:
                damage.append(error)
                run = f"{clean(shown.labels[row.place])} " if len(shown.recordings) > 1 else ""
                without.append(f"{run}epoch {cell[0]} batch {cell[1]}")
    if not damage:
        return panels, ""
    if not panels:
        raise damage[0]
    verify = call("verify", shown.recordings[0].path)
    others = f" and {len(damage) - 1} more: see '{verify}'" if damage[1:] else ""
    remarks.append(f"{damage[0]}{others}; left out of the figure")
    more = len(without) - _NAMED
    named = ", ".join(without[:_NAMED]) + (f" and {more} more" if more > 0 else "")
    return panels, f"; damaged, left out: {named}"


def load_panel(
    shown: RunSet,
    row: Row,
    cell: tuple[int, int],
    channels: Sequence[int],
    scaler: Scaler,
    kernels: bool,
    pictures: Sequence[InputPicture | None],
    losses: Logged,
) -> BatchPanel:
    """Reads one batch of one row; `losses` are those of all frames of its recording.

    Raises:
        DamagedError: It is not what was recorded.
    """
    recording = shown.recordings[row.place]
    maps = np.ascontiguousarray(row.maps[cell][list(channels)])  # (C, S, H, W)
    if cell in row.maps.damaged:
        raise DamagedError(row.maps.damaged[cell])
    series, tiles = row.maps.series, None
    if series.in_colour:
        tiles = series.tiles(cell, channels)  # type: ignore[attr-defined]
    scaler.measure(*cell, maps)
    levels, own = scaler.levels(*cell, maps), scaler.channel_bounds(*cell)
    facts = []
    loss, logged = losses
    if loss is not None and logged is not None:
        place = bisect.bisect_left(recording.frames, cell)
        if logged[place]:
            facts.append(f"loss {format_loss(float(loss[place]))}")
    facts += filter(None, [series.remark(cell)])
    answers = [
        f"{word} {_class(recording, int(recording.batches[field][cell]))}"
        for field, word in (("label", "label"), ("prediction", "predicted"))
        if field in recording.batches and recording.batches[field][cell] >= 0
    ]
    between = scaler.range_of(*cell, maps)
    if series.in_colour:
        ends = series.shown(cell)  # type: ignore[attr-defined]
        between = None if ends is None else Range.between(*ends)
    picture = pictures[row.place]
    return BatchPanel(
        clean(shown.labels[row.place]),
        *cell,
        levels=levels.reshape(-1, *levels.shape[2:]),
        range=between and between.times(series.unit),
        kernels=kernel_series(row).kernels(*cell)[list(channels)] if kernels else None,
        image=None if picture is None else picture.show(*cell),
        input_text="" if picture is None else _input_text(recording, picture, cell),
        facts=facts,
        answers=answers,
        gains=None if own is None else Gains(own.gain, own.constant, own.faint),
        quantity=recording.quantity,
        tiles=tiles,
        bar=series.bar(LEVELS),
        scale=recording.scale_words,
    )


def input_pictures(shown: RunSet, wanted: bool) -> list[InputPicture | None]:
    """Returns the input picture of each recording, as a film of all its frames shows it.

    Args:
        shown: The recordings.
        wanted: Whether it is shown.
    """
    return [
        InputPicture(run, shown.cells()) if wanted and InputPicture.possible(run) else None
        for run in shown.recordings
    ]


def _input_text(recording: Recording, picture: InputPicture, cell: tuple[int, int]) -> str:
    if problem := picture.problem(*cell):
        return problem
    number = recording.probe_number
    return ("input" if number is None else f"fixed image {number}") + picture.channels_in_words


def _class(recording: Recording, index: int) -> str:
    names = recording.meta.get("classes")
    known = isinstance(names, list) and index < len(names)
    return clean(str(names[index])) if known and names else str(index)
