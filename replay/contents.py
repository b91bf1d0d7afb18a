"""What a frame has beside its maps: facts of the run, what a network saw, the words of a layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from replay.captions import height_of, wrap
from replay.margins import SIDE
from replay.panels import SMALL
from replay.tiles import Mosaic


@dataclass(frozen=True)
class Facts:
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
class Seen:
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
class Part:
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
