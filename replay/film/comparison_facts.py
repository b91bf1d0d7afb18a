"""What a comparison tells of its two runs beside the maps: losses, answers, input pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from replay.formatting import clean, format_shape
from replay.maps.axes import JointMaps, spread
from replay.maps.input_picture import InputPicture
from replay.maps.runs import InputCaption, Row, RunSet, choose_layers_of
from replay.maps.scaling import Scaler
from replay.raster.arrangement import SIDE
from replay.recording import Recording, read_logged
from replay.schema import Cell, SelectionError
from replay.schema.suggestions import listed

_SAMPLED = 16  # frames whose input pictures are held against each other
_FLAT = 0.1  # of a common range: what spans less looks flat
_SIDE_OF_TWO = 160  # width of the input pictures where each run has its own


@dataclass(frozen=True)
class RunFacts:
    """What the captions tell of one run; arrays have one entry for every frame that both have.

    Attributes:
        name: What to call it.
        loss: float64, or None where none was logged.
        logged: Whether each loss was logged, bool; None where none was.
        prediction: What the network answered, in words; None where it was not recorded.
    """

    name: str
    loss: npt.NDArray[np.float64] | None = None
    logged: npt.NDArray[np.bool_] | None = None
    prediction: list[str] | None = None

    @classmethod
    def read(cls, runs: RunSet, place: int) -> RunFacts:
        """Reads what one of two runs logged."""
        recording = runs.recordings[place]
        caption = InputCaption.read(recording, runs, "", None)
        answers = None
        if caption.prediction is not None:
            answers = [clean(caption.class_name(int(number))) for number in caption.prediction]
        loss, logged = read_logged(recording.batches, runs.all_cells)
        return cls(clean(runs.labels[place]), loss, logged, answers)


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
            f"no layer is in both recordings: {a.path} has {listed(a.layers)}; "
            f"{b.path} has {listed(b.layers)}"
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


def remarks_on_flat(
    joint: JointMaps,
    cells: Sequence[Cell],
    channels: Sequence[int],
    labels: Sequence[str],
    scaler: Scaler | None,
) -> list[str]:
    """Returns a remark for each run whose maps of a layer look flat on a range for both.

    Args:
        joint: The layer in both runs.
        cells: The (epoch, batch) of the frames that are shown; perhaps none.
        channels: The channels that are shown.
        labels: What to call each run.
        scaler: That of both, if it has one range for all frames, which is then not measured again.
    """
    if not cells:
        return []
    nothing = np.empty(0, np.float16)
    both = (scaler or Scaler(joint, cells, channels)).range_of(*cells[0], nothing)
    remarks = []
    for maps, label in zip(joint.each, labels, strict=True):
        present = [cell for cell in cells if maps.series.present[cell]]
        own = Scaler(maps, present, channels).range_of(*cells[0], nothing) if present else None
        if own is None or both is None:
            continue
        share = (own.high - own.low) / max(both.high - both.low, 1e-300)
        if share < _FLAT:
            remarks.append(
                f"{maps.layer.name} of {label} spans {share:.2g} of the range of both runs and "
                "looks flat; the scale adaptive gives each run its own"
            )
    return remarks
