"""The first image of the first batch, shown to the network again and again, and harmless.

Nobody has asked for it, and nobody has said that the network may be called once more. So it is
shown only where that changes nothing: what a forward does in Python is undone, what it would do
to tensors is refused before it happens, and a model of which that cannot be known is left alone.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from _thread import get_ident
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.modules import module as module_hooks

from record.capture.first_image import CannotProbeError, FirstImage, keep_first_image
from record.capture.phase import CaptureState, is_transformed
from record.capture.probe import Probe, show
from record.capture.python_state import PythonState
from record.capture.refused_writes import RefusedWrites
from record.modules.names import is_wrapper
from record.schedule.cadence import Cadence
from replay.schema import OptionError

_PLAIN_WEIGHTS = (nn.Parameter, torch.Tensor)


def make_probe(
    probe: Any,
    state: CaptureState,
    share: float | None,
    is_new: bool,
    send_image: Callable[[npt.NDArray[np.float16]], None],
) -> Probe | FirstImageProbe | None:
    """Returns what shows fixed images to the network; None where nobody asked for that.

    Args:
        probe: The argument of `Recorder`.
        state: What the hooks of the recording share.
        share: How much of the run's time may be spent; None for the usual share of the first image.
        is_new: Whether the recording begins: one that is gone on with has a first image already.
        send_image: As for `FirstImageProbe`.

    Raises:
        OptionError: It is neither images nor `first`.
    """
    if share is not None and not 0 < share <= 1:
        raise OptionError(f"probe_share: expected a share from 0 to 1, found {share!r}")
    if probe is None:
        return None
    if isinstance(probe, str):
        if probe != "first":
            raise OptionError(f"probe: expected images or 'first', found {probe!r}")
        cadence = Cadence() if share is None else Cadence(share)
        first = FirstImageProbe(state, cadence, send_image)
        if not is_new:
            first.reason = "the recording is gone on with, and its first image is another one"
        return first
    state.asks_autocast = True
    return Probe(probe)


class FirstImageProbe:
    """Shows the first image of the first batch to the network, as often as that costs little.

    Args:
        state: What the hooks of the recording share.
        cadence: Says at which of the recorded batches it is shown.
        send_image: Takes the image as the file keeps it, float16 (1, C, H, W), before any of its
            maps.

    Attributes:
        reason: Why the image is not shown any more, in words; empty where it is.
        shown: How many times it was shown.
    """

    def __init__(
        self,
        state: CaptureState,
        cadence: Cadence,
        send_image: Callable[[npt.NDArray[np.float16]], None],
    ) -> None:
        self.reason = ""
        self.shown = 0
        self._cadence = cadence
        self._send_image = send_image
        self._first: FirstImage | None = None
        # The image as the file keeps it, and what waits until it has come from a GPU.
        self._stored: tuple[torch.Tensor, Callable[[], Any]] | None = None
        self._unusable = ""  # why what the last forward was given cannot be shown again
        self._thread = 0  # in which the forwards run
        state.asks_autocast = True
        state.on_inputs = self.see

    def see(self, state: CaptureState, args: Any, kwargs: dict[str, Any]) -> None:
        """Keeps what a recorded forward is given, until the first one was shown again."""
        if self._thread not in (0, get_ident()):
            self.reason = self.reason or "several threads train it"
        self._thread = get_ident()
        if self.shown or self.reason:
            return
        try:
            self._first = keep_first_image(args, kwargs, state.batch)
            image = self._first.image
            self._stored = None if image is None else _to_host(image)
        except Exception as error:
            self._first, self._unusable = None, _in_words(error)

    def run(self, state: CaptureState, epoch: int, batch: int, ends_epoch: bool) -> None:
        """Shows the image, if it is time to; nothing is raised.

        Args:
            state: What the hooks of the recording share.
            epoch: The epoch of the batch that ends.
            batch: The batch's number in it.
            ends_epoch: Whether the batch is known to be the last one of its epoch.
        """
        root = state.root
        if self.reason or root is None or state.inside or not _is_calm():
            return
        try:
            if not self._cadence.is_due(epoch, batch, ends_epoch):
                return
            reason = _why_not(state, root) or ("" if self._first else self._unusable)
            if reason:
                raise CannotProbeError(reason)
            if self._first is None:
                return
            with self._cadence:
                self._show(state, root, self._first)
            self.shown += 1
        except Exception as error:
            self.reason = _in_words(error)
            self._first = None

    def _show(self, state: CaptureState, root: nn.Module, first: FirstImage) -> None:
        again = _copied(first.args), _copied(first.kwargs)
        device = state.input.device or torch.device("cpu")
        python = PythonState(root)
        state.thread = get_ident()
        try:
            with _silenced():
                show(state, device, 1, *again, _Refusal(state, root, again))
        except BaseException:
            state.forget_probes()
            raise
        finally:
            python.restore()
        if not self.shown and self._stored is not None:
            image, arrived = self._stored
            arrived()
            self._send_image(image[None].numpy())


class _Refusal(contextlib.AbstractContextManager[None]):
    """`RefusedWrites` that lets the forward write what is ours by the time that it begins.

    Args:
        state: What the hooks share, with the slots into which they copy.
        root: The model, whose buffers are copies by then.
        given: What the forward is given, which are copies as well.
    """

    def __init__(self, state: CaptureState, root: nn.Module, given: Any) -> None:
        self._state, self._root, self._given = state, root, given

    def __enter__(self) -> None:
        slots = [slot for slots in self._state.slots for slot in slots.slots]
        self._mode = RefusedWrites([*slots, *self._root.buffers(), *_tensors_in(self._given)])
        self._mode.__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *error: Any) -> None:
        self._mode.__exit__(*error)  # type: ignore[no-untyped-call]


def _why_not(state: CaptureState, root: nn.Module) -> str:
    """Returns why a model is not called once more, in words; empty where it may be."""
    for module in root.modules():
        if isinstance(module, torch.jit.ScriptModule):
            return "it has scripted parts"
        if state.traced or module._compiled_call_impl is not None:
            return "it is compiled"
        if type(module).__name__ == "OptimizedModule":
            return "it is compiled"
        if is_wrapper(module) and "Checkpoint" not in type(module).__name__:
            return f"it has a {type(module).__name__} in it"
    for weight in root.parameters():
        if type(weight) not in _PLAIN_WEIGHTS or weight.is_meta:
            return f"its weights are of a kind of their own ({type(weight).__name__})"
    tables = module_hooks._global_forward_hooks, module_hooks._global_forward_pre_hooks
    for hook in (hook for table in tables for hook in table.values()):
        if not str(getattr(hook, "__module__", "")).startswith("record."):
            return "hooks of the script's are called for all modules"
    others = [
        thread
        for thread in threading.enumerate()
        if thread not in (threading.current_thread(), threading.main_thread()) and not thread.daemon
    ]
    if others:
        return "other threads run"
    if state.opened:
        return "its parts are called directly"
    return ""


def _is_calm() -> bool:
    """Whether nothing goes on just now that would take part in a forward."""
    return not (
        torch._C._len_torch_dispatch_stack()
        or torch._C._len_torch_function_stack()
        or torch._C._current_graph_task_id() != -1
        or torch.is_inference_mode_enabled()
        or torch.compiler.is_compiling()
        or is_transformed()
        or _captures_cuda_graph()
    )


def _captures_cuda_graph() -> bool:
    is_ready = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return bool(is_ready and torch.cuda.is_current_stream_capturing())


def _in_words(error: Exception) -> str:
    if isinstance(error, CannotProbeError):
        return str(error)
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def _to_host(image: torch.Tensor) -> tuple[torch.Tensor, Callable[[], Any]]:
    """Begins to copy an image, as float16, and returns it with what waits for the copy's end."""
    image = image.to(torch.float16)
    if image.device.type != "cuda":
        return image.cpu(), lambda: None
    host = torch.empty(image.shape, dtype=image.dtype, pin_memory=True)
    host.copy_(image, non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return host, event.synchronize  # long since there, a batch later


def _copied(value: Any) -> Any:
    """Returns kept arguments with copies of their tensors: a forward may write into them."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, (list, tuple)):
        return type(value)(_copied(part) for part in value)
    if isinstance(value, dict):
        return type(value)((key, _copied(part)) for key, part in value.items())
    return value


def _tensors_in(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors_in(part)


class _Muted:
    """A stream that takes nothing from one thread, and everything from others."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._thread = stream, get_ident()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes what another thread says."""
        return len(text) if get_ident() == self._thread else self._stream.write(text)

    def writelines(self, lines: Any) -> None:
        """Writes what another thread says."""
        for line in lines:
            self.write(line)


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keeps what a forward prints from being printed once more."""
    before = sys.stdout, sys.stderr
    muted: Any = tuple(None if stream is None else _Muted(stream) for stream in before)
    sys.stdout, sys.stderr = muted
    try:
        yield
    finally:
        if sys.stdout is muted[0]:
            sys.stdout = before[0]
        if sys.stderr is muted[1]:
            sys.stderr = before[1]
