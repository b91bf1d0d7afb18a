"""How far the recording of a batch has come: the state that all hooks of a recording share."""

from __future__ import annotations

import contextlib
import weakref
from _thread import get_ident
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import torch
from torch import nn
from torch.fx import _symbolic_trace

from record.capture.batch_axis import BatchSize
from record.capture.model_axes import ModelAxes
from record.capture.slots import UNSETTLED, InputSlot, OutputSlots
from record.capture.tensors import outside_transforms, size_of_batch

# Plain numbers: the hooks compare them at each call of a layer, and an Enum costs twice as much.
IDLE: Final = 0  # Nothing is recorded.
WAITING: Final = 1  # The forward of the batch is still to come.
INSIDE: Final = 2  # The forward of the batch runs.
OPEN: Final = 3  # Parts of the model are called directly: nobody can say when its forward ends.
DONE: Final = 4  # The forward of the batch has been recorded.
PROBING: Final = 5  # The model is shown the fixed images.
BROKEN: Final = 6  # The forward of the batch ended in an exception.

# The parts of a flat buffer: the input's, and for each tensor that is put out its calls, its
# kernels and the exponents of its calls.
Slices = tuple[
    "torch.Tensor | None",
    list[tuple[OutputSlots, list[torch.Tensor], "torch.Tensor | None", list[torch.Tensor]]],
]

_KEYS = torch._C._TorchDispatchModeKey
_GRAPH_MODES = (_KEYS.PROXY, _KEYS.FAKE, _KEYS.FUNCTIONAL)


class CaptureListener(Protocol):
    """What is told of the forwards of a model. Only `hook_failed` may raise."""

    def forward_begins(self, training: bool, inputs: tuple[Any, dict[str, Any]]) -> None:
        """Called when a forward begins, of the model or of a part that is called directly.

        It is not called for a forward that is captured into a graph, nor for one within another.

        Args:
            training: Whether the model is in training mode.
            inputs: The positional and the keyword arguments.
        """

    def forward_ended(self, output: Any) -> None:
        """Called when the model's own forward, recorded or not, has ended without an error."""

    def collided(self) -> None:
        """Called when a forward begins in one thread while another thread's is recorded."""

    def hook_failed(self, name: str, error: Exception) -> None:
        """Called when a hook could not copy something; may raise where the user asked for that."""

    def say(self, text: str, key: str | None = None) -> None:
        """Warns the user of something, once for each key."""


