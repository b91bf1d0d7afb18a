"""Channels that go wrong at a known batch are found, with that batch."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from command_lines import without_next
from PIL import Image
from samples import drifting_maps, write_recording
from torch import nn

import replay
from record import Recorder
from replay.__main__ import main
from replay.diagnosis import symptoms
from replay.diagnosis.report import Finding, Health
from replay.recording.series import Series

KILLED, STOPPED = 3, 1  # channels
EPOCH, BATCH = 1, 2  # of 3 epochs of 5 batches


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(6, 4, 3)
        self.squash = nn.Sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.squash(self.conv2(self.relu(self.conv1(x)))).mean()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training in which a channel is killed and another one driven into saturation."""
    path = tmp_path_factory.mktemp("health") / "run.h5"
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    probe = torch.rand(1, 3, 12, 12)
    names = ["conv1", "relu", "conv2", "squash"]
    with Recorder(model, path, layers=names, probe=probe) as recorder:
        for epoch in range(3):
            data = [torch.randn(2, 3, 12, 12) for _ in range(5)]
            for batch, images in enumerate(recorder.track(data)):
                if (epoch, batch) >= (EPOCH, BATCH):
                    with torch.no_grad():
                        model.conv1.weight[KILLED] = 0
                        model.conv1.bias[KILLED] = 0
                        model.conv2.bias[STOPPED] = 60
                loss = model(images)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                recorder.log(loss=loss)
    return path


def of(found: Health, layer: str, kind: str) -> list[Finding]:
    one = next(one for one in found.layers if one.name == layer)
    return [finding for finding in one.findings if finding.kind == kind]


def where(findings: list[Finding]) -> list[tuple[int | None, int | None, int | None]]:
    return [(one.channel, one.epoch, one.batch) for one in findings]


def test_a_killed_channel_is_found_and_since_when(trained: Path) -> None:
    found = replay.health(trained)
    assert not found
    assert where(of(found, "conv1", "dead")) == [(KILLED, EPOCH, BATCH)]
    assert where(of(found, "relu", "dead")) == [(KILLED, EPOCH, BATCH)]
    assert where(of(found, "squash", "stuck")) == [(STOPPED, EPOCH, BATCH)]
    assert of(found, "squash", "stuck")[0].value == 1
    assert of(found, "conv2", "dead") == []
    assert {one.kind for one in found.all_findings} == {"dead", "stuck"}
    layer = found.layers[0]
    assert layer.zero[EPOCH, BATCH - 1] == 0
    assert layer.zero[EPOCH, BATCH] == 1 / 6
    assert layer.measure == "the fixed image's maps"
    assert [(one.start, one.end) for one in layer.changes] == [((0, 4), (1, 4)), ((1, 4), (2, 4))]
    assert layer.changes[0].value > layer.changes[1].value > 0
    text = str(found)
    assert "channel 3: zero since epoch 1 batch 2, the last 8 of 15 batches" in text
    assert "conv2" in text
    assert "nothing found" in text
    assert text.index("nothing found") > text.index("dead")


def quiet(path: Path, **layers: object) -> Path:
    return write_recording(path / "run.h5", layers, epochs=4, batches=10)  # type: ignore[arg-type]


def test_each_kind_is_found_and_nothing_else(tmp_path: Path) -> None:
    waves = drifting_maps(8, 16, 16)

    def maps(epoch: int, batch: int) -> np.ndarray:
        made, late = waves(epoch, batch).copy(), (epoch, batch) >= (1, 4)
        if late:
            made[0] = 0
            made[1] = 0.25 * batch
            made[2] = -1.5
            made[3] = np.where(np.arange(256).reshape(16, 16) == 7, made[3], 6)  # a ReLU6, say
            made[4] = waves(1, 4)[4]
        made[3] = np.minimum(made[3], 6)
        made[6] = 2 * made[5] + 1
        if (epoch, batch) >= (2, 3):
            made[7, 0, :3] = np.nan
            made[7, 1, 0] = np.inf
        return made

    found = replay.health(quiet(tmp_path, a=maps, b=waves))
    assert {kind: where(of(found, "a", kind)) for kind in ("dead", "flat", "stuck")} == {
        "dead": [(0, 1, 4)],
        "flat": [(1, 1, 4)],
        "stuck": [(2, 1, 4)],
    }
    (saturated,) = of(found, "a", "saturated")
    assert (saturated.channel, saturated.value) == (3, 6)
    assert (1, 4) <= (saturated.epoch, saturated.batch) <= (1, 6)  # 32 of 40 frames are read
    assert where(of(found, "a", "unchanging")) == [(4, 1, 4)]
    (duplicate,) = of(found, "a", "duplicate")
    assert (duplicate.channel, duplicate.like) == (6, 5)
    assert duplicate.value is not None
    assert duplicate.value > 0.999
    (nan,), (inf,) = of(found, "a", "nan"), of(found, "a", "inf")
    assert (nan.epoch, nan.batch, nan.value, nan.frames) == (2, 3, 51, 17)
    assert (inf.epoch, inf.batch, inf.value, inf.frames) == (2, 3, 17, 17)
    assert "channel 7" in nan.text
    assert [(one.kind, one.epoch, one.batch, one.value) for one in found.findings] == [
        ("nan", 2, 3, 51),
        ("inf", 2, 3, 17),
    ]
    assert found.layers[1].findings == []
    assert found.layers[1].measure == "ranges"


