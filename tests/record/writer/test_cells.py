"""No frame is ever written over another: a second one of an (epoch, batch) gets another place."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import replay
from record import Recorder, RecordingWarning
from record.protocol.layout import BatchLayout
from record.protocol.messages import FrameHeader
from record.writer.cells import Cells
from record.writer.recording_file import RecordingFile
from replay.schema import Layer

ATTRIBUTES = {"format": "mapreel", "version": 1, "run_id": "x", "created": "", "meta": "{}"}
CELLS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=40)


@settings(max_examples=25, deadline=None)
@given(cells=CELLS, cut=st.integers(0, 40), thin=st.booleans(), together=st.integers(1, 5))
def test_whatever_the_order_each_frame_is_in_the_file(
    tmp_path_factory: pytest.TempPathFactory,
    cells: list[tuple[int, int]],
    cut: int,
    thin: bool,
    together: int,
) -> None:
    path = tmp_path_factory.mktemp("cells") / "run.h5"
    moved: list[tuple[int, int, int]] = []
    file = RecordingFile(
        str(path), False, ATTRIBUTES, durability="flush", on_moved=lambda *m: moved.append(m)
    )
    file.set_layout(BatchLayout((), (Layer("a", "", (1, 1, 1)),)), None)
    for start in range(0, len(cells), together):
        group = range(start, min(start + together, len(cells)))
        headers = [FrameHeader(*cells[n], n, 0.0) for n in group]
        file.write(headers, np.array(group, np.float16)[:, None])
        if start <= cut < start + together:
            file.commit()
            if thin:
                file.thin(2)
    file.close(0, 0)
    with replay.open(path) as run:
        values = [float(run["a"][at][0, 0, 0]) for at in run["a"].frames]
        places = run["a"].frames
    with h5py.File(path) as read:
        steps = [int(read["batches/step"][at]) for at in places]
    kept = set(range(len(cells)))
    if thin and cut < len(cells):
        last = min(len(cells), (cut // together + 1) * together)
        kept -= set(range(1, last, 2))
    assert sorted(values) == sorted(kept)
    assert values == steps  # what lies beside a frame is its own
    assert bool(moved) or len(set(cells)) == len(cells) or thin


def test_resumed_epochs_are_replaced_and_the_others_are_not(tmp_path: Path) -> None:
    path = str(tmp_path / "run.h5")
    layout = BatchLayout((), (Layer("a", "", (1, 1, 1)),))
    file = RecordingFile(path, False, ATTRIBUTES, durability="flush")
    file.set_layout(layout, 2)
    frames = np.arange(6, dtype=np.float16)[:, None]
    file.write([FrameHeader(n // 2, n % 2, n, 0.0) for n in range(6)], frames)
    file.close(0, 0)
    moved: list[tuple[int, int, int]] = []
    more = RecordingFile(path, False, ATTRIBUTES, 2, "flush", on_moved=lambda *m: moved.append(m))
    more.set_layout(layout, 2)
    again = np.array([[20], [21], [10]], np.float16)
    headers = [FrameHeader(2, 0, 4, 0.0), FrameHeader(2, 1, 5, 0.0), FrameHeader(1, 0, 6, 0.0)]
    more.write(headers, again)
    more.close(0, 0)
    assert moved == [(1, 0, 3)]
    with h5py.File(path) as read:
        assert read["maps/a"][:4, :2, 0, 0, 0].tolist()[:3] == [[0, 1], [2, 3], [20, 21]]
        assert read["maps/a"][3, 0, 0, 0, 0] == 10


def test_numbers_as_large_as_a_time_take_no_memory() -> None:
    """A script may count its epochs by the clock, and its batches by the images."""
    moved: list[tuple[int, ...]] = []
    cells = Cells(np.zeros((0, 0), np.int64), lambda *at: moved.append(at))
    late = FrameHeader(1_800_000_000, 3_000_000_000, 0, 0.0)
    assert cells.place(late) is late
    assert cells.place(late).epoch == 1_800_000_001
    assert moved == [(1_800_000_000, 3_000_000_000, 1_800_000_001)]


def test_cells_of_a_long_epoch_are_known_again() -> None:
    recorded = np.zeros((2, 9_001), np.int64)
    recorded[1, [0, 4_095, 4_096, 9_000]] = [1, 2, 3, 4]
    cells = Cells(recorded, lambda *at: None)
    assert cells.place(FrameHeader(1, 8_999, 0, 0.0)).epoch == 1
    assert cells.place(FrameHeader(0, 4_096, 0, 0.0)).epoch == 0
    assert cells.place(FrameHeader(1, 9_000, 0, 0.0)).epoch == 2
    assert Cells(recorded, lambda *at: None).place(FrameHeader(1, 4_096, 0, 0.0)).epoch == 2


def _folds(recorder: Recorder, step: Callable[[torch.Tensor], None]) -> None:
    for _ in range(3):
        for epoch in range(2):
            recorder.epoch(epoch)
            for image in IMAGES:
                step(image)
                recorder.step()


def _tracked_folds(recorder: Recorder, step: Callable[[torch.Tensor], None]) -> None:
    for _ in range(3):
        for epoch in range(2):
            recorder.epoch(epoch)
            for image in recorder.track(IMAGES):
                step(image)


def _same_epoch_again(recorder: Recorder, step: Callable[[torch.Tensor], None]) -> None:
    for _ in range(6):
        recorder.epoch(0)
        for image in IMAGES:
            step(image)
            recorder.step()


IMAGES = [torch.full((2, 1, 4, 4), float(number)) for number in range(5)]


@pytest.mark.parametrize("train", [_folds, _tracked_folds, _same_epoch_again])
def test_epochs_that_begin_again_lose_nothing_and_say_so_once(
    tmp_path: Path, train: Callable[..., None]
) -> None:
    torch.manual_seed(0)
    model = nn.Conv2d(1, 1, 1)
    seen: list[float] = []

    def step(images: torch.Tensor) -> None:
        output = model(images)
        seen.append(float(output[0, 0, 0, 0].half()))
        output.mean().backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.01

    path = tmp_path / "run.h5"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Recorder(model, path, layers="*", quiet=True) as recorder:
            train(recorder, step)
    texts = [str(w.message) for w in caught if issubclass(w.category, RecordingWarning)]
    assert len(texts) == 1
    assert "came a second time, and nothing is written over" in texts[0]
    assert (recorder.sent, recorder.lost, recorder.dropped) == (30, 0, 0)
    with replay.open(path) as run:
        series = run[run.layers[0]]
        assert [float(series[at][0, 0, 0]) for at in series.frames] == seen
    assert not replay.verify(path).problems
