"""The memory that a training shares with its writer, and the pipe where there is none."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from processes import shared_memory
from watched_trainings import Net

from record import Recorder

pytestmark = pytest.mark.usefixtures("quick_writers")


def test_frames_go_through_the_pipe_where_no_memory_can_be_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(name: str) -> int:
        raise OSError(38, "Function not implemented")

    torch.manual_seed(0)
    model = Net()
    batches = [torch.rand(2, 3, 8, 8) for _ in range(20)]
    for way in ("shared", "pipe"):
        if way == "pipe":
            monkeypatch.setattr(os, "memfd_create", none, raising=False)
        before = shared_memory()  # of recorders that are not collected yet
        with Recorder(model, tmp_path / f"{way}.h5") as recorder:
            for images in recorder.track(batches):
                model(images)
            assert len(shared_memory().keys() - before) == (way == "shared")
    with h5py.File(tmp_path / "shared.h5") as one, h5py.File(tmp_path / "pipe.h5") as other:
        for group in ("maps", "ranges", "checksums", "kernels"):
            assert one[group].keys() == other[group].keys() != set()
            for name, dataset in one[group].items():
                assert dataset.shape[:2] == (1, 20)
                np.testing.assert_array_equal(dataset[:], other[group][name][:])


def test_the_memory_of_an_earlier_layout_is_given_back(tmp_path: Path) -> None:
    model = Net()
    before = shared_memory()
    with Recorder(model, tmp_path / "run.h5") as recorder:
        assert recorder._courier is not None
        for size in range(8, 80, 12):  # a new shape, a new layout
            for images in [torch.rand(1, 3, size, size)] * 40:
                model(images)
                recorder.step()
            assert recorder.flush()
            (memory,) = (about for n, about in shared_memory().items() if n not in before)
            pool = recorder._courier.channel.pool
            assert pool is not None
            assert pool.shared
            slot = -(-recorder.layout.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
            # What this layout has used, and the counter; nothing of those before.
            assert memory.st_blocks * 512 <= len(pool.slot_numbers) * slot + mmap.PAGESIZE
        frames = recorder.sent
    assert frames == recorder.committed == 6 * 40
