"""A training that is recorded, watched from outside, and its file held against the truth."""

from __future__ import annotations

import contextlib
import pickle
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
import torch
from torch import nn

from generated.loops import Training, parametrized
from generated.truth import Asked, At, Maps, Truth, named
from record import Recorder, wire
from record.courier import Courier
from record.pool import Pool
from replay import schema

Frames = dict[str, dict[At, "np.ndarray[Any, Any]"]]
SIGNAL = 0x7D5A  # a NaN in float16 that no conversion and no arithmetic makes


@dataclass
class Sent:
    """A frame as the queue took it."""

    header: wire.FrameHeader
    layout: wire.Layout
    data: bytes


@dataclass
class Watched:
    """What went through the couriers while they were watched; by the id of each."""

    sent: dict[int, list[Sent]] = field(default_factory=dict)
    layouts: dict[int, wire.Layout] = field(default_factory=dict)


@contextlib.contextmanager
def watched() -> Iterator[Watched]:
    """Keeps what every courier is given, and fills every buffer with a signal before its use."""
    seen = Watched()
    take, send, set_layout = Pool.take, Courier.send, Courier.set_layout

    def taking(pool: Pool) -> Any:
        buffer = take(pool)
        if buffer is not None:
            np.frombuffer(buffer.data, np.uint16)[:] = SIGNAL
        return buffer

    def sending(courier: Courier, parcel: Any) -> None:
        data = bytes(parcel.buffer.data)
        frame = Sent(parcel.header, seen.layouts[id(courier)], data)
        seen.sent.setdefault(id(courier), []).append(frame)
        send(courier, parcel)

    def setting(courier: Courier, layout: wire.Layout, *args: Any, **options: Any) -> None:
        seen.layouts[id(courier)] = layout
        set_layout(courier, layout, *args, **options)

    with (
        mock.patch.object(Pool, "take", taking),
        mock.patch.object(Courier, "send", sending),
        mock.patch.object(Courier, "set_layout", setting),
    ):
        yield seen


class Telling(Recorder):
    """A Recorder that leaves what it would warn of to a list, so that one knows which it was."""

    def __init__(self, said: list[str], *args: Any, **options: Any) -> None:
        self._said = said
        super().__init__(*args, **options)

    def _say(self, text: str) -> None:
        self._said.append(text)


class Recorded:
    """Passes on to a Recorder what a training tells, but for what a Recorder finds out itself."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.traces: list[str] = []

    def track(self, batches: Iterable[Any]) -> Iterable[Any]:
        return self._recorder.track(batches)

    def epoch(self, number: int) -> None:
        self._recorder.epoch(number)

    def step(self) -> None:
        self._recorder.step()

    def log(self, **values: Any) -> None:
        self._recorder.log(**values)

    def forward_begins(self, training: bool, image: torch.Tensor) -> None:
        pass

    def forward_ends(self, whole: bool) -> None:
        pass

    def backward(self, runs: bool) -> None:
        pass

    def copied(self, model: nn.Module) -> None:
        """A copy has to have nothing of the recorder's."""
        self.traces += traces(model)

    def replaced(self, old: nn.Module, new: nn.Module) -> None:
        pass


def traces(model: nn.Module) -> list[str]:
    """What a recorder has left in a model."""
    found = [
        f"{kind} of {name or 'the model'}"
        for name, module in model.named_modules()
        for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
        if getattr(module, kind)
    ]
    if not parametrized(model) and b"record." in pickle.dumps(model):
        found.append("mapreel in its pickle")
    return [f"a copy has {trace}" for trace in found]


@dataclass
class Outcome:
    """What recording a training left behind.

    Attributes:
        said: Warnings, a line each.
        sent: What the queue took.
        counted: Frames that were counted as lost or dropped.
        traces: What was left in the model or in a copy of it.
    """

    said: list[str]
    sent: list[Sent]
    counted: int
    traces: list[str]


