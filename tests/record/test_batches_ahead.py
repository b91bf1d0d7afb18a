"""Batches that are skipped, or read ahead of the training: each keeps its number and its loss."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import replay
from record import Recorder, RecordingWarning

BATCHES = 8
ALL = torch.arange(1.0, 1 + BATCHES).repeat_interleave(2)[:, None, None, None].expand(-1, 1, 4, 4)


def handed_out(memory: str) -> Iterator[torch.Tensor]:
    """Yields batches that are slices of one tensor, or each in the memory of the one before."""
    images = ALL.contiguous()
    buffer = torch.empty(2, 1, 4, 4)
    for batch in images.split(2):
        yield {"of its own": batch.clone(), "shared": batch, "used again": buffer.copy_(batch)}[
            memory
        ]


def ahead(batches: Iterable[torch.Tensor], count: int) -> Iterator[torch.Tensor]:
    """Yields batches, so many of which have been read before each is used."""
    waiting: list[torch.Tensor] = []
    for batch in batches:
        waiting.append(batch)
        if len(waiting) > count:
            yield waiting.pop(0)
    yield from waiting


def check(path: Path, numbers: Iterable[int]) -> None:
    with replay.open(path) as run:
        assert run.frames == [(epoch, number) for epoch in range(2) for number in numbers]
        for epoch, number in run.frames:
            assert run.inputs[epoch, number].max() == 1 + number
            assert run.batches["loss"][epoch, number] == 1 + number
            assert run.batches["step"][epoch, number] == BATCHES * epoch + number
        assert run.lost == 0


@pytest.mark.parametrize("memory", ["of its own", "shared", "used again"])
@pytest.mark.parametrize("skipped", [{0}, {1, 2}, {3, 7}])
def test_batches_that_are_skipped(tmp_path: Path, memory: str, skipped: set[int]) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RecordingWarning)
        with Recorder(model, tmp_path / "run.h5", quiet=True) as recorder:
            for _ in range(2):
                for number, images in enumerate(recorder.track(handed_out(memory))):
                    if number in skipped:
                        continue
                    model(images).sum().backward()
                    recorder.log(loss=images.max())
    check(tmp_path / "run.h5", [n for n in range(BATCHES) if n not in skipped])


@pytest.mark.parametrize("memory", ["of its own", "shared"])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("forwards", ["one", "two", "two, of a copy"])
@pytest.mark.filterwarnings("ignore:batch 0 of epoch 0 ended:record.RecordingWarning")
def test_batches_that_are_read_ahead(
    tmp_path: Path, memory: str, count: int, forwards: str
) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1))
    with Recorder(model, tmp_path / "run.h5", quiet=True) as recorder:
        for _ in range(2):
            for images in ahead(recorder.track(handed_out(memory)), count):
                loss = model(images).sum()
                if forwards != "one":
                    loss = loss + model(images if forwards == "two" else 0.5 * images).sum()
                loss.backward()
                recorder.log(loss=images.max())
    check(tmp_path / "run.h5", range(BATCHES))


def test_a_list_of_batches_that_is_gone_through_again_is_none_of_the_last_one(
    tmp_path: Path,
) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1))
    with (
        pytest.warns(RecordingWarning, match="no batch of track.* 3 forwards in training mode"),
        Recorder(model, tmp_path / "run.h5", quiet=True) as recorder,
    ):
        (images,) = list(recorder.track([torch.ones(2, 1, 4, 4)]))
        for number in range(4):
            model(images).sum().backward()
            recorder.log(loss=number)
    with replay.open(tmp_path / "run.h5") as run:
        assert run.batches["loss"].tolist() == [[0.0]]
