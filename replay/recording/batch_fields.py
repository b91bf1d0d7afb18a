"""The numbers that were kept of each batch: loss, step, label and whatever else was logged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from replay import schema
from replay.recording.safe_file import SafeFile
from replay.recording.small_values import (
    Fields,
    Mask,
    Vouched,
    fields_in_words,
    read_checked,
    read_losses,
)
from replay.schema import Cell, SelectionError, dataset_path

# What is written of every frame: where it has no checksum it is lost, whatever is there.
_OF_ALL = schema.RESERVED - {"recorded", "input_checksum"}
_SPARSE = 0.4  # the share of frames without a loss from which on most were not to have one

Logged: TypeAlias = "tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]] | tuple[None, None]"
"""The loss of each frame, and whether it was logged, see `read_logged`."""


class BatchFields(Mapping[str, "npt.NDArray[Any]"]):
    """The fields of the batches, each read when it is first asked for.

    Args:
        file: The file.
        order: int64 (epoch, batch), each whole frame's number, or 0.
        vouched: Where the values of a frame all have checksums.
    """

    def __init__(self, file: SafeFile, order: npt.NDArray[np.int64], vouched: Vouched) -> None:
        self._file, self._order, self._vouched = file, order, vouched
        self._read: dict[str, npt.NDArray[Any]] = {"recorded": order}
        self._damaged: dict[str, Mask | None] = {}
        self._names = [
            schema.decode_name(link)
            for link in file.links(schema.BATCHES)
            if file.exists(f"{schema.BATCHES}/{link}", 2)
        ]

    def __repr__(self) -> str:
        return fields_in_words(repr(str(self._file.path)), self._names, self._order.shape)

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

    def damaged(self, name: str) -> npt.NDArray[np.intp]:
        """Returns the (epoch, batch) of the values that are damaged, (N, 2); they read as unset.

        Raises:
            FileError: They cannot be read.
        """
        if name not in self._damaged:
            self._read_field(name)
        mask = self._damaged[name]
        if mask is None:
            return np.zeros((0, 2), np.intp)
        rows, columns = np.minimum(mask.shape, self._order.shape)
        return np.argwhere(mask[:rows, :columns] & (self._order[:rows, :columns] > 0))

    def unfinite(self) -> npt.NDArray[np.bool_] | None:
        """Returns where a map may have values that are not finite; None where nothing says it."""
        if not {"nan", "inf"} <= set(self._names):
            return None
        found: npt.NDArray[np.bool_] = (self["nan"] > 0) | (self["inf"] > 0)
        for cell in (*self.damaged("nan"), *self.damaged("inf")):
            found[tuple(cell)] = True
        return found

    def _read_field(self, name: str) -> npt.NDArray[Any]:
        field = next((f for f in schema.FIELDS if f.name == name), schema.custom_field(name))
        fitted = np.full(self._order.shape, field.fill, field.dtype)
        path = dataset_path(schema.BATCHES, name)
        fill = None if name in _OF_ALL else field.fill
        values, self._damaged[name] = read_checked(
            self._file, path, field.dtype, self._vouched.mask, fill
        )
        if values is not None:
            mask = self._damaged[name]
            if mask is not None and name != "input_checksum":  # which the image is held against
                values[mask] = field.fill
            rows, columns = np.minimum(fitted.shape, values.shape)
            fitted[:rows, :columns] = values[:rows, :columns]
            fitted[self._order == 0] = field.fill
        return fitted


def read_logged(fields: Fields, cells: Sequence[Cell]) -> Logged:
    """Returns the loss of each of some frames, as `read_losses`, and which of them were logged.

    Args:
        fields: The fields of a recording.
        cells: (epoch, batch) of the frames, in their order, at least one.

    Returns:
        float64 (frames,) and bool (frames,); None and None where no loss was logged.
    """
    losses = read_losses(fields, cells)
    return (None, None) if losses is None else (losses, _which_logged(fields, cells, losses))


def _which_logged(
    fields: Fields, cells: Sequence[Cell], losses: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Returns whether each loss was logged, bool (frames,); the file has NaN where it was not.

    NaN is taken for a loss that was logged unless many are NaN with finite ones behind them: then
    only every so many were logged. Of these, one is taken for a loss whose maps, or those of the
    next frame, have NaN in them; and so are the last ones, where there are more of them in a row
    than before.

    Args:
        fields: The fields of a recording.
        cells: (epoch, batch) of the frames, in their order.
        losses: The loss of each, float64 (frames,).
    """
    missing = np.isnan(losses)
    known = np.flatnonzero(~missing)
    before = known[-1] if len(known) else 0  # frames with a loss behind them
    if missing[:before].sum() <= _SPARSE * before:
        return np.ones(len(cells), bool)
    counts, at = fields.get("nan"), tuple(np.array(cells).T)
    broken = np.zeros(len(cells), bool) if counts is None else counts[at] > 0
    broken[:-1] |= broken[1:].copy()
    found: npt.NDArray[np.bool_] = ~missing | broken
    longest = int(np.diff(known, prepend=-1).max()) - 1
    if len(cells) - 1 - known[-1] > longest:
        found[known[-1] + 1 :] = True
    return found