def record(
    training: Training,
    asked: Asked,
    paths: list[Path],
    probe: torch.Tensor | None,
    **options: Any,
) -> list[Outcome]:
    """Runs a training, recorded; its neighbour, if it has one, is recorded into the second file."""
    trained = [training] if training.neighbour is None else [training, training.neighbour]
    said: list[list[str]] = [[] for _ in trained]
    with watched() as seen, contextlib.ExitStack() as stack:
        recorders = []
        passing = []
        for one, path, words in zip(trained, paths, said, strict=False):
            recorder = Telling(
                words,
                one.model,
                path,
                layers=asked.patterns(one.model),
                every=asked.every,
                schedule=asked.schedule or None,
                batch_axis=asked.axes(one) or None,
                probe=probe if one is training else None,
                **options,
            )
            recorders.append((recorder, id(recorder._courier)))
            passing.append(Recorded(recorder))
            stack.enter_context(recorder)
        training.run(*passing)
    outcomes = []
    for (recorder, courier), one, watcher, words in zip(
        recorders, trained, passing, said, strict=True
    ):
        left = [trace.replace("a copy", "the model") for trace in traces(one.model)]
        outcomes.append(
            Outcome(
                words,
                seen.sent.get(courier, []),
                recorder.lost + recorder.dropped,
                [*watcher.traces, *left],
            )
        )
    return outcomes


class File:
    """A closed recording, read by plain h5py.

    Attributes:
        recorded: int64 (epoch, batch).
        maps, kernels: By name, by epoch and batch, the float16 arrays: of what was written.
        probes: The maps of each fixed image likewise.
        notes: By the name of a layer, what is to be known of it.
    """

    def __init__(self, path: Path) -> None:
        self.images: dict[At, np.ndarray[Any, Any]] = {}
        self.damaged: list[str] = []
        with h5py.File(path, "r") as file:
            self.state = file["state"][:].tolist()
            self.recorded = file["batches/recorded"][:]
            self.loss = file["batches/loss"][:]
            self.missing = file["batches/missing"][:]
            cells = [(int(e), int(b)) for e, b in np.argwhere(self.recorded > 0)]
            self.cells = [at for at in cells if self.recorded[at] <= self.state[0]]
            self.maps = self._group(file, "maps", "checksums")
            self.kernels = self._group(file, "kernels", "kernel_checksums")
            maps = file.get("maps", {})
            self.notes = {schema.decode_name(n): str(maps[n].attrs.get("note", "")) for n in maps}
            self.probes = [
                self._group(file[f"probe/{number}"], "maps", "checksums")
                for number in range(len(file.get("probe", {})))
            ]
            for name, dataset in file.items():
                if name.split("@")[0] == "inputs":
                    sums = file["batches/input_checksum"][:]
                    for at, frame in self._read(dataset, sums).items():
                        if at in self.images:
                            self.damaged.append(f"two input images at {at}")
                        self.images[at] = frame

    def _group(self, file: h5py.Group, group: str, sums: str) -> Frames:
        return {
            schema.decode_name(link): self._read(dataset, file[sums][link][:])
            for link, dataset in file.get(group, {}).items()
        }

    def _read(self, dataset: h5py.Dataset, sums: np.ndarray[Any, Any]) -> Any:
        found = {}
        for at in self.cells:
            if any(n >= size for n, size in zip(at, dataset.shape, strict=False)):
                continue
            where = (*at, *[0] * (dataset.ndim - 2))
            if dataset.size and dataset.id.get_chunk_info_by_coord(where).byte_offset is None:
                continue
            frame = np.asarray(dataset[at])
            if zlib.crc32(frame.tobytes()) != sums[at]:
                self.damaged.append(f"{dataset.name} at {at}: the checksum is wrong")
            if (frame.view(np.uint16) == SIGNAL).any():
                self.damaged.append(f"{dataset.name} at {at} holds what was in the buffer before")
            found[at] = frame
        return found


