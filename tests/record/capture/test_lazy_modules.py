"""Lazy modules, which know their sizes only after the first forward."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import replay
from record.__main__ import main
from record.planning import find_layout
from record.planning.lazy_modules import make_whole
from record.protocol import messages
from record.protocol.layout import BatchLayout
from record.session.metadata import count_parameters, root_attributes
from record.training.loop import train
from record.training.settings import Settings
from record.training.setup import prepare
from record.writer.recording_file import RecordingFile
from replay import schema
from replay.schema import Layer, OptionError

pytestmark = pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")


class Heads(nn.Module):
    """With a head that runs in training alone, and another one behind it."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU())
        self.known = nn.BatchNorm2d(4)
        self.late = nn.Sequential(nn.LazyConv2d(2, 1), nn.LazyBatchNorm2d())
        self.fc = nn.LazyLinear(classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.known(self.body(x))
        logits: torch.Tensor = self.fc(x.mean((2, 3)))
        return logits + self.late(x).mean() if self.training else logits


def make(num_classes: int) -> nn.Module:
    return Heads(num_classes)


SIZE = 3 * 4 * 9 + 4 + 8 + 8 + (4 * 2 + 2) + 4 + (4 * 10 + 10)


def test_the_parameters_are_counted_once_they_are_known() -> None:
    model = Heads()
    assert count_parameters(model) is None
    assert schema.decode_meta(root_attributes(model, 0, 1, {}, {})["meta"])["parameters"] is None
    make_whole(model, torch.zeros(2, 3, 8, 8))
    assert count_parameters(model) == SIZE
    assert schema.decode_meta(root_attributes(model, 0, 1, {}, {})["meta"])["parameters"] == SIZE


def test_a_model_is_made_whole_and_nothing_else_of_it_changes() -> None:
    model = Heads()
    model.known.running_mean.fill_(3.0)
    make_whole(model, torch.ones(2, 3, 8, 8))
    assert model.training
    assert type(model.body[0]) is nn.Conv2d
    for norm, mean in ((model.known, 3.0), (model.body[1], 0.0), (model.late[1], 0.0)):
        assert norm.num_batches_tracked == 0
        assert torch.equal(norm.running_mean, torch.full((norm.num_features,), mean))
        assert torch.equal(norm.running_var, torch.ones(norm.num_features))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    make_whole(model, torch.ones(2, 3, 8, 8))
    layout = find_layout(model, None, torch.ones(2, 3, 8, 8)).layout
    assert [layer.name for layer in layout.layers] == ["body.0", "late.0"]
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_what_no_forward_reaches_and_what_does_not_fit() -> None:
    model = Heads()
    model.spare = nn.LazyLinear(3)
    with pytest.raises(OptionError, match=r"no forward reaches: spare\.weight, spare\.bias"):
        make_whole(model, torch.zeros(2, 3, 8, 8))
    with pytest.raises(OptionError, match="does not take 3x2x2 images"):
        make_whole(Heads(), torch.zeros(2, 3, 2, 2))


SMALL = ["--samples", "16", "--epochs", "2", "--image-size", "16", "--device", "cpu"]


@pytest.fixture
def factory(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(sys.modules, "lazy_factory", sys.modules[__name__])
    return "lazy_factory:make"


@pytest.mark.parametrize("more", [[], ["--probe", "0"], ["--plan"]])
def test_the_built_in_run_trains_a_lazy_model(
    tmp_path: Path, factory: str, more: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.h5"
    assert main(["train", *SMALL, "--model", factory, "-o", str(path), *more]) == 0
    told = capfd.readouterr()
    assert "Traceback" not in told.err
    if more == ["--plan"]:
        assert not path.exists()
        return
    assert f"{SIZE} parameters" in told.err
    with replay.open(path) as run:
        assert run.meta["parameters"] == SIZE
        assert len(run.frames) == 2
        assert run.layers == ("body.0", "late.0")


def test_it_ends_with_the_same_weights_with_and_without_a_recorder(
    tmp_path: Path, factory: str
) -> None:
    from record.recorder import Recorder

    ends = []
    for record in (False, True):
        settings = Settings(
            model=factory, samples=16, epochs=2, image_size=16, device="cpu", batch_size=8
        )
        run = prepare(settings)
        if record:
            with Recorder(run.model, tmp_path / "run.h5") as recorder:
                train(run, recorder)
        else:
            train(run)
        ends.append(run.model.state_dict())
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name


def test_the_writer_fills_in_what_was_not_known(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    meta = {"model": "Heads", "parameters": None, "seed": 3}
    about = {"format": "mapreel", "version": 1, "created": "now", "meta": schema.encode_meta(meta)}
    layout = BatchLayout((), (Layer("a", "Conv2d()", (1, 2, 2)),))
    for facts, resume in (({"parameters": 12, "seed": 4}, None), ({"parameters": 5}, 1), (None, 1)):
        file = RecordingFile(str(path), False, about, resume)
        file.set_layout(layout, None, facts)
        header = messages.FrameHeader(resume or 0, 0, 0, 0.0)
        file.write([header], np.zeros((1, layout.size), np.float16))
        with replay.open(path) as run:  # also while it is written
            assert (run.meta["parameters"], run.meta["seed"]) == (12, 3)
        file.close()
