"""A fixed image, shown to the network at each recorded batch without leaving a trace in it."""

from __future__ import annotations

import contextlib
import functools
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from record.capture.batch_axis import BatchSize
from record.capture.first_image import copy_arguments
from record.capture.own_state import own_state
from record.capture.phase import PROBING, CaptureState
from record.capture.probe_classes import ProbeClasses
from record.capture.shared_settings import SharedSetting
from record.capture.tensors import images_of
from record.reporting import listed
from replay.schema import OptionError

MAX_IMAGES = 64

Call = tuple[tuple[Any, ...], dict[str, Any]]
"""The positional and the keyword arguments of a forward."""


class Probe:
    """Fixed images, and how they are shown to the network.

    Args:
        images: (N, C, H, W), or (C, H, W) for one; floating point, normalised as the network
            expects its input.
        classes: Learns what the network makes of them; None where nobody asked for that.

    Attributes:
        classes: As given.

    Raises:
        OptionError: The images are no such tensor.
    """

    def __init__(self, images: torch.Tensor, classes: ProbeClasses | None = None) -> None:
        if isinstance(images, np.ndarray):
            images = torch.from_numpy(images)
        if not isinstance(images, torch.Tensor) or not images.is_floating_point():
            found = getattr(images, "dtype", type(images).__name__)
            raise OptionError(f"probe: expected a floating-point tensor of images, found {found}")
        if images.ndim == 3:
            images = images[None]
        if images.ndim != 4 or not 1 <= images.shape[0] <= MAX_IMAGES:
            raise OptionError(
                f"probe: expected (N, C, H, W) with N of 1 to {MAX_IMAGES}, "
                f"found {tuple(images.shape)}"
            )
        self.classes = classes
        self._images = images.detach().clone()
        self._copies: dict[tuple[torch.device, torch.dtype], torch.Tensor] = {}

    def __len__(self) -> int:
        return int(self._images.shape[0])

    @property
    def stored(self) -> npt.NDArray[np.float16]:
        """The images as the file keeps them, float16 (N, C, H, W)."""
        stored: npt.NDArray[np.float16] = self._images.cpu().to(torch.float16).numpy()
        return np.ascontiguousarray(stored)

    @property
    def labels(self) -> list[int | None]:
        """The class of each image, None where it is not known; none where nobody asked."""
        return [] if self.classes is None else self.classes.labels

    def run(self, state: CaptureState) -> None:
        """Runs one forward in evaluation mode, which the hooks record; then all is as it was.

        The images come in the dtype and on the device of the last training input, under the same
        autocast. What is restored: the training flag of each module, buffers and attributes, the
        random states of Python, numpy, torch and the GPU in use, and the state of the hooks.

        Args:
            state: What the hooks of the recording share.
        """
        root, seen = state.root, state.input
        if root is None:
            return
        device = seen.device or torch.device("cpu")
        where = (device, seen.dtype or self._images.dtype)
        images = self._copies.get(where)
        if images is None:
            images = self._copies[where] = self._images.to(*where)
        given: Call = (images,), {}
        alone: list[Call] = [((images[n : n + 1],), {}) for n in range(len(images))]
        show_as_asked(state, device, given, alone, self.classes)


def show_as_asked(
    state: CaptureState,
    device: torch.device,
    given: Call,
    alone: Sequence[Call],
    classes: ProbeClasses | None,
    guard: Callable[[Call], AbstractContextManager[Any]] = contextlib.nullcontext,
) -> None:
    """Shows images as `show` does; where class activation is in the way, without it.

    Of layers that put out several rows for each image (views, windows, frames of a video) nobody
    can say in which order these stand: the images behind the first are shown to them one by one.

    Args:
        state: What the hooks of the recording share.
        device: Where the model is.
        given: The arguments of the forward for all images.
        alone: Those for each image.
        classes: As for `show`.
        guard: Returns what is active while a forward of these arguments runs.
    """
    activation = None if classes is None else classes.activation
    count = len(alone)
    state.mixed.clear()
    if activation is None or activation.reason:
        show(state, device, count, *given, classes, guard(given))
    else:
        again = copy_arguments(given[0]), copy_arguments(given[1])
        try:
            show(state, device, count, *given, classes, guard(given))
        except Exception as error:
            activation.give_up(error)
            state.forget_probes()
            show(state, device, count, *again, classes, guard(again))
    if state.mixed:
        _show_alone(state, device, alone, guard)