def same(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    """Whether two frames are equal to the bit."""
    return one.shape == other.shape and one.tobytes() == other.tobytes()


def compare(outcome: Outcome, truth: Truth, path: Path) -> list[str]:
    """In what a file differs from the truth; nothing where all is right or counted as lost."""
    file = File(path)
    found = [*outcome.traces, *file.damaged]
    if file.state[3] != 1:
        found.append("the file was not closed")
    absent = 0
    for at in file.cells:
        if at not in truth.frames:
            found.append(f"{at} was recorded, where no batch to record was trained")
    # Of a layer that is another one now, either its frames go on or somebody says so.
    excused = {name for name in truth.replacements if any(name in line for line in outcome.said)}
    for at, frame in truth.frames.items():
        if at not in file.cells:
            absent += 1
            continue
        absent += compare_maps(found, at, frame.maps, file.maps, truth, file, excused, "")
        for number, maps in enumerate(frame.probes):
            there = file.probes[number] if number < len(file.probes) else {}
            absent += compare_maps(
                found, at, maps, there, truth, file, excused, f"probe {number}: "
            )
        for name, kernel in frame.kernels.items():
            written = file.kernels.get(name, {}).get(at)
            if written is not None and not same(written, kernel):
                found.append(f"kernels of {name} at {at}: another value")
        image = file.images.get(at)
        if image is None and frame.image.ndim >= 3 - truth.batched:
            absent += 1
            found.append(f"the input image at {at} is missing")
        if image is not None and not same(image, frame.image):
            found.append(f"the input image at {at}: recorded {image.shape}, another one")
        loss = frame.values.get("loss", np.nan)
        if not np.array_equal(file.loss[at], loss, equal_nan=True):
            found.append(f"loss at {at}: recorded {file.loss[at]}, true {loss}")
    if absent > outcome.counted:
        found.append(f"{absent} frames are missing, {outcome.counted} were counted")
    found += compare_live(outcome.sent, file)
    found += compare_words(outcome.said, truth, file)
    return found


def layer_of(name: str) -> str:
    """The layer's own name, without the part of its output, the call and the shape."""
    return name.split("@")[0].split("#")[0].split("[")[0]


def compare_maps(
    found: list[str],
    at: At,
    maps: Maps,
    written: Frames,
    truth: Truth,
    file: File,
    excused: set[str],
    of: str,
) -> int:
    """Adds in what the maps of a batch differ; returns how many are missing.

    A layer whose axis nobody can tell may be wrong, where the file says so.
    """
    uncertain = {layer_of(name) for name, note in file.notes.items() if "uncertain" in note}
    absent = 0
    expected = named(maps)
    for name, values in expected.items():
        layer = layer_of(name)
        if layer in uncertain:
            continue
        spelled = f"{name}@{'x'.join(map(str, values.shape))}"
        there = [n for n in (name, spelled) if at in written.get(n, {})]
        if not there:
            absent += layer not in truth.opaque and layer not in excused
            continue
        recorded = written[there[0]][at]
        if len(there) > 1 or not same(recorded, values):
            found.append(
                f"{of}{name} at {at}: recorded {recorded.shape}, true {values.shape}, "
                f"{'another value' if recorded.shape == values.shape else 'another shape'}"
            )
    for name, frames in written.items():
        layer = layer_of(name)
        if "parametrizations" in layer or layer in uncertain:  # came with a weight's new state
            continue
        if at in frames and name.split("@")[0] not in expected:
            found.append(f"{of}{name} at {at} was recorded, but never put out")
    return absent


def compare_live(sent: list[Sent], file: File) -> list[str]:
    """In what the file differs from what the queue took."""
    found = []
    cells = [(frame.header.epoch, frame.header.batch) for frame in sent]
    if sorted(cells) != sorted(file.cells):
        found.append(f"the queue took {len(cells)} frames, the file has {len(file.cells)}")
    for at, frame in zip(cells, sent, strict=True):
        values = np.frombuffer(frame.data, np.float16)
        layout, header = frame.layout, frame.header
        for place, (layer, slot) in enumerate(zip(layout.layers, layout.map_slots, strict=True)):
            group = file.maps if layer.probe is None else file.probes[layer.probe]
            written = group.get(layer.name, {}).get(at)
            if place in header.missing:
                if written is not None:
                    found.append(f"{layer.name} at {at} is in the file, and was not sent")
                continue
            live = values[slot.start : slot.stop].reshape(slot.shape)
            if written is None or not same(written, live):
                found.append(f"{layer.name} at {at} is not what the queue took")
        if header.image is not None:
            slot = layout.image_slots[header.image]
            live = values[slot.start : slot.stop].reshape(slot.shape)
            if at not in file.images or not same(file.images[at], live):
                found.append(f"the input image at {at} is not what the queue took")
    return found


def compare_words(said: list[str], truth: Truth, file: File) -> list[str]:
    """What was said that is not so, and what was not said."""
    found = []
    text = "\n".join(said)
    for line in said:
        if "fire" in line:
            names = line.split(": ", 1)[1].split(" and ")[0].split(", ")
            wrong = sorted(set(names) & truth.fired)
            found += [f"said of {name}, which fired: {line}" for name in wrong]
    recorded = {layer_of(name) for name in file.maps}
    for name in sorted(truth.fired - recorded):
        if truth.frames and name not in text and " more" not in text:
            found.append(f"nothing was said of {name}, which put out nothing that was recorded")
    return found
