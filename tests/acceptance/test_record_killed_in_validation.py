"""The last batch of an epoch waits for what is logged behind it; it is not lost to a kill there."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from processes import writers_of
from script_runs import ENVIRONMENT, write

import replay

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="/proc of Linux"),
]

SCRIPT = """
    import os, signal, sys
    import torch
    from torch import nn
    from record import Recorder

    torch.set_num_threads(1)
    torch.manual_seed(0)
    path, ending, options = sys.argv[1], sys.argv[2], eval(sys.argv[3])
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(32, 1))

    def end():
        print("here", flush=True)
        sys.stdin.readline()
        if ending.endswith("exit"):
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)

    with Recorder(model, path, gradients=True, quiet=True, **options) as recorder:
        for epoch in range(3):
            batches = [torch.full((2, 1, 6, 6), 10.0 * epoch + batch) for batch in range(4)]
            for batch, images in enumerate(recorder.track(batches)):
                out = model(images)
                if ending == "next" and epoch == 2:
                    end()
                out.sum().backward()
                recorder.log(loss=10 * epoch + batch)
                if batch == 1:
                    recorder.flush()  # the writer has begun
                if ending == "break" and batch == 2:
                    break
            model.eval()
            with torch.no_grad():
                model(images + 500)
            if epoch == 1 and ending != "next" and ending != "never":
                recorder.flush() if ending == "flushed" else None
                end()
            model.train()
            recorder.log(validated=epoch)
    """


def run(folder: Path, ending: str, **options: object) -> Path:
    path = folder / "run.h5"
    process = subprocess.Popen(
        [sys.executable, str(write(folder, SCRIPT)), str(path), ending, repr(options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    if ending == "never":
        process.communicate(timeout=60)
        assert process.returncode == 0
        return path
    assert process.stdout.readline() == "here\n"
    (writer,) = writers_of(process.pid)
    process.communicate("\n", timeout=60)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{writer}").exists():
        state = Path(f"/proc/{writer}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":
            break
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return path


def check(path: Path, expected: list[tuple[int, int]]) -> None:
    """Each frame is there once, with its picture and its loss."""
    assert replay.verify(path)
    with replay.open(path) as recording:
        assert recording.closed
        assert (recording.lost, recording.dropped) == (0, 0)
        assert recording.frames == expected
        for epoch, batch in expected:
            number = 10 * epoch + batch
            assert np.all(recording.inputs[epoch, batch] == number)
            assert recording.batches["loss"][epoch, batch] == number


EPOCHS = [(epoch, batch) for epoch in range(2) for batch in range(4)]


@pytest.mark.parametrize("ending", ["kill", "exit", "flushed"])
@pytest.mark.parametrize("probe", [None, "first"])
def test_killed_in_the_validation(tmp_path: Path, ending: str, probe: str | None) -> None:
    check(run(tmp_path, ending, probe=probe), EPOCHS)


def test_killed_after_a_break(tmp_path: Path) -> None:
    check(run(tmp_path, "break"), [at for at in EPOCHS if at[1] < 3])


def test_killed_in_the_next_epoch(tmp_path: Path) -> None:
    """The batch has been sent by then, and its memory may hold another one's frame."""
    path = run(tmp_path, "next")
    check(path, EPOCHS)
    with replay.open(path) as recording:
        assert recording.batches["validated"][1, 3] == 1


def test_of_a_batch_that_is_not_recorded_nothing_is_kept(tmp_path: Path) -> None:
    check(run(tmp_path, "kill", every=2), [at for at in EPOCHS if at[1] % 2 == 0])


def test_what_is_logged_behind_an_epoch_is_its_last_batchs(tmp_path: Path) -> None:
    path = run(tmp_path, "never")
    check(path, [(epoch, batch) for epoch in range(3) for batch in range(4)])
    with replay.open(path) as recording:
        logged = recording.batches["validated"]
        assert [at for at in recording.frames if np.isfinite(logged[at])] == [
            (0, 3), (1, 3), (2, 3)
        ]  # fmt: skip
