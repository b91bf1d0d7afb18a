"""`record run` of a meta-learning: the copies of each task are no recordings of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from script_runs import Record, spoken, write

import replay

SCRIPT = """
    import copy, sys
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 2, 3), nn.Linear(72, 1)

        def forward(self, x):
            return self.head(torch.relu(self.conv(x)).flatten(1))

    outer = Net()

    def train(batches, model):
        optimizer = torch.optim.SGD(model.parameters(), 0.01)
        images = torch.arange(2.0 * batches).reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8) / 64
        for (x,) in DataLoader(TensorDataset(images.clone()), 2):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        with torch.no_grad():
            for ours, theirs in zip(outer.parameters(), model.parameters()):
                ours.lerp_(theirs, 0.5)

    for task in range(20):
        train(3, copy.deepcopy(outer) if sys.argv[1] == "copies" else Net())
    train(15, copy.deepcopy(outer))
    train(3, copy.deepcopy(outer))
    print(outer.conv.weight.sum().item())
    """


def test_copies_are_left_out_after_some_and_one_that_is_trained_on_is_not(
    tmp_path: Path, record_warm: Record
) -> None:
    done = record_warm(write(tmp_path, SCRIPT), "copies", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = spoken(done)
    assert [line for line in said if "meta-learning" in line] == [
        "Net: 12 copies of a model were trained, each on 10 batches or fewer, like the inner "
        "models of meta-learning; from here on those are left out"
    ]
    names = ["run.h5", *(f"run.{number}.h5" for number in range(2, 14))]
    assert {path.name for path in tmp_path.glob("*.h5")} == set(names)
    for name in names[:-1]:
        with replay.open(tmp_path / name) as run:
            assert (run.frames, run.lost) == ([(0, batch) for batch in range(3)], 0)
    with replay.open(tmp_path / names[-1]) as run:  # the batches behind its first eleven
        assert run.frames == [(0, batch) for batch in range(11, 15)]
        assert run.lost == 11
        for _, batch in run.frames:
            assert np.all(run.inputs[0, batch] == 2 * batch / 64)
    assert any(line.startswith("11 batches are lost, and counted: ") for line in said)


def test_short_trainings_of_new_models_are_all_recorded(
    tmp_path: Path, record_warm: Record
) -> None:
    """A search, say, whose trials happen to be short; here another model is alive meanwhile."""
    script = write(tmp_path, SCRIPT.replace("outer = Net()", "outer = nn.Sequential()"))
    text = script.read_text().replace("copy.deepcopy(outer)", "Net()")
    script.write_text(text.replace("outer.conv.weight.sum().item()", "0"))
    done = record_warm(script, "new", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("*.h5"))) == 22
    assert not any("meta-learning" in line for line in spoken(done))
