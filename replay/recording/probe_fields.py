"""The fields of a fixed image: those of the run, and what the network answered to the image."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.recording.small_values import Fields, fields_in_words
from replay.schema import SelectionError

# What the file keeps of a batch about its own first image, and counts in that image's maps.
_OF_THE_BATCH = ("label", "prediction", "nan", "inf", "missing", "input_checksum")
_CLASSES = ("label", "prediction", "class")  # int64, -1 where there is none
_OF_A_PROBE = re.compile(r"probe(0|[1-9]\d*)\.")
_HIGHEST_CLASS = 1 << 31  # the largest number that can be a class


class ProbeFields(Mapping[str, "npt.NDArray[Any]"]):
    """The fields of the run; label, prediction and probabilities are those of a fixed image.

    `probe3.prediction` of the run is `prediction` of its fixed image 3; those of other images are
    not among them.

    Args:
        fields: The fields of the run.
        order: int64 (epoch, batch), each whole frame's number, or 0.
        number: The number of the fixed image.
        described: What the run's description has on the image, such as its label.
        label: The class of the image that the file has beside it.
    """

    def __init__(
        self,
        fields: Fields,
        order: npt.NDArray[np.int64],
        number: int,
        described: object,
        label: int | None,
    ) -> None:
        self._fields, self._order, self._number = fields, order, number
        known = described if isinstance(described, dict) else {}
        if label is not None:
            known = {**known, "label": label}
        self._constant = {
            name: known[name]
            for name in ("label", "prediction")
            if type(known.get(name)) is int and 0 <= known[name] <= _HIGHEST_CLASS
        }
        prefix = f"probe{number}."
        self._own = {name.removeprefix(prefix): name for name in fields if name.startswith(prefix)}
        usual = [n for n in fields if n not in _OF_THE_BATCH and not of_a_probe(n)]
        self._names = list(dict.fromkeys([*usual, *self._constant, *self._own]))

    def __repr__(self) -> str:
        return fields_in_words(f"fixed image {self._number}", self._names, self._order.shape)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def get(self, name: str, default: Any = None) -> Any:
        """Returns a field, or `default` where there is none of that name."""
        return self[name] if name in self._names else default

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        if name in self._own:
            values = self._fields[self._own[name]]
            if name not in _CLASSES:
                return values
            known = (values >= 0) & (values <= _HIGHEST_CLASS)
            return np.where(known, values, -1).astype(np.int64)
        if name in self._constant:
            return np.where(self._order > 0, self._constant[name], -1).astype(np.int64)
        if name not in self._names:
            raise SelectionError(
                f"no field {name!r} of a fixed image; there are: {', '.join(sorted(self._names))}"
            )
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def of_a_probe(name: str) -> bool:
    """Returns whether a field of the run is on a fixed image, such as `probe0.prediction`."""
    return _OF_A_PROBE.match(name) is not None
