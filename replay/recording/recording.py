"""Opens a recording safely and hands out lazy arrays by layer, epoch and batch.

What the datasets of the file mean; `hdf5.py` reads them. Opening reads the small per-batch fields
once and takes that as the state of affairs: frames committed later appear after `refresh()`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from replay import schema
from replay.formatting import format_count
from replay.recording.safe_file import SafeFile
from replay.recording.series import Inputs, Series, path_of
from replay.schema import (
    FileError,
    Layer,
    SelectionError,
    in_words,
)

if TYPE_CHECKING:
    from replay.recording.probe import Probe

_ROOT_ATTRIBUTES = ("format", "version", "run_id", "created", "meta")


def open_recording(path: str | os.PathLike[str]) -> Recording:
    """Opens a recording for reading; also one whose writer is still at work or was killed.

    Args:
        path: The file, as `record` wrote it.

    Returns:
        The recording, to be used as a context manager or closed.

    Raises:
        FileError: It is missing, not a regular file, not HDF5, not a mapreel recording or of a
            newer version of the format.
    """
    return Recording(path)


class Recording:
    """An open recording: `recording["conv1"][epoch, batch]`, `recording.inputs[epoch, batch]`.

    Use it as a context manager, or call `close`.

    Attributes:
        path: The file.
        version: Version of the file format.
        meta: The run's description, as the recorder wrote it (command, versions, model, ...).
        run_id: Identifies the run; the same in every file of one run.
        created: When recording began, ISO 8601 with time zone.
        layers: Names of the recorded layers, in the order in which they first ran.
        order: int64 (epoch, batch), each whole frame's number in the order of recording, or 0.
        committed: How many frames were committed.
        dropped: How many were left out because the recorder could not keep up.
        lost: How many were lost to a failure.
        closed: Whether the file was closed cleanly; if not, its writer is at work or was killed.
        probe_number: None; the number of the fixed image in what `probe` gives.
    """

    probe_number: int | None = None
    preview: ClassVar[Callable[[Recording], str] | None] = None
    """What shows a recording in a notebook, as HTML; `replay` sets it, so that this room imports
    none of those that draw."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file = SafeFile(self.path)
        try:
            self._read_header()
            self.refresh()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        whole = int((self.order > 0).sum())
        layers = format_count(len(self.layers), "layer")
        return f"<Recording {str(self.path)!r}: {layers}, {format_count(whole, 'frame')}>"

    def _repr_html_(self) -> str:
        return repr(self) if Recording.preview is None else Recording.preview(self)

    def close(self) -> None:
        """Closes the file. The arrays handed out stay valid."""
        self._file.close()

    def _read_header(self) -> None:
        attribute = self._file.attribute
        if _text(attribute("format")) != schema.FORMAT:
            raise FileError(
                f"not a mapreel recording: {self.path} is HDF5, but its attribute 'format' is "
                f"not {schema.FORMAT!r}"
            )
        version = attribute("version")
        if not isinstance(version, (int, np.integer)) or version < 1:
            raise FileError(f"damaged recording: {self.path} has no version number")
        if version > schema.VERSION:
            raise FileError(
                f"{self.path} has version {int(version)} of the format, and this mapreel reads up "
                f"to {schema.VERSION}: upgrade with 'pip install -U mapreel'"
            )
        self.version = int(version)
        self.run_id = _text(attribute("run_id"))
        self.created = _text(attribute("created"))
        self.meta = schema.decode_meta(_text(attribute("meta")))

    def refresh(self) -> None:
        """Takes in what was committed since the recording was opened or last refreshed.

        The counter of committed frames is read before anything that it vouches for.
        """
        self._file.refresh()
        self.committed, self.dropped, self.lost, closed = self._read_state()
        self.closed = bool(closed)

        order = self._file.read_numbers(path_of(schema.BATCHES, "recorded"), 2, np.int64)
        if order is None:
            order = np.zeros((0, 0), np.int64)
        whole = (order > 0) & (order <= self.committed)
        self.order: npt.NDArray[np.int64] = np.where(whole, order, 0)
        self._fields: dict[str, npt.NDArray[Any]] = {}
        self._batches: _Fields | None = None
        self._series = {layer.name: Series(self, layer) for layer in self._find_layers()}
        self.layers: tuple[str, ...] = tuple(self._series)

    @property
    def shape(self) -> tuple[int, int]:
        """(epochs, batches) that the file has room for; a cell may be without a frame."""
        return self.order.shape[0], self.order.shape[1]

    def require_frames(self) -> None:
        """Makes sure that there is something to show.

        Raises:
            FileError: No layer was recorded, or no frame was committed.
        """
        state = "" if self.closed else "; it was not closed, its writer may still be at work"
        if not self.layers:
            raise FileError(f"empty recording: {self.path} holds no layer{state}")
        if not self.order.any():
            raise FileError(f"empty recording: no frame was committed to {self.path}{state}")

    @property
    def frames(self) -> list[tuple[int, int]]:
        """(epoch, batch) of every whole frame, in the order of epochs and batches."""
        return [(int(epoch), int(batch)) for epoch, batch in np.argwhere(self.order > 0)]

    @property
    def batches(self) -> Mapping[str, npt.NDArray[Any]]:
        """The per-batch fields by name, each of shape (epoch, batch); see docs/format.md."""
        if self._batches is None:
            self._batches = _Fields(self)
        return self._batches

    @property
    def inputs(self) -> Inputs:
        """The first image of each batch, as the network saw it."""
        return Inputs(self)

    @property
    def probes(self) -> int:
        """How many fixed images were shown to the network at each recorded batch."""
        there = set(self._file.links(schema.PROBE))
        return next(n for n in range(len(there) + 1) if str(n) not in there)

    def probe(self, number: int = 0) -> Probe:
        """What the layers put out for a fixed image: a recording like this one, of the same file.

        Args:
            number: The image's number, from 0.

        Raises:
            SelectionError: No such image was recorded; the message says what was.
        """
        from replay.recording.probe import Probe  # which is built on this module

        return Probe(self, number)

    def __contains__(self, name: object) -> bool:
        return name in self._series

    def __getitem__(self, name: str) -> Series:
        """The frames of one layer.

        Raises:
            SelectionError: No such layer in the file; the message says which are there.
        """
        try:
            return self._series[name]
        except KeyError:
            there = ", ".join(self.layers[:12]) + (" ..." if len(self.layers) > 12 else "")
            raise SelectionError(
                f"no layer {name!r} in {self.path}; recorded: {there or 'none'}"
            ) from None

    def locate(self, epoch: int, batch: int) -> tuple[int, int]:
        """The epoch and batch of a whole frame, negative numbers counted from the last one.

        Raises:
            SelectionError: Nothing was recorded there; the message says what was.
        """
        rows, columns = self.shape
        if 0 <= epoch < rows and 0 <= batch < columns and self.order[epoch, batch] > 0:
            return epoch, batch
        epochs = np.flatnonzero((self.order > 0).any(axis=1))
        found = _index(epochs, epoch)
        if found is None:
            raise SelectionError(
                f"no epoch {epoch} in {self.path}; recorded: {in_words(epochs.tolist())}"
            )
        batches = np.flatnonzero(self.order[found] > 0)
        at = _index(batches, batch)
        if at is None:
            raise SelectionError(
                f"no batch {batch} in epoch {found} of {self.path}; "
                f"recorded: {in_words(batches.tolist())}"
            )
        return found, at

    # What follows is for the classes in this file.

    def _read_state(self) -> list[int]:
        values = self._file.read_numbers(schema.STATE, 1, np.int64)
        counts = [] if values is None else values.tolist()
        return [*counts, 0, 0, 0, 0][: len(schema.STATE_FIELDS)]

    def _field_array(self, name: str) -> npt.NDArray[Any]:
        if name == "recorded":
            return self.order
        field = next((f for f in schema.FIELDS if f.name == name), schema.custom_field(name))
        fitted = np.full(self.order.shape, field.fill, field.dtype)
        values = self._file.read_numbers(path_of(schema.BATCHES, name), 2, field.dtype)
        if values is not None:
            rows, columns = np.minimum(fitted.shape, values.shape)
            fitted[:rows, :columns] = values[:rows, :columns]
            fitted[self.order == 0] = field.fill
        return fitted

    def _find_layers(self) -> list[Layer]:
        """The layers in the order of their first calls; those of a probe lie in its group."""
        group = Layer("", "", (), probe=self.probe_number).group
        found: list[tuple[int, Layer]] = []
        for link in self._file.links(group + schema.MAPS):
            name = schema.decode_name(link)
            path = f"{schema.MAPS}/{link}"
            shape = self._file.frame_shape(group + path)
            if shape is None or schema.encode_name(name) != link:
                continue
            keys = ("order", "module", "axes", "pooled", "note")
            about = self._file.attributes(keys, group + path)
            if group and None in about.values():  # as in the run itself
                usual = self._file.attributes(keys, path)
                about = {k: usual[k] if about[k] is None else about[k] for k in keys}
            layer = Layer(
                name=name,
                module=_text(about["module"]),
                shape=shape,
                kernel=self._file.frame_shape(f"{group}{schema.KERNELS}/{link}"),
                axes=_text(about["axes"]),
                pooled=max(1, _whole(about["pooled"], 1)),
                probe=self.probe_number,
                note=_text(about["note"]),
            )
            found.append((_whole(about["order"], 1 << 30), layer))
        found.sort(key=lambda entry: entry[0])
        return [layer for _, layer in found]

    def _first_attribute(self, name: str, *paths: str) -> Any:
        values = (self._file.attribute(name, path) for path in paths)
        return next((value for value in values if value is not None), None)


class _Fields(Mapping[str, "npt.NDArray[Any]"]):
    """The per-batch fields, each read when it is first asked for."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._names = [
            schema.decode_name(link)
            for link in recording._file.links(schema.BATCHES)
            if recording._file.exists(f"{schema.BATCHES}/{link}", 2)
        ]

    def __contains__(self, name: object) -> bool:
        return name in self._names  # Mapping's own would let our SelectionError pass

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self._names else default

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        if name not in self._names:
            raise SelectionError(
                f"no field {name!r} in {self._recording.path}; there are: "
                + ", ".join(sorted(self._names))
            )
        cache = self._recording._fields
        if name not in cache:
            cache[name] = self._recording._field_array(name)
        return cache[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return ""
    return value.encode("utf-8", "replace").decode("utf-8")  # fit to be written again


def _whole(value: Any, default: int) -> int:
    return int(value) if isinstance(value, (int, np.integer)) else default


def _index(there: npt.NDArray[np.intp], wanted: int) -> int | None:
    """The number itself if it is there; counted from the end if negative."""
    if wanted < 0:
        return int(there[wanted]) if -wanted <= there.size else None
    return wanted if wanted in there else None
