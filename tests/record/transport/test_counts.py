"""Whatever befalls the writer: acknowledged + lost + dropped = batches, and the words are true."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import replay
from record import Recorder, RecordingWarning, Writer
from record.transport.writer_process import last_words

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.usefixtures("quick_writers")


def run_program(program: str, path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a program in a process of its own, whose argument is the recording."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )


def _kill(writer_pid: int, path: Path) -> None:
    os.kill(writer_pid, signal.SIGKILL)


def _terminate(writer_pid: int, path: Path) -> None:
    os.kill(writer_pid, signal.SIGTERM)


def _remove(writer_pid: int, path: Path) -> None:
    path.unlink()


def _replace(writer_pid: int, path: Path) -> None:
    other = path.with_suffix(".other")
    other.write_bytes(b"another program's")
    os.replace(other, path)


FATES = [_kill, _terminate, _remove, _replace]


@pytest.mark.parametrize("pause", [0.0, 0.004], ids=["quick", "slow"])
@pytest.mark.parametrize("fate", FATES)
def test_every_forward_is_in_the_file_or_counted(
    tmp_path: Path, fate: Callable[[int, Path], None], pause: float
) -> None:
    path = tmp_path / "run.h5"
    model = nn.Conv2d(1, 2, 3)
    images = torch.rand(1, 1, 8, 8)
    total = 400
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        recorder = Recorder(model, path, quiet=True)
        for number in range(total):
            model(images).mean().backward()
            recorder.step()
            if number == 60:
                assert recorder.flush()
                acknowledged = recorder.committed
                assert recorder._courier is not None
                fate(recorder._courier._process.pid, path)
            time.sleep(pause)
        recorder.close()
    assert acknowledged == 61
    assert recorder.committed + recorder.lost + recorder.dropped == total
    text = " ".join(str(w.message) for w in caught if w.category is RecordingWarning)
    assert "has ended" in text
    assert f"{recorder.lost} frames lost" in text
    if fate is _remove:
        assert "gone with the file" in text
        assert not path.exists()
    elif fate is _replace:
        assert "the file there is not this recording" in text
    else:
        with replay.open(path) as run:
            in_file = len(run.frames)
        assert in_file >= recorder.committed >= 61
        assert f"{recorder.committed} frames are in the file" in text


@pytest.mark.parametrize("when_full", ["wait", "drop"])
def test_a_tracked_loop_counts_its_batches(tmp_path: Path, when_full: str) -> None:
    model = nn.Conv2d(1, 2, 3)
    images = [torch.rand(1, 1, 8, 8) for _ in range(150)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordingWarning)
        recorder = Recorder(model, tmp_path / "run.h5", quiet=True, when_full=when_full)
        for epoch in range(2):
            for number, batch in enumerate(recorder.track(images)):
                if (epoch, number) == (0, 100):
                    assert recorder._courier is not None
                    os.kill(recorder._courier._process.pid, signal.SIGKILL)
                model(batch).mean().backward()
        recorder.close()
    assert recorder.committed + recorder.lost + recorder.dropped == 300


def test_a_disk_that_is_full_costs_what_is_not_in_the_file(tmp_path: Path) -> None:
    program = """
        import resource, sys, warnings
        import numpy as np, record
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, resource.RLIM_INFINITY))
        warnings.simplefilter("ignore")
        with record.Writer(sys.argv[1], quiet=True, durability="flush") as writer:
            for batch in range(300):
                writer.write(epoch=0, batch=batch, maps={"a": np.full((4, 50, 50), batch)})
        print(writer.committed, writer.lost, writer.dropped)
        """
    path = tmp_path / "run.h5"
    done = run_program(program, path)
    committed, lost, dropped = map(int, done.stdout.split())
    assert committed + lost + dropped == 300
    assert lost > 100
    with replay.open(path) as run:
        assert len(run.frames) == committed
        for at in run.frames:
            assert (run["a"][at] == at[1]).all()


def test_a_disk_without_room_for_a_copy_costs_what_comes_behind(tmp_path: Path) -> None:
    """A budget takes frames out by a copy: on a full disk HDF5 would crash while it writes one."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, types\n"
        "os.statvfs = lambda path: types.SimpleNamespace(f_blocks=9, f_bavail=0, f_frsize=4096)\n"
    )
    program = """
        import sys, warnings, torch
        from record import Recorder
        model, images = torch.nn.Conv2d(1, 4, 3), torch.rand(1, 1, 40, 40)
        with Recorder(model, sys.argv[1], budget="600kB", epochs=1, quiet=True) as recorder:
            for _ in range(200):
                model(images)
                recorder.step()
        print(recorder.committed, recorder.lost, recorder.dropped, recorder.sent)
        """
    path = tmp_path / "run.h5"
    done = run_program(program, path, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    committed, lost, dropped, sent = map(int, done.stdout.split())
    assert committed + lost + dropped == sent
    said = f"{path} has ended: No space left on device ({path}.copying). Training is not affected; "
    assert f"{said}{committed} frames are in the file" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(one.name for one in tmp_path.glob("run.h5*")) == ["run.h5"]
    with replay.open(path) as run:
        assert len(run.frames) == committed > 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "HDF5-DIAG: Error detected\n #003: file write failed: time = Mon\n, filename = 'r.h5', "
            "errno = 28, error message = 'No space left on device', buf = 0x5, offset = 7\n",
            "cannot write: No space left on device",
        ),
        ("Traceback (most recent call last):\nMemoryError\n", "MemoryError"),
        ("", ""),
    ],
)
def test_what_a_writer_that_has_crashed_said_is_one_line(text: str, words: str) -> None:
    assert last_words(text) == words


def test_what_is_taken_out_to_make_room_is_not_lost(tmp_path: Path) -> None:
    model = nn.Conv2d(1, 4, 3)
    images = torch.rand(1, 1, 40, 40)
    with Recorder(model, tmp_path / "run.h5", budget="600kB", epochs=1, quiet=True) as recorder:
        for _ in range(200):
            model(images)
            recorder.step()
    assert (recorder.lost, recorder.dropped) == (0, 0)
    assert 0 < recorder.committed < 200


def test_a_clean_end_has_lost_nothing(tmp_path: Path) -> None:
    with Writer(tmp_path / "run.h5", quiet=True) as writer:
        for batch in range(50):
            writer.write(epoch=0, batch=batch, maps={"a": np.ones((1, 2, 2))})
    assert (writer.committed, writer.lost, writer.dropped) == (50, 0, 0)
