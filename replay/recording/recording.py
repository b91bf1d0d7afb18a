"""Opens a recording safely and hands out lazy arrays by layer, epoch and batch.

This is what the datasets of the file mean; `safe_file` reads them. Opening reads which frames are
there; frames committed later appear after `refresh()`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from replay import schema
from replay.formatting import clean_line, format_count
from replay.recording.address import read_path
from replay.recording.live_file import Closing
from replay.recording.notebook_views import show
from replay.recording.safe_file import SafeFile
from replay.recording.series import Inputs, Series, read_inputs
from replay.recording.snapshot import ProbeFields, Snapshot
from replay.schema import FileError, Layer, SelectionError
from replay.schema.suggestions import listed, near_layers

_HIGHEST_CLASS = 1 << 31  # the largest number that can be a class


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


class Recording(Closing):
    """An open recording: `recording["conv1"][epoch, batch]`, `recording.inputs[epoch, batch]`.

    Use it as a context manager, or call `close`.

    Attributes:
        path: The file.
        version: Version of the file format.
        meta: The run's description, as the recorder wrote it (command, versions, model, ...).
        run_id: Identifies the run; the same in every file of one run.
        created: When recording began, ISO 8601 with time zone.
        layers: Names of the recorded layers, in the order in which they first ran.
        probe_number: None; the number of the fixed image in what `probe` gives.
    """

    probe_number: int | None = None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = read_path(path) if "://" in str(path) else Path(path)
        self._file = SafeFile(self.path)
        try:
            self._read_header()
            self._snapshot = Snapshot(self._file)
            self._find_series()
        except BaseException:
            self._file.close()
            raise

    def __repr__(self) -> str:
        whole = self.order > 0
        layers = format_count(len(self.layers), "layer")
        names = ", ".join(self.layers[:3]) + (" ..." if len(self.layers) > 3 else "")
        epochs = format_count(int(whole.any(axis=1).sum()), "epoch")
        frames = format_count(int(whole.sum()), "frame")
        what = "" if self.probe_number is None else f" of probe image {self.probe_number}"
        state = "" if self.closed else "; not closed"
        name = clean_line(f"{str(self.path)!r}: {names + '; ' if names else ''}")
        return f"<Recording {name}{epochs}, {layers}, {frames}{what}{state}>"

    def _repr_html_(self) -> str | None:
        return show(self)

    def close(self) -> None:
        """Closes the file. The arrays handed out stay valid."""
        self._file.close()

    def refresh(self) -> None:
        """Takes in what was committed since the recording was opened or last refreshed."""
        self._snapshot.refresh()
        self._find_series()

    @property
    def order(self) -> npt.NDArray[np.int64]:
        """Each whole frame's number in the order of recording, or 0, int64 (epoch, batch)."""
        return self._snapshot.order

    @property
    def committed(self) -> int:
        """How many frames were committed."""
        return self._snapshot.committed

    @property
    def dropped(self) -> int:
        """How many frames were left out because the recorder could not keep up."""
        return self._snapshot.dropped

    @property
    def lost(self) -> int:
        """How many frames were lost to a failure."""
        return self._snapshot.lost

    @property
    def closed(self) -> bool:
        """Whether the file was closed cleanly; if not, its writer is at work or was killed."""
        return self._snapshot.closed

    @property
    def shape(self) -> tuple[int, int]:
        """(epochs, batches) that the file has room for; a cell may be without a frame."""
        return self._snapshot.shape

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
        return self._snapshot.fields

    @property
    def inputs(self) -> Inputs:
        """The first image of each batch, as the network saw it."""
        return read_inputs(self._snapshot)

    @property
    def probes(self) -> int:
        """How many fixed images were shown to the network at each recorded batch."""
        links = set(self._file.links(schema.PROBE))
        return next(n for n in range(len(links) + 1) if str(n) not in links)

    def probe(self, number: int = 0) -> Probe:
        """Returns what the layers put out for a fixed image: a recording of the same file.

        Args:
            number: The image's number, from 0.

        Raises:
            SelectionError: No such image was recorded; the message says what was.
        """
        return Probe(self, number)

    def __contains__(self, name: object) -> bool:
        return name in self._series

    def __getitem__(self, name: str) -> Series:
        """Returns the frames of one layer.

        Raises:
            SelectionError: No such layer in the file; the message says which are there.
        """
        try:
            return self._series[name]
        except KeyError:
            raise SelectionError(
                f"no layer {name!r} in {self.path}; recorded: {listed(self.layers) or 'none'}"
                f"{near_layers(name, self.layers)}"
            ) from None

    def locate(self, epoch: int, batch: int) -> tuple[int, int]:
        """Returns epoch and batch of a whole frame, negative numbers counted from the last one.

        Raises:
            SelectionError: Nothing was recorded there; the message says what was.
        """
        return self._snapshot.locate(epoch, batch)

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

    def _find_series(self) -> None:
        layers = _find_layers(self._file, self.probe_number)
        self._series = {layer.name: self._new_series(layer) for layer in layers}
        self.layers: tuple[str, ...] = tuple(self._series)

    def _new_series(self, layer: Layer) -> Series:
        return Series(self._snapshot, layer)


