"""What reads `track` ahead, and leaves out batches or hands on copies, misnumbers nothing."""

from __future__ import annotations

import itertools
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reading_ahead import PROBE, ConvolutionTraining, by_a_thread, by_itself

import replay
from record import Recorder, RecordingWarning

EPOCHS, BATCHES = 2, 30


def as_a_list(batches: Iterable[Any], ahead: int) -> Iterator[Any]:
    return iter(list(batches))


Ahead = Callable[[Iterable[Any], int], Iterator[Any]]


class Training(ConvolutionTraining):
    """A training, and what it trained on: image, map, loss and the fixed image's map by cell."""

    def __init__(self) -> None:
        super().__init__(BATCHES)
        self.truth: dict[tuple[int, int], tuple[np.ndarray, np.ndarray, float, np.ndarray]] = {}

    def step(self, cell: tuple[int, int], images: torch.Tensor) -> torch.Tensor:
        maps = self.convolve(images)
        loss = self.model(images).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        picture = images[0].half().numpy().copy()
        self.truth[cell] = picture, maps, loss.item(), self.convolve(PROBE)
        return loss

    def train(self, recorder: Recorder, way: Ahead, ahead: int, copied: bool = False) -> None:
        for epoch in range(EPOCHS):
            for batch, images in enumerate(way(recorder.track(self.data), ahead)):
                loss = self.step((epoch, batch), images.clone() if copied else images)
                recorder.log(loss=loss)
                if batch % 7 == 0:
                    self.model.eval()
                    self.model(PROBE)
                    self.model.train()

    def check(self, path: Path) -> list[tuple[int, int]]:
        """Every frame is the training's; returns which there are."""
        with replay.open(path) as run:
            assert (run.lost, run.dropped) == (0, 0)
            for cell in run.frames:
                picture, maps, loss, fixed = self.truth[cell]
                np.testing.assert_array_equal(run.inputs[cell], picture)
                np.testing.assert_array_equal(run["0"][cell], maps)
                assert run.batches["loss"][cell] == pytest.approx(loss), cell
                if run.probes:
                    np.testing.assert_allclose(run.probe(0)["0"][cell], fixed, atol=2e-3)
            return list(run.frames)


@pytest.mark.parametrize("ahead", [1, 3])
@pytest.mark.parametrize("way", [by_a_thread, by_itself])
@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"every": 3}, lambda batch: batch % 3 == 0),
        ({"schedule": "first=2"}, lambda batch: batch < 2),
        ({"budget": 320_000}, None),
    ],
    ids=["every", "first", "budget"],
)
def test_batches_that_are_left_out_change_nothing_of_the_others(
    tmp_path: Path,
    options: dict[str, Any],
    kept: Callable[[int], bool] | None,
    way: Ahead,
    ahead: int,
) -> None:
    training, path = Training(), tmp_path / "run.h5"
    with Recorder(training.model, path, ["0"], probe=PROBE, probe_share=1, **options) as recorder:
        training.train(recorder, way, ahead)
    frames = training.check(path)
    if kept is None:
        assert 3 <= len(frames) < EPOCHS * BATCHES
    else:
        cells = itertools.product(range(EPOCHS), range(BATCHES))
        assert frames == [cell for cell in cells if kept(cell[1])]


@pytest.mark.parametrize("way", [by_a_thread, by_itself, as_a_list])
def test_many_may_be_read_ahead(tmp_path: Path, way: Ahead) -> None:
    training, path = Training(), tmp_path / "run.h5"
    with Recorder(training.model, path, ["0"]) as recorder:
        training.train(recorder, way, ahead=25)
    assert len(training.check(path)) == EPOCHS * BATCHES


def test_copies_are_taken_in_the_order_in_which_they_were_read(tmp_path: Path) -> None:
    training, path = Training(), tmp_path / "run.h5"
    with (
        pytest.warns(RecordingWarning, match="another thread reads ahead in track") as told,
        Recorder(training.model, path, ["0"]) as recorder,
    ):
        training.train(recorder, by_a_thread, ahead=4, copied=True)
    assert len(told) == 1
    assert len(training.check(path)) == EPOCHS * BATCHES


def test_passes_side_by_side_are_said_and_each_has_its_own_images(tmp_path: Path) -> None:
    training, path = Training(), tmp_path / "run.h5"
    others = [torch.randn(2, 3, 6, 6) for _ in range(BATCHES)]
    with (
        pytest.warns(RecordingWarning, match=r"side by side, as in zip\(track") as told,
        Recorder(training.model, path, ["0"]) as recorder,
    ):
        for _ in range(EPOCHS):
            for images, more in zip(
                recorder.track(training.data), recorder.track(others), strict=True
            ):
                (training.model(images).mean() + training.model(more).mean()).backward()
    assert len(told) == 1
    with replay.open(path) as run:
        assert run.lost == 0
        assert len(run.frames) == 2 * EPOCHS * BATCHES
        for epoch, batch in run.frames:
            whole = others[batch] if epoch % 2 else training.data[batch]
            np.testing.assert_array_equal(run.inputs[epoch, batch], whole[0].half().numpy())


def test_a_pass_within_a_batch_of_another_is_nothing_to_say(tmp_path: Path) -> None:
    training, path = Training(), tmp_path / "run.h5"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Recorder(training.model, path, ["0"]) as recorder:
            for images in recorder.track(training.data[:3]):
                training.model(images).mean().backward()
                for more in recorder.track(training.data[:4]):
                    training.model(more).mean().backward()
                    if more is training.data[2]:
                        break
    with replay.open(path) as run:
        assert len(run.frames) == 3 + 3 * 3


def test_threads_that_each_go_through_track_are_said(tmp_path: Path) -> None:
    training, path = Training(), tmp_path / "run.h5"
    both, one_at_a_time = threading.Barrier(2), threading.Lock()

    def go(recorder: Recorder) -> None:
        for number, images in enumerate(recorder.track(training.data[:4])):
            if number == 0:
                both.wait()
            with one_at_a_time:
                training.model(images).mean().backward()

    with (
        pytest.warns(RecordingWarning, match="several threads go through track") as told,
        Recorder(training.model, path, ["0"]) as recorder,
    ):
        threads = [threading.Thread(target=go, args=(recorder,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(told) == 1
    with replay.open(path) as run:
        assert run.frames == [(epoch, batch) for epoch in range(2) for batch in range(4)]
