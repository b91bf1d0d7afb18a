"""What a network answered to a fixed image: a class, and how probable it found it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from replay.formatting import clean
from replay.recording import Recording
from replay.schema import Cell


@dataclass(frozen=True)
class Answer:
    """An answer to one image in one batch.

    Attributes:
        label: The name of the image's class, or its number; empty where that is not known.
        prediction: The same of the class that the network gave it.
        probability: The probability of that class; NaN where it is not known.
        label_probability: The probability of the image's class; likewise.
        right: Whether both are the same class; None where one of them is not known.
    """

    label: str = ""
    prediction: str = ""
    probability: float = np.nan
    label_probability: float = np.nan
    right: bool | None = None


class Answers:
    """What a network answered to a fixed image, batch by batch.

    Args:
        image: The fixed image of a recording.
    """

    def __init__(self, image: Recording) -> None:
        fields = image.batches
        self._fields = {
            name: fields[name]
            for name in ("label", "prediction", "probability", "label_probability")
            if name in fields
        }
        names = image.meta.get("classes")
        self._classes = [clean(str(each)) for each in names] if isinstance(names, list) else []

    def at(self, cell: Cell) -> Answer:
        """Returns the answer in a batch."""
        label, prediction = (self._number(name, cell, -1) for name in ("label", "prediction"))
        known = label >= 0 and prediction >= 0
        return Answer(
            self._name(label),
            self._name(prediction),
            self._number("probability", cell, np.nan),
            self._number("label_probability", cell, np.nan),
            label == prediction if known else None,
        )

    def in_words(self, cell: Cell) -> str:
        """Returns how probable the network found its answer, and the label: `dog 0.61, cat 0.22`.

        Classes without names are `class 3`. Empty where that is not known.
        """
        answer = self.at(cell)
        if not answer.prediction or np.isnan(answer.probability):
            return ""
        words = f"{_named(answer.prediction)} {answer.probability:.2f}"
        if answer.right is False and not np.isnan(answer.label_probability):
            words += f", {_named(answer.label)} {answer.label_probability:.2f}"
        return words

    def _number(self, name: str, cell: Cell, default: float) -> float:
        values = self._fields.get(name)
        if values is None or cell[0] >= values.shape[0] or cell[1] >= values.shape[1]:
            return default
        return float(values[cell])

    def _name(self, number: float) -> str:
        if not number >= 0:
            return ""
        place = int(number)
        return self._classes[place] if place < len(self._classes) else str(place)


def _named(name: str) -> str:
    """Returns a class as it stands before a number."""
    return f"class {name}" if name.isdigit() else name
