"""What a page of two runs holds beside each other: layers on one scale, pictures, losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from replay.formatting import clean, format_shape
from replay.maps.axes import JointMaps, Maps
from replay.maps.input_picture import InputPicture
from replay.option_values import Numbers
from replay.recording import Recording
from replay.recording.small_values import read_losses
from replay.schema import Cell, OptionError, SelectionError
from replay.webpage.input_data import INPUT_SIDE, InputData
from replay.webpage.layer_data import LayerData
from replay.webpage.manifest import describe_frames
from replay.webpage.size_budget import PageItem

_OWN = ("loss", "label", "prediction", "curve", "unseen")  # what the manifest has for each run


def check_runs(runs: Sequence[Recording]) -> None:
    """Makes sure that there are no more than two recordings.

    Raises:
        OptionError: There are more.
    """
    if len(runs) > 2:
        raise OptionError(f"page: expected one recording or two, found {len(runs)}")


def layers_of(
    runs: Sequence[Recording],
    name: str,
    channels: Numbers,
    cells: Sequence[Cell],
    source: int,
) -> list[LayerData]:
    """Returns a layer of each run, on the scales of the values of all of them.

    The adaptive ranges are each run's own.

    Raises:
        SelectionError: Its maps are not of one shape.
    """
    if len(runs) == 1:
        return [LayerData(runs[0][name], channels, cells, source=source)]
    maps = [Maps(run[name]) for run in runs]
    if len({each.layout.shape for each in maps}) > 1:
        found = " and ".join(
            f"{format_shape(each.layer.shape)} in {run.path}"
            for each, run in zip(maps, runs, strict=True)
        )
        raise SelectionError(
            f"layer {name!r} has frames of {found}; a page of two runs needs equal ones, so name "
            "other layers"
        )
    joint = JointMaps(maps)
    return [LayerData(run[name], channels, cells, joint, source) for run in runs]


def pictures_of(
    runs: Sequence[Recording], cells: Sequence[Cell], source: int
) -> list[InputData | None]:
    """Returns the input pictures of each run; one only where all saw the same in each frame."""
    found = [InputData(run, cells, source) if InputPicture.possible(run) else None for run in runs]
    if len(runs) == 1 or not all(InputPicture.possible(run) for run in runs):
        return found
    a, b = (InputPicture(run, cells, INPUT_SIDE) for run in runs)
    if all(np.array_equal(a.show(*cell), b.show(*cell)) for cell in cells):
        return [found[0], None]
    return found


def join_items(items: Sequence[PageItem]) -> PageItem:
    """Returns several items that are averaged over the same blocks as one."""
    first = items[0]
    return PageItem(
        max(item.side for item in items),
        lambda fidelity: sum(item.cost(fidelity) for item in items),
        first.tolerance,
        first.source,
        min(item.most for item in items),
        any(item.exact for item in items),
    )


def describe_runs(
    runs: Sequence[Recording],
    labels: Sequence[str],
    asked: Sequence[Cell],
    kept: Sequence[Cell],
    pictures: Sequence[InputData | None],
    timeline: Sequence[Cell],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns the frames' part of the manifest, and each run's: name, fields and picture."""
    losses = [read_losses(run.batches, timeline) for run in runs]
    known = [each for each in losses if each is not None]
    every = np.concatenate(known) if known else None
    each = [describe_frames(run, asked, kept, every, timeline) for run in runs]
    one = pictures[0] is not None and pictures[1:] == [None] and InputPicture.possible(runs[1])
    described = []
    for run, label, frames, picture in zip(runs, labels, each, pictures, strict=True):
        about = picture.describe() if picture else None
        if about is not None and one:
            about["words"] += ", of both runs"
        fields = {name: frames[name] for name in _OWN}
        described.append(
            {"name": clean(label), "file": clean(run.path.name), "input": about, **fields}
        )
    shared = {**each[0], **dict.fromkeys(_OWN)}
    return shared, described