def _show_alone(
    state: CaptureState,
    device: torch.device,
    alone: Sequence[Call],
    guard: Callable[[Call], AbstractContextManager[Any]],
) -> None:
    """Shows each image but the first by itself, for the layers in `CaptureState.mixed`."""
    for number, given in enumerate(alone):
        if number == 0:
            continue
        state.forget_mixed(number)
        state.alone = number
        given = copy_arguments(given[0]), copy_arguments(given[1])
        try:
            show(state, device, 1, *given, None, guard(given))
        except Exception as error:  # its frames are missing
            state.forget_mixed(number)
            names = listed(sorted({name for _, name in state.mixed}))
            reason = " ".join(str(error).split())[:160]
            state.say(
                f"fixed images behind the first have no frames of {names}, which put out several "
                f"rows for each: the model cannot be shown one alone, {reason}",
                "fixed images alone",
            )
        finally:
            state.alone = None


def show(
    state: CaptureState,
    device: torch.device,
    count: int,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    classes: ProbeClasses | None = None,
    guard: AbstractContextManager[Any] | None = None,
) -> None:
    """Runs one forward in evaluation mode, which the hooks record; then all is as it was.

    Args:
        state: What the hooks of the recording share.
        device: Where the model is.
        count: The number of images.
        args: The positional arguments of the forward.
        kwargs: Its keyword arguments.
        classes: Learns what the network makes of the images; None where nobody asked for that.
        guard: What is active while the forward runs.
    """
    root = state.root
    if root is None:
        return
    before, batch = state.phase, state.batch
    state.phase, state.probes, state.batch = PROBING, count, BatchSize((count,))
    autocast = state.input.autocast
    try:
        with (
            _outside_inference_mode(),
            torch.no_grad(),
            # Without its cache: a weight that is converted here knows no gradient, and some
            # versions of torch would have the training, under the same autocast, take that.
            torch.autocast(
                device.type, dtype=autocast, enabled=autocast is not None, cache_enabled=False
            ),
            _eager.changed(),
            _fast_path_off.changed(),
            _random_states(device),
            _own_buffers(root),
            own_state(root),
            _evaluating(root),
        ):
            watching = contextlib.nullcontext() if classes is None else classes.watching(root)
            with watching, contextlib.nullcontext() if guard is None else guard:
                # A model compiled in place would compile once more for this.
                call = root if root._compiled_call_impl is None else root._call_impl
                output = call(*args, **kwargs)  # type: ignore[no-untyped-call]
            if classes is not None:
                image, _ = images_of(args, kwargs)
                classes.take(output, count, () if image is None else image.shape[-2:])
    finally:
        state.phase, state.batch = before, batch


def _outside_inference_mode() -> AbstractContextManager[Any]:
    """Has tensors made for which a gradient can be computed, where the script is in that mode."""
    if torch.is_inference_mode_enabled():
        return torch.inference_mode(False)
    return contextlib.nullcontext()


@contextlib.contextmanager
def _evaluating(root: nn.Module) -> Iterator[None]:
    """Puts all modules into evaluation mode."""
    flags = [module for module in root.modules() if module.training]
    try:
        for module in flags:  # not root.eval(), which models override, to freeze parts say
            module.training = False
        yield
    finally:
        for module in flags:
            module.training = True


@contextlib.contextmanager
def _own_buffers(root: nn.Module) -> Iterator[None]:
    """Has what the forward does to buffers happen to copies of them."""
    kept = [
        (module._buffers, name, buffer)
        for module in root.modules()
        if not isinstance(module, torch.jit.ScriptModule)
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        for buffers, name, buffer in kept:
            buffers[name] = buffer.clone()
        yield
    finally:
        for buffers, name, buffer in kept:
            buffers[name] = buffer


@contextlib.contextmanager
def _random_states(device: torch.device) -> Iterator[None]:
    """Restores the random states of Python, numpy, torch and a GPU."""
    python, numbers = random.getstate(), np.random.get_state()
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)


def _switch_fast_path_off() -> Callable[[], Any]:
    """Switches the fused attention of evaluation mode off, which would skip the layers' hooks."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    return functools.partial(torch.backends.mha.set_fastpath_enabled, enabled)


def _run_as_written() -> Callable[[], Any]:
    """Has compiled parts of models run as they are written: nothing is compiled for a probe."""
    if "torch._dynamo" not in sys.modules:
        return lambda: None
    stance: Any = torch.compiler.set_stance("force_eager")
    return functools.partial(stance.__exit__, None, None, None)


_fast_path_off = SharedSetting(_switch_fast_path_off)
_eager = SharedSetting(_run_as_written)
