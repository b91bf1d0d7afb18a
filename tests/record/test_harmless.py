"""What a Recorder must leave alone: the training, its model, its copies and its child processes."""

from __future__ import annotations

import contextlib
import copy
import io
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from watched_trainings import USED, Net, Watch, batches, fit, make

import replay
from record import Recorder, RecordingWarning
from replay.schema import RecordingError

pytestmark = pytest.mark.usefixtures("quick_writers")


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("checkpointing", ["", "reentrant", "non-reentrant"])
def test_training_is_the_same_to_the_bit(tmp_path: Path, checkpointing: str) -> None:
    data = [images.requires_grad_() for images in batches()]
    plain = fit(make(checkpointing), None, data=data)
    state = torch.get_rng_state()
    model = make(checkpointing)
    with Recorder(model, tmp_path / "run.h5", layers=USED) as recorder:
        recorded = fit(model, recorder, data=data)
    assert torch.equal(plain, recorded)
    assert torch.equal(state, torch.get_rng_state())
    with replay.open(tmp_path / "run.h5") as run:
        assert run.layers == ("conv1", "conv2")  # once a forward: no conv1#1
        assert len(run.frames) == 8


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("attach", ["before", "after"])
def test_compiled_models(tmp_path: Path, attach: str) -> None:
    torch.compiler.reset()
    plain_model = make()
    plain = fit(plain_model, None, forward=torch.compile(plain_model, backend="aot_eager"))
    torch.compiler.reset()
    model = make()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    if attach == "after":
        fit_once = compiled(batches()[0])
        assert fit_once.shape == (4, 3)
    target = compiled if attach == "after" else model
    with Recorder(target, tmp_path / "run.h5", layers=USED) as recorder:
        recorded = fit(model, recorder, forward=compiled)
    assert torch.equal(plain, recorded)
    eager = make()
    seen = Watch(eager.conv1)
    fit(eager, None)
    with replay.open(tmp_path / "run.h5") as run:
        assert run.layers == ("conv1", "conv2")
        assert len(run.frames) == 8
        for place, at in enumerate(run.frames):
            np.testing.assert_allclose(run["conv1"][at], seen.frames[place], atol=2e-3)
            assert (run["conv1"][at] < 0).any()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_a_model_can_be_scripted_while_it_is_recorded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
    with Recorder(model, tmp_path / "run.h5", layers="Conv2d") as recorder:
        for images in recorder.track(batches(3)):
            scripted = torch.jit.script(model)
            assert torch.equal(scripted(images), model(images))
    with replay.open(tmp_path / "run.h5") as run:
        assert len(run.frames) == 3
        for place, at in enumerate(run.frames):
            expected = model[0](batches(3)[place])[0].detach().half().numpy()
            assert run["0"][at].tobytes() == expected.tobytes()


def test_copies_and_pickles_of_the_model_record_nothing(tmp_path: Path) -> None:
    model = make()
    with Recorder(model, tmp_path / "run.h5", layers="conv1") as recorder:
        for images in recorder.track(batches(2)):
            model(images)
            average = copy.deepcopy(model)
            average(images * 2)
            buffer = io.BytesIO()
            torch.save(model, buffer)
    buffer.seek(0)
    assert (
        b"record.capture.layer_hook" not in buffer.getvalue()
    )  # it loads where there is no mapreel
    loaded = torch.load(buffer, weights_only=False)
    assert torch.equal(loaded(batches()[0]), model(batches()[0]))
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    with replay.open(tmp_path / "run.h5") as run:
        assert len(run.frames) == 2
        np.testing.assert_array_equal(run.inputs[0, 1], batches()[1][0].half().numpy())


def test_an_odd_layer_does_not_stop_the_training(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.to("meta")  # shapes without values: nothing can be copied

    class Around(Net):
        def __init__(self) -> None:
            super().__init__()
            self.odd = Odd()

        def features(self, x: torch.Tensor) -> torch.Tensor:
            self.odd(x)
            return super().features(x)

    model = Around()
    recorder = Recorder(model, tmp_path / "run.h5", layers=["conv1", "odd"])
    with pytest.warns(RecordingWarning) as caught:
        for images in recorder.track(batches()):
            model(images).sum().backward()
        recorder.close()
    said = [str(w.message) for w in caught]
    assert "cannot record odd" in said[0]
    assert {w.filename for w in caught} == {__file__}  # the training loop, not a line of ours
    with replay.open(tmp_path / "run.h5") as run:
        assert (len(run.frames), run.layers) == (4, ("conv1",))
        assert run.lost == 4

    model = Around()
    strict = Recorder(model, tmp_path / "strict.h5", layers=["odd"], on_error="raise")
    with pytest.raises(RecordingError, match="cannot record odd"):
        model(batches()[0])
    with pytest.warns(RecordingWarning):
        strict.close()


def test_warnings_as_errors_do_not_reach_the_training(tmp_path: Path, capfd) -> None:
    model = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Recorder(model, tmp_path / "run.h5") as recorder:
            for images in recorder.track(batches(1)):
                model(images)
    assert "RecordingWarning: did not fire in the first batch: spare" in capfd.readouterr().err


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_does_not_write_into_the_frames_of_its_parent(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Identity())  # a convolution in a forked child may wait for ever
    batches = [torch.rand(2, 3, 8, 8) for _ in range(6)]
    with Recorder(model, tmp_path / "run.h5", layers=["0"]) as recorder:
        for number, images in enumerate(recorder.track(batches)):
            if number % 2:
                model(images)  # the parent's frame lies there, not yet sent
            child = os.fork()
            if not child:
                with contextlib.suppress(BaseException):
                    for other in recorder.track([torch.full((2, 3, 8, 8), 100.0)] * 2):
                        model(other)
                os._exit(0)
            os.waitpid(child, 0)
            if not number % 2:
                model(images)
    with replay.open(tmp_path / "run.h5") as recording:
        for number, images in enumerate(batches):
            right = images[0].half().numpy()
            np.testing.assert_array_equal(recording["0"][0, number], right)
