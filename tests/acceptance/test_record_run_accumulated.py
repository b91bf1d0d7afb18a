"""`record run` of a script whose forwards wait for one backward pass, more than memory holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from script_runs import Record, spoken, write

import replay

SCRIPT = """
    import sys, torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    torch.set_num_threads(1)
    count = int(sys.argv[1])
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3))
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)
    numbers = 1 + torch.arange(float(count)) / 64
    images = numbers.reshape(-1, 1, 1, 1).expand(-1, 1, 7, 7).contiguous()
    for epoch in range(2):
        losses = [model(x).square().mean() for (x,) in DataLoader(TensorDataset(images), 1)]
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()
    """


@pytest.mark.parametrize("count", [8, 100])
def test_forwards_that_wait_for_one_backward_pass(
    tmp_path: Path, record_warm: Record, count: int
) -> None:
    """Those whose frames find no memory are counted, and the others keep their numbers."""
    done = record_warm(write(tmp_path, SCRIPT), count, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with replay.open(tmp_path / "run.h5") as run:
        assert run.inputs is not None
        assert len(run.frames) + run.lost == 2 * count
        for epoch, batch in run.frames:
            assert run.inputs[epoch, batch][0, 0, 0] == 1 + batch / 64
        assert (run.lost > 0) == (count == 100)
        if run.lost:
            assert any("more forwards waited" in line for line in spoken(done))
            assert any(f"{run.lost} frames lost" in line for line in spoken(done))
