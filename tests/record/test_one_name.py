"""`epoch` and `epochs`, `batch` and `batches` mean the same in the calls of `record`, too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import record
from record import Recorder
from replay.schema import OptionError


def network() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU())


def test_a_plan_takes_both_names() -> None:
    shape = (1, 8, 8)
    usual = record.plan(network(), shape, epochs=3, batches=7)
    assert record.plan(network(), shape, epoch=3, batch=7) == usual
    assert record.plan(network(), shape) == record.plan(network(), shape, epochs=1)
    with pytest.raises(OptionError, match=r"epochs and epoch: two names of the same.* 1 and 2"):
        record.plan(network(), shape, epochs=1, epoch=2)
    with pytest.raises(OptionError, match=r"batches and batch: two names of the same.* 1 and 2"):
        record.plan(network(), shape, batches=1, batch=2)
    images = torch.zeros(2, 1, 8, 8)
    assert record.plan(network(), batch=images, epoch=3, batches=7).layers == usual.layers


def test_a_recorder_takes_both_names(tmp_path: Path) -> None:
    kept = []
    for place, name in enumerate(({"epochs": 2}, {"epoch": 2})):
        model = network()
        with Recorder(
            model, tmp_path / f"{place}.h5", budget="40kB", quiet=True, **name
        ) as recorder:
            for _ in range(2):
                for images in recorder.track([torch.zeros(1, 1, 8, 8)] * 4):
                    model(images).sum().backward()
        kept.append(recorder.committed)
    assert kept[0] == kept[1] > 0
    with pytest.raises(OptionError, match="epochs and epoch: two names of the same"):
        Recorder(network(), tmp_path / "c.h5", epochs=2, epoch=3)


def test_a_writer_takes_both_names(tmp_path: Path) -> None:
    maps = {"conv1": np.zeros((2, 4, 4), np.float16)}
    for place, name in enumerate(({"batches": 2}, {"batch": 2})):
        with record.Writer(tmp_path / f"{place}.h5", quiet=True, **name) as writer:
            writer.write(epoch=0, batch=0, maps=maps)
    with pytest.raises(OptionError, match="batches and batch: two names of the same"):
        record.Writer(tmp_path / "c.h5", batches=2, batch=2)
    with pytest.raises(OptionError, match="batches: expected a whole number from 1"):
        record.Writer(tmp_path / "c.h5", batch=0)
