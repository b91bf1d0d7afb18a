"""Opens a recording safely and hands out lazy arrays by layer, epoch and batch.

This is what the datasets of the file mean; `safe_file` reads them. Opening reads which frames are
there; frames committed later appear after `refresh()`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from replay import schema
from replay.formatting import clean_line, format_count
from replay.recording.address import read_path
from replay.recording.beside_faces import BesideFaces
from replay.recording.beside_words import BESIDE, nothing_beside
from replay.recording.inputs import Inputs, read_inputs
from replay.recording.layer_index import LayerIndex
from replay.recording.notebook_views import show
from replay.recording.probe_fields import ProbeFields
from replay.recording.recorded_frames import RecordedFrames
from replay.recording.safe_file import SafeFile
from replay.recording.series import Series
from replay.recording.snapshot import Header, Snapshot
from replay.schema import FileError, Layer, SelectionError
from replay.schema.suggestions import listed, near_layers, unknown
from replay.value_kinds import as_path

if TYPE_CHECKING:
    from replay.recording.scaled import ScaledFrames

_FEW = 100  # layers that are all described when a file is opened; of more, those that are used


def open_recording(path: str | os.PathLike[str]) -> Recording:
    """Opens a recording for reading; also one whose writer is still at work or was killed.

    Args:
        path: The file, as `record` wrote it, or its address: `https://...`, `s3://...`.

    Returns:
        The recording, to be used as a context manager or closed.

    Raises:
        FileError: It is missing, not a regular file, not HDF5, not a mapreel recording or of a
            newer version of the format.
    """
    return Recording(path)


class Recording(RecordedFrames, BesideFaces):
    """An open recording: `recording["conv1"][epoch, batch]`, `recording.inputs[epoch, batch]`.

    Use it as a context manager, or call `close`.

    Attributes:
        path: The file.
        version: Version of the file format.
        meta: The run's description, as the recorder wrote it (command, versions, model, ...).
        run_id: Identifies the run; the same in every file of one run.
        created: When recording began, ISO 8601 with time zone.
        packed: What `replay.pack` did to the file: `bits` and `filter`; empty for nothing.
        left_out: What else is among the maps, under names that no layer can have in a recording.
        probe_number: None; the number of the fixed image in what `probe` gives.
        kind: Empty; what the frames are in what `beside` gives.
        quantity: What the values are, for captions.
        scale_words: What the colours stand for; empty where the scale says it.
    """

    probe_number: int | None = None
    kind: str = ""
    quantity: str = "activation"
    scale_words: str = ""
    _series: dict[str, Series]  # those that were asked for
    _layers: tuple[str, ...] | None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = read_path(path) if "://" in str(path) else as_path(path)
        self._file = SafeFile(self.path)
        try:
            self._take(Header.read(self._file))
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
        what = "" if self.probe_number is None else f" of fixed image {self.probe_number}"
        state = "" if self.closed else "; not closed"
        name = clean_line(f"{str(self.path)!r}: {names + '; ' if names else ''}")
        kind = f"{self.kind.capitalize()} of" if self.kind else "Recording"
        return f"<{kind} {name}{epochs}, {layers}, {frames}{what}{state}>"

    def _repr_html_(self) -> str | None:
        return show(self)

    def close(self) -> None:
        """Closes the file. The arrays handed out stay valid."""
        self._file.close()

    def refresh(self) -> None:
        """Takes in what was committed since the recording was opened or last refreshed.

        Raises:
            FileError: It cannot be read, or another recording has taken its place: this one is
                closed then.
        """
        self._snapshot.refresh()
        header = Header.read(self._file)
        if header.run_id != self.run_id:
            self.close()
            raise FileError(f"{self.path} is another recording now: open it again")
        self._take(header)
        self._find_series()

    def require_frames(self) -> None:
        """Makes sure that there is something to show.

        Raises:
            FileError: No layer was recorded, or no frame was committed.
        """
        state = "" if self.closed else "; it was not closed, its writer may still be at work"
        if self.first_layer is None:
            raise FileError(f"empty recording: {self.path} holds no layer{state}")
        if not self.order.any():
            raise FileError(f"empty recording: no frame was committed to {self.path}{state}")

    @property
    def inputs(self) -> Inputs:
        """The first image of each batch, as the network saw it."""
        return read_inputs(self._snapshot)

    def beside(self, kind: str, probe: int | None = None) -> BesideMaps:
        """Returns what lies beside the maps, as a recording of the same file.

        Of gradients and weights its frames are times one power of two, so that all are float16;
        `gradient` and `cam_weights` have the true values.

        Args:
            kind: `attention`, `gradients` or `cam`.
            probe: The number of a fixed image; None for the batches' own, or for that of a `Probe`.
        """
        return BesideMaps(self if probe is None else self.probe(probe), kind)

    @property
    def probes(self) -> int:
        """How many fixed images were shown to the network at each recorded batch."""
        links = set(self._file.links(schema.PROBE, 1_000))
        return next(n for n in range(len(links) + 1) if str(n) not in links)

    def probe(self, number: int = 0) -> Probe:
        """Returns what the layers put out for a fixed image: a recording of the same file.

        Args:
            number: The image's number, from 0.

        Raises:
            SelectionError: No such image was recorded; the message says what was.
        """
        return Probe(self, number)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the recorded layers, in the order in which they first ran."""
        if self._layers is None:
            self._layers = tuple(layer.name for layer in self._index.all())
        return self._layers

    @property
    def first_layer(self) -> str | None:
        """The name of the layer that ran first, `layers[0]`; None where none was recorded."""
        if self._layers is not None:
            return self._layers[0] if self._layers else None
        first = self._index.first()
        return None if first is None else first.name

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __getitem__(self, name: str) -> Series:
        """Returns the frames of one layer.

        Raises:
            SelectionError: No such layer in the file; the message says which are there.
        """
        found = self._find(name) if isinstance(name, str) else None
        if found is None:
            raise SelectionError(
                f"no layer {name!r} in {self.path}; recorded: {listed(self.layers) or 'none'}"
                f"{near_layers(name, self.layers)}"
            )
        return found

    def _share(self, other: Recording, snapshot: Snapshot) -> None:
        """Begins to read from the file of another recording."""
        self.path, self._file, self._snapshot = other.path, other._file, snapshot
        self._take(other._header)
        self._find_series()

    def _take(self, header: Header) -> None:
        self._header, self.version, self.packed = header, header.version, header.packed
        self.run_id, self.created, self.meta = header.run_id, header.created, header.meta

    def _find_series(self) -> None:
        self._index = LayerIndex(self._snapshot, self.kind)
        self.left_out = self._index.left_out
        self._series = {}
        self._layers = None
        if len(self._index) <= _FEW:
            for name in self.layers:
                self._find(name)

    def _find(self, name: str) -> Series | None:
        """Returns the frames of a layer; None where there is no such layer."""
        if name not in self._series:
            layer = self._index.find(name)
            if layer is None:
                return None
            self._series[name] = self._new_series(layer)
        return self._series[name]

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
                f"no fixed image in {recording.path}; 'record train --probe 1' or "
                "Recorder(probe=...) records one"
            )
        if number not in range(count):  # which may be anything
            raise SelectionError(
                f"no fixed image {number} in {recording.path}; "
                f"there: {schema.format_intervals(range(count))}"
            )
        self.probe_number = int(number)
        self.run = recording
        self._share(recording, Snapshot(recording._file, number))

    def close(self) -> None:
        """Does nothing: the file belongs to the recording that this was made from."""

    @property
    def batches(self) -> Mapping[str, npt.NDArray[Any]]:
        """The per-batch fields of the run; label and prediction are the fixed image's."""
        assert self.probe_number is not None
        described = self.meta.get("probe")
        images = described if isinstance(described, list) else []
        about = dict(enumerate(images)).get(self.probe_number)
        return ProbeFields(self._snapshot.fields, self.order, self.probe_number, about, self.label)

    @property
    def label(self) -> int | None:
        """The image's class, where the file has it beside the image."""
        label = self._file.attribute("label", f"{schema.PROBE}/{self.probe_number}")
        return int(label) if isinstance(label, (int, np.integer)) else None

    def _new_series(self, layer: Layer) -> Series:
        return Series(self._snapshot, layer, self.run._find(layer.name))


