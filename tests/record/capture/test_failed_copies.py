"""What cannot be copied is lost and counted, and no earlier frame stands in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_trainings import half, numbered, small, step
from torch import nn

import replay
from record import Recorder, RecordingWarning


class Unreadable(torch.Tensor):
    """A tensor that nobody can copy."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("detach", "copy_", "select", "to", "as_subclass"):
            raise RuntimeError("no copies of this")
        return super().__torch_function__(func, types, args, kwargs or {})


class Sometimes(nn.Module):
    """Puts out what cannot be copied for every fourth batch."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x.as_subclass(Unreadable) if self.calls % 4 == 0 else x


class Unhelpful(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch._C.DisableTorchFunctionSubclass():
            return x.as_subclass(torch.Tensor)


@pytest.mark.parametrize("way", ["track", "step", "neither"])
def test_a_copy_that_failed_is_lost_and_not_what_the_buffer_held(tmp_path: Path, way: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), Sometimes(), Unhelpful())
    data = numbered(70)  # the buffers go round more than once
    seen: list[bytes] = []
    model[0].register_forward_hook(lambda m, a, o: seen.append(half(o[0])))
    with pytest.warns(RecordingWarning) as said:
        with Recorder(model, tmp_path / "run.h5", layers=["0", "1"]) as recorder:
            for images in recorder.track(data) if way == "track" else data:
                model(images).sum().backward()
                if way == "step":
                    recorder.step()
        assert (recorder.lost, recorder.dropped) == (17, 0)
    assert (
        sum("cannot record 1: RuntimeError: no copies of this" in str(w.message) for w in said) == 1
    )
    with replay.open(tmp_path / "run.h5") as run:
        assert (len(run.frames), run.lost) == (70, 17)
        for (_, batch), expected in zip(run.frames, seen, strict=True):
            assert run["0"][0, batch].tobytes() == expected
            if batch % 4 == 3:
                assert np.isnan(run["1"][0, batch]).all()
            else:
                assert run["1"][0, batch].tobytes() == expected


def test_an_image_that_cannot_be_copied_is_not_the_one_before(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch._C.DisableTorchFunctionSubclass():
                return self.conv(x.as_subclass(torch.Tensor))

    model = Net()
    with (
        pytest.warns(RecordingWarning) as said,
        Recorder(model, tmp_path / "run.h5") as recorder,
    ):
        for number, images in enumerate(recorder.track(numbered(6))):
            model(images.as_subclass(Unreadable) if number % 3 == 2 else images)
    assert any("cannot record input: RuntimeError: no copies" in str(w.message) for w in said)
    with replay.open(tmp_path / "run.h5") as run:
        assert (len(run.frames), run.lost) == (6, 2)
        assert run.inputs is not None
        for _, batch in run.frames:
            image = run.inputs[0, batch]
            assert np.isnan(image).all() if batch % 3 == 2 else (image == 1 + batch).all()


def test_kernels_that_cannot_be_copied_are_not_those_before(tmp_path: Path) -> None:
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    kernels: list[bytes] = []
    with Recorder(model, tmp_path / "run.h5", layers="0") as recorder:
        for number, images in enumerate(recorder.track(numbered(9))):
            if number == 4:  # computed anew at each access from here on
                nn.utils.parametrizations.weight_norm(model[0])
                optimizer = torch.optim.SGD(model.parameters(), 0.1)
            kernels.append(half(model[0].weight))
            step(model, images, optimizer)
    with replay.open(tmp_path / "run.h5") as run:
        for _, batch in run.frames:
            read = run["0"].kernels(0, batch)
            if batch < 4:
                assert read.tobytes() == kernels[batch]
            else:
                assert np.isnan(read).all()


def test_nothing_is_said_of_training_mode_where_copies_failed(tmp_path: Path) -> None:
    class Never(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.as_subclass(Unreadable)

    model = nn.Sequential(Never())
    with (
        pytest.warns(RecordingWarning) as caught,
        Recorder(model, tmp_path / "run.h5", layers=["0"]) as recorder,
    ):
        for images in recorder.track(numbered(2)):
            model(images)
    said = [str(w.message) for w in caught]
    assert not any("training mode" in text for text in said)
    assert any("could not be copied" in text or "2 frames lost" in text for text in said)
