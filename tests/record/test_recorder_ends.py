"""What a recorder says at its end, where it is shown, and when the training goes on without it."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import warnings
import weakref
from pathlib import Path

import pytest
import torch
from torch import nn

import replay
from record import Recorder, RecordingWarning, short_path

pytestmark = pytest.mark.usefixtures("quick_writers")


def make() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    return model, torch.optim.SGD(model.parameters(), 0.1)


def batches(count: int = 3) -> list[torch.Tensor]:
    return [torch.rand(4, 3, 8, 8) for _ in range(count)]


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor) -> None:
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()


def test_one_line_at_the_end_with_a_command_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my runs"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(short_path, "_FOLDER", str(tmp_path))
    model, optimizer = make()
    with Recorder(model, folder / "run.h5", probe="first") as recorder:
        for x in recorder.track(batches()):
            step(model, optimizer, x)
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    start = "mapreel: recorded 3 batches of Sequential, 1 layer, "
    assert line.startswith(start)
    path, _, command = line.removeprefix(start).partition(": ")[2].partition("; ")
    assert path == "my runs/run.h5"
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert any(found.suffix == ".mp4" for found in tmp_path.rglob("*"))


def test_quiet_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, optimizer = make()
    with Recorder(model, tmp_path / "run.h5", quiet=True) as recorder:
        for x in recorder.track(batches()):
            step(model, optimizer, x)
    assert capsys.readouterr() == ("", "")


def test_lost_frames_are_in_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, optimizer = make()
    recorder = Recorder(model, tmp_path / "run.h5")
    for x in recorder.track(batches()):
        step(model, optimizer, x)
    recorder._sender.count_lost(2)
    with pytest.warns(RecordingWarning, match="2 frames lost"):
        recorder.close()
    assert "2 frames lost: " in capsys.readouterr().err


def test_no_epoch_was_ever_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, optimizer = make()
    with Recorder(model, tmp_path / "run.h5"):
        for x in batches(4):
            step(model, optimizer, x)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("mapreel: all 4 batches are in epoch 0")
    assert "track(loader)" in lines[1]


@pytest.mark.parametrize("way", ["track", "epoch"])
def test_a_marked_epoch_is_no_matter(
    tmp_path: Path, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model, optimizer = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recorder = Recorder(model, tmp_path / "run.h5")
        if way == "epoch":
            recorder.epoch(0)
        for x in recorder.track(batches()) if way == "track" else batches():
            step(model, optimizer, x)
            if way == "epoch":
                recorder.step()
        recorder.close()
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("way", ["nothing", "track", "epoch", "log"])
def test_a_training_that_goes_on_is_told_once(tmp_path: Path, way: str) -> None:
    model, optimizer = make()
    with Recorder(model, tmp_path / "run.h5", quiet=True) as recorder:
        for x in recorder.track(batches()):
            step(model, optimizer, x)
    hooks = [vars(m)["_forward_hooks"] for m in model.modules()]
    assert not any(hooks)  # nothing waits on the model
    with pytest.warns(
        RecordingWarning, match=r"run\.h5 is closed, and the training goes on"
    ) as seen:
        for _ in range(2):
            if way == "epoch":
                recorder.epoch(1)
            for x in recorder.track(batches()) if way == "track" else batches():
                step(model, optimizer, x)
                if way == "log":
                    recorder.log(loss=1.0)
    assert len(seen) == 1
    with replay.open(tmp_path / "run.h5") as run:
        assert len(run.frames) == 3


def test_who_trains_something_else_is_told_nothing(tmp_path: Path) -> None:
    model, optimizer = make()
    with Recorder(model, tmp_path / "run.h5", quiet=True) as recorder:
        for x in recorder.track(batches()):
            step(model, optimizer, x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other, others = make()
        step(other, others, batches()[0])
        model.eval()(batches()[0])
        pickle.loads(pickle.dumps(model))
        with Recorder(model, tmp_path / "more.h5", quiet=True) as recorder:  # recorded again
            for x in recorder.track(batches()):
                step(model, optimizer, x)


def test_it_shows_itself(tmp_path: Path) -> None:
    model, optimizer = make()
    recorder = Recorder(model, tmp_path / "a&b.h5", quiet=True)
    assert "no layer has fired yet" in repr(recorder)
    for x in recorder.track(batches()):
        step(model, optimizer, x)
    assert recorder.flush()
    assert repr(recorder) == (
        f"<Recorder of Sequential into {tmp_path / 'a&b.h5'}: 3 batches, recording, 1 layer>"
    )
    recorder.close()
    assert "3 batches, closed, 1 layer" in repr(recorder)
    html = recorder._repr_html_()
    assert "a&amp;b.h5" in html
    assert "4×6×6" in html
    assert "Conv2d(3, 4" in html


def test_a_script_says_it_too_with_its_path_from_where_it_was_started(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import os, torch\n"
        "from torch import nn\n"
        "from record import Recorder\n"
        "os.mkdir('out')\n"
        "model = nn.Conv2d(1, 2, 3)\n"
        "optimizer = torch.optim.SGD(model.parameters(), 0.1)\n"
        "with Recorder(model, 'out/run.h5') as recorder:\n"
        "    os.chdir('out')\n"
        "    for x in recorder.track([torch.rand(2, 1, 6, 6)] * 2):\n"
        "        model(x).sum().backward()\n"
        "        optimizer.step()\n"
    )
    done = subprocess.run(
        [sys.executable, "train.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True, env=os.environ,
    )  # fmt: skip
    assert ": out/run.h5; " in done.stderr
    assert done.stderr.rstrip().endswith("-m replay animate out/run.h5")


def test_a_validation_has_the_memory_of_the_batch_before_it(tmp_path: Path) -> None:
    """What a loader hands out may be on a GPU."""
    model, optimizer = make()
    with Recorder(model, tmp_path / "run.h5", quiet=True, probe="first") as recorder:
        for _ in range(2):
            given: list[weakref.ref[torch.Tensor]] = []
            for x in recorder.track(batch.clone() for batch in batches()):
                given.append(weakref.ref(x))
                step(model, optimizer, x)
            del x
            gc.collect()
            assert [each() for each in given] == [None] * len(given)


def test_a_closed_recorder_keeps_no_model_alive(tmp_path: Path) -> None:
    """In a notebook each cell that is run again would keep another one, on a GPU, too."""
    models, recorders = [], []
    for _ in range(2):
        model, optimizer = make()
        with Recorder(model, tmp_path / "run.h5", overwrite=True, quiet=True) as recorder:
            for x in recorder.track(batches()):
                step(model, optimizer, x)
        models.append(weakref.ref(model))
        recorders.append(weakref.ref(recorder))
    del model, optimizer
    gc.collect()
    assert [each() for each in models] == [None, None]
    assert recorders[0]() is None
