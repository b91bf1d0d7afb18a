"""A recording that packs itself when it ends, and what may come in between."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from samples import drifting_maps, write_recording
from torch import nn

import replay
from record import Recorder
from replay.files.in_place import pack_in_place
from replay.schema import RecordingError

ROOT = Path(__file__).parents[2]


def train(path: Path, **options: object) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    with Recorder(model, path, quiet=True, **options) as recorder:
        for images in recorder.track([torch.rand(2, 1, 24, 24) for _ in range(3)]):
            model(images)


def is_packed(path: Path) -> bool:
    with h5py.File(path) as file:
        return "packed" in file.attrs


def await_packed(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not is_packed(path):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_recording_packs_itself_when_it_ends(tmp_path: Path) -> None:
    plain, path = tmp_path / "plain.h5", tmp_path / "run.h5"
    train(plain)
    train(path, pack=True)
    await_packed(path)
    assert replay.verify(path)
    with replay.open(plain) as run, replay.open(path) as packed:
        assert packed.layers == run.layers
        for name in run.layers:
            for at in run.frames:
                assert packed[name][at].tobytes() == run[name][at].tobytes()
    assert sorted(each.name for each in tmp_path.iterdir() if each.suffix == ".h5") == [
        "plain.h5",
        "run.h5",
    ]
    with pytest.raises(RecordingError, match="it is packed; 'replay unpack' makes one"):
        train(path, resume=True)


def test_record_run_packs(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import torch\nmodel = torch.nn.Conv2d(1, 4, 3)\n"
        "optimizer = torch.optim.SGD(model.parameters(), 0.1)\n"
        "for _ in range(3):\n"
        "    model(torch.rand(2, 1, 24, 24)).sum().backward()\n    optimizer.step()\n"
    )
    command = [sys.executable, "-m", "record", "run", "-o", "run.h5", "--pack", str(script)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,  # which the packing does not keep open
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    await_packed(tmp_path / "run.h5")
    assert replay.verify(tmp_path / "run.h5")


def is_begun(folder: Path) -> bool:
    """Whether something has been written beside the recording."""
    with contextlib.suppress(FileNotFoundError):  # it is in its place by now
        return any(each.stat().st_size for each in folder.glob(".*"))
    return False


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_a_kill_in_the_middle_leaves_the_original(tmp_path: Path, kind: signal.Signals) -> None:
    path = write_recording(
        tmp_path / "run.h5", {"conv": drifting_maps(16, 96, 96)}, epochs=2, batches=150
    )
    before = path.read_bytes()
    command = [sys.executable, "-m", "replay.files.in_place", str(path)]
    for _ in range(8):
        process = subprocess.Popen(command, cwd=ROOT)
        deadline = time.monotonic() + 60
        while process.poll() is None and not is_begun(tmp_path):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(kind)
        process.wait()
        if not (is_packed(path) and replay.verify(path)):
            break
        path.write_bytes(before)  # it was done before it heard of it: once more
    else:
        pytest.fail("it was always done before it was killed")
    is_same = path.read_bytes() == before
    assert is_same
    assert not is_packed(path)
    if kind == signal.SIGTERM:
        assert [each.name for each in tmp_path.iterdir()] == ["run.h5"]


def test_what_is_not_packed_in_place(tmp_path: Path) -> None:
    maps = {"conv": drifting_maps(4, 32, 32)}
    unclosed = write_recording(tmp_path / "unclosed.h5", maps, closed=False)
    damaged = write_recording(tmp_path / "damaged.h5", maps)
    with h5py.File(damaged, "r+") as file:
        file["maps/conv"][0, 0, 0, 0, 0] += 1
    noise = np.random.default_rng(0).integers(0, 1 << 15, (4, 32, 32), np.uint16).view("f2")
    noisy = write_recording(
        tmp_path / "noisy.h5", {"conv": lambda e, b: np.where(np.isfinite(noise), noise, 0)}
    )
    for path in (unclosed, damaged):
        before = path.read_bytes()
        assert not pack_in_place(path)
        assert path.read_bytes() == before
    pack_in_place(noisy)
    assert replay.verify(noisy)
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "damaged.h5",
        "noisy.h5",
        "unclosed.h5",
    ]
