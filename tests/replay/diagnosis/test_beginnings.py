"""When something began is told to the batch, in runs of which only some frames are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from looking import class_rows, write_looking
from samples import drifting_maps, write_recording

import replay

EPOCHS, BATCHES = 10, 30


def number_of(epoch: int, batch: int) -> int:
    return epoch * BATCHES + batch


def found_of(path: Path, kind: str, layer: str) -> list[tuple[int | None, int | None]]:
    found = replay.health(path).all_findings
    return [(each.epoch, each.batch) for each in found if (each.kind, each.layer) == (kind, layer)]


def not_finite_from(nan: int, inf: int, seed: int) -> Callable[[int, int], np.ndarray]:
    maps = drifting_maps(3, 8, 8, seed)

    def made(epoch: int, batch: int) -> np.ndarray:
        frame = maps(epoch, batch).copy()
        frame[1, 0, :2] = np.nan if number_of(epoch, batch) >= nan else frame[1, 0, :2]
        frame[2, 3, 3] = np.inf if number_of(epoch, batch) >= inf else frame[2, 3, 3]
        return frame

    return made


@pytest.mark.parametrize("nan", [20, 44, 171, 299])
def test_the_first_nan_of_a_layer_behind_others(tmp_path: Path, nan: int) -> None:
    layers = {"conv1": not_finite_from(20, 25, 1), "conv2": not_finite_from(nan, 178, 2)}
    path = write_recording(tmp_path / "run.h5", layers, epochs=EPOCHS, batches=BATCHES)
    assert found_of(path, "nan", "conv1") == [(0, 20)]
    assert found_of(path, "nan", "conv2") == [divmod(nan, BATCHES)]
    assert found_of(path, "inf", "conv2") == [divmod(178, BATCHES)]
    texts = {each.layer: each.text for each in replay.health(path).all_findings[::-1]}
    assert "first in epoch 0 batch 20" in texts["conv1"]
    assert ("first found in" if nan > 44 else "first in") in texts["conv2"]


def test_a_channel_is_saturated_since_the_batch_in_which_it_began(tmp_path: Path) -> None:
    maps = drifting_maps(4, 16, 16)
    since = {1: 150, 2: 203}

    def made(epoch: int, batch: int) -> np.ndarray:
        frame = np.abs(maps(epoch, batch)) + np.float16(0.01)
        for channel, start in since.items():
            if number_of(epoch, batch) >= start:
                frame[channel] = 0
                frame[channel, batch % 16, epoch] = 3  # so that it is not dead
        return frame

    path = write_recording(tmp_path / "run.h5", {"conv1": made}, epochs=EPOCHS, batches=BATCHES)
    right = [divmod(start, BATCHES) for start in since.values()]
    assert found_of(path, "saturated", "conv1") == right


def test_heads_look_at_one_token_or_at_all_since_the_batch_in_which_they_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = class_rows()

    def rows(epoch: int, batch: int) -> np.ndarray:
        made = usual(epoch, batch).copy()
        if number_of(epoch, batch) >= 77:
            made[1] = 1 / made.shape[1]
        if number_of(epoch, batch) >= 211:
            made[2] = np.arange(made.shape[1]) == 7
        return made

    monkeypatch.setattr("looking.class_rows", lambda *_, **__: rows)
    options = {"epochs": EPOCHS, "batches": BATCHES, "probes": 0}
    path = write_looking(tmp_path / "run.h5", gradients=False, **options)
    assert found_of(path, "uniform", "blocks.1.attn") == [divmod(77, BATCHES)]
    assert found_of(path, "one-token", "blocks.1.attn") == [divmod(211, BATCHES)]


def rectified(often: float, dead: int, channels: int = 64) -> Callable[[int, int], np.ndarray]:
    """Neurons that are each silent for such a share of the images, the first ones for all."""

    def made(epoch: int, batch: int) -> np.ndarray:
        random = np.random.default_rng((epoch, batch))
        values = np.where(random.random(channels) < often, 0, random.random(channels) + 0.1)
        values[:dead] = 0
        return values.astype("f2")

    return made


def test_neurons_that_are_silent_by_chance_are_not_dead(tmp_path: Path) -> None:
    few = write_recording(tmp_path / "few.h5", {"relu": rectified(0.5, 6)}, epochs=1, batches=3)
    health = replay.health(few)
    assert health.all_findings == []
    (remark,) = health.layers[0].remarks
    silent = sum(not np.any([rectified(0.5, 6)(0, b)[c] for b in range(3)]) for c in range(64))
    assert remark.startswith(f"{silent} channels zero in all 3 batches: too few to tell")
    many = write_recording(tmp_path / "many.h5", {"relu": rectified(0.5, 6)}, epochs=5, batches=12)
    health = replay.health(many)
    assert [each.channel for each in health.all_findings] == list(range(6))
    assert {each.kind for each in health.all_findings} == {"dead"}
    assert health.layers[0].remarks == []


def test_what_is_dead_among_what_never_rests_is_so_after_three_batches(tmp_path: Path) -> None:
    for dead in (1, 63, 64):
        layers = {"relu": rectified(0.0, dead)}
        path = write_recording(tmp_path / f"{dead}.h5", layers, epochs=1, batches=3)
        found = replay.health(path).all_findings
        assert [each.channel for each in found if each.kind == "dead"] == list(range(dead))
