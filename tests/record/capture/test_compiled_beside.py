"""A recording begins and ends while other threads compile: neither harms the other."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch._dynamo
from torch import nn

import replay
from record import Recorder

ROOT = Path(__file__).parents[3]

BESIDE = """
import sys, threading, time
import numpy as np, torch
from torch import nn
from record import Recorder

torch.set_num_threads(1)
torch.manual_seed(0)
done = threading.Event()
wrong, compiled = [], []

def slow(graph, inputs):
    compiled.append(1)
    time.sleep(0.02)  # lets the other threads run, as a compiler does that works in C++
    return graph.forward

def compile_on():
    while not done.is_set():
        step = torch.compile(lambda x: x.sin() + 1, backend=slow)
        for size in range(1, 4):
            x = torch.ones(size)
            wrong.extend(() if torch.equal(step(x), x.sin() + 1) else (size,))

others = [threading.Thread(target=compile_on) for _ in range(2)]
for thread in others:
    thread.start()
while not compiled:
    time.sleep(0.001)
model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3))
train = torch.compile(model, backend="eager") if sys.argv[1] == "compiled" else model
rows = []
for number in range(12):
    with Recorder(model, f"run.{number}.h5", epochs=1) as recorder:
        for batch, x in enumerate(recorder.track([torch.full((1, 1, 7, 7), number + place) for place in (0.0, 0.5)])):
            train(x).sum().backward()
            rows.append(model[0](x)[0].detach().half().numpy())
done.set()
for thread in others:
    thread.join()
assert not wrong, wrong
np.save("maps.npy", rows)
"""


@pytest.mark.parametrize("way", ["plain", "compiled"])
def test_beside_threads_that_compile(tmp_path: Path, way: str) -> None:
    """Freed under their feet, what torch knows of their function would end the process."""
    script = tmp_path / "script.py"
    script.write_text(BESIDE)
    done = subprocess.run(
        [sys.executable, str(script), way],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "recompile_limit" not in done.stderr  # torch gives up a function that changes too often
    rows = iter(np.load(tmp_path / "maps.npy"))
    for number in range(12):
        with replay.open(tmp_path / f"run.{number}.h5") as run:
            assert run.frames == [(0, 0), (0, 1)]
            assert (run.lost, run.dropped) == (0, 0)
            for at in run.frames:
                assert run["0"][at].tobytes() == next(rows).tobytes(), (number, at)


class Waiting:
    """Another thread that stands in a compiled function, or in its compiling, until it may go on."""

    def __init__(self, while_compiling: bool) -> None:
        self._while_compiling = while_compiling
        self._inside, self._go_on = threading.Event(), threading.Event()
        self.result: list[torch.Tensor] = []
        step = torch.compile(self._step, backend=self._compile)
        self._thread = threading.Thread(target=lambda: self.result.append(step(torch.ones(3))))

    def _compile(self, graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        if self._while_compiling:
            self._wait()
        return graph.forward

    def _step(self, x: torch.Tensor) -> torch.Tensor:
        y = x.sin()
        if not self._while_compiling:
            torch._dynamo.graph_break()
            self._wait()
        return y + 1

    def _wait(self) -> None:
        self._inside.set()
        assert self._go_on.wait(60)

    def __enter__(self) -> Waiting:
        self._thread.start()
        assert self._inside.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._go_on.set()
        self._thread.join(60)
        assert torch.equal(self.result[0], torch.ones(3).sin() + 1)


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def record_once(
    path: Path, model: nn.Module, train: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    """Records one batch of a model that was compiled before, and looks at the file."""
    x = torch.ones(1, 1, 7, 7)
    with Recorder(model, path, epochs=1) as recorder:
        for images in recorder.track([x]):
            train(images).sum().backward()  # type: ignore[no-untyped-call]
    with replay.open(path) as run:
        maps = model[0](x)[0].detach().half().numpy()  # type: ignore[index]
        assert run["0"][0, 0].tobytes() == maps.tobytes()


def test_what_is_invalid_counts_as_no_version(tmp_path: Path) -> None:
    """torch gives a function up of which it has compiled too many versions (8); no recording does."""
    compiled: list[torch.fx.GraphModule] = []

    def count(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        compiled.append(graph)
        return graph.forward

    model = nn.Sequential(nn.Conv2d(1, 2, 3))
    train, x = torch.compile(model, backend=count), torch.ones(1, 1, 7, 7)
    train(x)
    rounds = torch._dynamo.config.recompile_limit
    with Waiting(while_compiling=False):
        for number in range(rounds):  # each compiles the model twice, with hooks and without them
            record_once(tmp_path / f"{number}.h5", model, train)
            train(x)
    assert len(compiled) == 1 + 2 * rounds
    record_once(tmp_path / "alone.h5", model, train)
    assert len(compiled) == 2 + 2 * rounds


def test_a_recording_waits_for_no_compiling(tmp_path: Path) -> None:
    """A thread that compiles for minutes keeps no other one's recording from beginning."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3))
    torch.compile(model, backend="eager")(torch.ones(1, 1, 7, 7))
    with Waiting(while_compiling=True) as other:
        record_once(tmp_path / "run.h5", model, model)
        assert not other.result


def test_threads_that_only_wait_are_no_hindrance(tmp_path: Path) -> None:
    """Beside them all is forgotten as ever, and the interval of threads is as it was."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3))
    train = torch.compile(model, backend="eager")
    train(torch.ones(1, 1, 7, 7))
    interval, end = sys.getswitchinterval(), threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        record_once(tmp_path / "run.h5", model, train)
        assert not torch._dynamo.convert_frame.input_codes.seen  # what was compiled is freed
        assert sys.getswitchinterval() == interval
    finally:
        end.set()
        thread.join()
