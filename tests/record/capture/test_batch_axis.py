"""Which axis counts the images of a batch: what is told from evidence, and how it is said."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from torch import nn
from warm import WarmPython

import replay
from record.__main__ import main
from record.capture.batch_axis import WHOLE, BatchSize, batch_first_around, choose_axis, known_axis
from record.options import parse_axes

SCRIPT = """
import torch
from torch import nn
class Turn(nn.Module):
    def forward(self, x):
        return x.movedim(0, 2)
torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(1, 3, 3), Turn())
seen = []
net[1].register_forward_hook(lambda m, a, o: seen.append(o[:, :, 0].detach().half().numpy()))
optimizer = torch.optim.SGD(net.parameters(), 0.01)
for x in torch.utils.data.DataLoader(torch.rand(8, 1, 6, 6), 4):
    optimizer.zero_grad(); net(x).square().mean().backward(); optimizer.step()
import numpy
numpy.save("seen.npy", numpy.stack(seen))
"""


def test_an_axis_in_words() -> None:
    assert parse_axes(["encoder.*=1", "a=b=0"]) == {"encoder.*": 1, "a=b": 0}
    for word in ("encoder", "=1", "a=", "a=x", "a=-1", "a=1.5"):
        with pytest.raises(replay.RecordingError, match="expected a layer and an axis from 0"):
            parse_axes([word])


def test_record_run_takes_the_axis_that_is_said(tmp_path: Path, warm: WarmPython) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    words = ["-m", "record", "run", "--layers", "1", "--batch-axis", "1=2", "script.py"]
    done = warm.run(words, tmp_path, dict(os.environ))
    assert done.returncode == 0, done.stderr
    with replay.open(tmp_path / "run.h5") as run:
        frames = np.stack([run["1"][at] for at in run.frames])
    assert frames.tobytes() == np.load(tmp_path / "seen.npy").tobytes()


def test_a_word_of_no_use_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = str(tmp_path / "run.h5")
    assert main(["train", "-o", output, "--batch-axis", "conv1"]) == 2
    assert "expected a layer and an axis from 0" in capsys.readouterr().err
    (tmp_path / "script.py").write_text(SCRIPT)
    words = ["run", "-o", output, "--batch-axis", "=1", str(tmp_path / "script.py")]
    assert main(words) == 2
    assert "--batch-axis =1: expected a layer" in capsys.readouterr().err
    assert not Path(output).exists()


@pytest.mark.parametrize(
    ("module", "rank", "axis"),
    [
        (nn.Conv2d(1, 1, 1), 4, 0),
        (nn.Conv2d(1, 1, 1), 3, WHOLE),
        (nn.LazyConv2d(1, 1), 3, WHOLE),
        (nn.ConvTranspose1d(1, 1, 1), 2, WHOLE),
        (nn.BatchNorm1d(1), 2, 0),
        (nn.BatchNorm1d(1), 3, 0),
        (nn.InstanceNorm2d(1), 3, WHOLE),
        (nn.GroupNorm(1, 1), 3, 0),
        (nn.AdaptiveAvgPool2d(1), 3, WHOLE),
        (nn.MaxPool3d(1), 5, 0),
        (nn.ReflectionPad2d(1), 3, WHOLE),
        (nn.Dropout2d(), 3, None),
        (nn.ReLU(), 4, None),
        (nn.Linear(1, 1), 2, None),
        (nn.LSTM(1, 1), 3, 1),
        (nn.LSTM(1, 1, batch_first=True), 3, 0),
        (nn.GRU(1, 1), 2, WHOLE),
        (nn.LSTMCell(1, 1), 1, WHOLE),
        (nn.MultiheadAttention(2, 1), 3, 1),
        (nn.TransformerEncoderLayer(2, 1, 2), 3, 1),
        (nn.TransformerEncoderLayer(2, 1, 2, batch_first=True), 3, 0),
        (
            nn.TransformerEncoder(
                nn.TransformerEncoderLayer(2, 1, 2), 1, enable_nested_tensor=False
            ),
            3,
            1,
        ),
    ],
)
def test_what_a_module_knows_of_its_rank(module: nn.Module, rank: int, axis: int | None) -> None:
    assert known_axis(module, "", rank) == axis


def test_the_weights_of_an_attention_have_the_batch_in_front() -> None:
    attention = nn.MultiheadAttention(2, 1)
    assert known_axis(attention, "1", 3) == 0
    assert known_axis(attention, "1", 4) == 0
    assert known_axis(attention, "1", 3, whole=True) == WHOLE
    assert known_axis(attention, "1", 2) == WHOLE


def test_the_nearest_flag_counts() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 1)
            self.mlp = nn.Linear(4, 4)

    model = nn.Module()
    model.batch_first = True
    model.block, model.head = Block(), nn.Linear(4, 2)
    said = batch_first_around(model)
    assert said[id(model.block.mlp)] is False
    assert said[id(model.head)] is True
    assert id(nn.Linear(1, 1)) not in said


@pytest.mark.parametrize(
    ("shape", "batch", "batch_first", "before", "axis", "unsure"),
    [
        ((4, 8, 5, 5), BatchSize((4,)), None, None, 0, False),
        ((8, 8, 5, 5), BatchSize((8,)), None, None, 0, False),  # as many channels as images
        ((5, 4, 6), BatchSize((4,)), None, None, 1, False),
        ((4, 4, 6), BatchSize((4,)), False, None, 1, True),
        ((4, 4, 6), BatchSize((4,)), True, None, 0, False),
        ((4, 4, 6), BatchSize((4,), axis=1), None, None, 0, True),
        ((4, 4, 6), BatchSize((4,)), None, frozenset((1,)), 1, False),
        ((9, 4), BatchSize((4,)), None, None, WHOLE, False),  # (T, D), as many features as images
        ((12, 7), BatchSize((4,)), None, None, 0, False),  # three rows an image
        ((49, 49), BatchSize((4,)), None, None, WHOLE, False),  # a table
        ((5, 3), BatchSize(whole=True), None, None, WHOLE, False),
        ((), BatchSize((4,)), None, None, WHOLE, False),
        ((5, 3, 2), BatchSize(), False, None, 1, False),
        ((5, 3, 2), BatchSize(), None, None, 0, False),
        ((3, 4, 2), BatchSize((4, 3), axis=1), False, None, 1, False),
    ],
)
def test_what_sizes_tell(
    shape: tuple[int, ...],
    batch: BatchSize,
    batch_first: bool | None,
    before: frozenset[int] | None,
    axis: int,
    unsure: bool,
) -> None:
    choice = choose_axis(shape, batch, batch_first, before)
    assert choice.axis == axis
    assert axis in choice.possible
    assert choice.unsure == unsure


def test_tokens_of_which_there_are_as_many_as_images_are_uncertain() -> None:
    assert choose_axis((4, 4, 6), BatchSize((4,)), tokens=True).unsure
    assert not choose_axis((4, 4, 6), BatchSize((4,)), True, tokens=True).note
    assert not choose_axis((5, 4, 6), BatchSize((4,)), tokens=True).note
    assert not choose_axis((1, 1, 6), BatchSize((1,)), tokens=True).note
