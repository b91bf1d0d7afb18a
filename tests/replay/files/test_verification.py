"""Damage is reported, never shown as data; and what is whole can be copied out of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from command_lines import without_next
from samples import drifting_maps, write_recording
from torch import nn
from values_in_file import find_value

import replay
from record import Recorder
from replay.__main__ import main
from replay.files.repairing import repair
from replay.recording import Recording
from replay.schema import DamagedError, FileError, OutputError

ROOT = Path(__file__).parents[3]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 4, 3)
        self.tokens = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv2(torch.relu(self.conv1(x)))
        self.tokens(x.flatten(2)[..., :5])
        return x.mean() + torch.tensor(torch.nan)


LAYERS = ["conv1", "conv2", "tokens"]


def record(path: Path, epochs: int = 2) -> None:
    torch.manual_seed(0)
    model = Net()
    sizes = (12, 12, 14, 12)
    data = [torch.randn(2, 3, size, size) for size in sizes]
    with Recorder(model, path, layers=LAYERS, probe=torch.rand(1, 3, 12, 12)) as recorder:
        for epoch in range(epochs):
            for images in recorder.track(data):
                loss = model(images)
                recorder.log(loss=loss, custom=epoch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "run.h5"
    record(path)
    return path


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    path = tmp_path / "run.h5"
    path.write_bytes(whole.read_bytes())
    return path


def flip(path: Path, dataset: str, at: tuple[int, int]) -> None:
    """One wrong bit in the value of one batch, behind HDF5's back."""
    with h5py.File(path, "r") as file:
        place, size = find_value(file[dataset], *at)
    place += min(5, size - 1)
    with path.open("r+b") as raw:
        raw.seek(place)
        byte = raw.read(1)[0]
        raw.seek(place)
        raw.write(bytes([byte ^ 0x10]))