class BesideMaps(Recording):
    """One kind of what lies beside the maps, as a recording of the same file.

    Its `layers` are those of which there is some, which may be none, `[name][epoch, batch]` are
    their frames, and images and fields are those of the recording. What was scaled is float16 of
    one power of two for the whole run, so that frames can be compared; `scaled` gives its true
    values.

    It reads from the file of the recording that it was made from, and can be used for as long as
    that is open.

    Args:
        recording: The recording, or a fixed image of it.
        kind: `attention`, `gradients` or `cam`.

    Raises:
        SelectionError: Another kind.

    Attributes:
        run: The recording that it was made from.
        kind: As given.
    """

    def __init__(self, recording: Recording, kind: str) -> None:
        if kind not in BESIDE:
            raise SelectionError(unknown("kind", kind, BESIDE))
        self.run, self.kind = recording, kind
        self.probe_number = recording.probe_number
        self._share(recording, recording._snapshot)

    def close(self) -> None:
        """Does nothing: the file belongs to the recording that this was made from."""

    @property
    def batches(self) -> Mapping[str, npt.NDArray[Any]]:
        """The per-batch fields of the recording."""
        return self.run.batches

    def __getitem__(self, name: str) -> Series:
        """Returns the frames of one layer.

        Raises:
            SelectionError: There are none in the file; the message says which are there.
        """
        found = self._find(name) if isinstance(name, str) else None
        if found is not None:
            return found
        raise SelectionError(
            nothing_beside(self.kind, name, self.layers, self.path, self.probe_number)
        )

    def scaled(self, name: str) -> ScaledFrames:
        """Returns the frames of one layer in their true values.

        Raises:
            SelectionError: There are none in the file; the message says which are there.
        """
        from replay.recording.scaled import ScaledFrames

        return ScaledFrames(self._snapshot, self[name].layer)

    def require_frames(self) -> None:
        """Makes sure that there is something to show.

        Raises:
            FileError: No frame was committed.
            SelectionError: The file has nothing of the kind.
        """
        if self.first_layer is None:
            self[""]  # which raises
        super().require_frames()

    def _new_series(self, layer: Layer) -> Series:
        if layer.scaled:
            from replay.recording.scaled import EvenSeries

            return EvenSeries(self._snapshot, layer)
        return Series(self._snapshot, layer)
