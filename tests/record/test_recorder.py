"""What a Recorder writes, held against independent hooks, however the loop marks its batches."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import nn
from watched_trainings import USED, Watch, batches, fit, make

import replay
from record import Recorder, RecordingWarning
from replay.schema import OptionError, OutputError, RecordingError

pytestmark = pytest.mark.usefixtures("quick_writers")


def test_every_frame_kernel_input_range_and_checksum(tmp_path: Path) -> None:
    model = make()
    seen = {name: Watch(getattr(model, name)) for name in USED}
    with Recorder(model, tmp_path / "run.h5", layers=[*USED, "ReLU"]) as recorder:
        fit(model, recorder)
    with replay.open(tmp_path / "run.h5") as run:
        assert run.layers == ("conv1", "relu", "relu#1", "conv2")
        assert run.closed
        assert run.frames == [(e, b) for e in range(2) for b in range(4)]
        for place, (epoch, batch) in enumerate(run.frames):
            for name in USED:
                frame, expected = run[name][epoch, batch], seen[name].frames[place]
                assert frame.tobytes() == expected.tobytes()
                assert (frame < 0).any()  # not what the in-place ReLU made of it
                kernels = run[name].kernels(epoch, batch)
                assert kernels.tobytes() == seen[name].kernels[place].tobytes()
                ranges = np.stack([expected.min((1, 2)), expected.max((1, 2))], axis=1)
                np.testing.assert_array_equal(run[name].ranges()[epoch, batch], ranges)
            np.testing.assert_array_equal(
                run["relu"][epoch, batch], np.maximum(seen["conv1"].frames[place], 0)
            )
            image = batches()[batch][0].half().numpy()
            np.testing.assert_array_equal(run.inputs[epoch, batch], image)
        assert list(run.batches["label"].ravel()) == [2] * 8
        assert list(run.batches["speed"].ravel()) == [0.5] * 8
        assert list(run.batches["step"].ravel()) == list(range(8))
        assert np.isfinite(run.batches["loss"]).all()
    with h5py.File(tmp_path / "run.h5", "r") as file:
        maps = file["maps/conv1"]
        assert (maps.dtype, maps.chunks) == (np.float16, (1, 1, 6, 12, 12))
        for epoch, batch in np.ndindex(2, 4):
            for kind, sums in (("maps", "checksums"), ("kernels", "kernel_checksums")):
                data = file[f"{kind}/conv2"][epoch, batch].tobytes()
                assert file[f"{sums}/conv2"][epoch, batch] == zlib.crc32(data)
            assert file["batches/input_checksum"][epoch, batch] == zlib.crc32(
                file["inputs"][epoch, batch].tobytes()
            )


def test_evaluation_leaves_no_trace_and_every_skips(tmp_path: Path) -> None:
    model = make()
    with Recorder(model, tmp_path / "run.h5", layers="conv1", every=3) as recorder:
        fit(model, recorder)
    with replay.open(tmp_path / "run.h5") as run:
        assert run.frames == [(0, 0), (0, 3), (1, 0), (1, 3)]
        assert run.shape == (2, 4)
        assert run.batches["step"][1, 3] == 7


def test_an_evaluation_within_a_batch_is_not_recorded(tmp_path: Path) -> None:
    model = make()
    data = batches()
    right = [model.conv1(images)[0].detach().half().numpy() for images in data]
    with Recorder(model, tmp_path / "run.h5", layers="conv1") as recorder:
        for images in recorder.track(data):
            model.eval()
            model(images + 1)  # before the batch is trained on, and behind it
            model.train()
            model(images)
            model.eval()
            model(images + 2)
            model.train()
    with replay.open(tmp_path / "run.h5") as run:
        assert len(run.frames) == len(data)
        for at, frame in zip(run.frames, right, strict=True):
            assert run["conv1"][at].tobytes() == frame.tobytes()


def test_epoch_and_step_instead_of_track(tmp_path: Path) -> None:
    model = make()
    with Recorder(model, tmp_path / "run.h5", layers="conv1") as recorder:
        for epoch in range(2):
            recorder.epoch(epoch)
            for images in batches():
                for part in images.split(2):  # gradient accumulation: one batch all the same
                    model(part).mean().backward()
                recorder.log(loss=epoch)
                recorder.step()
    with replay.open(tmp_path / "run.h5") as run:
        assert run.shape == (2, 4)
        assert len(run.frames) == 8
        np.testing.assert_array_equal(run.inputs[1, 2], batches()[2][0].half().numpy())
        np.testing.assert_array_equal(run.batches["loss"], [[0] * 4, [1] * 4])


@pytest.mark.parametrize("every", [1, 2])
def test_without_either_every_training_forward_is_a_batch(tmp_path: Path, every: int) -> None:
    model = make()
    with Recorder(model, tmp_path / "run.h5", layers="conv1", every=every) as recorder:
        for number, images in enumerate(batches(5)):
            model(images)
            recorder.log(loss=number)
    with replay.open(tmp_path / "run.h5") as run:
        assert run.frames == [(0, b) for b in range(0, 5, every)]
        assert [run.batches["loss"][at] for at in run.frames] == list(range(0, 5, every))
        np.testing.assert_array_equal(run.inputs[0, -1], batches(5)[4][0].half().numpy())


def test_loaders_without_a_length_break_and_exceptions(tmp_path: Path) -> None:
    model = make()

    def endless() -> Iterator[torch.Tensor]:
        while True:
            yield from batches()

    with (
        pytest.raises(ZeroDivisionError),
        Recorder(model, tmp_path / "run.h5", layers="conv1") as recorder,
    ):
        for number, images in enumerate(recorder.track(endless())):
            model(images)
            if number == 69:
                break
        for _, images in enumerate(recorder.track(batches())):
            model(images)
            raise ZeroDivisionError
    with replay.open(tmp_path / "run.h5") as run:
        assert run.closed
        assert run.frames == [*((0, b) for b in range(70)), (1, 0)]
        assert run.shape == (2, 70)
    assert len(recorder.track(batches())) == 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_models(tmp_path: Path, dtype: torch.dtype) -> None:
    model = make().to(dtype)
    seen = Watch(model.conv1)
    with Recorder(model, tmp_path / "run.h5", layers="conv1") as recorder:
        for images in recorder.track(batches()):
            model(images.to(dtype))
    with replay.open(tmp_path / "run.h5") as run:
        for place, at in enumerate(run.frames):
            assert run["conv1"][at].tobytes() == seen.frames[place].tobytes()


def test_overflow_and_nan_are_counted(tmp_path: Path) -> None:
    model = make()
    with torch.no_grad():
        model.conv1.weight.zero_()
        model.conv1.bias.copy_(torch.tensor([1.0, 65504.0, 1e6, -1e6, torch.nan, 1e-8]))
    with Recorder(model, tmp_path / "run.h5", layers="conv1") as recorder:
        for images in recorder.track(batches(1)):
            model(images)
    with replay.open(tmp_path / "run.h5") as run:
        assert (run.batches["nan"][0, 0], run.batches["inf"][0, 0]) == (144, 288)
        expected = [[1, 1], [65504, 65504], [np.nan] * 2, [np.nan] * 2, [np.nan] * 2, [0, 0]]
        np.testing.assert_array_equal(run["conv1"].ranges()[0, 0], expected)


def test_log_refuses_what_is_not_one_number(tmp_path: Path) -> None:
    model = make()
    with Recorder(model, tmp_path / "run.h5", layers="conv1") as recorder:
        with pytest.warns(
            RecordingWarning, match=r"log\(loss=...\): expected one number, found Te"
        ):
            recorder.log(loss=torch.zeros(3))
        with pytest.warns(RecordingWarning, match="the recorder sets 'step' itself"):
            recorder.log(step=3)
        for images in recorder.track(batches(1)):
            model(images)
    strict = Recorder(model, tmp_path / "strict.h5", layers="conv1", on_error="raise")
    with strict, pytest.raises(RecordingError, match="found str"):
        strict.log(loss="low")
    for images in batches(1):
        model(images)


def test_existing_files_are_refused_or_replaced(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists"):
        Recorder(make(), path)
    assert path.read_bytes() == b"precious"
    model = make()
    with Recorder(model, path, layers="conv1", overwrite=True) as recorder:
        fit(model, recorder, epochs=1)
    with replay.open(path) as run:
        assert len(run.frames) == 4
    with pytest.raises(OutputError, match="no such folder"):
        Recorder(make(), tmp_path / "nowhere" / "run.h5")
    with pytest.raises(OutputError, match="is a folder"):
        Recorder(make(), tmp_path)


def test_bad_arguments_say_what_was_expected(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with pytest.raises(OptionError, match="no layer matches 'cnov1'; did you mean conv1"):
        Recorder(make(), path, layers="cnov1")
    with pytest.raises(OptionError, match="every: expected a whole number from 1, found 0"):
        Recorder(make(), path, every=0)
    with pytest.raises(OptionError, match="on_error: expected one of warn, raise"):
        Recorder(make(), path, on_error="ignore")
    with pytest.raises(OptionError, match="expected a torch.nn.Module, found int"):
        Recorder(3, path)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="no convolution, block or Linear"):
        Recorder(nn.ReLU(), path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_recorded_is_said(tmp_path: Path) -> None:
    model = make().eval()
    with (
        pytest.warns(RecordingWarning, match="nothing was recorded .* never called in training"),
        Recorder(model, tmp_path / "run.h5", layers="conv1") as recorder,
    ):
        for images in recorder.track(batches()):
            model(images)
