"""What a film tells of its recordings beside the maps: heading, loss, pictures, labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from replay.formatting import clean, format_count, format_loss, format_number, format_numbers
from replay.maps.input_image import InputPicture
from replay.maps.runs import RunSet
from replay.raster.mosaic import Mosaic
from replay.raster.palette import Range
from replay.recording import Recording, read_losses
from replay.schema import Cell

Count: TypeAlias = tuple[int, int] | str
"""Numbers of values that are NaN and infinite; in words where there is no frame to show."""


@dataclass(frozen=True)
class FilmFacts:
    """What the captions tell of the run; arrays have one entry for every frame of the run.

    Attributes:
        cells: (epoch, batch) of every frame, in order.
        loss: float64, or None where none was logged.
        loss_of: Which of several recordings the loss is of; empty where there is but one.
    """

    cells: list[Cell]
    loss: npt.NDArray[np.float64] | None = None
    loss_of: str = ""

    @classmethod
    def read(cls, runs: RunSet) -> FilmFacts:
        """Reads the frames of the run and its loss; of several recordings, that of the first."""
        cells = runs.all_cells
        return cls(cells, read_losses(runs.recordings[0].batches, cells), clean(runs.labels[0]))


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
            size, text = picture.size, _picture_text(recording, name, picture.channels)
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
    """

    mosaic: Mosaic
    labels: list[str]
    name: str
    details: str
    entries: range | None = None
    color_bar: bool = True


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
    scales = (f"activation, {scale}",)
    if len(panels) == 1:
        name, details = panels[0].name, panels[0].details
        if title:
            return Headings(clean(title), f"{name}   {details}", scales)
        return Headings(name, details, scales)
    name = clean(layers[0]) if len(layers) == 1 else f"{len(layers)} layers"
    if title:
        return Headings(clean(title), ", ".join(filter(None, [name, runs.describe()])), scales)
    return Headings(name, runs.describe(), scales)


def describe(
    facts: FilmFacts,
    panels: Sequence[LayerPanel],
    cells: Sequence[Cell],
    fps: float,
    values: str,
) -> str:
    """Returns two to four plain sentences for those who cannot see a film, in one line.

    Args:
        facts: What is known of the run.
        panels: The layers, from top to bottom.
        cells: The (epoch, batch) of each frame that is shown.
        fps: Frames a second.
        values: What the colours stand for.
    """
    epochs = sorted({epoch for epoch, _ in cells})
    batches = sorted({batch for _, batch in cells})
    when = format_numbers("epoch", epochs)
    if len(batches) > 1:
        when += f", batches {batches[0]} to {batches[-1]}"
    else:
        when += f", batch {batches[0]}"
    seconds = len(cells) / fps
    lasts = f"{seconds:.1f}" if seconds < 10 else f"{seconds:.0f}"
    number = len(panels)
    if facts.loss_of:  # of several recordings
        what = f"feature maps of neural networks while they train, in {format_count(number, 'row')}"
    else:
        layers = "a layer" if number == 1 else f"{number} layers"
        what = f"the feature maps of {layers} of a neural network while it trains"
    sentences = [
        f"Animation of {what}: {'; '.join(map(_panel_in_words, panels))}.",
        f"It shows {format_count(len(cells), 'recorded batch')} ({when}) in {lasts} seconds.",
        values,
        *_loss_in_words(facts, cells),
    ]
    return " ".join(sentences)


def describe_values(cmap: str, scale: str, shown: Range | None) -> str:
    """Returns the sentence that says what the colours of a film stand for.

    Args:
        cmap: Name of the colormap.
        scale: What the range of values is.
        shown: The range, where one holds for the whole film.
    """
    if shown is not None:
        scale = f"from {format_number(shown.low)} to {format_number(shown.high)}, {scale}"
    return f"Values are colours of the colormap {cmap}: {scale}."


def _panel_in_words(panel: LayerPanel) -> str:
    details = ", ".join(panel.details.split("   "))
    return f"{panel.name} ({details})" if details and panel.name else panel.name or details


def _loss_in_words(facts: FilmFacts, cells: Sequence[Cell]) -> list[str]:
    if facts.loss is None:
        return []
    places = {cell: place for place, cell in enumerate(facts.cells)}
    first, last = (facts.loss[places[cell]] for cell in (cells[0], cells[-1]))
    whose = f" of {facts.loss_of}" if facts.loss_of else ""
    if len(cells) == 1:
        return [f"The loss{whose} is {format_loss(first)}."]
    falls = np.isfinite([first, last]).all() and last < first
    verb = "falls" if falls else "goes"
    return [f"The loss{whose} {verb} from {format_loss(first)} to {format_loss(last)}."]


def _picture_text(recording: Recording, name: str, channels: int) -> str:
    if recording.probe_number is not None:
        text = f"probe image {recording.probe_number}, evaluation mode"
        text = f"{clean(name)}: {text}" if name else text
    else:
        text = f"{clean(name) or 'input'}: first image of the batch"
    if channels in (1, 3):
        return text
    return text + (", channel 0 of 2" if channels == 2 else f", channels 0–2 of {channels}")
