"""What a film tells of its recordings beside the maps: heading, loss, pictures, labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from replay.film.geometry import SIDE
from replay.formatting import clean
from replay.maps.input_image import InputPicture
from replay.maps.runs import RunSet
from replay.maps.selection import spread
from replay.raster.mosaic import Mosaic
from replay.raster.text import height_of, wrap
from replay.raster.widgets import SMALL
from replay.recording import Recording
from replay.schema import Cell


def film_facts(shown: RunSet) -> FilmFacts:
    """The frames of the run and its loss; of several recordings, that of the first."""
    cells = shown.whole
    recording = shown.recordings[0]
    loss = None
    if "loss" in recording.batches:
        loss = recording.batches["loss"][tuple(np.array(cells).T)].astype(np.float64)
        # A loss that is NaN throughout was not logged; one that became NaN is news.
        loss = None if np.isnan(loss).all() else loss
    return FilmFacts(cells, loss, clean(shown.labels[0]))


def input_caption(
    recording: Recording, shown: RunSet, label: str, picture: InputPicture | None
) -> InputCaption:
    """What the network of one recording saw and answered."""
    at = tuple(np.array(shown.whole).T)

    def logged(name: str) -> npt.NDArray[np.int64] | None:
        if name not in recording.batches:
            return None
        values: npt.NDArray[np.int64] = recording.batches[name][at].astype(np.int64)
        return values if (values >= 0).any() else None

    names = recording.meta.get("classes")
    classes = tuple(clean(str(name)) for name in names) if isinstance(names, list) else ()
    size, words = None, ""
    if picture is not None:
        size, words = picture.size, _picture_words(recording, label, picture.channels)
    return InputCaption(size, words, logged("label"), logged("prediction"), classes)


def heading(
    shown: RunSet, parts: Sequence[LayerPanel], layers: Sequence[str], title: str | None
) -> tuple[str, str]:
    """What is set bold at the top, and what follows it."""
    if len(parts) == 1:
        first, words = parts[0].name, parts[0].words
        return (clean(title), f"{first}   {words}") if title else (first, words)
    name = clean(layers[0]) if len(layers) == 1 else f"{len(layers)} layers"
    if title:
        return clean(title), ", ".join(filter(None, [name, shown.in_words()]))
    return name, shown.in_words()


def _picture_words(recording: Recording, label: str, channels: int) -> str:
    if recording.probe_number is not None:
        words = f"probe image {recording.probe_number}, evaluation mode"
        words = f"{clean(label)}: {words}" if label else words
    else:
        words = f"{clean(label) or 'input'}: first image of the batch"
    if channels in (1, 3):
        return words
    return words + (", channel 0 of 2" if channels == 2 else f", channels 0–2 of {channels}")


@dataclass(frozen=True)
class FilmFacts:
    """What the captions tell of the run; arrays have one entry for every frame of the run.

    Attributes:
        cells: (epoch, batch) of every frame, in order.
        loss: float64, or None where none was logged.
        whose: Which of several recordings the loss is of; empty where there is but one.
    """

    cells: list[tuple[int, int]]
    loss: npt.NDArray[np.float64] | None = None
    whose: str = ""


@dataclass(frozen=True)
class InputCaption:
    """What the network of a recording saw, and answered; an entry for every frame of the run.

    Attributes:
        size: Height and width of the input picture in the frame; None without one.
        words: What the picture is.
        label: int64, -1 where none was logged; None where there is none at all.
        prediction: As `label`.
        classes: Names of the classes, as far as they are known.
    """

    size: tuple[int, int] | None = None
    words: str = ""
    label: npt.NDArray[np.int64] | None = None
    prediction: npt.NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()

    @property
    def fields(self) -> list[tuple[str, npt.NDArray[np.int64]]]:
        """What there is of label and prediction, each with its word."""
        both = (("label", self.label), ("predicted", self.prediction))
        return [(word, field) for word, field in both if field is not None]

    @property
    def height(self) -> int:
        """Rows of the picture and what is said of it, and a distance below."""
        rows = 0
        if self.size:
            rows += self.size[0] + 6 + 4
            rows += len(wrap(self.words, SMALL, SIDE)) * height_of(SMALL)
        rows += len(self.fields) * (height_of(13) + 2)
        return rows + (14 if rows else 0)

    def name(self, number: int) -> str:
        """A class by its name, or by its number where it has none."""
        if number < 0:
            return "–"
        return self.classes[number] if number < len(self.classes) else str(number)


@dataclass(frozen=True)
class LayerPanel:
    """One layer in the frame: its mosaic and the words about it.

    Attributes:
        mosaic: Where its tiles go.
        labels: What each tile is called.
        name: What it is.
        words: What is said of it.
        entries: The palette's entries in its colour bar; those of the colormap by default.
        bar: Whether it has a colour bar.
    """

    mosaic: Mosaic
    labels: list[str]
    name: str
    words: str
    entries: range | None = None
    bar: bool = True


_SAMPLED = 16  # input pictures that are held against each other


_SIDE_OF_TWO = 160  # width of the input pictures where each run has its own


def input_pictures(shown: RunSet, cells: Sequence[Cell]) -> list[InputPicture]:
    """One picture where both runs saw the same in 16 frames, else one each, or none at all."""
    if not all(InputPicture.possible(recording) for recording in shown.recordings):
        return []
    one = [InputPicture(recording, cells, SIDE) for recording in shown.recordings]
    if all(
        np.array_equal(one[0].show(*cell), one[1].show(*cell)) for cell in spread(cells, _SAMPLED)
    ):
        return one[:1]
    return [InputPicture(recording, cells, _SIDE_OF_TWO) for recording in shown.recordings]


def seen_by_both(shown: RunSet, inputs: Sequence[InputPicture]) -> list[InputCaption]:
    """What stands in the column at the left: the pictures, and the labels of their images."""
    labels = shown.labels
    if len(inputs) == 1:
        seen = input_caption(shown.recordings[0], shown, "input of both", inputs[0])
        return [replace(seen, prediction=None)]
    pictures = inputs or (None, None)
    return [
        replace(input_caption(recording, shown, label, picture), prediction=None)
        for recording, label, picture in zip(shown.recordings, labels, pictures, strict=True)
        if picture is not None
    ]


def run_facts(shown: RunSet, place: int) -> RunFacts:
    """What the captions tell of one of the runs."""
    recording = shown.recordings[place]
    at = tuple(np.array(shown.whole).T)
    loss = None
    if "loss" in recording.batches:
        loss = recording.batches["loss"][at].astype(np.float64)
        # A loss that is NaN throughout was not logged; one that became NaN is news.
        loss = None if np.isnan(loss).all() else loss
    seen = input_caption(recording, shown, "", None)
    answers = None
    if seen.prediction is not None:
        answers = [clean(seen.name(int(number))) for number in seen.prediction]
    return RunFacts(clean(shown.labels[place]), loss, answers)


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


@dataclass(frozen=True)
class Headings:
    """The words of a comparison that stay.

    Attributes:
        title: Bold, at the top.
        subtitle: The line below.
        scales: What the colours stand for, a paragraph each.
    """

    title: str
    subtitle: str
    scales: tuple[str, ...]
