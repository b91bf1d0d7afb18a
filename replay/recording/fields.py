"""The numbers that a recording keeps of every batch, such as the loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from replay import schema
from replay.recording.safe_file import SafeFile
from replay.schema import Cell, SelectionError, dataset_path

Fields: TypeAlias = Mapping[str, npt.NDArray[Any]]
"""Fields by name, each of shape (epoch, batch)."""

# What the file keeps of a batch about its own first image, and counts in that image's maps.
_OF_THE_BATCH = ("label", "prediction", "nan", "inf", "missing", "input_checksum")
_ANSWERS = ("label", "prediction")


class BatchFields(Mapping[str, "npt.NDArray[Any]"]):
    """The fields of the batches, each read when it is first asked for.

    Args:
        file: The file.
        order: int64 (epoch, batch), each whole frame's number, or 0.
    """

    def __init__(self, file: SafeFile, order: npt.NDArray[np.int64]) -> None:
        self._file, self._order = file, order
        self._read: dict[str, npt.NDArray[Any]] = {"recorded": order}
        self._names = [
            schema.decode_name(link)
            for link in file.links(schema.BATCHES)
            if file.exists(f"{schema.BATCHES}/{link}", 2)
        ]

    def __contains__(self, name: object) -> bool:
        return name in self._names  # Mapping's own would let our SelectionError pass

    def get(self, name: str, default: Any = None) -> Any:
        """Returns a field, or `default` where there is none of that name."""
        return self[name] if name in self._names else default

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        if name not in self._names:
            raise SelectionError(
                f"no field {name!r} in {self._file.path}; there are: "
                + ", ".join(sorted(self._names))
            )
        if name not in self._read:
            self._read[name] = self._read_field(name)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def _read_field(self, name: str) -> npt.NDArray[Any]:
        field = next((f for f in schema.FIELDS if f.name == name), schema.custom_field(name))
        fitted = np.full(self._order.shape, field.fill, field.dtype)
        values = self._file.read_numbers(dataset_path(schema.BATCHES, name), 2, field.dtype)
        if values is not None:
            rows, columns = np.minimum(fitted.shape, values.shape)
            fitted[:rows, :columns] = values[:rows, :columns]
            fitted[self._order == 0] = field.fill
        return fitted


class ProbeFields(Mapping[str, "npt.NDArray[Any]"]):
    """The fields of the run; label and prediction are those of a fixed image.

    Args:
        fields: The fields of the run.
        order: int64 (epoch, batch), each whole frame's number, or 0.
        known: Numbers that are known of the image, such as its label.
    """

    def __init__(
        self, fields: Fields, order: npt.NDArray[np.int64], known: Mapping[str, int]
    ) -> None:
        self._fields, self._order = fields, order
        self._own = {name: value for name, value in known.items() if name in _ANSWERS}
        self._names = [name for name in fields if name not in _OF_THE_BATCH] + list(self._own)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def get(self, name: str, default: Any = None) -> Any:
        """Returns a field, or `default` where there is none of that name."""
        return self[name] if name in self._names else default

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        if name in self._own:
            return np.where(self._order > 0, self._own[name], -1).astype(np.int64)
        if name not in self._names:
            raise SelectionError(
                f"no field {name!r} of a probe image; there are: {', '.join(sorted(self._names))}"
            )
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def read_losses(fields: Fields, cells: Sequence[Cell]) -> npt.NDArray[np.float64] | None:
    """Returns the loss of each of some frames.

    A loss that is NaN throughout was not logged; one that became NaN is news.

    Args:
        fields: The fields of a recording, see `Recording.batches`.
        cells: (epoch, batch) of the frames, at least one.

    Returns:
        float64 (frames,), or None where no loss was logged.
    """
    if "loss" not in fields:
        return None
    losses: npt.NDArray[np.float64] = fields["loss"][tuple(np.array(cells).T)].astype(np.float64)
    return None if np.isnan(losses).all() else losses