class CaptureState:
    """What the hooks of one recording share, and what they are told of the training.

    Args:
        model: The network, unwrapped. It is not kept alive.
        max_map: Maps that are larger than this along an axis are pooled before they are copied.
        batch_axes: Which axis counts the images of a batch, by globs of layers' names or `input`.

    Attributes:
        phase: How far the recording of the batch has come: IDLE, WAITING, INSIDE ...
        thread: The thread whose forward is recorded.
        batch: How many images the forward sees.
        loaded: What a loader handed out for the batch, if that is known.
        usual: How many images the loader hands out in each batch but maybe an epoch's last one.
        ends_epoch: Whether the batch is known to be the last one of an epoch, often a smaller one.
        traced: Whether torch.compile has traced the hooks; they then copy at every forward.
        inside: Whether the model's own forward runs, recorded or not.
        pending: Whether a layer that is called outside of it may begin a new batch; it then calls
            `forward_begins`.
        opened: Whether parts of the model were ever called directly.
        counts_on: Whether a compiled model's further forwards of a batch are calls of their own;
            else the last one is recorded. Never changed while recording: graphs depend on it.
        several: Whether all forwards of a batch are recorded, not its first one alone.
        evaluation: Whether forwards in evaluation mode are recorded too.
        probes: Number of fixed images in a forward while PROBING.
        alone: The number of the fixed image that is shown alone, for what is in `mixed`; None
            while all are shown together.
        mixed: By kind and name, the layers of which some tensor had not one row for each of the
            fixed images when these were last shown together.
        asks_autocast: Whether the autocast mode of a forward has to be known.
        on_inputs: Called with this object and with the positional and the keyword arguments of each
            forward that is recorded; must not raise. None where nobody asks.
        on_sealing: Called before what was gathered for a batch is sealed; must not raise. None
            where nobody asks.
        max_map: See above.
        axes: What the model says of the order of axes.
        input: Where the model's input goes.
        slots: Where each tensor that was ever put out goes.
        root_reference: A weak reference to the model.
    """

    def __init__(
        self,
        model: nn.Module,
        max_map: int | None = None,
        batch_axes: Mapping[str, int] | None = None,
    ) -> None:
        self.root_reference = weakref.ref(model)
        self.phase = IDLE
        self.thread = 0
        self.batch = BatchSize()
        self.loaded: Any = None
        self.usual: int | None = None
        self.ends_epoch = False
        self.traced = False
        self.inside = False
        self.pending = False
        self.opened = False
        self.counts_on = False
        self.several = False
        self.evaluation = False
        self.probes = 0
        self.alone: int | None = None
        self.mixed: set[tuple[str, str]] = set()
        self.asks_autocast = False
        self.on_inputs: Callable[[CaptureState, Any, dict[str, Any]], None] | None = None
        self.on_sealing: Callable[[], None] | None = None
        self.max_map = max_map
        self.axes = ModelAxes(model, batch_axes or {})
        self.input = InputSlot()
        self.slots: list[OutputSlots] = []
        self._pointed: Slices | None = None
        self._children = _children_of_modules(model)

    def listen(self, listener: CaptureListener) -> None:
        """Tells a listener of forwards, and of what goes wrong, from now on."""

        def forward_begins(training: bool, inputs: tuple[Any, dict[str, Any]]) -> None:
            if torch._C._functorch.peek_interpreter_stack() is None:  # as nearly always
                listener.forward_begins(training, inputs)
                return
            with outside_transforms():  # slices of a buffer that are made meanwhile are plain ones
                listener.forward_begins(training, inputs)

        self.forward_begins = forward_begins
        self.forward_ended = listener.forward_ended
        self.collided = listener.collided
        self.fail = listener.hook_failed
        self.say = listener.say

    @property
    def root(self) -> nn.Module | None:
        """The model; None once nobody else keeps it alive."""
        return self.root_reference()

    @property
    def training(self) -> bool:
        """Whether the model is in training mode."""
        root = self.root_reference()
        return root is not None and root.training

    @property
    def fired(self) -> bool:
        """Whether a forward was recorded since the last `reset`."""
        return self.input.fired

    @property
    def holds_another_threads(self) -> bool:
        """Whether the hooks hold the forward of another thread, which may say more of it."""
        return self.phase == DONE and self.thread != get_ident()

    def look_at(self, model: nn.Module) -> None:
        """Takes in the modules of the model after they have changed."""
        self.axes.look_at(model)
        self._children = _children_of_modules(model)

    def model_has_changed(self) -> bool:
        """Whether a module was added, removed or replaced since the model was last looked at."""
        for reference, before in self._children:
            module = reference()
            if module is not None and tuple(map(id, module._modules.values())) != before:
                return True
        return False

    def has_visibly_changed(self) -> bool:
        """Returns whether it has; not where a module is in no state to tell, which others say."""
        with contextlib.suppress(Exception):
            return self.model_has_changed()
        return False

    def loaded_size(self) -> int | None:
        """Returns how many images the loader handed out for this batch; None if nobody knows."""
        if self.loaded is None:
            return None
        size = size_of_batch(self.loaded)
        return self.usual if size is None else size

    def unsettle(self) -> None:
        """Has the next outputs looked at in full: a batch of another size comes."""
        for slots in self.slots:
            slots.axis = UNSETTLED

    def reset(self) -> None:
        """Forgets what was put out since the last batch; nothing is, before an input was seen."""
        seen = self.input
        if not seen.fired:
            return
        seen.fired = seen.in_slot = False
        seen.found = None
        for slots in self.slots:
            _forget(slots)

    def takes_parts(self) -> bool:
        """Whether a part that this thread calls directly belongs to what is recorded."""
        return self.thread == get_ident() and (self.training or self.evaluation)

    def images_of(self, kind: str, layer: str) -> Sequence[int | None]:
        """Returns the numbers of the fixed images that a layer is recorded of; None for a batch."""
        if self.phase != PROBING:
            return (None,)
        if self.alone is None:
            return range(self.probes)
        return (self.alone,) if (kind, layer) in self.mixed else ()

    def forget_probes(self) -> None:
        """Forgets what was put out for fixed images since the last batch."""
        for slots in self.slots:
            if slots.probe is not None:
                _forget(slots)

    def forget_mixed(self, number: int) -> None:
        """Forgets what layers in `mixed` have put out for one fixed image."""
        for slots in self.slots:
            if slots.probe == number and (slots.kind, slots.layer) in self.mixed:
                _forget(slots)

    def point_at(self, slices: Slices | None) -> None:
        """Gives all hooks their slices of a buffer, in which nothing is; None takes them away."""
        if slices is not None and slices is self._pointed:
            return
        self._pointed = slices
        self.input.in_slot = False
        if slices is None:
            self.input.slot = None
            for slots in self.slots:
                slots.slots, slots.kernel_slot, slots.exponent_slots = [], None, []
                slots.in_slots, slots.kernel_in_slot = 0, False
            return
        self.input.slot = slices[0]
        for slots, calls, kernel, exponents in slices[1]:
            slots.slots, slots.kernel_slot, slots.exponent_slots = calls, kernel, exponents
            slots.in_slots, slots.kernel_in_slot = 0, False

    def holds_just(self, frames: int, with_probes: bool = True) -> bool:
        """Whether the last forward put all of so many frames into their slots, and nothing else.

        This is so in all but a few batches of a usual training; the others are looked at layer by
        layer, by `CapturedFrames`.

        Args:
            frames: The number of frames.
            with_probes: Whether those of fixed images are among them.
        """
        if not frames or self.input.found is not None:
            return False
        held = 0
        for slots in self.slots:
            if not with_probes and slots.probe is not None:
                if slots.calls:
                    return False
                continue
            count = len(slots.slots)
            if (
                slots.calls != count
                or slots.in_slots != (1 << count) - 1
                or slots.found
                or slots.kernel_in_slot == (slots.kernel_slot is None)
            ):
                return False
            held += count
        return held == frames  # a layer of several shapes has more frames than calls


