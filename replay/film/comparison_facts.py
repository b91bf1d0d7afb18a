"""What a comparison tells of its two runs beside the maps: losses, answers, input pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from replay.film.facts import InputCaption
from replay.film.layout import SIDE
from replay.formatting import clean
from replay.maps.input_image import InputPicture
from replay.maps.runs import RunSet
from replay.maps.selection import spread
from replay.recording import read_losses
from replay.schema import Cell

_SAMPLED = 16  # frames whose input pictures are held against each other
_SIDE_OF_TWO = 160  # width of the input pictures where each run has its own


@dataclass(frozen=True)
class RunFacts:
    """What the captions tell of one run; arrays have one entry for every frame that both have.

    Attributes:
        name: What to call it.
        loss: float64, or None where none was logged.
        prediction: What the network answered, in words; None where it was not recorded.
    """

    name: str
    loss: npt.NDArray[np.float64] | None = None
    prediction: list[str] | None = None

    @classmethod
    def read(cls, runs: RunSet, place: int) -> RunFacts:
        """Reads what one of two runs logged."""
        recording = runs.recordings[place]
        caption = InputCaption.read(recording, runs, "", None)
        answers = None
        if caption.prediction is not None:
            answers = [clean(caption.class_name(int(number))) for number in caption.prediction]
        loss = read_losses(recording.batches, runs.all_cells)
        return cls(clean(runs.labels[place]), loss, answers)


def input_pictures(runs: RunSet, cells: Sequence[Cell]) -> list[InputPicture]:
    """Returns one picture where both runs saw the same in 16 frames, else one each, or none."""
    if not all(InputPicture.possible(recording) for recording in runs.recordings):
        return []
    a, b = (InputPicture(recording, cells, SIDE) for recording in runs.recordings)
    if all(np.array_equal(a.show(*cell), b.show(*cell)) for cell in spread(cells, _SAMPLED)):
        return [a]
    return [InputPicture(recording, cells, _SIDE_OF_TWO) for recording in runs.recordings]


def input_captions(runs: RunSet, pictures: Sequence[InputPicture]) -> list[InputCaption]:
    """Returns what stands below each input picture; the answers stand over the runs instead."""
    if len(pictures) == 1:
        caption = InputCaption.read(runs.recordings[0], runs, "input of both", pictures[0])
        return [replace(caption, prediction=None)]
    found = zip(runs.recordings, runs.labels, pictures, strict=False)
    return [
        replace(InputCaption.read(recording, runs, label, picture), prediction=None)
        for recording, label, picture in found
    ]
