"""What lies beside the maps: attention, gradients and class activation, with their exponents."""

from __future__ import annotations

import dataclasses
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


def test_what_is_known_later_is_written_later(tmp_path: Path) -> None:
    """Facts, notes, images and their labels: each once, and none over what was there."""
    path = tmp_path / "run.h5"
    attributes = {"format": "mapreel", "version": 1, "run_id": "x", "created": ""}
    file = RecordingFile(
        str(path), False, {**attributes, "meta": '{"seed": 1}'}, durability="flush"
    )
    plain = Layer("conv", "Conv2d(3, 2, 3)", (2, 4, 5))
    file.set_layout(BatchLayout((), (plain,)), 3)
    noted = dataclasses.replace(plain, note="2 calls of 3 are not recorded")
    file.set_probes((2, 3, 4, 5), memoryview(np.zeros(120, np.float16).tobytes()), (None, 4))
    facts = {"seed": 9, "mean": [0.5, 0.4, 0.3], "std": 0.25}
    file.set_layout(BatchLayout((), (noted,)), 3, facts)
    file.write([header(0, 0)], np.ones((1, 40), np.float16))
    file.close(0, 0)
    with h5py.File(path) as read:
        assert schema.decode_meta(read.attrs["meta"]) == {
            "seed": 1,
            "mean": [0.5, 0.4, 0.3],
            "std": 0.25,
        }
        assert read["maps/conv"].attrs["note"] == noted.note
        assert "label" not in read["probe/0"].attrs
        assert read["probe/1"].attrs["label"] == 4
        for number in range(2):
            about = read[f"probe/{number}/input"].attrs
            np.testing.assert_allclose(about["mean"], [0.5, 0.4, 0.3])
            np.testing.assert_allclose(about["std"], [0.25])


def test_a_damaged_counter_does_not_survive_a_thinning(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    attributes = {"format": "mapreel", "version": 1, "run_id": "x", "created": "", "meta": "{}"}
    file = RecordingFile(str(path), False, attributes, durability="flush")
    file.set_layout(BatchLayout((), (Layer("conv", "Conv2d(3, 2, 3)", (2, 4, 5)),)), 3)
    file.write([header(0, batch) for batch in range(3)], np.ones((3, 40), np.float16))
    file.commit()
    file._file[schema.STATE][:] = 77
    file.thin(2)
    with replay.open(path) as run:
        assert run.sound_state
        assert run.frames == [(0, 0), (0, 2)]
        assert (run.dropped, run.lost) == (0, 0)
    file.close(1, 0)
    with replay.open(path) as run:
        assert (len(run.frames), run.dropped, run.lost) == (2, 1, 0)


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
