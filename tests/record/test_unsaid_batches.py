"""Loops that say less than they could of their batches: numbers, values and what is said."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_trainings import Hooked, numbered, small
from torch import nn

import replay
from record import Recorder, RecordingWarning


@pytest.fixture(autouse=True)
def _nothing_else_is_said() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RecordingWarning)
        yield


def frames(path: Path) -> dict[tuple[int, int], float]:
    """What is recorded: which image stands where; `numbered` numbers them."""
    with replay.open(path) as run:
        assert run.inputs is not None
        return {at: float(run.inputs[at].max()) for at in run.frames}


class Incomparable:
    """Something that raises an error where it is compared."""

    def __ne__(self, other: object) -> bool:
        raise TypeError("it is compared with nothing")


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("forwards", [1, 2, 5])
def test_step_without_an_epoch_before_ends_one_batch_of_several_forwards(
    tmp_path: Path, forwards: int, every: int
) -> None:
    model = small()
    seen = Hooked(model)
    with Recorder(model, tmp_path / "run.h5", every=every) as recorder:
        for number, images in enumerate(numbered(5)):
            with torch.no_grad():
                model(20 * images)
            recorder.log(first=number)
            for factor in range(forwards):
                model((1 + 10 * factor) * images).sum().backward()
                recorder.log(loss=number + factor)
            recorder.step()
    assert frames(tmp_path / "run.h5") == {(0, b): 1.0 + b for b in range(0, 5, every)}
    with replay.open(tmp_path / "run.h5") as run:
        assert run.lost == run.dropped == 0
        for at in run.frames:
            assert run["0"][at].tobytes() == seen.by_input[1.0 + at[1]]
            assert run.batches["loss"][at] == at[1] + forwards - 1
            assert run.batches["first"][at] == at[1]
            assert run.batches["step"][at] == at[1]


@pytest.mark.parametrize("way", ["track", "epoch"])
def test_forwards_before_the_first_epoch_are_none_of_it(tmp_path: Path, way: str) -> None:
    model = small()
    with Recorder(model, tmp_path / "run.h5") as recorder:
        for images in numbered(3):
            model(50 * images)
        if way == "epoch":
            recorder.epoch(0)
        for images in numbered(3) if way == "epoch" else recorder.track(numbered(3)):
            model(images).sum().backward()
            if way == "epoch":
                recorder.step()
    assert frames(tmp_path / "run.h5") == {(0, b): 1.0 + b for b in range(3)}


def test_forwards_before_a_later_epoch_are_the_one_before(tmp_path: Path) -> None:
    model = small()
    with Recorder(model, tmp_path / "run.h5") as recorder:
        for images in numbered(3):
            model(images)
        recorder.epoch(1)
        for images in numbered(2):
            model(images)
            recorder.step()
    expected = {(0, 0): 1.0, (0, 1): 2.0, (0, 2): 3.0, (1, 0): 1.0, (1, 1): 2.0}
    assert frames(tmp_path / "run.h5") == expected


@pytest.mark.parametrize("number", [np.arange(2), torch.arange(2), Incomparable()], ids=type)
def test_an_epoch_that_is_no_number_is_said_and_never_raised(tmp_path: Path, number: Any) -> None:
    model = small()
    with Recorder(model, tmp_path / "run.h5") as recorder:
        for _ in range(2):
            with pytest.warns(RecordingWarning, match=r"epoch\(.*\): expected a whole number"):
                recorder.epoch(number)
            for images in numbered(2):
                model(images)
                recorder.step()
            number = [number]
    expected = {(epoch, batch): 1.0 + batch for epoch in range(2) for batch in range(2)}
    assert frames(tmp_path / "run.h5") == expected


def test_more_forwards_than_wait_are_batches(tmp_path: Path) -> None:
    model = small()
    with Recorder(model, tmp_path / "run.h5") as recorder:
        for images in numbered(20):
            model(images)
        assert recorder.flush()
        with replay.open(tmp_path / "run.h5") as run:
            assert len(run.frames) == 19
    assert frames(tmp_path / "run.h5") == {(0, b): 1.0 + b for b in range(20)}


def test_what_is_logged_behind_an_epoch_is_its_last_batchs(tmp_path: Path) -> None:
    model = small()
    with Recorder(model, tmp_path / "run.h5") as recorder:
        for epoch in range(30):  # enough for the writer to be there, and to take frames at once
            for images in recorder.track(numbered(2)):
                recorder.log(label=7)
                model(images)
                recorder.log(loss=epoch)
            model.eval()
            model(images)
            model.train()
            recorder.log(accuracy=epoch / 100)
            if epoch % 10 == 5:
                recorder.flush()
    with replay.open(tmp_path / "run.h5") as run:
        accuracy = np.stack([np.full(30, np.nan), np.arange(30) / 100], axis=1)
        np.testing.assert_allclose(run.batches["accuracy"], accuracy, rtol=1e-6)
        np.testing.assert_array_equal(run.batches["loss"], np.arange(30)[:, None].repeat(2, 1))
        assert (np.asarray(run.batches["label"]) == 7).all()


def again_by_cycle(recorder: Recorder) -> Iterator[Any]:
    return itertools.islice(itertools.cycle(recorder.track(numbered(3))), 7)


def again_by_list(recorder: Recorder) -> Iterator[Any]:
    kept = list(recorder.track(numbered(3)))
    return itertools.islice(itertools.cycle(kept), 7)


@pytest.mark.parametrize("again", [again_by_cycle, again_by_list])
def test_batches_that_do_not_come_through_track_again_are_said(
    tmp_path: Path, again: Callable[[Recorder], Iterator[Any]]
) -> None:
    model = small()
    with (
        pytest.warns(RecordingWarning, match="no batch of track.* 4 forwards in training mode"),
        Recorder(model, tmp_path / "run.h5") as recorder,
    ):
        for number, images in enumerate(again(recorder)):
            model(images).sum().backward()
            recorder.log(loss=number)
    assert frames(tmp_path / "run.h5") == {(0, b): 1.0 + b for b in range(3)}
    with replay.open(tmp_path / "run.h5") as run:
        assert list(run.batches["loss"][0]) == [0, 1, 2]  # not those of later rounds


@pytest.mark.parametrize("way", ["track", "step"])
def test_a_training_that_stays_in_evaluation_mode_is_said(tmp_path: Path, way: str) -> None:
    model = small()
    with (
        pytest.warns(RecordingWarning, match="evaluation mode in them: 4 batches .*train"),
        Recorder(model, tmp_path / "run.h5") as recorder,
    ):
        for epoch in range(3):
            if way == "step":
                recorder.epoch(epoch)
            for images in numbered(2) if way == "step" else recorder.track(numbered(2)):
                model(images).sum().backward()
                if way == "step":
                    recorder.step()
            model.eval()
            model(numbered(1)[0])
    assert frames(tmp_path / "run.h5") == {(0, 0): 1.0, (0, 1): 2.0}


def test_an_epoch_without_steps_is_said(tmp_path: Path) -> None:
    model = small()
    with (
        pytest.warns(RecordingWarning, match=r"nothing was recorded .* call step\(\) at the end"),
        Recorder(model, tmp_path / "run.h5") as recorder,
    ):
        for epoch in range(2):
            recorder.epoch(epoch)
            for images in numbered(2):
                model(images).sum().backward()


@pytest.mark.parametrize("way", ["forwards", "steps", "track", "unsized track"])
def test_a_budget_thins_evenly_however_batches_end(tmp_path: Path, way: str) -> None:
    """The frames that make room are those before a batch, also where the last one is sent late."""
    model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU())
    batches = [torch.full((2, 1, 32, 32), float(number)) for number in range(200)]
    with Recorder(model, tmp_path / "run.h5", layers="0", budget="900kB") as recorder:
        passes = {"track": batches, "unsized track": iter(batches)}
        for images in recorder.track(passes[way]) if way in passes else batches:
            model(images).sum().backward()
            recorder.log(loss=float(images.max()))
            if way == "steps":
                recorder.step()
        recorder.flush()
    with replay.open(tmp_path / "run.h5") as run:
        steps = [int(run.batches["step"][at]) for at in run.frames]
        assert steps == list(range(0, 200, steps[1]))
        assert len(steps) > 3
        for at, step in zip(run.frames, steps, strict=True):
            assert run.batches["loss"][at] == float(run.inputs[at].max()) == step


@pytest.mark.parametrize("empty", [0, 1, 3])
def test_a_batch_without_images_is_said_and_counted(tmp_path: Path, empty: int) -> None:
    """Its place in the epoch stays its own, and its loss; the others are right."""
    model = small()
    put_out: list[torch.Tensor] = []
    model[0].register_forward_hook(
        lambda module, args, output: put_out.append(output.detach().half())
    )
    batches = numbered(4)
    batches[empty] = batches[empty][:0]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with Recorder(model, tmp_path / "run.h5") as recorder:
            for number, images in enumerate(recorder.track(batches)):
                model(images).square().sum().backward()
                recorder.log(loss=number)
    said = [str(warning.message) for warning in warned]
    assert sum("without images came, an input of (0, 1, 8, 8)" in text for text in said) == 1
    assert not any("did not fire" in text for text in said)
    with replay.open(tmp_path / "run.h5") as run:
        whole = [(0, number) for number in range(4) if number != empty]
        assert [at for at in run.frames if np.isfinite(run["0"][at]).all()] == whole
        for at in whole:
            assert run["0"][at].tobytes() == put_out[at[1]][0].numpy().tobytes()
            assert run.batches["loss"][at] == at[1]
        if empty:
            assert run.batches["missing"][0, empty] == 2
            assert run.batches["loss"][0, empty] == empty
        else:
            assert run.lost == 1
