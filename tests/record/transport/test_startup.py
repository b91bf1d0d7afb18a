"""A recording begins while the training goes on: nobody waits for the writer, nothing is lost."""

from __future__ import annotations

import multiprocessing
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import replay
from record import Recorder, RecordingError, RecordingWarning
from record.transport import frame_channel
from replay.schema import OutputError

SLOW = 2.0  # seconds that a writer takes to start in these tests


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks are faster so, and others' tests are left as they are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Conv2d(2, 1, 3)).train()


@pytest.fixture
def writer_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has the writer processes of this test begin with some lines of Python."""

    def begin_with(code: str) -> None:
        folder = tmp_path / "start"
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(
            "import sys\nif 'record.writer' in sys.orig_argv:\n    " + code + "\n"
        )
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")

    return begin_with


def train(
    recorder: Recorder, model: nn.Module, steps: int, pause: float = 0.0
) -> tuple[list[np.ndarray], list[float]]:
    """What the last layer put out in each step, and how many seconds each step took."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    generator = torch.Generator().manual_seed(1)
    frames, times = [], []
    for _ in range(steps):
        images = torch.randn(2, 1, 8, 8, generator=generator)
        began = time.monotonic()
        optimizer.zero_grad()
        output = model(images)
        output.square().mean().backward()
        optimizer.step()
        recorder.step()
        times.append(time.monotonic() - began)
        frames.append(output[0].detach().half().numpy())
        time.sleep(pause)
    return frames, times


class Silent:
    """Stands for a recorder where there is none."""

    def step(self) -> None:
        pass


def check(path: Path, frames: list[np.ndarray]) -> None:
    with replay.open(path) as run:
        assert run.closed
        assert (run.lost, run.dropped) == (0, 0)
        assert run.frames == [(0, b) for b in range(len(frames))]
        for at, frame in zip(run.frames, frames, strict=True):
            assert run["2"][at].tobytes() == frame.tobytes()


def test_the_first_steps_wait_for_nobody(tmp_path: Path, writer_begins: Any) -> None:
    writer_begins(f"import time; time.sleep({SLOW})")
    train(Silent(), make(), 1)  # type: ignore[arg-type]  # what torch does once
    model = make()
    began = time.monotonic()
    with Recorder(model, tmp_path / "run.h5") as recorder:
        frames, _ = train(recorder, model, 40)
        took = time.monotonic() - began
        assert recorder.committed == 0
    assert took < SLOW / 2
    check(tmp_path / "run.h5", frames)


@pytest.mark.parametrize("pause", [0.0, 0.01])
def test_frames_queue_until_the_writer_is_there(
    tmp_path: Path, writer_begins: Any, monkeypatch: pytest.MonkeyPatch, pause: float
) -> None:
    """More of them than the queue holds, and a writer slower than one that stands still."""
    monkeypatch.setattr(frame_channel, "STALL_SECONDS", SLOW / 4)
    writer_begins(f"import time; time.sleep({SLOW})")
    model = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RecordingWarning)
        with Recorder(model, tmp_path / "run.h5") as recorder:
            frames, _ = train(recorder, model, 150, pause)
            assert recorder.flush()
    check(tmp_path / "run.h5", frames)


def test_dropped_frames_are_counted_where_that_was_asked_for(
    tmp_path: Path, writer_begins: Any
) -> None:
    writer_begins(f"import time; time.sleep({SLOW})")
    model = make()
    with (
        pytest.warns(RecordingWarning, match="batches dropped"),
        Recorder(model, tmp_path / "run.h5", when_full="drop") as recorder,
    ):
        _, times = train(recorder, model, 150)
    assert max(times) < SLOW / 2
    with replay.open(tmp_path / "run.h5") as run:
        assert len(run.frames) >= 40
        assert run.dropped >= 150 - len(run.frames) > 0


def test_a_frame_with_much_in_it_does_not_wait_either(tmp_path: Path, writer_begins: Any) -> None:
    """The pipe of a writer that reads nothing yet is full before the queue is."""
    writer_begins(f"import time; time.sleep({SLOW})")
    model = make()
    values = {f"a long name for a field, number {n}": float(n) for n in range(400)}
    began = time.monotonic()
    with Recorder(model, tmp_path / "run.h5") as recorder:
        for _ in range(40):
            model(torch.ones(1, 1, 8, 8))
            recorder.log(**values)
            recorder.step()
        assert time.monotonic() - began < SLOW / 2
    with replay.open(tmp_path / "run.h5") as run:
        assert len(run.frames) == 40
        assert run.batches["a long name for a field, number 399"][0, 39] == 399


def test_a_writer_that_cannot_begin_is_said_once(tmp_path: Path, writer_begins: Any) -> None:
    plain = make()
    train(Silent(), plain, 30)  # type: ignore[arg-type]
    writer_begins("import os; os.write(2, b'no h5py here'); os._exit(1)")
    model = make()
    with (
        pytest.warns(RecordingWarning) as caught,
        Recorder(model, tmp_path / "run.h5") as recorder,
    ):
        train(recorder, model, 30, 0.02)
    said = [str(w.message) for w in caught if "cannot create" in str(w.message)]
    assert len(said) == 1
    assert "nothing is recorded" in said[0]
    assert "no h5py here" in said[0]
    for before, after in zip(plain.parameters(), model.parameters(), strict=True):
        assert torch.equal(before, after)


def test_a_writer_that_cannot_begin_is_raised_where_asked(
    tmp_path: Path, writer_begins: Any
) -> None:
    writer_begins("import os; os._exit(1)")
    model = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordingWarning)
        with (
            Recorder(model, tmp_path / "run.h5", on_error="raise") as recorder,
            pytest.raises(RecordingError, match="run.h5 ended"),
        ):
            train(recorder, model, 200, 0.02)


@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": True}])
def test_what_can_be_known_is_refused_at_once(
    tmp_path: Path, writer_begins: Any, options: dict[str, Any]
) -> None:
    """Also while the writer of the first one is still starting."""
    writer_begins("import time; time.sleep(0.5)")
    path = tmp_path / "run.h5"
    model = make()
    with Recorder(model, path) as recorder:
        with pytest.raises(OutputError):
            Recorder(make(), path, **options)
        frames, _ = train(recorder, model, 3)
    check(path, frames)


def test_a_recording_that_is_gone_on_with_knows_what_is_there(
    tmp_path: Path, writer_begins: Any
) -> None:
    writer_begins("import time; time.sleep(0.5)")
    path = tmp_path / "run.h5"
    model = make()
    for _ in range(2):
        with Recorder(model, path, resume=path.exists()) as recorder:
            for images in recorder.track([torch.ones(1, 1, 8, 8)] * 3):
                model(images)
    with replay.open(path) as run:
        assert run.frames == [(e, b) for e in range(2) for b in range(3)]


def record_beside_others(arguments: tuple[str, float]) -> bool:
    """In a process of its own, at a given time: whether it may record."""
    path, begin = arguments
    torch.set_num_threads(1)
    model = make()
    time.sleep(max(0.0, begin - time.time()))
    try:
        with Recorder(model, path) as recorder:
            train(recorder, model, 2)
            time.sleep(1.0)
    except OutputError:
        return False
    return True


def test_of_several_that_begin_at_once_all_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    begin = time.time() + 8.0
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        good = pool.map(record_beside_others, [(str(path), begin)] * 3, chunksize=1)
    assert sorted(good) == [False, False, True]
    with replay.open(path) as run:
        assert len(run.frames) == 2
