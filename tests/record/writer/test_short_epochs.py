"""Many short epochs: their small numbers share chunks, and whatever is done to the file they stay."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import nn

import replay
from record import Recorder
from replay.files import hdf5_writer


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.conv(x).mean()
        return found


def image(epoch: int, batch: int) -> torch.Tensor:
    return torch.full((1, 1, 4, 4), (epoch * 8 + batch) / 64)


def train(path: Path, epochs: Iterable[int], batches: int, known: bool, **options: object) -> Net:
    torch.manual_seed(0)
    net = Net()
    with Recorder(net, path, quiet=True, **options) as recorder:  # type: ignore[arg-type]
        for epoch in epochs:
            images = [image(epoch, batch) for batch in range(batches)]
            if not known:
                recorder.epoch(epoch)
            for batch, one in enumerate(recorder.track(images) if known else images):
                net(one)
                recorder.log(loss=epoch + batch / 16)
                if not known:
                    recorder.step()
    return net


def check(path: Path, net: Net, epochs: int, batches: int, every: int = 1) -> None:
    """Every number, by plain h5py, and that nothing is said to be damaged."""
    with h5py.File(path) as file:
        recorded = file["batches/recorded"][:]
        there = np.argwhere(recorded > 0)
        if every == 1:
            assert len(there) == epochs * batches
        assert sorted(recorded[recorded > 0]) == list(range(1, len(there) + 1))
        for epoch, batch in there:
            assert file["batches/loss"][epoch, batch] == epoch + batch / 16
            assert file["batches/step"][epoch, batch] == epoch * batches + batch
            with torch.no_grad():
                maps = net.conv(image(epoch, batch))[0].numpy().astype("f2")
            assert np.array_equal(file["maps/conv"][epoch, batch], maps)
            extremes = np.stack([maps.min(axis=(1, 2)), maps.max(axis=(1, 2))], axis=1)
            assert np.array_equal(file["ranges/conv"][epoch, batch], extremes)
        gone = recorded == 0
        assert np.isnan(file["batches/loss"][:][gone]).all()
        assert np.isnan(file["ranges/conv"][:][gone]).all()
    report = replay.verify(path)
    assert report.problems == []


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("batches", [1, 2, 5])
def test_they_are_as_they_were_recorded_and_share_chunks(
    batches: int, known: bool, tmp_path: Path
) -> None:
    path = tmp_path / "run.h5"
    net = train(path, range(60), batches, known)
    check(path, net, 60, batches)
    with h5py.File(path) as file:
        for name in ("batches/loss", "value_checksums/batches/loss", "ranges/conv"):
            dataset = file[name]
            assert dataset.id.get_num_chunks() <= (2 if known else 15)
            assert dataset.chunks[0] * dataset.chunks[1] <= 256


@pytest.mark.parametrize("batches", [1, 3])
def test_a_budget_takes_frames_out_of_chunks_that_epochs_share(
    batches: int, tmp_path: Path
) -> None:
    """Of a run of unknown length, whose file is thinned as it grows."""
    path = tmp_path / "run.h5"
    net = train(path, range(120), batches, True, budget="900kB")
    check(path, net, 120, batches, every=2)
    with replay.open(path) as run:
        frames = run.frames
        assert 7 < len(frames) < 120 * batches
        assert frames[-1][0] > 100
    assert path.stat().st_size < 900_000


@pytest.mark.parametrize("batches", [1, 3])
def test_a_run_goes_on_within_a_chunk(batches: int, tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    train(path, range(10), batches, True)
    net = train(path, range(7, 20), batches, True, resume=7)
    with replay.open(path) as run:
        assert len(run.frames) == 20 * batches
    check(path, net, 20, batches)


@pytest.mark.parametrize("batches", [1, 3])
def test_copies_have_the_same_numbers(
    batches: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5_writer, "_CHUNK_BYTES", 128)  # so that fifty epochs need several
    path = tmp_path / "run.h5"
    net = train(path, range(50), batches, True)
    packed = replay.pack(path, tmp_path / "packed.h5").path
    check(replay.unpack(packed, tmp_path / "unpacked.h5").path, net, 50, batches)
    check(packed, net, 50, batches)
    check(replay.repair(path, tmp_path / "repaired.h5").path, net, 50, batches)
    few = replay.pack(path, tmp_path / "few.h5", bits=16, epochs="3,5-7,40", batches="0").path
    check(few, net, 50, batches, every=2)
    with replay.open(few) as run:
        assert [epoch for epoch, _ in run.frames] == [3, 5, 6, 7, 40]
