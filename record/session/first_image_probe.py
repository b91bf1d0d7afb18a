"""The first image of the first batch, shown to the network again and again, and harmless.

Nobody has asked for it, and nobody has said that the network may be called once more. So it is
shown only where that changes nothing: what a forward does in Python is undone, what it would do
to tensors is refused before it happens, and a model of which that cannot be known is left alone.
"""

from __future__ import annotations

import contextlib
import threading
from _thread import get_ident
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.modules import module as module_hooks
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

from record.capture.first_image import CannotProbeError, FirstImage, copy_arguments
from record.capture.phase import CaptureState, compiles_here, is_transformed
from record.capture.probe import Call, show_as_asked
from record.capture.probe_classes import ProbeClasses
from record.capture.python_state import PythonState
from record.capture.refused_writes import RefusedWrites
from record.modules.names import is_wrapper
from record.reporting import silenced
from record.schedule.cadence import Cadence
from record.session.kept_images import KeptImages, in_words

_PLAIN_WEIGHTS = (nn.Parameter, torch.Tensor)
_SEVERAL = (
    "several whole numbers are beside each image in what the loader hands out: the first are taken "
    "for the label; in a dict it is what is called `label`"
)


SendImages = Callable[[npt.NDArray[np.float16], Sequence[int | None]], None]
"""Takes images as the file keeps them, float16 (N, C, H, W), and the label of each."""


class FirstImageProbe:
    """Shows the first image of the first batch to the network, as often as that costs little.

    Or one image of each class, the first that is seen in the first epoch.

    Args:
        state: What the hooks of the recording share.
        cadence: Says at which of the recorded batches it is shown.
        send_images: Takes the images, before any of their maps, and again where there are more.
        classes: Learns what the network makes of them; None where nobody asked for that.
        by_class: Whether one image of each class is shown.

    Attributes:
        reason: Why the image is not shown any more, in words; empty where it is.
        waits: Whether there was a batch at which it could not be shown.
        shown: How many times it was shown.
        classes: As given.
    """

    def __init__(
        self,
        state: CaptureState,
        cadence: Cadence,
        send_images: SendImages,
        classes: ProbeClasses | None = None,
        by_class: bool = False,
    ) -> None:
        self.reason = ""
        self.waits = False
        self.shown = 0
        self.classes = classes
        self._cadence = cadence
        self._send_images = send_images
        self._by_class = by_class
        self._kept = KeptImages(by_class, classes is not None)
        self._epoch: int | None = None  # in which images are kept
        self._thread = 0  # in which the forwards run
        state.asks_autocast = True
        state.on_inputs = self.see

    @property
    def note(self) -> str:
        """What was asked for and is not so, in words; empty where there is nothing."""
        if not (self._by_class and self.shown):
            return ""
        if self._kept.sees_classes:
            return _SEVERAL if self._kept.is_unsure else ""
        return (
            "no labels, whole numbers, are beside the images in what the loader hands out: the "
            "probe is the first image alone"
        )

    def see(self, state: CaptureState, args: Any, kwargs: dict[str, Any]) -> None:
        """Keeps what a recorded forward is given, until what was wanted was shown again."""
        if self._thread not in (0, get_ident()):
            self.reason = self.reason or "several threads train it"
        self._thread = get_ident()
        if self.reason or (self.shown and not self._kept.collects):
            return
        self._kept.see(state, args, kwargs)

    def run(self, state: CaptureState, epoch: int, batch: int, ends_epoch: bool) -> None:
        """Shows the image, if it is time to; nothing is raised.

        Args:
            state: What the hooks of the recording share.
            epoch: The epoch of the batch that ends.
            batch: The batch's number in it.
            ends_epoch: Whether the batch is known to be the last one of its epoch.
        """
        root = state.root
        if self._epoch not in (None, epoch):
            self._kept.stop()
        self._epoch = epoch
        if self.reason or root is None or state.inside:
            return
        if not _is_calm():
            self.waits = True
            return
        try:
            if not self._cadence.is_due(epoch, batch, ends_epoch):
                return
            with _without_autocast():
                given = self._kept.given()
                reason = _why_not(state, root) or ("" if given else self._kept.unusable)
                if reason:
                    raise CannotProbeError(reason)
                if given is None:
                    return
                with self._cadence:
                    self._show(state, root, given)
            self.shown += 1
        except Exception as error:
            self.reason = in_words(error)
            self._kept = KeptImages()

    def _show(self, state: CaptureState, root: nn.Module, given: FirstImage) -> None:
        again = copy_arguments(given.args), copy_arguments(given.kwargs)
        device = state.input.device or torch.device("cpu")
        python = PythonState(root)
        state.thread = get_ident()
        if self.classes is not None:
            self.classes.labels = self._kept.labels
        try:
            with silenced():

                def guard(given: Call) -> _Refusal:
                    python.restore()  # each forward begins as the first one did
                    return _Refusal(state, root, given)

                show_as_asked(state, device, again, self._kept.alone(), self.classes, guard)
        except BaseException:
            state.forget_probes()
            raise
        finally:
            python.restore()
        images = self._kept.take_new()
        if images is not None and (len(images) or self.classes is not None):
            self._send_images(images, self._kept.labels if self.classes is not None else ())


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


@contextlib.contextmanager
def _without_autocast() -> Iterator[None]:
    """Has images joined as they are, where the script trains under autocast all the time.

    The forward itself has the autocast that the training's forward had. It is switched off, not
    left: the cache of converted weights stays as it is.
    """
    kinds = [kind for kind in ("cpu", "cuda") if torch.is_autocast_enabled(kind)]
    for kind in kinds:
        torch.set_autocast_enabled(kind, False)
    try:
        yield
    finally:
        for kind in kinds:
            torch.set_autocast_enabled(kind, True)


def _is_calm() -> bool:
    """Whether nothing goes on just now that would take part in a forward."""
    stack: Callable[[], list[object]] = _get_current_function_mode_stack
    modes = stack() if torch._C._len_torch_function_stack() else []
    return not (
        torch._C._len_torch_dispatch_stack()
        or any(type(mode) is not DeviceContext for mode in modes)  # that of set_default_device
        or torch._C._current_graph_task_id() != -1
        or torch.is_inference_mode_enabled()
        or compiles_here()
        or is_transformed()
        or _captures_cuda_graph()
    )


def _captures_cuda_graph() -> bool:
    is_ready = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return bool(is_ready and torch.cuda.is_current_stream_capturing())


def _tensors_in(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors_in(part)