class Probe(Recording):
    """The frames of a fixed image that was shown to the network at every recorded batch.

    What changes from frame to frame is then the network alone. The maps are those of the
    evaluation mode, after the batch's update of the weights. Layers, frames and ranges are the
    image's, `inputs[epoch, batch]` is the image itself, and `batches` are those of the run,
    without what belongs to the batch's own first image.

    `Recording.probe` makes it. It reads from the file of the recording that it was made from, and
    can be used for as long as that is open.

    Args:
        recording: The recording.
        number: The image's number, from 0.

    Raises:
        SelectionError: No such image was recorded.

    Attributes:
        run: The recording that it was made from.
    """

    def __init__(self, recording: Recording, number: int) -> None:
        count = recording.probes
        if not count:
            raise SelectionError(
                f"no probe image in {recording.path}; 'record train --probe 1' or "
                "Recorder(probe=...) records one"
            )
        if not 0 <= number < count:
            raise SelectionError(
                f"no probe image {number} in {recording.path}; "
                f"there: {schema.format_intervals(range(count))}"
            )
        self.probe_number = number
        self.run = recording
        self.path, self._file = recording.path, recording._file
        self.version, self.meta = recording.version, recording.meta
        self.run_id, self.created = recording.run_id, recording.created
        self._snapshot = Snapshot(self._file, number)
        self._find_series()

    def close(self) -> None:
        """Does nothing: the file belongs to the recording that this was made from."""

    @property
    def batches(self) -> Mapping[str, npt.NDArray[Any]]:
        """The per-batch fields of the run; label and prediction are the fixed image's."""
        return ProbeFields(self._snapshot.fields, self.order, self._known_numbers())

    def _new_series(self, layer: Layer) -> Series:
        return Series(self._snapshot, layer, self.run._series.get(layer.name))

    def _known_numbers(self) -> dict[str, int]:
        """Returns the numbers that the run's description has on the image, such as its label."""
        assert self.probe_number is not None
        described = self.meta.get("probe")
        if not isinstance(described, list) or len(described) <= self.probe_number:
            return {}
        about = described[self.probe_number]
        if not isinstance(about, dict):
            return {}
        return {
            key: value
            for key, value in about.items()
            if type(value) is int and 0 <= value <= _HIGHEST_CLASS
        }


def _find_layers(file: SafeFile, probe_number: int | None) -> list[Layer]:
    """Returns the layers in the order of their first calls; those of a probe lie in its group."""
    group = Layer("", "", (), probe=probe_number).group
    found: list[tuple[int, Layer]] = []
    for link in file.links(group + schema.MAPS):
        name = schema.decode_name(link)
        path = f"{schema.MAPS}/{link}"
        shape = file.frame_shape(group + path)
        if shape is None or schema.encode_name(name) != link:
            continue
        keys = ("order", "module", "axes", "pooled", "note")
        about = file.attributes(keys, group + path)
        if group and None in about.values():  # as in the run itself
            usual = file.attributes(keys, path)
            about = {k: usual[k] if about[k] is None else about[k] for k in keys}
        layer = Layer(
            name=name,
            module=_text(about["module"]),
            shape=shape,
            kernel=file.frame_shape(f"{group}{schema.KERNELS}/{link}"),
            axes=_text(about["axes"]),
            pooled=max(1, _whole(about["pooled"], 1)),
            probe=probe_number,
            note=_text(about["note"]),
        )
        found.append((_whole(about["order"], 1 << 30), layer))
    found.sort(key=lambda entry: entry[0])
    return [layer for _, layer in found]


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return ""
    return value.encode("utf-8", "replace").decode("utf-8")  # lone surrogates cannot be written


def _whole(value: Any, default: int) -> int:
    return int(value) if isinstance(value, (int, np.integer)) else default
