"""Runs the loops of README and docs/ that record a training of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from documents import ROOT, code_blocks
from torch import nn

import replay
from record import Recorder

pytestmark = pytest.mark.usefixtures("quick_writers")

PAGES = ["README.md", "docs/record.md", "docs/tutorial.md", "docs/any-training.md"]


@pytest.mark.parametrize("page", PAGES)
def test_the_loop_records_the_batches_and_a_probe(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = [b for b in code_blocks(ROOT / page, "python") if "in recorder.track(loader)" in b]
    assert len(blocks) == 1
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("conv1", nn.Conv2d(3, 4, 3))
    model.add_module("layer1", nn.Sequential(nn.Conv2d(4, 4, 3)))
    model.add_module("head", nn.Sequential(nn.Flatten(), nn.Linear(4 * 16, 3)))
    names: dict[str, Any] = {
        "Recorder": Recorder,
        "model": model,
        "epochs": 2,
        "loader": [(torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])) for _ in range(3)],
        "criterion": nn.CrossEntropyLoss(),
        "optimizer": torch.optim.SGD(model.parameters(), 0.1),
    }
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks[0], page, "exec"), names)
    with replay.open("run.h5") as run:
        assert run.frames == [(epoch, batch) for epoch in range(2) for batch in range(3)]
        assert list(run.layers) == ["conv1", "layer1.0"]
        assert run.probe(0)["conv1"].frames[:3] == run.frames[:3]
        assert run.batches["label"].ravel().tolist() == [0] * 6