def test_a_sound_recording(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = replay.verify(whole)
    assert report
    assert report.problems == []
    # Maps of three layers, kernels where the images have their first size, the probe's, inputs.
    assert (report.frames, report.arrays, report.closed) == (8, 24 + 12 + 24 + 8, True)
    assert main(["verify", str(whole)]) == 0
    assert capsys.readouterr().out.startswith(f"{whole}: 0 problems in 8 frames, ")
    assert main(["verify", str(whole), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["whole"], document["problems"]) == (True, [])


DAMAGE = [
    ("maps/conv1", (0, 1), "conv1 epoch 0 batch 1: maps: damaged"),
    ("kernels/conv1", (1, 3), "conv1 epoch 1 batch 3: kernels: damaged"),
    ("inputs@3x14x14", (1, 2), "epoch 1 batch 2: input: damaged"),
    (
        "probe/0/maps/tokens",
        (0, 0),
        "fixed image 0: tokens epoch 0 batch 0: maps: damaged (checksum 0x",
    ),
    ("ranges/conv2", (0, 0), "conv2 epoch 0 batch 0: ranges: its checksum is wrong"),
    ("checksums/conv1", (1, 1), "conv1 epoch 1 batch 1: maps: damaged"),
]


@pytest.mark.parametrize(("dataset", "at", "line"), DAMAGE)
def test_every_kind_of_damage_is_named_and_repaired(
    copy: Path, capsys: pytest.CaptureFixture[str], dataset: str, at: tuple[int, int], line: str
) -> None:
    flip(copy, dataset, at)
    damaged = copy.read_bytes()
    assert main(["verify", str(copy)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith(line)
    assert len(out) == 2
    assert out[1].startswith(f"{copy}: 1 problem in 8 frames")
    fixed = copy.with_name("fixed.h5")
    assert main(["repair", str(copy), "-o", str(fixed)]) == 0
    assert copy.read_bytes() == damaged
    assert main(["verify", str(fixed)]) == 0
    lost = 0 if dataset.startswith("ranges") else 1
    assert f", {lost} damaged array" in capsys.readouterr().out
    with replay.open(fixed) as run, replay.open(copy) as before:
        assert run.closed
        assert (run.lost, run.frames) == (lost, before.frames)
        assert run.meta["repaired"]["from"] == "run.h5"
        for name in ("loss", "custom", "step", "time"):
            np.testing.assert_array_equal(run.batches[name], before.batches[name])
        for name in before.layers:
            for cell in before[name].frames:
                if dataset == f"maps/{name}" and cell == at:
                    assert not run[name].present[cell]
                elif not dataset.startswith("checksums"):
                    assert run[name][cell].tobytes() == before[name][cell].tobytes()
        layer = run["tokens"].layer
        assert (layer.axes, layer.shape) == (before["tokens"].layer.axes, (4, 3))
        np.testing.assert_array_equal(run.probe().inputs[0, 0], before.probe().inputs[0, 0])


def test_damaged_frames_raise_and_are_marked_in_a_film(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with replay.open(copy) as run:
        sound = replay.animate(run, f"{copy.with_name('sound')}/", layers=["conv1"])
    flip(copy, "maps/conv1", (0, 1))
    with replay.open(copy) as run:
        with pytest.raises(DamagedError, match="conv1 maps of epoch 0 batch 1 .*repair"):
            run["conv1"][0, 1]
        run["conv2"][0, 1]
        film = replay.animate(run, f"{copy.with_name('film')}/", layers=["conv1"])
        assert "conv1 maps of epoch 0 batch 1" in film.remarks[-1]
        assert film.frames == sound.frames == 6
    from PIL import Image

    pictures = [sorted(copy.with_name(name).iterdir()) for name in ("sound", "film")]
    differing = [
        place
        for place, (one, other) in enumerate(zip(*pictures, strict=True))
        if np.asarray(Image.open(one)).tobytes() != np.asarray(Image.open(other)).tobytes()
    ]
    assert 1 in differing  # and the others only by the range, which leaves the damaged one out
    assert main(["animate", str(copy), "-o", str(copy.with_name("a.mp4")), "--quiet"]) == 0
    assert "warning: damaged in" in capsys.readouterr().err
    assert main(["grid", str(copy), "--epoch", "0", "--batch", "1"]) == 2
    assert "error: damaged in" in capsys.readouterr().err


def test_ranges_of_an_older_recording_are_held_against_its_maps(copy: Path) -> None:
    with h5py.File(copy, "r+") as file:
        del file["value_checksums"]  # which those of before had not
    assert replay.verify(copy)
    with h5py.File(copy, "r+") as file:
        file["ranges/conv2"][0, 0, 1, 0] -= 1
    (problem,) = replay.verify(copy).problems
    assert (problem.what, problem.layer, problem.epoch, problem.batch) == ("ranges", "conv2", 0, 0)
    assert problem.text.startswith("channel 1 has [")


def test_wrong_counters(copy: Path) -> None:
    with h5py.File(copy, "r+") as file:
        file["batches/recorded"][0, 0] = 2  # which another frame is, too
        file["batches/nan"][1, 1] = 7
        file["ranges/conv2"][0, 1, 1, 0] -= 1
    problems = [str(problem) for problem in replay.verify(copy).problems]
    assert sorted(problems) == [
        "conv2 epoch 0 batch 1: ranges: its checksum is wrong",
        "epoch 0 batch 0: values: recorded: its checksum is wrong",
        "epoch 1 batch 1: values: nan: its checksum is wrong",
    ]
    with h5py.File(copy, "r+") as file:
        del file["value_checksums"]  # as in an older file
    problems = [str(problem) for problem in replay.verify(copy).problems]
    assert problems[0].startswith("file: order: the file vouches for 8 frames, and 8 are there")
    assert problems[1].startswith("conv2 epoch 0 batch 1: ranges: channel 1 has ")
    assert problems[2] == "epoch 1 batch 1: counts: 0 values are nan, the file says 7"
    assert len(problems) == 3
    fixed = copy.with_name("fixed.h5")
    replay.repair(copy, fixed)
    assert replay.verify(fixed)


def test_killed_writers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.h5"
    code = (
        "import sys, os; sys.path[:0] = sys.argv[1:3]\n"
        "from processes import writers_of\n"
        "from pathlib import Path; import test_verification as t; from record import Recorder\n"
        "def close(recorder):\n"
        "    recorder.flush()\n"
        "    for writer in writers_of(os.getpid()):\n"
        "        os.kill(writer, 9)\n"
        "    os._exit(0)\n"
        "Recorder.close = close\n"
        "t.record(Path(sys.argv[3]))"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(ROOT / "tests"), str(path)],
        check=True,
    )
    before = path.read_bytes()
    assert main(["verify", str(path)]) == 0
    assert capsys.readouterr().out.rstrip().endswith("; it was not closed")
    assert main(["repair", str(path), "-o", str(tmp_path / "fixed.h5")]) == 0
    assert path.read_bytes() == before
    for command in (["info"], ["grid", "-o", str(tmp_path / "g.png")]):
        capsys.readouterr()
        assert main([command[0], str(path), *command[1:]]) == 0
        err = without_next(capsys.readouterr().err)
        assert err.splitlines() == [
            f"warning: {path} was not closed (its writer is at work, or was killed); 8 frames whole"
        ]
    with h5py.File(tmp_path / "fixed.h5", "r") as file:
        assert list(file["state"])[:4] == [8, 0, 0, 1]


def test_what_is_no_recording_is_neither_counted_nor_offered_to_repair(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, cut = tmp_path / "text.h5", tmp_path / "cut.h5"
    text.write_text("no recording")
    cut.write_bytes(whole.read_bytes()[:3000])
    for path, said in ((text, "not an HDF5 file: "), (cut, "damaged HDF5 file: ")):
        assert main(["verify", str(path)]) == 1
        out, err = capsys.readouterr()
        assert out.startswith(f"file: {said}{path}")
        assert len(out.splitlines()) == 1
        assert not err
        assert main(["verify", str(path), str(whole)]) == 1
        out, err = capsys.readouterr()
        assert "0 problems in" in out.splitlines()[1]
        assert not err


def test_what_cannot_be_repaired(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is the recording itself"):
        replay.repair(whole, whole)
    there = tmp_path / "there.h5"
    there.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists"):
        replay.repair(whole, there)
    assert there.read_bytes() == b"precious"
    with pytest.raises(FileError, match="no such file"):
        replay.verify(tmp_path / "nowhere.h5")
    report = replay.verify(there)
    assert not report
    assert "not an HDF5 file" in str(report.problems[0])
    assert replay.repair(whole, there, overwrite=True).frames == 8
    assert os.listdir(tmp_path) == ["there.h5"]


def test_the_frames_are_looked_for_once_not_at_each_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    found = Recording.frames.fget
    assert found is not None

    def counted(run: Recording) -> list[tuple[int, int]]:
        asked[-1] += 1
        return found(run)

    monkeypatch.setattr(Recording, "frames", property(counted))
    for batches in (2, 12):
        path = write_recording(
            tmp_path / f"{batches}.h5", {"conv": drifting_maps(2, 4, 4)}, batches=batches
        )
        asked.append(0)
        replay.verify(path, progress=lambda done, total: None)
        asked.append(0)
        repair(path, path.with_suffix(".new.h5"), progress=lambda done, total: None)
    assert asked[:2] == asked[2:]
