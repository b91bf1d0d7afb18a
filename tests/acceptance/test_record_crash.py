"""Deaths of every kind: the training's, the writer's, the disk's. Real processes, real signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import replay

SCRIPT = """
import os, signal, sys, time
import torch
from torch import nn
from record import Recorder

torch.set_num_threads(1)
torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.LazyLinear(2))
model(torch.zeros(1, 3, 64, 64))
ending = sys.argv[2]
if ending == "disk-full":
    import resource
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))
with Recorder(model, sys.argv[1]) as recorder:
    print(recorder._courier._process.pid, flush=True)
    for number, images in enumerate(recorder.track([torch.randn(2, 3, 64, 64)] * 200)):
        model(images).sum().backward()
        recorder.log(loss=number)
        if number == 40:
            while recorder.committed < 20:
                time.sleep(0.01)
            print("halfway", flush=True)
            if ending == "exit":
                sys.exit(3)
            if ending == "raise":
                raise ZeroDivisionError
            if ending == "os._exit":
                os._exit(4)
            if ending not in ("return", "disk-full"):
                sys.stdin.readline()
print("trained", flush=True)
"""


class Training:
    """The script as a process; `writer` is the process id of its writer."""

    def __init__(self, folder: Path, ending: str) -> None:
        self.path = folder / "run.h5"
        script = folder / "script.py"
        script.write_text(SCRIPT)
        root = str(Path(__file__).parents[2])
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(self.path), ending],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": root},
            # Whoever runs the tests in the background may have had it ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert self.process.stdout is not None
        self.writer = int(self.process.stdout.readline())

    def halfway(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "halfway\n"

    def end(self, timeout: float = 60.0) -> tuple[int, str, str]:
        """Lets it go on, and waits: exit code, stdout, stderr."""
        out, err = self.process.communicate("\n", timeout=timeout)
        return self.process.returncode, out, err

    def wait_for_writer(self, seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while self._writer_runs():
            assert time.monotonic() < deadline, "the writer is still there"
            time.sleep(0.02)

    def _writer_runs(self) -> bool:
        try:
            state = Path(f"/proc/{self.writer}/stat").read_text()
        except OSError:
            return False
        return state.rpartition(")")[2].split()[0] != "Z"  # ended, but not yet waited for


def frames(path: Path) -> tuple[bool, list[int]]:
    """Whether it was closed, and the batches whose frames are there, each of them looked at."""
    with replay.open(path) as run:
        numbers = [batch for _, batch in run.frames]
        assert numbers == list(range(len(numbers)))
        for batch in numbers:
            assert run["0"][0, batch].shape == (8, 62, 62)
            assert abs(run["0"][0, batch]).max() > 0
            assert run.batches["loss"][0, batch] == batch
        return run.closed, numbers


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals and /proc of Linux")


@pytest.mark.parametrize(
    ("ending", "code", "recorded"),
    [("return", 0, 200), ("exit", 3, 41), ("raise", 1, 41)],
)
def test_ends_of_its_own(tmp_path: Path, ending: str, code: int, recorded: int) -> None:
    training = Training(tmp_path, ending)
    training.halfway()
    returned, _, err = training.end()
    assert returned == code
    assert ("ZeroDivisionError" in err) == (ending == "raise")
    closed, numbers = frames(training.path)
    assert (closed, len(numbers)) == (True, recorded)
    training.wait_for_writer()


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_to_the_training(tmp_path: Path, kind: signal.Signals) -> None:
    training = Training(tmp_path, "wait")
    training.halfway()
    training.process.send_signal(kind)
    returned, _, _ = training.end()
    assert returned in (-kind, 128 + kind)
    training.wait_for_writer()
    closed, numbers = frames(training.path)
    assert closed  # by the writer, at the end of its input
    assert len(numbers) >= 20
    assert len(numbers) == 41 or kind != signal.SIGINT


def test_os_exit(tmp_path: Path) -> None:
    training = Training(tmp_path, "os._exit")
    training.halfway()
    assert training.end()[0] == 4
    training.wait_for_writer()
    closed, numbers = frames(training.path)
    assert closed
    assert len(numbers) >= 20


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_the_writer_dies(tmp_path: Path, kind: signal.Signals) -> None:
    training = Training(tmp_path, "wait")
    training.halfway()
    os.kill(training.writer, kind)
    training.wait_for_writer()
    returned, out, err = training.end()
    assert (returned, out) == (0, "trained\n")
    assert err.count("RecordingWarning: recording to") == 1
    assert "Training is not affected" in err
    closed, numbers = frames(training.path)
    assert closed == (kind == signal.SIGTERM)
    assert 20 <= len(numbers) <= 41


def test_the_writer_stands_still(tmp_path: Path) -> None:
    training = Training(tmp_path, "wait")
    training.halfway()
    os.kill(training.writer, signal.SIGSTOP)
    try:
        started = time.monotonic()
        returned, out, err = training.end()
        assert (returned, out) == (0, "trained\n")
        assert time.monotonic() - started < 20
        assert "stood still" in err
    finally:
        os.kill(training.writer, signal.SIGCONT)
    training.wait_for_writer()
    closed, numbers = frames(training.path)
    assert closed
    assert len(numbers) >= 40  # what it had been given before it was stopped


def test_the_disk_is_full(tmp_path: Path) -> None:
    training = Training(tmp_path, "disk-full")
    returned, out, err = training.end()
    assert (returned, out) == (0, "halfway\ntrained\n")
    assert "File too large" in err
    assert err.count("RecordingWarning: recording to") == 1
    training.wait_for_writer()
    closed, numbers = frames(training.path)
    assert not closed
    assert 20 <= len(numbers) < 100
