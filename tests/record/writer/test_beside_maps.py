"""What lies beside the maps: attention, gradients and class activation, with their exponents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import nn

import replay
from record.capture.capture import Capture
from record.capture.slots import OutputSlots
from record.protocol.layout import BatchLayout
from record.protocol.messages import FrameHeader
from record.writer.recording_file import RecordingFile
from replay import schema
from replay.schema import Layer

LAYOUT = BatchLayout(
    (),
    (
        Layer("conv", "Conv2d(3, 2, 3)", (2, 4, 5)),
        Layer("conv", "Conv2d(3, 2, 3)", (2, 4, 5), kind="gradients", scaled=True, of="loss"),
        Layer("attn", "A()", (3, 7), axes="CT", kind="attention", queries="class", grid=(2, 3)),
        Layer("conv", "Conv2d(3, 2, 3)", (2,), kind="cam", probe=0, scaled=True),
        Layer("attn", "A()", (3, 7, 7), axes="CQT", kind="attention", probe=0, queries="all"),
    ),
)


def header(epoch: int, batch: int, missing: tuple[int, ...] = ()) -> FrameHeader:
    return FrameHeader(epoch, batch, epoch * 3 + batch, 0.0, missing=missing)


def test_each_kind_has_groups_of_its_own_and_exponents(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    attributes = {"format": "mapreel", "version": 1, "run_id": "x", "created": "", "meta": "{}"}
    file = RecordingFile(str(path), False, attributes, durability="flush")
    file.set_probes((1, 3, 4, 5), memoryview(np.zeros(60, np.float16).tobytes()))
    file.set_layout(LAYOUT, 3)
    rng = np.random.default_rng(0)
    frames = rng.standard_normal((3, LAYOUT.size)).astype(np.float16)
    exponents = LAYOUT.exponent_slots
    assert [slot is None for slot in exponents] == [True, False, True, False, True]
    for number, power in enumerate((-140, 0, 127)):
        frames[number, exponents[1].start] = power
        frames[number, exponents[3].start] = power + 1
    frames[1, LAYOUT.map_slots[1].start] = np.nan  # of a gradient: none of the maps'
    file.write([header(0, 0), header(0, 1), header(0, 2, missing=(1, 3, 4))], frames)
    file.close(0, 0)
    with h5py.File(path) as read:
        for place, layer in enumerate(LAYOUT.layers):
            group, slot = layer.group, LAYOUT.map_slots[place]
            maps = read[f"{group}maps/{layer.name}"]
            right = frames[:2, slot.start : slot.stop].reshape(2, *slot.shape)
            np.testing.assert_array_equal(maps[0, :2], right)
            sums = read[f"{group}checksums/{layer.name}"][0]
            assert sums[:2].tolist() == [schema.checksum(np.ascontiguousarray(m)) for m in right]
            assert (sums[2] == 0) == (place in (1, 3, 4))
            assert read[f"{group}ranges/{layer.name}"].shape == (1, 3, layer.channels, 2)
            assert (f"{group}exponents" in read) == layer.scaled
            assert maps.attrs["axes"] == layer.axes
        assert read["gradients/exponents/conv"][0].tolist() == [-140, 0, 0]
        assert read["gradients/exponents/conv"].dtype == np.int16
        assert read["probe/0/cam/exponents/conv"][0].tolist() == [-139, 1, 0]
        assert read["batches/nan"][0].tolist() == [0, 0, 0]
        assert read["attention/maps/attn"].attrs["queries"] == "class"
        assert read["attention/maps/attn"].attrs["grid"].tolist() == [2, 3]
        assert read["gradients/maps/conv"].attrs["of"] == "loss"
    with replay.open(path) as run:  # what an older reader sees
        assert run.layers == ("conv",)
        assert run["conv"].frames == [(0, 0), (0, 1), (0, 2)]


class Beside:
    """Puts out one frame beside the maps, in some batches."""

    description, axes = "Conv2d()", ["", "C", "CL", "CHW", "CDHW", ""]

    def __init__(self) -> None:
        self.slots = {(None, ""): OutputSlots(None, "0", "", kind="gradients", scaled=True)}

    def axes_of(self, shape: Sequence[int]) -> str:
        return self.axes[len(shape)]


def test_a_further_source_gets_slots_and_is_no_silent_layer() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3))
    capture = Capture(model, {"0": model[0]})
    beside = Beside()
    slots = beside.slots[None, ""]
    capture.state.slots.append(slots)
    capture.frames.further.append(beside)
    slots.calls = 1
    slots.keep_scaled(0, torch.full((2, 3, 3), 5.0), torch.tensor(-20))
    frames = capture.frames
    assert frames.extend()
    (layer,) = frames.layout.layers
    assert (layer.group, layer.scaled) == ("gradients/", True)
    assert frames.silent_layers == {"0": ""}  # no map of it came
    flat = torch.zeros(frames.layout.size, dtype=torch.float16)
    assert frames.fill(flat) == {0}
    assert flat[:18].eq(5).all()
    assert flat[18] == -20
    capture.state.input.fired = True
    capture.state.reset()
    capture.state.point_at(frames.slices(flat))
    slots.calls = 1
    slots.keep_scaled(0, torch.full((2, 3, 3), 7.0), torch.tensor(9))
    assert not slots.found
    assert not slots.exponents
    assert flat[:18].eq(7).all()
    assert flat[18] == 9
    assert frames.missing(set()) == ([0], 0, ["0"])
