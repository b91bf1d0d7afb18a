"""What was compiled of one model serves others of its class: each frame is still that of its own."""

from __future__ import annotations

import copy
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import replay
from record import Recorder

BATCHES = 4


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).relu()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.blocks = nn.ModuleList(Block() for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return x.mean()


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    torch.manual_seed(0)
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Training:
    """A compiled model, its optimizer, and what its layers put out, by a forward without compiler."""

    def __init__(self, model: Net | None = None) -> None:
        self.model = Net() if model is None else model
        self.compiled: Callable[[torch.Tensor], torch.Tensor] = torch.compile(
            self.model, backend="eager"
        )
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.1)
        self.expected: list[dict[str, np.ndarray]] = []

    def step(self) -> None:
        images = torch.randn(2, 3, 8, 8)
        maps = {}
        with torch.no_grad():
            x = nn.functional.conv2d(images, self.model.stem.weight, self.model.stem.bias)
            maps["stem"] = x[0].half().numpy()
            for number, block in enumerate(self.model.blocks):
                weight, bias = block.conv.weight, block.conv.bias
                x = nn.functional.conv2d(x, weight, bias, padding=1)
                maps[f"blocks.{number}.conv"] = x[0].half().numpy()
                x = x.relu()
        self.expected.append(maps)
        self.optimizer.zero_grad()
        self.compiled(images).square().backward()
        self.optimizer.step()

    def check(self, path: Path, layers: int = 4) -> None:
        with replay.open(path) as run:
            assert len(run.layers) == layers
            assert run.frames == [(0, batch) for batch in range(len(self.expected))]
            for batch, maps in enumerate(self.expected):
                for name in run.layers:
                    np.testing.assert_allclose(run[name][0, batch], maps[name], atol=1e-3)


@pytest.mark.parametrize("first", ["recorded", "other"])
def test_beside_another_model_of_its_class(tmp_path: Path, first: str) -> None:
    recorded, other = Training(), Training()
    with Recorder(recorded.model, tmp_path / "run.h5", quiet=True) as recorder:
        for _ in range(BATCHES):
            for training in (recorded, other) if first == "recorded" else (other, recorded):
                training.step()
            recorder.step()
    recorded.check(tmp_path / "run.h5")


def test_beside_an_average_of_its_weights(tmp_path: Path) -> None:
    recorded = Training()
    average = copy.deepcopy(recorded.model).requires_grad_(False)
    shown = torch.compile(average, backend="eager")
    with Recorder(recorded.model, tmp_path / "run.h5", quiet=True) as recorder:
        for _ in range(BATCHES):
            with torch.no_grad():
                shown(torch.randn(2, 3, 8, 8))
            recorded.step()
            recorder.step()
    recorded.check(tmp_path / "run.h5")


def test_two_that_are_recorded_by_turns(tmp_path: Path) -> None:
    trainings = [Training(), Training()]
    paths = [tmp_path / "a.h5", tmp_path / "b.h5"]
    recorders = [
        Recorder(training.model, path, quiet=True)
        for training, path in zip(trainings, paths, strict=True)
    ]
    for _ in range(BATCHES):
        for training, recorder in zip(trainings, recorders, strict=True):
            training.step()
            recorder.step()
    for training, recorder, path in zip(trainings, recorders, paths, strict=True):
        recorder.close()
        training.check(path)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch looks at a block's input
@pytest.mark.parametrize("layers", [["blocks.0.conv"], ["blocks.2.conv"], ["*"]])
def test_blocks_that_are_compiled_one_by_one(tmp_path: Path, layers: list[str]) -> None:
    training = Training()
    training.compiled = training.model
    with Recorder(training.model, tmp_path / "run.h5", layers, quiet=True) as recorder:
        for block in training.model.blocks:
            block.compile(backend="eager")
        for _ in range(BATCHES):
            training.step()
            recorder.step()
    with replay.open(tmp_path / "run.h5") as run:
        kept = [name for name in run.layers if name in training.expected[0]]
        assert len(kept) == (1 if len(layers[0]) > 1 else 4)
        for batch, maps in enumerate(training.expected):
            for name in kept:
                np.testing.assert_allclose(run[name][0, batch], maps[name], atol=1e-3)


def test_a_model_that_is_compiled_and_trained_in_another_thread(tmp_path: Path) -> None:
    recorded = Training()
    with Recorder(recorded.model, tmp_path / "run.h5", quiet=True) as recorder:

        def train() -> None:
            other = Training()
            for _ in range(BATCHES):
                other.step()
                recorded.step()
                recorder.step()

        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
    recorded.check(tmp_path / "run.h5")


def test_torch_is_left_as_it_was(tmp_path: Path) -> None:
    from torch._dynamo import config

    assert config.skip_nnmodule_hook_guards
    recorders = [Recorder(Net(), tmp_path / f"{name}.h5", quiet=True) for name in "ab"]
    recorders[0].close()
    recorders[0].close()
    assert not config.skip_nnmodule_hook_guards
    recorders[1].close()
    assert config.skip_nnmodule_hook_guards


IMPORTS_LATER = """
import sys, torch
from torch import nn
from record import Recorder
model = nn.Sequential(nn.Conv2d(3, 4, 1))
finders = list(sys.meta_path)
recorder = Recorder(model, sys.argv[1], quiet=True)
if sys.argv[2] == "never":
    recorder.close()
    assert "torch._dynamo" not in sys.modules, "its import takes a second"
    assert sys.meta_path == finders
else:
    assert "torch._dynamo" not in sys.modules
    import torch._dynamo
    assert not torch._dynamo.config.skip_nnmodule_hook_guards
    recorder.close()
    assert torch._dynamo.config.skip_nnmodule_hook_guards
    assert [each for each in sys.meta_path if each not in finders] == []
"""


@pytest.mark.parametrize("when", ["never", "later"])
def test_torchs_compiler_may_be_imported_later_or_never(tmp_path: Path, when: str) -> None:
    words = [sys.executable, "-c", IMPORTS_LATER, str(tmp_path / "run.h5"), when]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