def _forget(slots: OutputSlots) -> None:
    """Forgets what a layer has put out since the last batch."""
    slots.calls = slots.failed = slots.in_slots = 0
    slots.kernel_in_slot = False
    slots.found_kernel = None
    if slots.found:
        slots.found.clear()
    if slots.exponents:
        slots.exponents.clear()


def _children_of_modules(
    model: nn.Module,
) -> list[tuple[weakref.ref[nn.Module], tuple[int, ...]]]:
    """Returns the modules that have children or may get some, and the ids of their children.

    That is compared at each batch: as numbers, the children take a few microseconds.
    """
    found = []
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        holds_modules = isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict))
        is_torchs = type(module).__module__.startswith("torch.nn.modules")
        if holds_modules or not is_torchs or len(module._modules) > 0:
            found.append((weakref.ref(module), tuple(map(id, module._modules.values()))))
    return found


def compiles_here() -> bool:
    """Whether torch.compile or torch.export is at work on what runs now.

    torch's own flag is one of all threads: while one compiles, it is set where another one trains
    as it did before. What torch.compile traces is told apart as it is traced. Hooks that each layer
    calls ask for the flag before they call this: 155 ns instead of 199.
    """
    if not torch.compiler.is_compiling():
        return False
    return torch.compiler.is_dynamo_compiling() or is_capturing()


def is_exporting() -> bool:
    """Whether torch.export runs the model; also asked while torch.compile traces it."""
    return torch.compiler.is_exporting()


def is_capturing() -> bool:
    """Whether what runs now is captured into a graph, or has no values at all.

    This is so under torch.jit.trace, torch.fx, make_fx, torch.export and with fake tensors. An
    operation of ours would become part of the user's program, and make a copy at each run of it.
    torch.compile is another case: the copies that it traces are meant to be there.
    """
    if torch._C._get_tracing_state() is not None or _symbolic_trace.is_fx_symbolic_tracing():
        return True
    if torch._C._len_torch_dispatch_stack() == 0:
        return False
    return any(torch._C._get_dispatch_mode(key) is not None for key in _GRAPH_MODES)


def is_transformed() -> bool:
    """Whether torch.func acts on what runs now."""
    return torch._C._functorch.peek_interpreter_stack() is not None
