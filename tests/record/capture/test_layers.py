"""Layers that fire late, never, several times, in other sizes or by themselves."""

from __future__ import annotations

import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import nn
from watched_trainings import USED, Watch, batches, make

import replay
from record import Recorder, RecordingWarning


def test_a_layer_that_never_fires_is_named_twice(tmp_path: Path) -> None:
    model = make()
    recorder = Recorder(model, tmp_path / "run.h5")
    with pytest.warns(RecordingWarning, match="did not fire in the first batch: spare"):
        for images in recorder.track(batches()):
            model(images)
    with pytest.warns(
        RecordingWarning, match="never fired in a recorded forward, so not recorded: spare"
    ):
        recorder.close()


def test_a_layer_that_fires_late_joins(tmp_path: Path) -> None:
    model = make()
    seen = Watch(model.conv1)
    recorder = Recorder(model, tmp_path / "run.h5")
    with pytest.warns(RecordingWarning, match="spare"):
        for number, images in enumerate(recorder.track(batches(6))):
            model.use_spare = number in (3, 5)
            model(images)
    recorder.close()
    with replay.open(tmp_path / "run.h5") as run:
        assert run.layers == ("conv1", "conv2", "spare")
        assert len(run.frames) == 6
        for place, at in enumerate(run.frames):
            np.testing.assert_array_equal(run["conv1"][at], seen.frames[place])
        assert list(np.isfinite(run["spare"].ranges()[0, :, 0, 0])) == [False] * 3 + [
            True,
            False,
            True,
        ]
        assert np.isnan(run["spare"][0, 0]).all()
        assert list(run.batches["missing"][0]) == [0, 0, 0, 0, 1, 0]


def test_frames_of_another_size_have_a_layer_of_their_own(tmp_path: Path) -> None:
    model = make()
    seen = Watch(model.conv1)
    data = [*batches(2), *batches(1, size=16), *batches(1)]
    with Recorder(model, tmp_path / "run.h5", layers=[*USED, "relu"]) as recorder:
        for images in recorder.track(data):
            model(images)
    with replay.open(tmp_path / "run.h5") as run:
        assert (run.lost, len(run.frames)) == (0, 4)
        assert run.layers[:2] == ("conv1", "relu")
        assert {"conv1@6x16x16", "relu#1@4x14x14"} <= set(run.layers)
        assert list(run.batches["missing"][0]) == [0] * 4
        for place in range(4):
            there, other = ("conv1@6x16x16", "conv1") if place == 2 else ("conv1", "conv1@6x16x16")
            assert run[there][0, place].tobytes() == seen.frames[place].tobytes()
            assert np.isnan(run[other][0, place]).all()
    with h5py.File(tmp_path / "run.h5", "r") as file:
        image = file["inputs@3x16x16"][0, 2]
        np.testing.assert_array_equal(image, data[2][0].half().numpy())
        assert file["batches/input_checksum"][0, 2] == zlib.crc32(image.tobytes())


def test_more_shapes_than_a_file_should_hold_are_lost_and_said_so(tmp_path: Path) -> None:
    model = make()
    data = [batches(1, size=size)[0] for size in range(8, 18)]
    recorder = Recorder(model, tmp_path / "run.h5", layers="conv1")
    with pytest.warns(RecordingWarning) as caught:
        for images in recorder.track(data):
            model(images)
        recorder.close()
    said = [str(w.message) for w in caught]
    assert "more than 8 different shapes, so not recorded: conv1" in said[0]
    assert "2 frames lost" in said[1]
    with replay.open(tmp_path / "run.h5") as run:
        assert (run.lost, len(run.layers)) == (2, 8)