def test_signs_that_come_and_go_are_not_found() -> None:
    random = np.random.default_rng(0)
    signs = random.random((60, 400)) < 0.5
    assert (symptoms.since(signs) == 60).all()
    signs[20:, 7] = True
    assert symptoms.since(signs)[7] <= 20
    assert symptoms.since(np.ones((3, 2), bool)).tolist() == [0, 0]
    assert symptoms.since(np.ones((2, 1), bool)).tolist() == [2]


@pytest.mark.parametrize("frames", [10, 30, 100])
def test_of_many_that_are_mostly_silent_none_is_dead_for_that(frames: int) -> None:
    """A neuron that spoke in the first frames, and then by chance no more, was called dead."""
    random = np.random.default_rng(frames)
    often = random.beta(19, 1, 2048)
    signs = random.random((frames, 2048)) < often
    assert (symptoms.since(signs) < frames).sum() <= 2  # of 2,048; it was a hundred
    seldom = random.random((frames, 64)) < 0.02
    seldom[frames // 2 :, 5] = True
    found = symptoms.since(seldom)
    assert np.flatnonzero(found < frames).tolist() == [5]
    assert found[5] <= frames // 2


def test_a_layer_of_sparse_neurons_that_all_live_is_healthy(tmp_path: Path) -> None:
    often = np.random.default_rng(1).beta(9, 1, 1024)

    def maps(epoch: int, batch: int) -> np.ndarray:
        random = np.random.default_rng((epoch, batch))
        return ((random.random(1024) > often) * random.random(1024)).astype("f2")

    path = write_recording(tmp_path / "run.h5", {"fc": maps}, epochs=1, batches=30)
    assert replay.health(path).all_findings == []


@pytest.mark.parametrize(("batches", "kinds"), [(2, set()), (3, {"unchanging"})])
def test_kernels_of_two_batches_say_nothing(tmp_path: Path, batches: int, kinds: set[str]) -> None:
    """A warm-up begins with a learning rate of 0, which was told as a fault."""
    path = write_recording(
        tmp_path / "run.h5",
        {"a": drifting_maps(3, 8, 8)},
        epochs=1,
        batches=batches,
        kernels={"a": lambda e, b: np.ones((3, 3, 3, 3), "f2")},
    )
    assert {one.kind for one in replay.health(path).all_findings} == kinds


def test_a_channel_without_finite_values_hides_no_duplicate(tmp_path: Path) -> None:
    """Nothing was left of the others, and nothing was said."""
    waves = drifting_maps(4, 16, 16)

    def maps(epoch: int, batch: int) -> np.ndarray:
        made = waves(epoch, batch).copy()
        made[0], made[3] = np.nan, 2 * made[1]
        made[2, :8] = np.inf
        return made

    found = replay.health(quiet(tmp_path, a=maps))
    assert [(one.channel, one.like) for one in of(found, "a", "duplicate")] == [(3, 1)]


def test_small_maps_that_are_often_zero_are_neither_dead_nor_saturated(tmp_path: Path) -> None:
    def maps(epoch: int, batch: int) -> np.ndarray:
        random = np.random.default_rng((epoch, batch))
        return np.maximum(random.standard_normal((256, 1, 1)) - 0.5, 0).astype("f2")

    path = write_recording(tmp_path / "run.h5", {"a": maps}, epochs=5, batches=20)
    assert replay.health(path).all_findings == []


def test_the_same_picture_again_is_no_sign_of_an_unchanging_channel(tmp_path: Path) -> None:
    waves = drifting_maps(3, 8, 8)
    path = write_recording(
        tmp_path / "run.h5",
        {"a": lambda e, b: waves(0, 0)},
        images=lambda e, b: np.ones((3, 8, 8), "f2"),
    )
    assert replay.health(path)
    with h5py.File(path, "r+") as file:
        file["inputs"][1, 3] = 2
    (finding,) = of(replay.health(path), "a", "unchanging")
    assert "every channel" in finding.text


def test_a_probe_and_kernels_that_stand_still(tmp_path: Path) -> None:
    waves = drifting_maps(3, 8, 8)

    def probed(epoch: int, batch: int) -> np.ndarray:
        made = waves(epoch, batch).copy()
        made[1] = waves(0, 0)[1]
        return made

    path = write_recording(
        tmp_path / "run.h5",
        {"a": waves, "b": waves},
        probes=[(np.zeros((3, 8, 8)), {"a": probed})],
        kernels={"b": lambda e, b: np.ones((3, 3, 3, 3), "f2")},
    )
    found = replay.health(path)
    (finding,) = of(found, "a", "unchanging")
    assert (finding.channel, finding.epoch, finding.batch) == (1, 0, 0)
    assert "fixed image 0" in finding.text
    (finding,) = of(found, "b", "unchanging")
    assert finding.text.startswith("the kernels are the same")


def test_a_bounded_part_of_the_maps_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_recording(
        tmp_path / "run.h5", {"a": drifting_maps(2, 4, 4)}, epochs=10, batches=40
    )
    read: list[object] = []
    honest = Series.__getitem__
    monkeypatch.setattr(
        Series, "__getitem__", lambda self, key: (read.append(key), honest(self, key))[1]
    )
    replay.health(path)
    assert len(read) == 32


def test_damaged_frames_are_passed_over_and_counted(tmp_path: Path) -> None:
    path = quiet(tmp_path, a=drifting_maps(3, 8, 8))
    with h5py.File(path, "r+") as file:
        file["maps/a"][0, 0, 0, 0, 0] += 1
    found = replay.health(path)
    assert found
    assert found.damaged == 1
    assert "1 damaged frame passed over" in str(found)


def test_ranges_are_measured_where_the_file_has_none(tmp_path: Path) -> None:
    path = quiet(tmp_path, a=lambda e, b: np.zeros((2, 4, 4), "f2"))
    with h5py.File(path, "r+") as file:
        del file["ranges"]
    found = replay.health(path)
    assert where(of(found, "a", "dead")) == [(0, 0, 0), (1, 0, 0)]
    assert "channels 0-1: zero in all 40 batches" in str(found)


@pytest.mark.parametrize("frames", [1, 2])
def test_a_short_recording_of_odd_shapes(tmp_path: Path, frames: int) -> None:
    random = np.random.default_rng(0)
    path = write_recording(
        tmp_path / "run.h5",
        {
            "vector": lambda e, b: random.random(7).astype("f2"),
            "tokens": lambda e, b: random.random((5, 3)).astype("f2"),
            "last": lambda e, b: random.random((4, 4, 3)).astype("f2"),
            "nothing": lambda e, b: np.full((2, 3, 3), np.nan, "f2"),
        },
        epochs=1,
        batches=frames,
        axes={"tokens": "TC", "last": "HWC"},
        image=None,
    )
    found = replay.health(path)
    assert {(one.layer, one.kind) for one in found.all_findings} == {
        ("", "nan"),
        ("nothing", "nan"),
    }
    json.loads(found.to_json())


def test_the_command_line(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["health", str(trained)]) == 0
    out, err = capsys.readouterr()
    assert "dead        channel 3" in out
    assert without_next(err) == ""
    assert main(["health", str(trained), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["layers"][0]["findings"][0]["epoch"] == EPOCH
    assert main(["health", str(trained), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert next((row["layer"], row["kind"], row["channel"]) for row in rows) == (
        "conv1",
        "dead",
        "3",
    )
    for name in ("health.png", "health.pdf", "health.svg"):
        target = tmp_path / name
        assert main(["health", str(trained), "--csv", "-o", str(target)]) == 0
        out, err = capsys.readouterr()
        assert out.startswith("kind,")
        assert err.startswith(f"note: {target}")
        assert target.stat().st_size > 1000
    with Image.open(tmp_path / "health.png") as picture:
        assert picture.width > 800
    assert main(["health", str(trained), "-o", str(tmp_path / "health.gif")]) == 2
    assert "expected a name that ends in" in capsys.readouterr().err


@pytest.mark.parametrize("probes", [0, 1])
def test_a_frozen_layer_behind_layers_that_move_is_told_by_its_kernels(
    tmp_path: Path, probes: int
) -> None:
    moving = np.random.default_rng(0).normal(size=(12, 4, 1, 3, 3)).astype("f2")
    image = np.zeros((3, 32, 32))
    maps = {name: drifting_maps(4, 16, 16, seed) for seed, name in enumerate(("conv1", "conv2"))}
    path = write_recording(
        tmp_path / "run.h5",
        maps,
        epochs=3,
        batches=4,
        probes=[(image, maps)] * probes,
        kernels={"conv1": lambda e, b: moving[4 * e + b], "conv2": lambda e, b: moving[0]},
    )
    (found,) = replay.health(path).all_findings
    assert (found.kind, found.layer, found.channel) == ("unchanging", "conv2", None)
    assert found.text == (
        "the kernels are the same in epoch 2 batch 3 as in epoch 0 batch "
        + ("0" if probes else "3")  # without a probe the change is that from epoch to epoch
    )
    assert "requires_grad" in found.advice
