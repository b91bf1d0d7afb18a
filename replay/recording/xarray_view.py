"""A layer of a recording as a Dataset of xarray, of which a frame is read when it is looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from replay.recording.scaled import true_frames
from replay.schema import FRAME_DTYPE, Cell, Layer, OptionError

_DIMENSIONS = {
    "C": "channel",
    "D": "z",
    "H": "y",
    "W": "x",
    "L": "position",
    "T": "token",
    "Q": "query",
}


def dimension_names(layer: Layer) -> tuple[str, ...]:
    """Returns what the axes of a layer's frame are called: `channel`, `y`, `x` ...

    >>> dimension_names(Layer("conv1", "", (12, 8, 8)))
    ('channel', 'y', 'x')
    """
    if len(layer.axes) != len(layer.shape):
        return tuple(f"axis{place}" for place in range(len(layer.shape)))
    return tuple(_DIMENSIONS.get(letter, letter) for letter in layer.axes)


def to_xarray(run: Any, layer: str | None) -> Any:
    """Returns a layer of an open `Recording` as an `xarray.Dataset`; see its `to_xarray`."""
    try:
        import xarray
    except ImportError:
        text = "to_xarray needs the package xarray: pip install 'mapreel[xarray]'"
        raise OptionError(text) from None
    run.require_frames()
    series = run[run.layers[0] if layer is None else layer]
    frames = true_frames(series)
    found, cell = series.layer, ("epoch", "batch")
    names = dimension_names(found)
    present = series.present
    maps = _lazy(found.shape, present, lambda at: frames[at], frames.dtype)
    values: dict[str, Any] = {"maps": ((*cell, *names), maps)}
    inputs = run.inputs
    if len(inputs.shapes) == 1:
        axes = Layer("", "", inputs.shapes[0])
        names = tuple(f"input_{name}" for name in dimension_names(axes))
        images = _lazy(inputs.shapes[0], inputs.present, lambda at: inputs[at])
        values["input"] = (*cell, *names), images
    coordinates: dict[str, Any] = {
        "epoch": np.arange(present.shape[0]),
        "batch": np.arange(present.shape[1]),
        "channel": np.arange(found.channels),
    }
    if series.has_ranges:
        values["range"] = (*cell, "channel", "bound"), frames.ranges()
        coordinates["bound"] = ["least", "greatest"]
    # A field may have the name of an axis: a variable of that name would be taken for its places.
    taken = {*values, *coordinates, *(axis for axes, _ in values.values() for axis in axes)}
    for name, numbers in run.batches.items():
        free = name
        while free in taken or (free != name and free in run.batches):
            free = f"field_{free}"
        values[free] = cell, numbers
    about = {"file": str(run.path), "run_id": run.run_id, "created": run.created}
    about |= {"layer": found.name, "module": found.module, "note": found.note}
    return xarray.Dataset(values, coordinates, {k: v for k, v in about.items() if v})


def _lazy(
    shape: tuple[int, ...],
    present: npt.NDArray[np.bool_],
    read: Callable[[Cell], npt.NDArray[Any]],
    dtype: np.dtype[Any] = FRAME_DTYPE,
) -> Any:
    """Returns frames as an array (epoch, batch, ...) that reads what is taken of it.

    Args:
        shape: Of a frame.
        present: bool (epoch, batch), where there is one; NaN elsewhere.
        read: Gives a frame.
        dtype: Of its values.
    """
    from xarray.backends import BackendArray
    from xarray.core import indexing

    class Frames(BackendArray):
        def __init__(self) -> None:
            self.shape, self.dtype = (*present.shape, *shape), dtype

        def __getitem__(self, key: Any) -> Any:
            support = indexing.IndexingSupport.OUTER
            return indexing.explicit_indexing_adapter(key, self.shape, support, self._take)

        def _take(self, key: tuple[Any, ...]) -> npt.NDArray[Any]:
            rows, columns = (
                np.arange(size)[part] for size, part in zip(present.shape, key[:2], strict=True)
            )
            within = tuple(key[2:])
            parts = [
                _part(_frame(int(epoch), int(batch)), within)
                for epoch in np.atleast_1d(rows)
                for batch in np.atleast_1d(columns)
            ]
            sizes = [len(part) for part in (rows, columns) if np.ndim(part)]
            if not parts:
                empty = _part(np.zeros(shape, dtype), within)
                return np.zeros((*sizes, *empty.shape), dtype)
            return np.stack(parts).reshape(*sizes, *parts[0].shape)

    def _frame(epoch: int, batch: int) -> npt.NDArray[Any]:
        if not present[epoch, batch]:
            return np.full(shape, np.nan, dtype)
        return read((epoch, batch)).reshape(shape)

    return indexing.LazilyIndexedArray(Frames())


def _part(frame: npt.NDArray[Any], key: tuple[Any, ...]) -> npt.NDArray[Any]:
    """Returns a part of a frame, axis by axis: a list on two axes is a block of both."""
    for axis in reversed(range(len(key))):
        frame = frame[(slice(None),) * axis + (key[axis],)]
    return frame
