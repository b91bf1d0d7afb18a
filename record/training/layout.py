"""Finds what a batch of a recording will consist of, by one forward of a copy of the model."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from record.capture.capture import Capture
from record.capture.phase import WAITING
from record.modules.selection import Patterns, find_layers
from record.protocol.layout import BatchLayout
from record.training import models
from replay.schema import OptionError, RecordingError


def find_layout(
    model: nn.Module,
    layers: Patterns,
    images: torch.Tensor,
    max_map: int | None = None,
    probes: int = 0,
    axes: dict[str, int] | None = None,
) -> BatchLayout:
    """Finds what a batch of a recording of a model will consist of.

    A copy does one training forward, and the random state is put back: the model itself is not
    touched, but that its lazy modules get their parameters.

    Args:
        model: The network.
        layers: As for `Recorder`.
        images: A batch for it, (N, C, H, W); batch normalisation needs N of 2 or more.
        max_map: As for `Recorder`.
        probes: The number of fixed images.
        axes: As `batch_axis` of `Recorder`.

    Raises:
        OptionError: A pattern matches nothing, or the model does not take the images.
        RecordingError: A layer cannot be recorded.
    """
    models.make_whole(model, images)  # without which there is no copy
    copied = copy.deepcopy(model).train()
    failures: list[str] = []
    capture = Capture(copied, find_layers(copied, layers), max_map, axes)
    capture.install(_FailureListener(failures))
    capture.state.phase = WAITING
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            output = copied(images)
        models.logits_and_auxiliary(output)
        if failures:
            raise RecordingError(f"cannot record {failures[0]}")
        capture.frames.extend()
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        shape = "x".join(str(n) for n in images.shape[1:])
        reason = " ".join(str(error).split())[:200]
        raise OptionError(f"the model does not take {shape} images: {reason}") from error
    finally:
        capture.remove()
    layout = capture.frames.layout
    fixed = [
        replace(layer, probe=number, kernel=None)
        for number in range(probes)
        for layer in layout.layers
    ]
    return BatchLayout(layout.images, (*layout.layers, *fixed))


class _FailureListener:
    """Keeps what goes wrong in the forward by which a layout is found.

    Args:
        failures: Takes a line for each layer that cannot be recorded.
    """

    def __init__(self, failures: list[str]) -> None:
        self._failures = failures

    def forward_begins(self, training: bool, inputs: Any) -> None:
        """Does nothing: there is one forward."""

    def forward_ended(self, output: Any) -> None:
        """Does nothing: there is one forward."""

    def collided(self) -> None:
        """Does nothing: there is one thread."""

    def hook_failed(self, name: str, error: Exception) -> None:
        """Keeps why a layer cannot be recorded."""
        self._failures.append(f"{name}: {error}")

    def say(self, text: str, key: str | None = None) -> None:
        """Does nothing: it is said when the training is recorded."""
