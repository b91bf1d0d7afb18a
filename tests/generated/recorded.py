"""A training that is recorded, and watched from outside."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from generated.training import Training, parametrized
from generated.truth import Asked
from generated.watching import Sent, watched
from record import Recorder


class Telling(Recorder):
    """A Recorder that leaves what it would warn of to a list, so that one knows which it was."""

    def __init__(self, said: list[str], *args: Any, **options: Any) -> None:
        self._said = said
        super().__init__(*args, **options)

    def _say(self, text: str) -> None:
        self._said.append(text)


class Recorded:
    """Passes on to a Recorder what a training tells, but for what a Recorder finds out itself."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.traces: list[str] = []

    def track(self, batches: Iterable[Any]) -> Iterable[Any]:
        return self._recorder.track(batches)

    def epoch(self, number: int) -> None:
        self._recorder.epoch(number)

    def step(self) -> None:
        self._recorder.step()

    def log(self, **values: Any) -> None:
        self._recorder.log(**values)

    def forward_begins(self, training: bool, image: torch.Tensor) -> None:
        pass

    def forward_ends(self, whole: bool) -> None:
        pass

    def backward(self, runs: bool) -> None:
        pass

    def copied(self, model: nn.Module) -> None:
        """A copy has to have nothing of the recorder's."""
        self.traces += traces(model)

    def replaced(self, old: nn.Module, new: nn.Module) -> None:
        pass


def traces(model: nn.Module) -> list[str]:
    """What a recorder has left in a model."""
    found = [
        f"{kind} of {name or 'the model'}"
        for name, module in model.named_modules()
        for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
        if getattr(module, kind)
    ]
    if not parametrized(model) and b"record." in pickle.dumps(model):
        found.append("mapreel in its pickle")
    return [f"a copy has {trace}" for trace in found]


@dataclass
class Outcome:
    """What recording a training left behind.

    Attributes:
        said: Warnings, a line each.
        sent: What the queue took.
        counted: Frames that were counted as lost or dropped.
        traces: What was left in the model or in a copy of it.
    """

    said: list[str]
    sent: list[Sent]
    counted: int
    traces: list[str]


def record(
    training: Training,
    asked: Asked,
    paths: list[Path],
    probe: torch.Tensor | None,
    **options: Any,
) -> list[Outcome]:
    """Runs a training, recorded; its neighbour, if it has one, is recorded into the second file."""
    trained = [training] if training.neighbour is None else [training, training.neighbour]
    said: list[list[str]] = [[] for _ in trained]
    with watched() as seen, contextlib.ExitStack() as stack:
        recorders = []
        passing = []
        for one, path, words in zip(trained, paths, said, strict=False):
            recorder = Telling(
                words,
                one.model,
                path,
                layers=asked.patterns(one.model),
                every=asked.every,
                schedule=asked.schedule or None,
                batch_axis=asked.axes(one) or None,
                probe=probe if one is training else None,
                **options,
            )
            recorders.append((recorder, id(recorder._courier.channel)))
            passing.append(Recorded(recorder))
            stack.enter_context(recorder)
        training.run(*passing)
    outcomes = []
    for (recorder, courier), one, watcher, words in zip(
        recorders, trained, passing, said, strict=True
    ):
        left = [trace.replace("a copy", "the model") for trace in traces(one.model)]
        outcomes.append(
            Outcome(
                words,
                seen.sent.get(courier, []),
                recorder.lost + recorder.dropped,
                [*watcher.traces, *left],
            )
        )
    return outcomes
