"""What reads `track` in a thread of its own takes nothing from the batch that is trained."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reading_ahead import PROBE, ConvolutionTraining

import replay
from record import Recorder

EPOCHS, BATCHES = 2, 5


class Reader:
    """Reads batches in a thread, one ahead, when the training says so.

    Args:
        batches: What is read.
    """

    def __init__(self, batches: Any) -> None:
        self._batches = batches
        self._go_on, self._there = threading.Semaphore(1), threading.Semaphore(0)
        self._found: list[Any] = []

    def __iter__(self) -> Iterator[Any]:
        thread = threading.Thread(target=self._read, daemon=True)
        thread.start()
        self._there.acquire()
        while (batch := self._found.pop(0)) is not None:
            yield batch
        thread.join()

    def read_on(self) -> None:
        """Has the next batch read, which ends the one before, and waits until it is there."""
        self._go_on.release()
        self._there.acquire()

    def _read(self) -> None:
        for batch in self._batches:
            self._go_on.acquire()
            self._found.append(batch)
            self._there.release()
        self._go_on.acquire()
        self._found.append(None)
        self._there.release()


class Training(ConvolutionTraining):
    """A training, and what was recorded of it by hand: losses, and maps of the fixed image."""

    def __init__(self) -> None:
        super().__init__(BATCHES)
        self.losses: list[float] = []
        self.maps: list[np.ndarray] = []
        self.fixed: list[np.ndarray] = []

    def step(self, images: torch.Tensor, between: Callable[[str], object]) -> torch.Tensor:
        """Trains on a batch; what else happens between its parts happens there."""
        self.maps.append(self.convolve(images))
        loss = self.model(images).square().mean()
        between("forward")
        self.optimizer.zero_grad()
        loss.backward()
        between("backward")
        self.optimizer.step()
        between("step")
        self.losses.append(loss.item())
        self.fixed.append(self.convolve(PROBE))
        return loss

    def check(self, path: Path) -> None:
        cells = [(epoch, batch) for epoch in range(EPOCHS) for batch in range(BATCHES)]
        with replay.open(path) as run:
            assert (run.lost, run.dropped) == (0, 0)
            assert run.frames == cells
            for number, cell in enumerate(cells):
                assert run.batches["loss"][cell] == pytest.approx(self.losses[number]), cell
                np.testing.assert_array_equal(run["0"][cell], self.maps[number])
                if run.probes:  # after the step, whatever was read meanwhile
                    shown = run.probe(0)["0"][cell]
                    np.testing.assert_allclose(shown, self.fixed[number], atol=1e-3)


@pytest.mark.parametrize("when", ["forward", "backward", "step"])
def test_the_next_batch_is_read_while_one_is_trained(tmp_path: Path, when: str) -> None:
    training, path = Training(), tmp_path / "run.h5"
    with Recorder(training.model, path, ["0"], probe=PROBE, probe_share=1) as recorder:
        for _ in range(EPOCHS):
            reader = Reader(recorder.track(training.data))

            def between(part: str, reader: Reader = reader) -> None:
                if part == when:
                    reader.read_on()

            for images in reader:
                recorder.log(loss=training.step(images, between))
    training.check(path)


@pytest.mark.parametrize("workers", [1, 3])
def test_each_batch_is_trained_in_a_thread(tmp_path: Path, workers: int) -> None:
    """One thread for all of them, or another one for each."""
    training, path = Training(), tmp_path / "run.h5"
    pools = [ThreadPoolExecutor(1) for _ in range(workers)]
    with Recorder(training.model, path, ["0"]) as recorder:
        for epoch in range(EPOCHS):
            for number, images in enumerate(recorder.track(training.data)):
                pool = pools[(epoch * BATCHES + number) % workers]
                loss = pool.submit(training.step, images, lambda part: None).result()
                recorder.log(loss=loss)
    for pool in pools:
        pool.shutdown()
    training.check(path)


def test_threads_that_end_hold_no_frames(tmp_path: Path) -> None:
    """A thread for each batch: what it trained is sent long before the recording ends."""
    training, path = Training(), tmp_path / "run.h5"
    data = training.data * 10
    with Recorder(training.model, path, ["0"]) as recorder:
        for images in recorder.track(data):
            thread = threading.Thread(target=training.step, args=(images, lambda part: None))
            thread.start()
            thread.join()
        recorder.flush()
        with replay.open(path) as run:
            assert len(run.frames) >= len(data) - 6
    with replay.open(path) as run:
        assert run.frames == [(0, batch) for batch in range(len(data))]


def test_a_flush_has_all_that_was_trained(tmp_path: Path) -> None:
    training, path = Training(), tmp_path / "run.h5"
    with Recorder(training.model, path, ["0"]) as recorder:
        reader = Reader(recorder.track(training.data))
        seen = []
        for images in reader:
            training.step(images, lambda part: None)
            reader.read_on()
            recorder.flush()
            with replay.open(path) as run:
                seen.append(run.frames)
    assert seen == [[(0, batch) for batch in range(number + 1)] for number in range(BATCHES)]
