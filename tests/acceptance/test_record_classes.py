"""`--cam` and `--probe classes`: of a script that nobody changed, and of the built-in training."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from class_activations import field, stored
from script_runs import Record, write

from record.__main__ import main
from record.training.data import load

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[1] / "scripts" / "classify.py"
SMALL = ["--samples", "48", "--image-size", "32", "--device", "cpu", "--quiet"]


@pytest.mark.parametrize(
    "words", [["--cam", "--probe", "classes"], ["--cam=conv1", "--probe=classes"]]
)
def test_a_script_as_it_is(
    tmp_path: Path, words: list[str], python_warm: Record, record_warm: Record
) -> None:
    plain = python_warm(SCRIPT, cwd=tmp_path)
    recorded = record_warm(*words, SCRIPT, cwd=tmp_path)
    assert recorded.returncode == 0, recorded.stderr
    assert recorded.stdout == plain.stdout  # with the weights' checksum in it
    assert len(recorded.stderr.removeprefix(plain.stderr).splitlines()) == 1
    path, layer = tmp_path / "run.h5", "conv1" if "=" in words[0] else "conv2"
    with h5py.File(path, "r") as file:
        labels = sorted(int(file[f"probe/{n}"].attrs["label"]) for n in file["probe"])
        of = file[f"probe/0/cam/maps/{layer}"].attrs["of"]
    assert labels == [0, 1, 2, 3]
    assert of == "score of the label"
    for number in range(4):
        shown = np.isfinite(field(path, f"probe{number}.prediction"))
        assert shown.any()
        assert np.isfinite(stored(path, "cam", layer, number)[shown]).all()


def test_the_built_in_training(tmp_path: Path) -> None:
    path, saved = tmp_path / "run.h5", tmp_path / "state.pt"
    words = ["train", *SMALL, "--cam", "--probe", "classes", "--checkpoint", str(saved)]
    assert main([*words, "--epochs", "2", "-o", str(path), "--layers", "conv1"]) == 0
    with h5py.File(path, "r") as file:
        assert [file[f"probe/{n}"].attrs["label"] for n in range(10)] == list(range(10))
        assert file["probe/9/cam/maps/conv3"].shape[2:] == (32,)
        assert set(file["probe/9/maps"]) == {"conv1", "conv3"}
    prediction = field(path, "probe9.prediction")
    assert np.isfinite(prediction[0]).all()  # the first three times are at once
    assert np.isfinite(stored(path, "cam", "conv3", 9)[np.isfinite(prediction)]).all()


def test_words_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], record_warm: Record
) -> None:
    cases = [
        (["--cam", "--probe", "0"], "--cam: expected fixed images to show: --probe 1 or"),
        (
            ["--probe", "clases"],
            "--probe clases: expected 1 or classes, or 0 for none; did you mean",
        ),
    ]
    for words, said in cases:
        done = record_warm(*words, SCRIPT, cwd=tmp_path)
        assert done.returncode == 2
        assert said in done.stderr
    out = ["-o", str(tmp_path / "x.h5")]
    assert main(["train", *SMALL, *out, "--cam", "--probe", "0"]) == 2
    assert "--cam: expected fixed images to show: --probe classes, say" in capsys.readouterr().err
    assert main(["train", *SMALL, *out, "--cam", "nothing"]) == 2
    assert not (tmp_path / "x.h5").exists()


def test_the_first_sample_of_each_class() -> None:
    data = load("fake", Path(), 8)
    found = data.fixed("classes")
    assert [label for _, label in found] == list(range(10))
    labels = [label for _, label in (data.test[n] for n in range(len(data.test)))]
    first = data.test[labels.index(3)][0]
    assert np.array_equal(found[3][0], first)


TRANSFORMER = """
    import torch
    from torch import nn

    torch.manual_seed(0)


    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(1, 16, 4, 4)
            self.cls_token = nn.Parameter(torch.randn(1, 1, 16))
            block = nn.TransformerEncoderLayer(16, 2, 32, 0.1, batch_first=True, norm_first=True)
            self.encoder = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
            self.head = nn.Linear(16, 3)

        def forward(self, x):
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)
            return self.head(self.encoder(x)[:, 0])


    net = Net()
    images, labels = torch.randn(24, 1, 16, 16), torch.arange(24) % 3
    data = torch.utils.data.TensorDataset(images, labels)
    loader = torch.utils.data.DataLoader(data, batch_size=4, shuffle=True)
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for epoch in range(2):
        for x, y in loader:
            loss = nn.functional.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(loss.item())
"""


def test_attention_and_class_activation_of_a_script_as_it_is(
    tmp_path: Path, python_warm: Record, record_warm: Record
) -> None:
    script = write(tmp_path, TRANSFORMER)
    plain = python_warm(script, cwd=tmp_path)
    words = ["--attention", "--cam", "--probe", "classes"]
    recorded = record_warm(*words, script, cwd=tmp_path)
    assert recorded.returncode == 0, recorded.stderr
    assert recorded.stdout == plain.stdout
    path = tmp_path / "run.h5"
    with h5py.File(path, "r") as file:
        assert sorted(file[f"probe/{n}"].attrs["label"] for n in file["probe"]) == [0, 1, 2]
        assert list(file["probe/0/cam/maps"]) == ["encoder.layers.1.norm1"]
        assert list(file["probe/0/cam/maps/encoder.layers.1.norm1"].attrs["grid"]) == [4, 4]
        assert len(file["probe/2/attention/maps"]) == len(file["attention/maps"]) == 2
    shown = np.isfinite(field(path, "probe2.class"))
    assert shown.any()
    assert np.isfinite(stored(path, "cam", "encoder.layers.1.norm1", 2)[shown]).all()
