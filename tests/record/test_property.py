"""Random small models in random loops: a recording is right to the bit, or says what it lacks.

`--hypothesis-profile=long` tries thousands; `scripts/bench/trainings` counts and times them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from generated.cases import Case, cases, tried
from generated.found import FOUND
from generated.loops import Loop, Step
from generated.plans import Part, Plan
from generated.truth import Asked
from generated.watching import SIGNAL
from generated.writers import quick_writers
from hypothesis import given

from record import Recorder
from replay import schema

CASE = Case(
    Plan(size=(3, 6), parts=(Part("norm"), Part("activation"), Part("dropout"), Part("conv", 3))),
    Loop(((Step(4, before=("eval",)), Step(4), Step(3)),)),
    Asked(),
    probes=1,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where each recording is made in its turn."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with quick_writers():
        yield tmp_path_factory.mktemp("property") / "run.h5"
    torch.set_num_threads(threads)


@given(case=cases())
def test_a_recording_is_right_or_says_what_it_lacks(path: Path, case: Case) -> None:
    assert tried(case, path).differences == []


@pytest.mark.parametrize("name", FOUND)
def test_what_was_once_wrong(path: Path, name: str) -> None:
    assert tried(FOUND[name], path).differences == []


# What is wrong would be found


def put(file: h5py.File, group: str, sums: str, values: np.ndarray) -> None:
    """Another frame in the place of batch 1, with the checksum that belongs to it."""
    file[group][0, 1] = values
    file[sums][0, 1] = schema.checksum(np.ascontiguousarray(values))


def of_another_batch(file: h5py.File) -> None:
    put(file, "maps/body.0", "checksums/body.0", file["maps/body.0"][0, 0])


def one_bit(file: h5py.File) -> None:
    values = file["maps/body.5"][0, 1]
    values.view(np.uint16)[0, 0, 0] ^= 1
    put(file, "maps/body.5", "checksums/body.5", values)


def old_bytes(file: h5py.File) -> None:
    values = file["maps/body.1"][0, 1]
    values.view(np.uint16)[0, 0, 0] = SIGNAL
    put(file, "maps/body.1", "checksums/body.1", values)


def old_kernels(file: h5py.File) -> None:
    kernels = "kernels/body.0", "kernel_checksums/body.0"
    put(file, *kernels, file["kernels/body.0"][0, 0])


def no_frame(file: h5py.File) -> None:
    file["batches/recorded"][0, 1] = 0


def another_image(file: h5py.File) -> None:
    put(file, "inputs", "batches/input_checksum", file["inputs"][0, 2])


def another_loss(file: h5py.File) -> None:
    file["batches/loss"][0, 1] = file["batches/loss"][0, 0]


def another_probe(file: h5py.File) -> None:
    group = file["probe/0"]
    put(group, "maps/body", "checksums/body", group["maps/body"][0, 0])


def a_wrong_checksum(file: h5py.File) -> None:
    file["checksums/body"][0, 1] += 1


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (of_another_batch, "body.0 at (0, 1): recorded (3, 6, 6), true (3, 6, 6), another value"),
        (of_another_batch, "body.0 at (0, 1) is not what the queue took"),
        (one_bit, "body.5 at (0, 1): recorded (4, 6, 6), true (4, 6, 6), another value"),
        (old_bytes, "/maps/body.1 at (0, 1) holds what was in the buffer before"),
        (old_kernels, "kernels of body.0 at (0, 1): another value"),
        (no_frame, "1 frames are missing, 0 were counted"),
        (no_frame, "the queue took 3 frames, the file has 2"),
        (another_image, "the input image at (0, 1): recorded (3, 6, 6), another one"),
        (another_loss, "loss at (0, 1)"),
        (
            another_probe,
            "probe 0: body at (0, 1): recorded (4, 6, 6), true (4, 6, 6), another value",
        ),
        (a_wrong_checksum, "/maps/body at (0, 1): the checksum is wrong"),
    ],
)
def test_a_recording_that_is_wrong_is_found(
    path: Path, damage: Callable[[h5py.File], None], words: str
) -> None:
    trial = tried(CASE, path)
    assert trial.differences == []
    with h5py.File(path, "r+") as file:
        damage(file)
    assert any(line.startswith(words) for line in trial.differences)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda model: torch.rand(1), "the training was changed: another random state"),
        (lambda model: model.train_(), "the training was changed: other weights or buffers"),
        (lambda model: model.register_forward_hook(print), "the model has _forward_hooks"),
    ],
)
def test_a_training_that_was_changed_is_found(
    path: Path, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Any], Any], words: str
) -> None:
    """As if the recorder did it when it ends."""
    begin, close = Recorder.__init__, Recorder.close
    models: dict[int, Any] = {}

    def beginning(recorder: Recorder, model: Any, *arguments: Any, **options: Any) -> None:
        models[id(recorder)] = model
        begin(recorder, model, *arguments, **options)

    def closing(recorder: Recorder) -> None:
        close(recorder)
        model = models[id(recorder)]
        model.train_ = lambda: next(model.parameters()).data.neg_()
        harm(model)
        del model.train_

    monkeypatch.setattr(Recorder, "__init__", beginning)
    monkeypatch.setattr(Recorder, "close", closing)
    assert any(line.startswith(words) for line in tried(CASE, path).differences)
