"""What a comparison tells of its runs beside the maps: pictures, labels, losses, answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from replay.captions import clean
from replay.contents import Seen
from replay.facts import see
from replay.inputs import InputPicture
from replay.margins import SIDE
from replay.selection import spread
from replay.sidebyside import Run
from replay.together import Together

_SAMPLED = 16  # input pictures that are held against each other
_SIDE_OF_TWO = 160  # width of the input pictures where each run has its own

Cell = tuple[int, int]


def input_pictures(shown: Together, cells: Sequence[Cell]) -> list[InputPicture]:
    """One picture where both runs saw the same in 16 frames, else one each, or none at all."""
    if not all(InputPicture.possible(recording) for recording in shown.recordings):
        return []
    one = [InputPicture(recording, cells, SIDE) for recording in shown.recordings]
    if all(
        np.array_equal(one[0].show(*cell), one[1].show(*cell)) for cell in spread(cells, _SAMPLED)
    ):
        return one[:1]
    return [InputPicture(recording, cells, _SIDE_OF_TWO) for recording in shown.recordings]


def seen_by_both(shown: Together, inputs: Sequence[InputPicture]) -> list[Seen]:
    """What stands in the column at the left: the pictures, and the labels of their images."""
    labels = shown.labels
    if len(inputs) == 1:
        seen = see(shown.recordings[0], shown, "input of both", inputs[0])
        return [replace(seen, prediction=None)]
    pictures = inputs or (None, None)
    return [
        replace(see(recording, shown, label, picture), prediction=None)
        for recording, label, picture in zip(shown.recordings, labels, pictures, strict=True)
        if picture is not None
    ]


def run_facts(shown: Together, place: int) -> Run:
    """What the captions tell of one of the runs."""
    recording = shown.recordings[place]
    at = tuple(np.array(shown.whole).T)
    loss = None
    if "loss" in recording.batches:
        loss = recording.batches["loss"][at].astype(np.float64)
        # A loss that is NaN throughout was not logged; one that became NaN is news.
        loss = None if np.isnan(loss).all() else loss
    seen = see(recording, shown, "", None)
    answers = None
    if seen.prediction is not None:
        answers = [clean(seen.name(int(number))) for number in seen.prediction]
    return Run(clean(shown.labels[place]), loss, answers)
