"""Averages of the weights and saved models, made while the model is recorded."""

from __future__ import annotations

import contextlib
import copy
import io
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hazard_trainings.networks import LAYERS, Net
from hazard_trainings.table import batches
from hazard_trainings.training import to_bytes
from torch import nn
from torch.optim.swa_utils import AveragedModel

import replay
from record import Recorder

pytestmark = pytest.mark.usefixtures("deterministic", "poisoned_buffers")


def test_average_of_the_weights(tmp_path: Path) -> None:
    """An EMA model is a deepcopy with its own forwards, and is saved with pickle."""

    def fit(path: Path | None) -> tuple[dict[str, bytes], AveragedModel]:
        torch.manual_seed(0)
        model = Net()
        recorder = Recorder(model, path, layers=LAYERS) if path else None
        average = AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
        optimizer = torch.optim.SGD(model.parameters(), 0.05)
        with recorder or contextlib.nullcontext():
            for images in recorder.track(batches()) if recorder else batches():
                average(3 * images)  # in training mode, before and after the model's forward
                model(images).square().mean().backward()
                average(3 * images)
                copy.deepcopy(average)(2 * images)
                optimizer.step()
                optimizer.zero_grad()
                average.update_parameters(model)
            pickled = pickle.dumps(average.module)
            assert b"record" not in pickled
            assert to_bytes(pickle.loads(pickled)) == to_bytes(average.module)
        return to_bytes(model), average

    plain, plain_average = fit(None)
    model, average = fit(tmp_path / "run.h5")
    assert model == plain
    assert to_bytes(average) == to_bytes(plain_average)
    with replay.open(tmp_path / "run.h5") as run:
        assert set(run.layers) == {*LAYERS, "relu#1"}
        assert (len(run.frames), run.lost) == (3, 0)
        for at in run.frames:
            assert run.inputs[at].tobytes() == batches()[at[1]][0].half().numpy().tobytes()


def test_model_saved_while_recorded_loads_without_mapreel(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
    images = batches()[0]
    with Recorder(model, tmp_path / "run.h5", layers="0") as recorder:
        for batch in recorder.track([images]):
            model(batch)
        torch.save(model, tmp_path / "model.pt")
        expected = model(images)
    torch.save((images, expected), tmp_path / "expected.pt")
    code = """
import sys, torch
sys.modules.update(record=None, replay=None)  # importing them is an ImportError now
model = torch.load(sys.argv[1], weights_only=False)
images, expected = torch.load(sys.argv[2])
assert torch.equal(model(images), expected)
assert model.training
"""
    command = [sys.executable, "-I", "-W", "ignore", "-c", code]
    files = [str(tmp_path / "model.pt"), str(tmp_path / "expected.pt")]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    state = io.BytesIO()
    torch.save(model.state_dict(), state)  # no hooks in there in any case
    assert b"record" not in state.getvalue()
