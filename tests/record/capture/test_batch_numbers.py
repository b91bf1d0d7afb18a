"""Batches that are read ahead, skipped or trained on by two threads keep their numbers."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from reading_ahead import by_a_thread, by_itself
from small_trainings import Hooked, numbered, small, step
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import replay
from record import Recorder, RecordingWarning


@pytest.mark.parametrize(
    "reading", [lambda b: by_itself(b, 1), lambda b: by_itself(b, 3), lambda b: by_a_thread(b, 2)]
)
@pytest.mark.parametrize("of", ["list", "loader"])
def test_what_reads_ahead_around_track_shifts_no_number(
    tmp_path: Path, reading: Any, of: str
) -> None:
    torch.manual_seed(0)
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    data: Any = numbered(6, size=2)
    if of == "loader":
        data = DataLoader(TensorDataset(torch.cat(data), torch.arange(12)), batch_size=2)
    losses = {}
    with Recorder(model, tmp_path / "run.h5") as recorder:
        for epoch in range(2):
            for batch in reading(recorder.track(data)):
                images = batch if of == "list" else batch[0]
                loss = step(model, images, optimizer)
                recorder.log(loss=loss)
                losses[epoch, int(images[0, 0, 0, 0]) - 1] = loss.item()
    with replay.open(tmp_path / "run.h5") as run:
        assert (run.lost, run.dropped) == (0, 0)
        assert run.frames == [(e, b) for e in range(2) for b in range(6)]
        assert run.inputs is not None
        for at in run.frames:
            assert (run.inputs[at] == 1 + at[1]).all(), at
            assert run.batches["loss"][at] == pytest.approx(losses[at])


def test_what_reads_ahead_and_makes_other_tensors_is_said(tmp_path: Path) -> None:
    model = small()
    with (
        pytest.warns(RecordingWarning, match="read ahead"),
        Recorder(model, tmp_path / "run.h5") as recorder,
    ):
        for images in by_itself(recorder.track(numbered(4)), 1):
            model(images.clone())


def test_batches_that_are_skipped_keep_their_numbers(tmp_path: Path) -> None:
    model = small()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RecordingWarning)
        with Recorder(model, tmp_path / "run.h5") as recorder:
            for _ in range(2):
                for number, images in enumerate(recorder.track(numbered(7))):
                    if number % 3 == 0:
                        continue
                    model(images[:, :, 1:])
    with replay.open(tmp_path / "run.h5") as run:
        assert run.frames == [(e, b) for e in range(2) for b in (1, 2, 4, 5)]
        assert run.inputs is not None
        assert all((run.inputs[at] == 1 + at[1]).all() for at in run.frames)


@pytest.mark.parametrize("every", [1, 2, 3])
def test_a_step_without_a_forward_is_no_batch(tmp_path: Path, every: int) -> None:
    model = small()
    with Recorder(model, tmp_path / "run.h5", every=every) as recorder:
        for number, images in enumerate(numbered(7)):
            model(images)
            recorder.log(loss=number)
            recorder.step()
            if number % 2:
                recorder.step()
    with replay.open(tmp_path / "run.h5") as run:
        assert run.frames == [(0, b) for b in range(0, 7, every)]
        assert run.inputs is not None
        for at in run.frames:
            assert (run.inputs[at] == 1 + at[1]).all()
            assert run.batches["loss"][at] == at[1]


@pytest.mark.parametrize("way", ["neither", "step", "track"])
def test_two_threads_that_train_one_model(tmp_path: Path, way: str) -> None:
    """Of each frame, the image and the maps are of one forward; what is not recorded is counted."""
    torch.manual_seed(0)
    model = small()
    seen = Hooked(model)
    count = 40
    start = threading.Barrier(2)

    class Slow(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(50):
                x = x + 0  # gives the other thread its turn
            return x

    model.append(Slow())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordingWarning)
        with Recorder(model, tmp_path / "run.h5", layers=["0", "2"]) as recorder:

            def train(offset: int) -> None:
                torch.set_num_threads(1)
                data = [images + 100 * offset for images in numbered(count)]
                start.wait()
                for images in recorder.track(data) if way == "track" else data:
                    model(images).mean().backward()
                    recorder.log(loss=float(images[0, 0, 0, 0]))
                    if way == "step":
                        recorder.step()

            threads = [threading.Thread(target=train, args=(i,)) for i in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    with replay.open(tmp_path / "run.h5") as run:
        assert run.inputs is not None
        assert len(run.frames) + run.lost == 2 * count
        assert len(run.frames) >= count / 2
        for at in run.frames:
            image = float(run.inputs[at][0, 0, 0])
            assert run["0"][at].tobytes() == seen.by_input[image]
            assert run.batches["loss"][at] == image
