"""A training that ended goes on, and its recording with it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import nn

import replay
from record import Recorder, RecordingWarning
from record.__main__ import main
from replay.schema import OptionError, OutputError

pytestmark = pytest.mark.usefixtures("quick_writers")

ROOT = Path(__file__).parents[2]
SMALL = ["--samples", "40", "--epochs", "4", "--image-size", "24", "--device", "cpu", "--quiet"]
SMALL += ["--probe", "1"]  # at each batch, whatever the time it takes


def contents(path: Path) -> dict[str, np.ndarray]:
    """All that a recording holds but when it was made."""
    found: dict[str, np.ndarray] = {}

    def take(name: str, node: object) -> None:
        if isinstance(node, h5py.Dataset) and not name.endswith("batches/time"):
            found[name] = node[()]

    with h5py.File(path, "r") as file:
        file.visititems(take)
    return found


def assert_same(first: Path, second: Path) -> None:
    one, other = contents(first), contents(second)
    assert one.keys() == other.keys()
    for name, values in one.items():
        assert values.shape == other[name].shape, name
        assert values.tobytes() == other[name].tobytes(), name


def test_a_killed_training_goes_on_to_the_same_end(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.h5", tmp_path / "run.h5"
    ends = [tmp_path / "whole.pt", tmp_path / "run.pt"]
    assert main(["train", *SMALL, "-o", str(whole), "--checkpoint", str(ends[0])]) == 0
    command = [sys.executable, "-m", "record", "train", *SMALL, "-o", str(path)]
    process = subprocess.Popen([*command, "--checkpoint", str(ends[1])], cwd=ROOT)
    while not ends[1].exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 10
    while (tmp_path / "run.h5.lock").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    with replay.open(path) as run:
        before = len(run.frames)
    assert 3 <= before < 12
    resumed = ["train", *SMALL, "--checkpoint", str(ends[1]), "--resume", str(path)]
    assert main(resumed) == 0
    assert_same(whole, path)
    states = [torch.load(end, weights_only=True) for end in ends]
    for name, tensor in states[0]["model"].items():
        assert torch.equal(tensor, states[1]["model"][name]), name
    assert states[0]["epoch"] == 4
    with replay.open(path) as run:
        assert run.closed
        assert [entry["epoch"] for entry in run.meta["resumed"]] in ([1], [2], [3])
    assert not list(tmp_path.glob("*.lock"))
    assert main(resumed) == 2  # nothing left to train


def test_what_cannot_be_resumed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, end = tmp_path / "run.h5", tmp_path / "run.pt"
    assert main(["train", *SMALL, "-o", str(path), "--resume", str(path)]) == 2
    assert f"cannot resume {path}: there is no such file" in capfd.readouterr().err
    one = [*SMALL, "--epochs", "1"]
    assert main(["train", *one, "-o", str(path), "--checkpoint", str(end)]) == 0
    data = path.read_bytes()
    for options, message in (
        (["--resume", str(path)], "--resume needs the checkpoint"),
        (["--resume", str(path), "--checkpoint", str(tmp_path / "no.pt")], "no checkpoint"),
        (["--resume", str(path), "--checkpoint", str(path)], "is no checkpoint of record train"),
        (
            ["--resume", str(path), "--checkpoint", str(end), "--seed", "1"],
            "belongs to another training: it has epochs 1, not 4; seed 0, not 1",
        ),
    ):
        assert main(["train", *SMALL, *options]) == 2
        err = capfd.readouterr().err
        assert message in err
        assert len(err.splitlines()) == 1
    assert path.read_bytes() == data


class Net(nn.Module):
    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


def fit(path: Path, epochs: range, leave_at: int | None = None, **options: object) -> None:
    model = Net()
    with Recorder(model, path, **options) as recorder:
        for epoch in epochs:
            for batch, images in enumerate(recorder.track([torch.ones(1, 3, 8, 8)] * 5)):
                with torch.no_grad():
                    model.conv.weight.fill_(epoch)
                    model.conv.bias.fill_(batch)
                model(images)
                recorder.log(loss=10 * epoch + batch, extra=epoch)
                if epoch == epochs[-1] and batch == leave_at:
                    break


@pytest.mark.parametrize("start", [1, 2, True])
def test_loops_of_ones_own(tmp_path: Path, start: int | bool) -> None:
    whole, path = tmp_path / "whole.h5", tmp_path / "run.h5"
    fit(whole, range(4))
    fit(path, range(3), leave_at=None if start is True else 2)
    fit(path, range(3 if start is True else start, 4), resume=start)
    assert_same(whole, path)


def test_a_recording_that_was_not_closed(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.h5", tmp_path / "run.h5"
    fit(whole, range(4))
    script = (
        "import os, sys; sys.path[:0] = sys.argv[1:4]\n"
        "from processes import writers_of\n"
        "from pathlib import Path; import test_resume as t; from record import Recorder\n"
        "def close(self):\n"
        "    self.flush()\n"
        "    for writer in writers_of(os.getpid()):\n"
        "        os.kill(writer, 9)\n"
        "    while writers_of(os.getpid()):\n"
        "        pass\n"
        "    os._exit(0)\n"
        "Recorder.close = close\n"
        "t.fit(Path(sys.argv[4]), range(3), leave_at=2)\n"
    )
    arguments = [str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent), str(path)]
    subprocess.run([sys.executable, "-c", script, *arguments], check=True)
    with replay.open(path) as run:
        assert not run.closed
        assert len(run.frames) == 13
    fit(path, range(2, 4), resume=2)
    assert_same(whole, path)


def test_other_layers_other_files_and_bad_arguments(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    fit(path, range(1))
    with pytest.warns(RecordingWarning) as caught:
        model = Net(7)
        with Recorder(model, path, resume=True) as recorder:
            for images in recorder.track([torch.ones(1, 3, 8, 8)] * 3):
                model(images)
    assert "cannot go on with conv: it has frames of (4, 6, 6) in the file" in str(
        caught[0].message
    )
    with replay.open(path) as run:
        assert len(run.frames) == 5
    for name, data in (("text.h5", b"hello"), ("empty.h5", b"")):
        other = tmp_path / name
        other.write_bytes(data)
        with pytest.raises(OutputError, match="cannot resume"):
            Recorder(Net(), other, resume=True)
        assert other.read_bytes() == data
    foreign = tmp_path / "foreign.h5"
    with h5py.File(foreign, "w") as file:
        file["x"] = 1
    with pytest.raises(OutputError, match="no recording of this version"):
        Recorder(Net(), foreign, resume=True)
    with pytest.raises(OptionError, match="resume: expected"):
        Recorder(Net(), path, resume=-1)
    with pytest.raises(OptionError, match="durability: expected one of"):
        Recorder(Net(), path, durability="always")
    assert not list(tmp_path.glob("*.lock"))
    assert not list(tmp_path.glob("*.copying"))


@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": True}])
def test_two_recorders_on_one_path(tmp_path: Path, options: dict[str, bool]) -> None:
    path = tmp_path / "run.h5"
    model = Net()
    with Recorder(model, path) as recorder:
        for place, images in enumerate(recorder.track([torch.ones(1, 3, 8, 8)] * 6)):
            model(images)
            if place == 2:
                with pytest.raises(OutputError, match="records into it already"):
                    Recorder(Net(), path, **options)
    with replay.open(path) as run:
        assert run.closed
        assert len(run.frames) == 6
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.h5"]


def test_flush_makes_frames_readable_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    model = Net()
    with Recorder(model, path, durability="flush") as recorder:
        for place, images in enumerate(recorder.track([torch.ones(1, 3, 8, 8)] * 4)):
            assert recorder.flush()
            with replay.open(path) as run:
                assert len(run.frames) == place
            model(images)
    assert not recorder.flush()


def test_the_disk_is_asked_at_each_epoch_and_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from record.protocol import messages
    from record.protocol.layout import BatchLayout
    from record.writer import fsync, recording_file
    from replay.schema import Layer

    asked: list[int] = []
    monkeypatch.setattr(
        fsync.BackgroundFsync, "request", lambda self, descriptor: asked.append(descriptor)
    )
    attributes = {"format": "mapreel", "version": 1, "meta": "{}"}
    layout = BatchLayout((), (Layer("conv", "Conv2d", (1, 2, 2)),))
    for durability, expected in (("fsync", 2), ("flush", 0)):
        path = str(tmp_path / durability)
        file = recording_file.RecordingFile(path, False, attributes, None, durability)
        file.set_layout(layout, 2)
        for epoch in range(3):
            for batch in range(2):
                header = messages.FrameHeader(epoch, batch, 0, 0.0)
                file.write([header], np.zeros((1, 4), np.float16))
        assert len(asked) == expected
        assert not file.must_sync
        if file._fsync is not None:
            file._fsync._last -= fsync.SYNC_SECONDS
            assert file.must_sync
        file.close(0, 0)
        asked.clear()


@pytest.mark.parametrize("way", ["removed", "replaced"])
def test_a_file_that_somebody_takes_away(tmp_path: Path, way: str) -> None:
    path, other = tmp_path / "run.h5", tmp_path / "other"
    model = Net()
    recorder = Recorder(model, path)
    with pytest.warns(RecordingWarning) as caught:
        for place, images in enumerate(recorder.track([torch.ones(1, 3, 8, 8)] * 200)):
            model(images)
            if place == 5:
                assert recorder.flush()
                if way == "removed":
                    path.unlink()
                else:
                    other.write_bytes(b"somebody's")
                    other.replace(path)
            time.sleep(0.01)
        recorder.close()
    said = [str(warning.message) for warning in caught]
    words = "was removed by another program" if way == "removed" else "put a file in its place"
    assert words in said[0]
    assert "frames lost" in said[1]
    assert len(said) == 2
    assert recorder.lost > 50
    if way == "replaced":
        assert path.read_bytes() == b"somebody's"
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.h5"] * (way == "replaced")
