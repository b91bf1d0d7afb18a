"""`record run` of a script that trains several models at the same time, each in a thread of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from script_runs import Record, write

import replay

SCRIPT = """
    import sys, threading
    from concurrent.futures import ThreadPoolExecutor
    import numpy as np, torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    torch.set_num_threads(1)
    way, threads, trials = sys.argv[1], 2, 6
    barrier = threading.Barrier(threads)

    class Net(nn.Module):
        def __init__(self, generator):
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 2, 3), nn.Linear(72, 1)
            with torch.no_grad():
                for weight in self.parameters():
                    weight.copy_(torch.rand(weight.shape, generator=generator) - 0.5)

        def forward(self, x):
            return self.head(torch.relu(self.conv(x)).flatten(1))

    def meet(_=None):
        if way == "abreast":
            barrier.wait()

    def trial(number):
        generator = torch.Generator().manual_seed(number)
        images = torch.full((12, 1, 8, 8), float(number)) + torch.arange(12.).reshape(12, 1, 1, 1) / 64
        model = Net(generator)
        seen, rows = [], []
        model.conv.register_forward_hook(lambda conv, args, output: seen.append(output[0]))
        optimizer = torch.optim.SGD(model.parameters(), 0.001)
        loader = DataLoader(TensorDataset(images), 4)
        for epoch in range(2):
            for batch, (x,) in enumerate(loader):
                meet()  # both models begin to be recorded at once
                out = model(x)
                out.register_hook(meet)  # both backward passes run at once, one has begun first
                loss = out.square().mean()
                optimizer.zero_grad()
                loss.backward()
                meet()
                optimizer.step()
                rows.append((epoch, batch, seen.pop().detach().half().numpy(), loss.item()))
        return rows

    with ThreadPoolExecutor(threads) as pool:
        for number, rows in enumerate(pool.map(trial, range(trials))):
            np.savez(
                f"truth.{number}.npz",
                at=[row[:2] for row in rows],
                maps=[row[2] for row in rows],
                loss=[row[3] for row in rows],
            )
    """


@pytest.mark.parametrize("way", ["abreast", "free"])
def test_trainings_in_threads(tmp_path: Path, record_warm: Record, way: str) -> None:
    """Each trial of a search in threads has a file of its own, with every batch and its loss."""
    done = record_warm(write(tmp_path, SCRIPT), way, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    recordings = sorted(tmp_path.glob("run*.h5"))
    assert len(recordings) == 6
    trials = set()
    for path in recordings:
        with replay.open(path) as run:
            assert (run.lost, run.dropped) == (0, 0)
            number = int(run.inputs[0, 0].ravel()[0])
            trials.add(number)
            truth = np.load(tmp_path / f"truth.{number}.npz")
            assert run.frames == [tuple(map(int, at)) for at in truth["at"]]
            for place, at in enumerate(run.frames):
                assert run["conv"][at].tobytes() == truth["maps"][place].tobytes(), (path, at)
            losses = [run.batches["loss"][at] for at in run.frames]
            np.testing.assert_allclose(losses, truth["loss"], rtol=1e-6)
    assert trials == set(range(6))
