"""Frames of more axes than any have a name for: recorded, read, verified and copied as others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import replay
from record import Recorder

SHAPE = (2, 3, 2, 2, 4)


class Folded(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(len(x), *SHAPE) * 2


DATA = torch.linspace(-3, 5, 4 * 96).reshape(4, 96)
FRAMES = (DATA * 2).reshape(4, *SHAPE).numpy().astype("f2")


@pytest.fixture
def path(tmp_path: Path, quick_writers: None) -> Path:
    """A recording of four batches, the last of which has values that are not finite."""
    model = nn.Sequential(Folded())
    data = DATA.clone()
    data[3, :5] = torch.nan
    data[3, 5] = torch.inf
    with Recorder(model, tmp_path / "run.h5", layers="0") as recorder:
        for image in recorder.track(data.split(1)):
            model(image)
    return tmp_path / "run.h5"


def test_frames_of_five_axes_are_one_map(path: Path, tmp_path: Path) -> None:
    with replay.open(path) as run:
        assert len(run.frames) == 4
        series = run["0"]
        assert series.layer.shape == SHAPE
        assert series.layer.channels == 1
        assert np.array_equal(series[0, 1], FRAMES[1])
        expected = [[frame.min(), frame.max()] for frame in FRAMES]
        expected[3][0] = FRAMES[3].reshape(-1)[6]
        assert series.ranges().tolist() == [[[each] for each in expected]]
        assert (run.batches["nan"][0, 3], run.batches["inf"][0, 3]) == (5, 1)
    assert replay.verify(path)
    repaired = replay.repair(path, tmp_path / "repaired.h5")
    assert not repaired.left_out
    with replay.open(repaired.path) as run:
        assert run["0"].ranges().tolist() == [[[each] for each in expected]]
    assert replay.verify(repaired.path)


def test_they_are_packed_in_8_bits(path: Path, tmp_path: Path) -> None:
    packed = replay.pack(path, tmp_path / "small.h5", bits=8)
    assert packed.bits == 8
    assert replay.verify(packed.path)
    with replay.open(packed.path) as run:
        for batch in range(3):
            step = np.ptp(FRAMES[batch].astype("f4")) / 255
            assert np.abs(run["0"][0, batch] - FRAMES[batch].astype("f4")).max() <= step
        assert np.isnan(run["0"][0, 3]).sum() == 5  # which stays in 16
    again = replay.unpack(packed.path, tmp_path / "again.h5")
    assert replay.verify(again.path)
