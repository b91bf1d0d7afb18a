"""Finds what a batch of a recording will consist of, by one forward of a copy of the model."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from record.capture.capture import Capture
from record.capture.first_image import CannotProbeError
from record.capture.phase import WAITING
from record.capture.python_state import PythonState
from record.capture.tensors import all_tensors
from record.modules.names import named_modules
from record.modules.selection import Patterns, choose_among, describe_module, find_layers
from record.planning.activation import activation_layers
from record.planning.lazy_modules import make_whole
from record.protocol.layout import BatchLayout
from record.schedule.plan import ModuleOutput
from record.schedule.plan_table import module_name
from replay import schema
from replay.schema import Layer, OptionError, RecordingError

_FAILURES = (RuntimeError, ValueError, TypeError, AssertionError, IndexError, KeyError)


class FoundLayout(NamedTuple):
    """What one forward has shown.

    Attributes:
        layout: What a batch of a recording will consist of.
        outputs: What each module put out that was called, in the order of the model's modules.
        output: What the model put out.
    """

    layout: BatchLayout
    outputs: tuple[ModuleOutput, ...]
    output: Any


def find_layout(
    model: nn.Module,
    layers: Patterns,
    images: torch.Tensor,
    max_map: int | None = None,
    probes: int = 0,
    axes: dict[str, int] | None = None,
    attention: str | None = None,
    gradients: Patterns | bool = None,
    cam: bool | str = False,
) -> FoundLayout:
    """Finds what a batch of a recording of a model that takes images will consist of.

    A copy does one training forward, and the random state is put back: the model itself is not
    touched, but that its lazy modules get their parameters.

    Args:
        model: The network.
        layers: As for `Recorder`.
        images: A batch for it, (N, C, H, W); batch normalisation needs N of 2 or more.
        max_map: As for `Recorder`.
        probes: The number of fixed images.
        axes: As `batch_axis` of `Recorder`.
        attention: Whose attention is recorded, `cls` or `full`; None for none.
        gradients: As for `Recorder`.
        cam: As for `Recorder`.

    Raises:
        OptionError: A pattern matches nothing, or the model does not take the images.
        RecordingError: A layer cannot be recorded.
    """
    make_whole(model, images)  # without which there is no copy
    try:
        return run_copy(
            model, layers, (images,), {}, max_map, probes, axes, attention, gradients, cam
        )
    except _FAILURES as error:
        shape = "x".join(str(n) for n in images.shape[1:])
        reason = " ".join(str(error).split())[:200]
        raise OptionError(f"the model does not take {shape} images: {reason}") from error


def run_copy(
    model: nn.Module,
    layers: Patterns,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    max_map: int | None = None,
    probes: int = 0,
    axes: dict[str, int] | None = None,
    attention: str | None = None,
    gradients: Patterns | bool = None,
    cam: bool | str = False,
) -> FoundLayout:
    """Has a copy of a model do one training forward, and returns what that has shown.

    Nothing of the model changes, nor what its code keeps in Python, nor a random state. What the
    forward raises is passed on.

    Args:
        model: The network, without lazy modules.
        layers: As for `Recorder`.
        args: The positional arguments of the forward.
        kwargs: Its keyword arguments.
        max_map: As for `Recorder`.
        probes: The number of fixed images.
        axes: As `batch_axis` of `Recorder`.
        attention: Whose attention is recorded, `cls` or `full`; None for none.
        gradients: As for `Recorder`.
        cam: As for `Recorder`.

    Raises:
        OptionError: A pattern matches nothing, or the model cannot be copied.
        RecordingError: A layer cannot be recorded.
    """
    with _python_undone(model):
        try:
            copied = copy.deepcopy(model).train()
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise OptionError(f"{type(model).__name__} cannot be copied: {reason}") from error
        failures: list[str] = []
        outputs: dict[str, ModuleOutput] = {}
        found = find_layers(copied, layers)
        differentiated = choose_among(found, copied, gradients, schema.GRADIENTS)
        capture = Capture(copied, found, max_map, axes, attention)
        capture.install(_FailureListener(failures))
        for name, module in named_modules(copied).items():
            module.register_forward_hook(_OutputHook(outputs, name))
        capture.state.phase = WAITING
        try:
            with _random_states(copied), torch.no_grad():
                output = copied(*args, **kwargs)
            if failures:
                raise RecordingError(f"cannot record {failures[0]}")
            capture.frames.extend()
            layout, added = capture.frames.layout, list[Layer]()
            if cam and probes:
                with _random_states(copied):
                    added = activation_layers(capture, cam, args)
        finally:
            capture.remove()
    fixed = [
        replace(layer, probe=number, kernel=None)
        for number in range(probes)
        for layer in (*layout.layers, *added)
    ]
    beside = [
        replace(layer, kind=schema.GRADIENTS, scaled=True, of="loss", kernel=None)
        for layer in layout.layers
        if module_name(layer.name) in differentiated
    ]
    known = [outputs[name] for name in named_modules(copied) if name in outputs]
    whole = BatchLayout(layout.images, (*layout.layers, *fixed, *beside))
    return FoundLayout(whole, tuple(known), output)


class _OutputHook:
    """Notes what a module puts out.

    Args:
        outputs: Takes it, by the module's name.
        name: The name.
    """

    def __init__(self, outputs: dict[str, ModuleOutput], name: str) -> None:
        self._outputs, self._name = outputs, name

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        """Notes the first tensor of an output, and that the module was called."""
        tensor = next(iter(all_tensors(output)), None)
        before = self._outputs.get(self._name)
        self._outputs[self._name] = ModuleOutput(
            name=self._name,
            module=describe_module(module),
            shape=None if tensor is None else tuple(tensor.shape),
            dtype="" if tensor is None else str(tensor.dtype).removeprefix("torch."),
            calls=1 if before is None else before.calls + 1,
        )


@contextlib.contextmanager
def _random_states(model: nn.Module) -> Iterator[None]:
    """Restores the random states of Python, numpy, torch and the GPUs that a model is on."""
    python, numbers = random.getstate(), np.random.get_state()
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)


@contextlib.contextmanager
def _python_undone(model: nn.Module) -> Iterator[None]:
    """Puts back what hooks and code of the model keep outside of it, as far as that can be."""
    state = None
    with contextlib.suppress(CannotProbeError):
        state = PythonState(model)
    try:
        yield
    finally:
        if state is not None:
            state.restore()


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