class Parts(nn.Module):
    """Nobody calls it: its parts are called."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3)
        self.up = nn.ConvTranspose2d(4, 3, 3)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(x)

    def decode(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(x)


@pytest.mark.parametrize("way", ["track", "step"])
def test_parts_called_directly(tmp_path: Path, way: str) -> None:
    torch.manual_seed(0)
    model = Parts()
    down, up = Watch(model.down), Watch(model.up)
    with Recorder(model, tmp_path / "run.h5", layers=["down", "up"]) as recorder:
        for images in recorder.track(batches()) if way == "track" else batches():
            model.decode(model.encode(images)).mean().backward()
            if way == "step":
                recorder.step()
            model.eval()
            model.encode(images)
            model.train()
    for watch in (down, up):
        watch.frames = watch.frames[:4]
    with replay.open(tmp_path / "run.h5") as run:
        assert run.layers == ("down", "up")
        assert len(run.frames) == 4
        for place in range(4):
            assert run["down"][0, place].tobytes() == down.frames[place].tobytes()
            assert run["up"][0, place].tobytes() == up.frames[place].tobytes()
            image = batches()[place][0].half().numpy()
            np.testing.assert_array_equal(run.inputs[0, place], image)


def test_parts_called_directly_without_track_or_step(tmp_path: Path) -> None:
    model = Parts()
    recorder = Recorder(model, tmp_path / "run.h5", layers=["down", "up"])
    for images in batches():
        model.decode(model.encode(images))
    with pytest.warns(RecordingWarning, match="its parts are called directly"):
        recorder.close()
    with replay.open(tmp_path / "run.h5") as run:
        assert run.frames == []


class Outputs(nn.Module):
    """Layers whose outputs are no maps (N, C, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.signal = nn.Conv1d(3, 5, 3)
        self.volume = nn.Conv3d(1, 2, 3, padding=1)
        self.tokens = nn.Linear(6, 8)
        self.last = nn.Linear(8, 8)
        self.several = Several()
        self.memory = nn.LSTM(8, 4)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = x.shape[0]
        self.signal(x.flatten(2))
        self.volume(x[:, :, None].mean(1, keepdim=True).expand(-1, -1, 4, -1, -1))
        tokens = self.tokens(x.flatten(2)[:, :, :96].reshape(n, 48, 6))  # (N, T, D)
        self.last(tokens[:, :12].reshape(n, 3, 4, 8))  # (N, H, W, C)
        self.memory(tokens.transpose(0, 1))  # (T, N, D)
        self.attention(tokens, tokens, tokens)
        return self.several(x)["out"].sum()


class Several(nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, object]:
        return {"out": x * 2, "pair": (x[:, :1], None, [x[:, :, 0]]), "count": torch.arange(3)}


def test_outputs_of_every_shape(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Outputs()
    outputs: dict[str, object] = {}
    for name, module in model.named_children():
        module.register_forward_hook(lambda m, a, out, name=name: outputs.update({name: out}))
    names = ["signal", "volume", "tokens", "last", "several", "memory", "attention"]
    with Recorder(model, tmp_path / "run.h5", layers=names) as recorder:
        for images in recorder.track(batches(1)):
            model(images)
    several, memory = outputs["several"], outputs["memory"][0]
    expected = {
        "signal": ("CL", outputs["signal"][0]),
        "volume": ("CDHW", outputs["volume"][0]),
        "tokens": ("TC", outputs["tokens"][0]),
        "last": ("HWC", outputs["last"][0]),
        "several[out]": ("CHW", several["out"][0]),
        "several[pair.0]": ("CHW", several["pair"][0][0]),
        "several[pair.2.0]": ("CL", several["pair"][2][0][0]),
        "memory": ("TC", memory[:, 0]),
        "attention[0]": ("TC", outputs["attention"][0][0]),
        "attention[1]": ("TC", outputs["attention"][1][0]),
    }
    with h5py.File(tmp_path / "run.h5", "r") as file:
        assert set(file["maps"]) == set(expected)
        for name, (axes, tensor) in expected.items():
            maps = file[f"maps/{name}"]
            assert maps.attrs["axes"] == axes, name
            frame = tensor.detach().half().numpy()
            assert maps[0, 0].tobytes() == frame.tobytes(), name
            channels = np.moveaxis(frame, axes.index("C"), 0)
            others = tuple(range(1, channels.ndim))
            ranges = np.stack([channels.min(others), channels.max(others)], axis=1)
            np.testing.assert_array_equal(file[f"ranges/{name}"][0, 0], ranges)


def test_large_maps_are_pooled_and_the_file_says_so(tmp_path: Path) -> None:
    model = make()
    seen = Watch(model.conv1)
    with Recorder(model, tmp_path / "run.h5", layers=USED, max_map=5) as recorder:
        for images in recorder.track(batches()):
            model(images)
    with h5py.File(tmp_path / "run.h5", "r") as file:
        assert {name: file["maps"][name].attrs["pooled"] for name in USED} == {
            "conv1": 3,
            "conv2": 2,
        }
        full = seen.frames[0].astype(np.float32).reshape(6, 4, 3, 4, 3).mean((2, 4))
        assert file["maps/conv1"].shape == (1, 4, 6, 4, 4)
        np.testing.assert_allclose(file["maps/conv1"][0, 0], full, rtol=2e-3, atol=1e-3)
        assert file["inputs"].shape == (1, 4, 3, 12, 12)
        assert '"max_map": 5' in file.attrs["meta"]
