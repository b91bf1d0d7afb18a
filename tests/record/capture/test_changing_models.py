"""Layers that are replaced, added or removed while the model is recorded."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import numpy as np
import pytest
from small_trainings import half, numbered, small
from torch import nn

import replay
from record import Recorder, RecordingWarning


@pytest.mark.parametrize(
    "way", ["replace", "replace in the table", "grow", "remove", "within a block"]
)
def test_layers_that_are_replaced_or_added_are_recorded(tmp_path: Path, way: str) -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.Sequential(nn.Conv2d(3, 2, 3))
    )
    fresh = nn.Conv2d(3, 2, 3)
    seen: dict[int, list[bytes]] = {}

    def listen(module: nn.Module) -> nn.Module:
        kept = seen.setdefault(id(module), [])
        module.register_forward_hook(lambda m, a, o: kept.append(half(o[0])))
        return module

    old = listen(model[2][0])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", RecordingWarning)
        with Recorder(model, tmp_path / "run.h5") as recorder:
            for epoch in range(3):
                if epoch == 1 and way == "replace":
                    model[2] = nn.Sequential(listen(fresh))
                elif epoch == 1 and way == "within a block":
                    model[2][0] = listen(fresh)
                elif epoch == 1 and way == "replace in the table":
                    model[2]._modules["0"] = listen(fresh)
                elif epoch == 1 and way == "grow":
                    fresh = nn.Conv2d(2, 2, 3)
                    model.append(listen(fresh))
                elif epoch == 1 and way == "remove":
                    del model[2]
                for images in recorder.track(numbered(2)):
                    model(images).sum().backward()
    texts = [str(w.message) for w in said if w.category is RecordingWarning]
    assert any("the model has changed while it is recorded" in text for text in texts)
    for module in [*model.modules(), old]:
        assert len(module._forward_pre_hooks) == 0
        assert len(module._forward_hooks) == (1 if id(module) in seen else 0)
    with replay.open(tmp_path / "run.h5") as run:
        assert len(run.frames) == 6
        name = "3" if way == "grow" else "2.0"
        frames = [run[name][at] for at in run.frames]
        if way == "grow":
            assert np.isnan(frames[0]).all()
            assert [f.tobytes() for f in frames[2:]] == seen[id(fresh)]
            assert [run["2.0"][at].tobytes() for at in run.frames] == seen[id(old)]
        elif way == "remove":
            assert [f.tobytes() for f in frames[:2]] == seen[id(old)]
            assert np.isnan(frames[2]).all()
        else:
            assert [f.tobytes() for f in frames] == [*seen[id(old)], *seen[id(fresh)]]


def test_a_layer_that_is_exchanged_within_the_batch(tmp_path: Path) -> None:
    model = small()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", RecordingWarning)
        with Recorder(model, tmp_path / "run.h5", every=2) as recorder:
            for images in recorder.track(numbered(4)):
                model[0] = copy.deepcopy(model[0])
                expected = half(model[0](images)[0])
                model(images)
    assert not any("fire" in str(w.message) for w in said)
    with replay.open(tmp_path / "run.h5") as run:
        assert run.frames == [(0, 0), (0, 2)]
        assert np.isfinite(run["0"][0, 2]).all()
        assert len(expected) == run["0"][0, 2].nbytes


def test_the_parameters_of_lazy_modules_are_counted_when_they_are_there(tmp_path: Path) -> None:
    model = nn.Sequential(
        nn.LazyConv2d(3, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.LazyLinear(2)
    )
    with Recorder(model, tmp_path / "run.h5") as recorder:
        for images in recorder.track(numbered(3)):
            model(images)
    with replay.open(tmp_path / "run.h5") as run:
        assert run.meta["parameters"] == sum(p.numel() for p in model.parameters())
        assert run.layers == ("0",)
        assert len(run.frames) == 3
