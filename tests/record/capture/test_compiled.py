"""Compiled models: as many graphs and the same weights as without a recorder, and its frames."""

from __future__ import annotations

import contextlib
import copy
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gradient_trainings import read as read_gradient
from hazard_trainings.networks import LAYERS, Net, Wrapper
from hazard_trainings.table import Hazard, batches, under
from hazard_trainings.training import to_bytes, train
from torch import nn

import replay
from record import Recorder

pytestmark = pytest.mark.usefixtures("deterministic", "poisoned_buffers")


class Backend:
    """A backend of torch.compile that counts how often the graphs with convolutions run."""

    def __init__(self, name: str) -> None:
        self.compile = torch._dynamo.lookup_backend(name)
        self.runs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: Any, **options: Any) -> Any:
        has_convolution = "conv2d" in graph.code
        compiled = self.compile(graph, inputs, **options)

        def run(*args: Any) -> Any:
            self.runs += has_convolution
            return compiled(*args)

        return run


class TwoGraphs(Net):
    """Two graphs: there is a graph break of its own between conv1 and conv2."""

    def decode(self, x: torch.Tensor) -> torch.Tensor:
        torch._dynamo.graph_break()
        return super().decode(x)


@dataclass
class Compiled:
    state: dict[str, bytes]
    breaks: int
    runs: int


def train_compiled(
    make: Callable[[], nn.Module],
    fullgraph: bool,
    device: str,
    attach: str = "",
    path: Path | None = None,
    backend: str = "aot_eager",
) -> Compiled:
    """Two epochs, and no compilation is allowed in the second; recorded if there is a path.

    Args:
        attach: When the recorder is attached: `before` or `after` torch.compile, after `method`
            (`model.compile()`); `part`: to a model that the compiled one is a part of, and that
            is called itself or not (`part called directly`).
    """
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    counting = Backend(backend)
    torch.manual_seed(0)
    model = make().to(device)
    data = [images.to(device) for images in batches()]
    recorder = None
    if path and attach == "before":
        recorder = Recorder(model, path, layers=LAYERS)
    if attach == "method":
        model.compile(backend=counting, fullgraph=fullgraph)
        forward = model
    else:
        forward = torch.compile(model, backend=counting, fullgraph=fullgraph)
    if path and attach in ("after", "method"):
        before = copy.deepcopy(model.state_dict())
        forward(data[0])  # it is compiled without the hooks
        model.load_state_dict(before)
        torch.manual_seed(0)
        make()
        counters.clear()
        counting.runs = 0
        recorder = Recorder(forward, path, layers=LAYERS)
    root = model
    if path and attach.startswith("part"):
        root = Wrapper(forward)
        recorder = Recorder(root, path, layers=under("net"))
        forward = root if attach == "part" else forward
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    with recorder or contextlib.nullcontext():
        for epoch in range(2):
            warm = torch.compiler.set_stance("fail_on_recompile") if epoch else None
            with warm or contextlib.nullcontext():
                for images in recorder.track(data) if recorder else data:
                    loss = forward(images).square().mean()
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                if fullgraph:
                    root.eval()
                    with torch.no_grad():
                        forward(data[0])
                    root.train()
    breaks = sum(counters["graph_break"].values())
    torch.compiler.reset()
    return Compiled(to_bytes(model), breaks, counting.runs)


@pytest.fixture(scope="module")
def compiled_plain() -> dict[Any, Compiled]:
    """The trainings without a recorder: one for each model and device."""
    return {}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize(
    ("make", "attach"),
    [
        (Net, "before"),
        (Net, "after"),
        (Net, "method"),
        (Net, "part"),
        (Net, "part called directly"),
        (TwoGraphs, "before"),
        (TwoGraphs, "after"),
    ],
)
def test_compiled(
    tmp_path: Path,
    make: Callable[[], nn.Module],
    attach: str,
    device: str,
    compiled_plain: dict[Any, Compiled],
) -> None:
    fullgraph = make is Net
    path, key = tmp_path / "run.h5", (make, device)
    if key not in compiled_plain:
        compiled_plain[key] = train_compiled(make, fullgraph, device)
    plain = compiled_plain[key]
    outcome = train_compiled(make, fullgraph, device, attach, path)
    assert outcome.state == plain.state
    assert outcome.breaks == plain.breaks
    assert (plain.breaks == 0) == fullgraph
    # Every forward ran in compiled graphs, as many of them as without a recorder.
    assert outcome.runs == plain.runs == (8 if fullgraph else 12)
    check_close_to_eager(path, device, "net." if attach.startswith("part") else "")


def check_close_to_eager(path: Path, device: str, prefix: str = "") -> None:
    """The maps of a compiled model are those of the eager one, but for the order of its sums."""
    eager = train(Hazard(), device, watched=True)
    with replay.open(path) as run:
        assert (run.lost, run.dropped) == (0, 0)
        assert run.frames == sorted(eager.frames)
        assert set(run.layers) == {prefix + name for name in eager.frames[0, 0]}
        for at, frames in eager.frames.items():
            assert run.inputs[at].tobytes() == eager.images[at].tobytes()
            for name, frame in frames.items():
                np.testing.assert_allclose(run[prefix + name][at], frame, atol=1e-3, rtol=2e-3)
            assert (run[f"{prefix}norm"][at] < 0).any()  # not what the in-place ReLU made of it


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_compiled_by_inductor(tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "MAPREEL_INDUCTOR" not in os.environ:
        pytest.skip(
            "not tested: kernels that inductor makes; set MAPREEL_INDUCTOR=1 (takes half a minute)"
        )
    path = tmp_path / "run.h5"
    # The dropout of eager mode, so that the maps can be held against eager ones.
    monkeypatch.setattr("torch._inductor.config.fallback_random", True)
    plain = train_compiled(Net, True, device, backend="inductor")
    outcome = train_compiled(Net, True, device, "before", path, backend="inductor")
    assert outcome == plain
    check_close_to_eager(path, device)


def test_a_training_beside_a_thread_that_compiles(tmp_path: Path) -> None:
    """torch's own flag says of all threads that they compile; the training is what it was."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    put_out, gradients = [], []

    def keep(module: nn.Module, args: Any, output: torch.Tensor) -> None:
        put_out.append(output[0].detach().half().numpy().tobytes())
        output.register_hook(lambda gradient: gradients.append(gradient[0].clone()))

    model[0].register_forward_hook(keep)
    compiles, may_end = threading.Event(), threading.Event()

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        compiles.set()
        assert may_end.wait(60)
        return graph.forward

    compiled = torch.compile(lambda x: x.sin() + 1, backend=backend)
    thread = threading.Thread(target=compiled, args=(torch.ones(2),))
    with Recorder(model, tmp_path / "run.h5", gradients=True) as recorder:
        thread.start()
        assert compiles.wait(60)
        try:
            assert torch.compiler.is_compiling()  # else there is nothing to tell apart
            for images in recorder.track(batches(3, 3, 3, 3)):
                optimizer.zero_grad()
                model(images[:, :1]).square().mean().backward()
                optimizer.step()
        finally:
            may_end.set()
            thread.join()
    with replay.open(tmp_path / "run.h5") as run:
        assert run.lost == 0
        assert [run["0"][at].tobytes() for at in run.frames] == put_out
        assert len(gradients) == len(run.frames) == 4
    for batch, expected in enumerate(gradients):
        found = read_gradient(tmp_path / "run.h5", "0", batch)
        np.testing.assert_allclose(found, expected, atol=float(expected.abs().max()) * 2**-9)
