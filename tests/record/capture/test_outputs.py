"""Outputs that are no maps, complex or true and false."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from small_trainings import numbered
from torch import nn

import replay
from record import Recorder, RecordingWarning


def test_a_layer_that_puts_out_no_maps_is_said_to(tmp_path: Path) -> None:
    class Box:
        def __init__(self, tensor: torch.Tensor) -> None:
            self.tensor = tensor

    class Boxing(nn.Module):
        def forward(self, x: torch.Tensor) -> Box:
            return Box(x)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)
            self.box = Boxing()
            self.lstm = nn.LSTM(6, 5, batch_first=True)
            self.unused = nn.Conv2d(1, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.box(self.conv(x)).tensor.mean(1)
            packed = nn.utils.rnn.pack_padded_sequence(y, [6, 4, 2], batch_first=True)
            return self.lstm(packed)[0].data

    model = Net()
    with (
        pytest.warns(RecordingWarning) as caught,
        Recorder(model, tmp_path / "run.h5", layers=["conv", "box", "lstm", "unused"]) as recorder,
    ):
        for images in recorder.track(numbered(2)):
            model(images).sum().backward()
    said = [str(w.message) for w in caught]
    assert "not recorded, since it put out no maps: box (a Box), lstm (a PackedSequence)" in said
    assert "did not fire in the first batch: unused" in said
    assert not any("fire" in text and "box" in text for text in said)


def test_complex_maps_are_magnitudes_and_the_file_says_so(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3, dtype=torch.complex64))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Recorder(model, tmp_path / "run.h5") as recorder:
            for images in recorder.track(numbered(3)):
                model(torch.complex(images, -images))
    with replay.open(tmp_path / "run.h5") as run:
        assert run["0"].layer.note == "magnitude of complex values"


def test_true_and_false_as_an_image(tmp_path: Path) -> None:
    class Masks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x.float())

    data = [images > 1.2 for images in numbered(3)]
    with Recorder(model := Masks(), tmp_path / "run.h5") as recorder:
        for images in recorder.track(data):
            model(images)
    with replay.open(tmp_path / "run.h5") as run:
        assert run.inputs is not None
        assert all((run.inputs[0, n] == float(data[n][0].any())).all() for n in range(3))
