"""`record run`: loaders that run ahead, teachers, scaled losses, compiled models, evaluation."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import pytest
from script_runs import Record, write

import replay

pytestmark = pytest.mark.slow


LOOK_AHEAD = """
    import copy, os, sys, threading, time, queue, torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(0)
    images = torch.rand(12, 3, 8, 8)
    loader = DataLoader(TensorDataset(images, torch.arange(12.0)), batch_size=3)
    validation = DataLoader(TensorDataset(images + 5), batch_size=6)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 1))
    teacher = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), 0.001)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=True)

    def ahead(loader):
        iterator = iter(loader)
        following = next(iterator)
        while following is not None:
            batch, following = following, next(iterator, None)
            yield batch

    def threaded(loader):
        box = queue.Queue()
        threading.Thread(target=lambda: [box.put(b) for b in loader] + [box.put(None)]).start()
        while (batch := box.get()) is not None:
            yield batch

    def behind(loader):  # a thread that has all batches, and is late to say that there are no more
        box = queue.Queue()
        trained = threading.Event()

        def fetch():
            iterator = iter(loader)
            for _ in range(len(loader)):
                box.put(next(iterator))
            trained.wait()
            list(iterator)

        thread = threading.Thread(target=fetch)
        thread.start()
        while box.qsize() < len(loader):
            time.sleep(0.001)
        for _ in range(len(loader)):
            yield box.get()
        trained.set()
        thread.join()

    def meanwhile(loader):  # a thread that fetches while the recording begins
        box = queue.Queue()
        trained = threading.Event()

        def fetch():
            iterator = iter(loader)
            box.put(next(iterator))
            while not os.path.exists("run.h5"):
                time.sleep(0.0001)
            for _ in range(1, len(loader)):
                box.put(next(iterator))
            trained.wait()
            list(iterator)

        thread = threading.Thread(target=fetch)
        thread.start()
        for _ in range(len(loader)):
            yield box.get()
        trained.set()
        thread.join()

    ways = {"ahead": ahead, "threaded": threaded, "behind": behind, "meanwhile": meanwhile}
    for epoch in range(3):
        model.train()
        for x, y in ways[sys.argv[1]](loader):
            with torch.no_grad():
                teacher(x)
            loss = (model(x)[:, 0] - y).square().mean()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            print(loss.item())
        model.eval()
        for (x,) in validation:
            model(x)
    """


@pytest.mark.parametrize("way", ["ahead", "threaded", "behind", "meanwhile"])
def test_loaders_that_run_ahead_teachers_and_scaled_losses(
    tmp_path: Path, record_warm: Record, way: str
) -> None:
    done = record_warm(write(tmp_path, LOOK_AHEAD), way, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with replay.open(tmp_path / "run.h5") as run:
        assert run.frames == [(e, b) for e in range(3) for b in range(4)]
        printed = [float(line) for line in done.stdout.split()]
        np.testing.assert_allclose(run.batches["loss"].ravel(), printed, rtol=1e-6)
        for epoch, batch in run.frames:  # in the order of the loader: batch b begins with image 3b
            np.testing.assert_array_equal(run.inputs[epoch, batch], run.inputs[0, batch])
            assert run.inputs[epoch, batch].max() <= 1  # nothing of the validation


OPTIONS = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 4, 3)
            self.conv2 = nn.Conv2d(4, 2, 3)
        def forward(self, x):
            return self.conv2(self.conv1(x))

    torch.manual_seed(0)
    model = Net()
    model.compile(backend="aot_eager") if COMPILE else None
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    if FUNCTION:
        @torch.compile(backend="aot_eager")
        def step(x):
            return model(x).square().mean()
    else:
        step = lambda x: model(x).square().mean()
    for number in range(12):
        loss = step(torch.full((2, 3, 9, 9), float(number)))
        loss.backward()
        print(loss.item())
        optimizer.step()
        optimizer.zero_grad()
        if number % 4 == 3:
            model.eval(); model(torch.full((2, 3, 9, 9), -1.0)); model.train()
    """


@pytest.mark.parametrize("way", ["eager", "COMPILE", "FUNCTION"])
def test_options_and_ways_to_compile(tmp_path: Path, way: str, record_warm: Record) -> None:
    text = "\n".join(f"{name} = {name == way}" for name in ("COMPILE", "FUNCTION"))
    script = write(tmp_path, text + "\n" + textwrap.dedent(OPTIONS))
    done = record_warm("-o", "a.h5", "--layers", "conv2", "--every=2", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with replay.open(tmp_path / "a.h5") as run:
        assert run.layers == ("conv2",)
        # A compiled function shows no module: it is found at the first step.
        first = 2 if way == "FUNCTION" else 0
        assert run.frames == [(0, number) for number in range(first, 12, 2)]
        assert [int(run.inputs[at][0, 0, 0]) for at in run.frames] == list(range(first, 12, 2))
        assert run.lost == (way == "FUNCTION")
        printed = np.array([float(line) for line in done.stdout.split()])
        losses = [run.batches["loss"][at] for at in run.frames]
        np.testing.assert_allclose(losses, printed[first::2], rtol=1e-5)


def test_including_evaluation(tmp_path: Path, record_warm: Record) -> None:
    script = write(tmp_path, "COMPILE = FUNCTION = False\n" + textwrap.dedent(OPTIONS))
    assert record_warm("--include-eval", script, cwd=tmp_path).returncode == 0
    with replay.open(tmp_path / "run.h5") as run:
        images = [int(run.inputs[at][0, 0, 0]) for at in run.frames]
        assert images == [0, 1, 2, 3, -1, 4, 5, 6, 7, -1, 8, 9, 10, 11, -1]
        flags = [run.batches["training"][at] for at in run.frames]
        assert flags == [float(image >= 0) for image in images]
    only = write(
        tmp_path,
        "import torch\nm = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)).eval()\n"
        "for n in range(3): m(torch.full((1, 3, 8, 8), float(n)))\n",
        "only.py",
    )
    assert record_warm("-o", "only.h5", "--include-eval", only, cwd=tmp_path).returncode == 0
    with replay.open(tmp_path / "only.h5") as run:
        assert [int(run.inputs[at][0, 0, 0]) for at in run.frames] == [0, 1, 2]
