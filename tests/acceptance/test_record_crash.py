"""Deaths of every kind: the training's, the writer's, the disk's. Real processes, real signals."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import writers_of

import replay

SCRIPT = """
import os, signal, sys, time
import torch
from torch import nn
from torch.utils.data import DataLoader
from record import Recorder


def train(path, ending, start):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    model(torch.zeros(1, 3, 64, 64))
    batches = [torch.randn(2, 3, 64, 64)] * 200
    if start != "none":
        data = torch.randn(400, 3, 64, 64)
        batches = DataLoader(data, 2, num_workers=2, multiprocessing_context=start)
    if ending == "disk-full":
        import resource
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))
    with Recorder(model, path, layers=["0", "1"] if ending == "late" else None) as recorder:
        print("recording", flush=True)
        for number, images in enumerate(recorder.track(batches)):
            if ending == "late" and number <= 40:
                model[0](images)
            else:
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


if __name__ == "__main__":
    train(*sys.argv[1:])
"""


def default_signals() -> None:
    """Whoever runs the tests in the background may have had SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def become_mortal() -> None:
    """Takes from root the right to write where the permissions forbid it."""
    default_signals()
    if os.getuid() == 0:
        drop_from_bounding_set, cap_dac_override = 24, 1
        if ctypes.CDLL(None).prctl(drop_from_bounding_set, cap_dac_override, 0, 0, 0) != 0:
            raise OSError("cannot give up CAP_DAC_OVERRIDE")


class Training:
    """The script as a process; `writer` is the process id of its writer."""

    def __init__(
        self, folder: Path, ending: str, start: str = "none", mortal: bool = False
    ) -> None:
        self.path = folder / "run.h5"
        script = folder / "script.py"
        script.write_text(SCRIPT)
        root = str(Path(__file__).parents[2])
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(self.path), ending, start],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": root},
            preexec_fn=become_mortal if mortal else default_signals,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "recording\n"
        (self.writer,) = writers_of(self.process.pid)

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


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="signals and /proc of Linux"),
]


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


@pytest.mark.parametrize(
    ("start", "ending"), [("fork", "SIGKILL"), ("spawn", "os._exit"), ("spawn", "return")]
)
def test_data_loader_workers_outlive_nothing(tmp_path: Path, start: str, ending: str) -> None:
    training = Training(tmp_path, ending, start)
    training.halfway()
    if ending == "SIGKILL":
        training.process.send_signal(signal.SIGKILL)
    returned, _, _ = training.end()
    assert returned == {"return": 0, "os._exit": 4, "SIGKILL": -9}[ending]
    training.wait_for_writer()
    closed, numbers = frames(training.path)
    assert closed
    assert len(numbers) == 200 if ending == "return" else len(numbers) >= 20


def test_the_folder_becomes_read_only(tmp_path: Path) -> None:
    """A layer that joins late has no room for a copy then: it is added to the file itself."""
    training = Training(tmp_path, "late", mortal=True)
    training.halfway()
    tmp_path.chmod(0o555)
    try:
        returned, out, err = training.end()
        assert (returned, out) == (0, "trained\n")
        assert "recording to" not in err
        training.wait_for_writer()
        assert not (tmp_path / "run.h5.copying").exists()
    finally:
        tmp_path.chmod(0o755)
    closed, numbers = frames(training.path)
    assert (closed, len(numbers)) == (True, 200)
    with replay.open(training.path) as run:
        assert run["1"].frames == [(0, batch) for batch in range(41, 200)]


def test_a_folder_that_is_read_only_from_the_start_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    script = "import sys, torch, record; record.Recorder(torch.nn.Conv2d(1, 1, 1), sys.argv[1])"
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "run.h5")],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
            preexec_fn=become_mortal,
        )
    finally:
        tmp_path.chmod(0o755)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(f"cannot write into the folder {tmp_path}")
