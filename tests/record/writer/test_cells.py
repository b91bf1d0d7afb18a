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
from record import Recorder, RecordingWarning, Writer
from record.protocol.layout import BatchLayout
from record.protocol.messages import FrameHeader
from record.writer.cells import Cells
from record.writer.recording_file import RecordingFile
from replay.schema import Layer, OptionError

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
    moved: list[tuple[object, ...]] = []
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
    moved: list[tuple[object, ...]] = []
    more = RecordingFile(path, False, ATTRIBUTES, 2, "flush", on_moved=lambda *m: moved.append(m))
    more.set_layout(layout, 2)
    again = np.array([[20], [21], [10]], np.float16)
    headers = [FrameHeader(2, 0, 4, 0.0), FrameHeader(2, 1, 5, 0.0), FrameHeader(1, 0, 6, 0.0)]
    more.write(headers, again)
    more.close(0, 0)
    assert moved == [(1, 0, 3, "again")]
    with h5py.File(path) as read:
        assert read["maps/a"][:4, :2, 0, 0, 0].tolist()[:3] == [[0, 1], [2, 3], [20, 21]]
        assert read["maps/a"][3, 0, 0, 0, 0] == 10


def test_numbers_as_large_as_a_time_take_no_memory() -> None:
    """A script may count its epochs by the clock, and its batches by the images."""
    moved: list[tuple[object, ...]] = []
    cells = Cells(np.zeros((0, 0), np.int64), lambda *at: moved.append(at), lambda *_: True)
    late = FrameHeader(1_800_000_000, 3_000_000_000, 0, 0.0)
    assert cells.place(late) is late
    again = cells.place(late)
    assert again is not None
    assert again.epoch == 1_800_000_001
    assert moved == [(1_800_000_000, 3_000_000_000, 1_800_000_001, "again")]


NOW = 1_800_000_000
WAYS = {  # by what is counted: (epoch, batch) of each frame, and its cell in the file, if it has one
    "clock": ([(NOW, 0), (NOW, 1), (NOW + 60, 0)], [(0, 0), (0, 1), (60, 0)], ["far"]),
    "gaps": ([(0, 0), (10**6, 0), (10**6 + 1, 5)], [(0, 0), (1, 0), (2, 5)], ["far"]),
    "small gaps": ([(0, 0), (1_000, 3)], [(0, 0), (1_000, 3)], []),
    "millions": ([(0, 1_999_000), (0, 5)], [(0, 1_999_000), (0, 5)], []),
    "images": ([(0, 0), (0, 10**12), (1, 1)], [(0, 0), None, (1, 1)], ["full"]),
    "negative": ([(-3, 0), (-2, 1), (0, -1)], [(0, 0), (1, 1), None], ["far", "full"]),
    "everything": ([(2**61, 2**61), (0, 0)], [None, (0, 0)], ["full"]),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_file_is_never_larger_than_readers_accept(way: str, tmp_path: Path) -> None:
    wanted, places, reasons = WAYS[way]
    path = tmp_path / "run.h5"
    moved: list[tuple[object, ...]] = []
    file = RecordingFile(
        str(path), False, ATTRIBUTES, durability="flush", on_moved=lambda *m: moved.append(m)
    )
    file.set_layout(BatchLayout((), (Layer("a", "", (1, 1, 1)),)), 10**15)
    for number, at in enumerate(wanted):
        file.write([FrameHeader(*at, number, 0.0)], np.array([[number]], np.float16))
        file.commit()
    file.close(0, 0)
    kept = {place: number for number, place in enumerate(places) if place is not None}
    assert [m[-1] for m in moved] == reasons
    assert file.cells.refused == len(places) - len(kept)
    with replay.open(path) as run:
        assert (run.frames, run.lost) == (sorted(kept), file.cells.refused)
        for place, number in kept.items():
            assert run["a"][place] == number
            assert run.batches["step"][place] == number
    assert way == "millions" or replay.verify(path)  # which takes seconds for a million cells


def test_where_most_batches_are_recorded_a_file_has_room_for_more(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    file = RecordingFile(str(path), False, ATTRIBUTES, durability="flush")
    large = BatchLayout((), (Layer("a", "", (1, 2_000, 2_000)),))
    file.set_layout(large, None)
    frames = np.ones((5, large.size), np.float16)
    file.write([FrameHeader(0, n, n, 0.0) for n in range(5)], frames)  # 40 MB: 5 million cells
    file.commit()
    over = [FrameHeader(0, n, n, 0.0) for n in (4_500_000, 6_000_000)]
    file.write(over, frames[:2])
    file.close(0, 0)
    assert file.cells.refused == 1
    with replay.open(path) as run:
        assert run.frames[-1] == (0, 4_500_000)
        assert len(run.frames) == 6


def test_one_clear_line_for_a_training(tmp_path: Path) -> None:
    """Whatever a loop gives for an epoch, each of its frames is in the file or counted as lost."""
    path = tmp_path / "run.h5"
    model = nn.Conv2d(1, 1, 1)
    numbers = [1_800_000_000, np.int64(1_800_000_060), -1, float("nan"), 2**70, 1_800_000_123.0]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Recorder(model, path, layers="*", quiet=True) as recorder:
            for number in numbers:
                recorder.epoch(number)  # type: ignore[arg-type]
                model(torch.ones(1, 1, 2, 2))
                recorder.step()
    said = [str(w.message) for w in caught if issubclass(w.category, RecordingWarning)]
    assert [line for line in said if "too far" in line] == [
        f"epoch 1,800,000,000 is too far from those before: a file has room for every epoch up to "
        f"its last. It is epoch 0 of {path}, and those behind it follow. Count from 0"
    ]
    assert sum("expected a whole number from 0" in line for line in said) == 3
    with replay.open(path) as run:
        assert [epoch for epoch, _ in run.frames] == [0, 60, 61, 62, 63, 123]
    assert recorder.lost == 0
    with Writer(tmp_path / "arrays.h5", quiet=True) as writer:
        for wrong in (True, -1, 1.5, "2", 2**62):
            with pytest.raises(OptionError, match="epoch: expected a whole number from 0"):
                writer.write(epoch=wrong, batch=0, maps={"a": np.ones(3)})
        with pytest.warns(RecordingWarning) as warned:
            for batch in (0, 10**10, 10**11):
                writer.write(epoch=np.int32(0), batch=batch, maps={"a": np.ones(3)})
            writer.close()
    assert any("nor are others like it" in str(each.message) for each in warned)
    assert (writer.committed, writer.lost) == (1, 2)


def test_cells_of_a_long_epoch_are_known_again() -> None:
    recorded = np.zeros((2, 9_001), np.int64)
    recorded[1, [0, 4_095, 4_096, 9_000]] = [1, 2, 3, 4]
    cells = Cells(recorded, lambda *at: None, lambda *_: True)
    assert cells.place(FrameHeader(1, 8_999, 0, 0.0)).epoch == 1
    assert cells.place(FrameHeader(0, 4_096, 0, 0.0)).epoch == 0
    assert cells.place(FrameHeader(1, 9_000, 0, 0.0)).epoch == 2
    assert (
        Cells(recorded, lambda *at: None, lambda *_: True)
        .place(FrameHeader(1, 4_096, 0, 0.0))
        .epoch
        == 2
    )


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
