"""Gradients of a script that nobody changed, of Lightning and of the built-in run, and their plan."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from gradient_trainings import close_to_float16, images, read
from lightning_trainings import QUIET, fit, make, need
from script_runs import Record, spoken, write
from torch import nn

import record as record_package
from record.launch.arguments import UsageError, parse

SCRIPT = """
    import sys
    import numpy as np
    import torch
    from torch import nn

    torch.manual_seed(0)
    accumulated, scaled = int(sys.argv[1]), sys.argv[2] == "scaled"
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 3))
    images, labels = torch.randn(12, 3, 8, 8), torch.arange(12) % 3
    loader = torch.utils.data.DataLoader(list(zip(images, labels)), batch_size=4)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1, enabled=scaled)
    seen = []

    class Watch(nn.Module):
        def forward(self, x):
            if torch.is_grad_enabled() and self.training:
                factor = scaler.get_scale()
                x.register_hook(lambda gradient: seen.append(gradient[0].numpy() / factor))
            return x

    net.insert(1, Watch())
    for epoch in range(2):
        for number, (x, y) in enumerate(loader):
            loss = nn.functional.cross_entropy(net(x), y)
            scaler.scale(loss / accumulated).backward()
            if (number + 1) % accumulated == 0:
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
    np.save("seen.npy", np.stack(seen))
    print(float(net[0].weight.sum()))
"""


@pytest.mark.parametrize(("accumulated", "scaled"), [(3, "plain"), (1, "scaled")])
def test_a_script_as_it_is(
    tmp_path: Path, accumulated: int, scaled: str, python_warm: Record, record_warm: Record
) -> None:
    write(tmp_path, SCRIPT)
    alone = python_warm("script.py", accumulated, scaled, cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    right = np.load(tmp_path / "seen.npy")
    done = record_warm("--gradients", "script.py", accumulated, scaled, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == alone.stdout
    assert not any("gradients" in line for line in spoken(done)), done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "seen.npy"), right)
    path = tmp_path / "run.h5"
    with h5py.File(path) as file:
        assert set(file["gradients/maps"]) == {"0"}
        assert "note" not in file["gradients/maps/0"].attrs
    for place, gradient in enumerate(right):
        epoch, batch = divmod(place, 3)
        close_to_float16(read(path, "0", batch, epoch), gradient)


def test_the_words_of_record_run() -> None:
    def options(*words: str) -> Any:
        return parse([*words, "script.py"]).options.get("gradients", False)

    assert options() is False
    assert options("--gradients") is True
    assert options("--gradients", "--every", "2") is True
    assert options("--gradients", "conv1", "layer*") == ("conv1", "layer*")
    assert options("--gradients=conv1") == ("conv1",)
    with pytest.raises(UsageError, match="--layers: expected names"):
        parse(["--layers", "script.py"])


class TestLightning:
    pytestmark = QUIET

    def test_equal_to_hooks_on_the_tensors(self, tmp_path: Path) -> None:
        lightning: ModuleType = need("lightning.pytorch")
        from record.lightning import RecordFeatureMaps

        model = make(lightning, "self(x)")
        right: list[np.ndarray] = []

        def watch(module: nn.Module, args: Any, output: torch.Tensor) -> None:
            if output.requires_grad:
                output.register_hook(lambda gradient: right.append(gradient[0].numpy().copy()))

        model.net.conv1.register_forward_hook(watch)
        path = tmp_path / "run.h5"
        callback = RecordFeatureMaps(path, "net.conv1", gradients=True)
        fit(lightning, model, tmp_path, callback, accumulate_grad_batches=2)
        assert len(right) == 6
        for place, gradient in enumerate(right):
            epoch, batch = divmod(place, 3)
            close_to_float16(read(path, "net.conv1", batch, epoch), gradient)


def test_the_built_in_run_and_its_plan(tmp_path: Path, python_warm: Record) -> None:
    words = ["train", "--data", "fake", "--image-size", 32, "--samples", 32, "--epochs", 1]
    words += ["--layers", "conv1", "conv2", "--gradients", "conv2", "--quiet"]
    planned = python_warm("-m", "record", "plan", *words[1:-1], "--json", cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    kinds = [layer.get("kind", "") for layer in json.loads(planned.stdout)["layers"]]
    assert kinds.count("gradients") == 1
    tree = python_warm("-m", "record", "plan", *words[1:-1], cwd=tmp_path)
    assert "gradients of 1 layer" in tree.stdout
    done = python_warm("-m", "record", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with h5py.File(tmp_path / "run.h5") as file:
        assert set(file["gradients/maps"]) == {"conv2"}
        assert np.isfinite(file["gradients/maps/conv2"][0, :2]).all()
    verified = python_warm("-m", "replay", "verify", "run.h5", cwd=tmp_path)
    assert verified.returncode == 0, verified.stdout


def test_what_a_model_of_ones_own_would_take() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    found = record_package.plan(model, (3, 8, 8), layers=["0", "2"], gradients=True)
    beside = [layer for layer in found.layout.layers if layer.kind == "gradients"]
    assert [(layer.name, layer.shape) for layer in beside] == [("0", (4, 6, 6)), ("2", (2, 4, 4))]
    assert [layer.name for layer in found.layers] == ["0", "2"]
    assert "gradients of 2 layers, 352 bytes" in "\n".join(found.layer_lines())


def test_memory_does_not_grow(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3))
    pages = Path("/proc/self/statm")
    if not pages.exists():
        pytest.skip("not tested: that memory does not grow, where there is no /proc")
    path, before = tmp_path / "run.h5", 0
    with record_package.Recorder(model, path, gradients=True, quiet=True) as recorder:
        for number, batch in enumerate(recorder.track(images(1, 16) * 600)):
            model(batch.repeat(1, 1, 4, 4)).square().mean().backward()
            if number == 300:
                before = int(pages.read_text().split()[1])
    grown = (int(pages.read_text().split()[1]) - before) * 4096
    assert grown < 8e6
