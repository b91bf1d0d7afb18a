"""Attention by every way to record: scripts as they are, callbacks, wrappers, and a killed run."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from attention_models import Expected, TinyGPT, of_causal
from lightning_trainings import QUIET
from script_runs import ENVIRONMENT, python, record, spoken, write
from torch import nn

from record import Recorder
from record.launch.arguments import UsageError, check, parse

pytestmark = QUIET

SCRIPT = """
    import sys, torch
    from torch import nn
    from torch.nn.functional import scaled_dot_product_attention

    torch.manual_seed(0)

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)

        def forward(self, x):
            q, k, v = self.qkv(x).unflatten(-1, (3, 4, 4)).permute(2, 0, 3, 1, 4)
            x = scaled_dot_product_attention(q, k, v, dropout_p=0.1 if self.training else 0)
            return self.out(x.transpose(1, 2).flatten(2))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(3, 16, 4, 4)
            self.cls_token = nn.Parameter(torch.zeros(1, 1, 16))
            self.attn, self.fc = Attention(), nn.Linear(16, 2)

        def forward(self, x):
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)
            return self.fc((x + self.attn(x))[:, 0])

    model = Net()
    optimizer = torch.optim.Adam(model.parameters())
    images, labels = torch.randn(24, 3, 16, 24), torch.arange(24) % 2
    for epoch in range(int(sys.argv[1])):
        for first in range(0, 24, 8):
            loss = nn.functional.cross_entropy(model(images[first:][:8]), labels[first:][:8])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    print(sum(float(p.detach().double().abs().sum()) for p in model.parameters()))
"""


@pytest.mark.parametrize(
    ("words", "shape"), [([], (4, 25)), pytest.param(["full"], (4, 25, 25), marks=pytest.mark.slow)]
)
def test_a_script_as_it_is(tmp_path: Path, words: list[str], shape: tuple[int, ...]) -> None:
    script = write(tmp_path, SCRIPT)
    plain = python(script, 2, cwd=tmp_path)
    done = record("--attention", *words, script, 2, cwd=tmp_path)
    assert done.stdout == plain.stdout, done.stderr
    assert any("of every query" in line for line in spoken(done)) == bool(words)
    with h5py.File(tmp_path / "run.h5") as file:
        for root in ("", "probe/0/"):
            frames = file[f"{root}attention/maps/attn"]
            assert frames.shape[2:] == shape
            assert tuple(frames.attrs["grid"]) == (4, 6)
            assert frames.attrs["queries"] == ("all" if words else "class")
            assert np.isfinite(frames[0, 0]).all()
        assert np.isfinite(file["attention/maps/attn"][:2, :3]).all()


def test_arguments() -> None:
    for words, expected in (
        (["--attention", "train.py", "full"], "cls"),
        (["--attention", "full", "train.py"], "full"),
        (["--attention=full", "-m", "train"], "full"),
        (["--attention", "--every", "2", "train.py"], "cls"),
    ):
        assert parse(words).options["attention"] == expected
    assert "attention" not in parse(["train.py", "--attention"]).options
    with pytest.raises(UsageError, match="--attention=ful: expected cls or full; did you mean"):
        check(parse(["--attention=ful", "train.py"]))


@pytest.mark.slow
def test_a_killed_run_can_be_read(tmp_path: Path) -> None:
    script = write(tmp_path, SCRIPT)
    words = [sys.executable, "-m", "record", "run", "--attention", str(script), "100000"]
    process = subprocess.Popen(words, cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not committed(tmp_path / "run.h5") > 20:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 30
    while (count := committed(tmp_path / "run.h5", closed=True)) < 0:  # its writer ends
        assert time.monotonic() < deadline
        time.sleep(0.2)
    with h5py.File(tmp_path / "run.h5") as file:
        recorded, frames = file["batches/recorded"], file["attention/maps/attn"]
        whole = np.argwhere((recorded[:] > 0) & (recorded[:] <= count))
        assert len(whole) > 20
        for epoch, batch in whole:
            np.testing.assert_allclose(frames[epoch, batch].sum(-1, dtype=float), 1, atol=2e-3)


def committed(path: Path, closed: bool = False) -> int:
    """How many frames a reader can see; -1 where the file is not there, or still written."""
    try:
        with h5py.File(path, "r", **({} if closed else {"libver": "latest", "swmr": True})) as file:
            return int(file["state"][0])
    except (OSError, KeyError):
        return -1


def test_distributed_data_parallel(tmp_path: Path) -> None:
    distributed = torch.distributed
    if not distributed.is_available() or not distributed.is_gloo_available():
        pytest.skip("not tested: attention under DistributedDataParallel, torch has no gloo")
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        torch.manual_seed(0)
        network = TinyGPT()
        expected = Expected(network, {"CausalSelfAttention": of_causal})
        model = nn.parallel.DistributedDataParallel(network)
        with Recorder(model, tmp_path / "run.h5", attention=True, quiet=True) as recorder:
            for tokens in recorder.track([torch.randint(0, 11, (3, 7)) for _ in range(3)]):
                model(tokens).sum().backward()
    finally:
        distributed.destroy_process_group()
    compare(tmp_path / "run.h5", expected)


def test_lightning(tmp_path: Path, lightning: ModuleType) -> None:
    from record.lightning import RecordFeatureMaps

    class Module(lightning.LightningModule):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = TinyGPT()

        def training_step(self, batch: torch.Tensor, number: int) -> Any:
            return self.net(batch).square().mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    torch.manual_seed(0)
    module = Module()
    expected = Expected(module.net, {"CausalSelfAttention": of_causal})
    callback = RecordFeatureMaps(tmp_path / "run.h5", module="net", attention="cls", quiet=True)
    trainer = lightning.Trainer(
        max_epochs=1, callbacks=[callback], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
    )  # fmt: skip
    tokens = torch.randint(0, 11, (9, 7))
    trainer.fit(module, torch.utils.data.DataLoader(tokens, 3))
    compare(tmp_path / "run.h5", expected)


def compare(path: Path, expected: Expected) -> None:
    with h5py.File(path) as file:
        assert sorted(file["attention/maps"]) == ["h.0.attn", "h.1.attn"]
        for name, whole in expected.by_name.items():
            want = torch.stack(whole).mean(2).numpy()
            np.testing.assert_allclose(file[f"attention/maps/{name}"][0, :3], want, atol=1e-3)
