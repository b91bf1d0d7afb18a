"""Trains a row of the table: untouched, with plain hooks that clone, or recorded."""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import nn

import replay
from hazard_trainings.networks import BrokenImageError
from hazard_trainings.table import Hazard
from record import Recorder, RecordingWarning

Frames = dict[tuple[int, int], dict[str, np.ndarray]]


class Watch:
    """Plain hooks on the layers of a model: what each put out for the first image, cloned."""

    def __init__(self, row: Hazard, model: nn.Module) -> None:
        self.frames: dict[str, np.ndarray] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.root = row.attach(model)
        self.picks = row.pick
        for name in row.layers:
            # A reference model has no wrappers; of a ScriptModule, torch takes no hook by its name.
            module = model.get_submodule(row.paths.get(name, name))
            nn.Module.register_forward_hook(module, lambda m, a, out, n=name: self.keep(n, out))

    def keep(self, layer: str, output: Any) -> None:
        if not self.root.training:
            return
        pick = self.picks.get(layer, lambda output: {"": output[0]})
        with torch._functorch.pyfunctorch.temporarily_clear_interpreter_stack():
            for item, image in pick(output).items():
                self.keep_frame(layer + (f"[{item}]" if item else ""), image.detach().clone())

    def keep_frame(self, name: str, image: torch.Tensor) -> None:
        frame = image.to(torch.float16).cpu().numpy()
        if image.dtype == torch.float32:  # rounded to nearest even, as numpy has it
            with np.errstate(over="ignore"):
                np.testing.assert_array_equal(frame, image.cpu().numpy().astype(np.float16))
        calls = sum(1 for known in self.frames if known.split("@")[0].split("#")[0] == name)
        name = f"{name}#{calls}" if calls else name
        if self.shapes.setdefault(name, frame.shape) != frame.shape:
            name = f"{name}@{'x'.join(map(str, frame.shape))}"
        self.frames[name] = np.ascontiguousarray(frame)

    def take(self) -> dict[str, np.ndarray]:
        """The frames since the last call."""
        frames, self.frames = self.frames, {}
        return frames


@dataclass
class Outcome:
    """What a training left behind."""

    model: nn.Module
    state: dict[str, bytes]
    random: torch.Tensor
    frames: Frames
    images: dict[tuple[int, int], np.ndarray]


def to_bytes(model: nn.Module) -> dict[str, bytes]:
    """Every weight and buffer, to the bit; NaN is equal to NaN."""
    return {
        name: value.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()
        for name, value in model.state_dict().items()
    }


def on(device: str, images: Any) -> Any:
    if isinstance(images, list):
        return [image.to(device) for image in images]
    return images.to(device)


def train(row: Hazard, device: str, path: Path | None = None, watched: bool = False) -> Outcome:
    """Two epochs, with an evaluation after each; recorded if there is a path."""
    torch.manual_seed(0)
    make = row.reference if watched and row.reference else row.model
    model = row.prepare(make().to(device))
    assert model.training
    forward = (watched and row.reference_forward) or row.forward
    watch = Watch(row, model) if watched else None
    data = [row.prepare(on(device, images)) for images in row.data()]
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learning, 0.05, momentum=0.9)
    recorder = Recorder(row.attach(model), path, layers=row.layers) if path else None
    frames: Frames = {}
    images_seen = {}
    with recorder or contextlib.nullcontext():
        for epoch in range(2):
            source: Any = data
            if recorder and row.mark == "track":
                source = recorder.track(data)
            elif recorder and row.mark == "step":
                recorder.epoch(epoch)
            for number, images in enumerate(source):
                try:
                    loss = forward(model, images).square().mean()
                except BrokenImageError:
                    loss = None
                if watch and loss is None:
                    watch.take()
                elif watch:
                    at = (epoch, number)
                    if row.mark == "neither":
                        at = (0, epoch * len(data) + number)
                    frames[at] = watch.take()
                    image = row.image(images).detach().to(torch.float16)
                    images_seen[at] = image.cpu().contiguous().numpy()
                if loss is not None:
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                if recorder and row.mark == "step":
                    recorder.step()
                if not watch:
                    row.between(model, images)
            model.eval()
            with torch.no_grad():
                row.evaluate(model, data[0])
            model.train()
    return Outcome(model, to_bytes(model), torch.get_rng_state(), frames, images_seen)


def recorded(row: Hazard, device: str, path: Path) -> Outcome:
    """As `train`; no warning of ours is expected, and no hook is left behind."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RecordingWarning)
        outcome = train(row, device, path)
    said = [str(w.message) for w in caught if w.category is RecordingWarning]
    assert [text for text in said if not row.warns or row.warns not in text] == []
    assert bool(said) == bool(row.warns)
    for module in outcome.model.modules():
        if not isinstance(module, torch.jit.ScriptModule):
            assert not module._forward_hooks
            assert not module._forward_pre_hooks
    return outcome


def check_frames(path: Path, expected: Frames, images: dict[tuple[int, int], np.ndarray]) -> None:
    with replay.open(path) as run:
        assert run.closed
        assert (run.lost, run.dropped) == (0, 0)
        assert sorted(run.layers) == sorted({name for f in expected.values() for name in f})
        assert run.frames == sorted(expected)
        for at, frames in expected.items():
            for name in run.layers:
                frame = run[name][at]
                if name in frames:
                    assert frame.tobytes() == frames[name].tobytes(), (at, name)
                else:
                    assert np.isnan(frame).all(), (at, name)
            assert run.inputs[at].shape == images[at].shape
            assert run.inputs[at].tobytes() == images[at].tobytes()
            values = [frame.astype(np.float32) for frame in frames.values()]
            assert run.batches["nan"][at] == sum(np.isnan(v).sum() for v in values)
            assert run.batches["inf"][at] == sum(np.isinf(v).sum() for v in values)


SIGNAL = np.uint16(0xFD5A)  # a NaN that nothing computes


def holds_signal(path: Path) -> list[str]:
    """The datasets of a file in which what a buffer held before has come to lie."""
    found = []

    def look(name: str, item: Any) -> None:
        maps = isinstance(item, h5py.Dataset) and item.dtype == np.float16 and item.size
        if maps and (item[()].view(np.uint16) == SIGNAL).any():
            found.append(name)

    with h5py.File(path) as file:
        file.visititems(look)
    return found
