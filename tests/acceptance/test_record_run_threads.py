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


ONE_MODEL = """
    import sys, threading, time
    import numpy as np, torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    torch.set_num_threads(1)
    sys.setswitchinterval(1e-5)
    threads, count = 2, 60

    class Slow(nn.Module):
        def forward(self, x):
            time.sleep(0.0002)  # the other thread's turn
            return x

    class Hogwild(torch.optim.Optimizer):  # steps while others are on their way through the model
        def __init__(self, parameters):
            super().__init__(parameters, {"lr": 1e-6})

        @torch.no_grad()
        def step(self, closure=None):
            for parameter in self.param_groups[0]["params"]:
                parameter.data.add_(parameter.grad, alpha=-1e-6)
                parameter.grad.data.zero_()

    model = nn.Sequential(nn.Conv2d(1, 2, 3), Slow(), nn.Conv2d(2, 1, 3))
    optimizer = Hogwild(model.parameters())
    local, rows = threading.local(), []

    def keep(module, args, output):
        local.map = output[0].detach().half().numpy()

    model[0].register_forward_hook(keep)

    def train(place):
        numbers = 1 + (place * 512 + torch.arange(float(count))) / 64
        images = numbers.reshape(-1, 1, 1, 1).expand(-1, 1, 7, 7).contiguous()
        for (x,) in DataLoader(TensorDataset(images), 1):
            loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
            rows.append((x[0, 0, 0, 0].item(), loss.item(), local.map))

    workers = [threading.Thread(target=train, args=(place,)) for place in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    np.savez("truth.npz", **dict(zip(["image", "loss", "maps"], map(np.array, zip(*rows)))))
    """


@pytest.mark.parametrize("trial", range(3))
def test_threads_that_train_one_model(tmp_path: Path, record_warm: Record, trial: int) -> None:
    """Each forward of each thread is recorded, with its own loss, or counted as lost."""
    done = record_warm(write(tmp_path, ONE_MODEL), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    truth = np.load(tmp_path / "truth.npz")
    place = {float(image): row for row, image in enumerate(truth["image"])}
    with replay.open(tmp_path / "run.h5") as run:
        assert len(run.frames) + run.lost + run.dropped == len(place) == 120
        rows = [place.pop(float(run.inputs[at].ravel()[0])) for at in run.frames]  # each once
        for at, row in zip(run.frames, rows, strict=True):
            assert run["0"][at].tobytes() == truth["maps"][row].tobytes(), at
            np.testing.assert_allclose(run.batches["loss"][at], truth["loss"][row], rtol=1e-6)


COMPILED = """
    import sys, threading
    import numpy as np, torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    torch.set_num_threads(1)
    way, threads, count = sys.argv[1], 2, 8
    models = [nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3)) for _ in range(threads)]

    def compiled(function):
        return torch.compile(function, backend="aot_eager")

    def train(place):
        model, rows = models[place], []
        optimizer = torch.optim.SGD(model.parameters(), 1e-3)
        if way == "module":
            model = compiled(model)
        step = (lambda x: model(x).square().mean())
        if way == "function":
            step = compiled(step)
        numbers = 1 + (place * 64 + torch.arange(float(count))) / 64
        images = numbers.reshape(-1, 1, 1, 1).expand(-1, 1, 7, 7).contiguous()
        for epoch in range(2):
            for batch, (x,) in enumerate(DataLoader(TensorDataset(images), 1)):
                loss = step(x)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                rows.append((epoch, batch, x[0, 0, 0, 0].item(), loss.item()))
        np.save(f"truth.{place}.npy", rows)

    workers = [threading.Thread(target=train, args=(place,)) for place in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    """


@pytest.mark.parametrize("way", ["module", "function"])
def test_compiled_trainings_in_threads(tmp_path: Path, record_warm: Record, way: str) -> None:
    """While one thread compiles, another one's training is seen; no pass is taken for the other's."""
    done = record_warm(write(tmp_path, COMPILED), way, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    truth = {place: np.load(tmp_path / f"truth.{place}.npy") for place in range(2)}
    for path in (tmp_path / "run.h5", tmp_path / "run.2.h5"):
        with replay.open(path) as run:
            assert run.lost == (way == "function")  # nobody sees the first step of a function
            assert len(run.frames) == 16 - run.lost
            rows = truth.pop(int(run.inputs[run.frames[0]].ravel()[0]) - 1)
            for at in run.frames:
                epoch, batch, image, loss = rows[at[0] * 8 + at[1]]
                assert (epoch, batch, image) == (*at, float(run.inputs[at].ravel()[0]))
                np.testing.assert_allclose(run.batches["loss"][at], loss, rtol=1e-6)
