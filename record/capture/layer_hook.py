"""The hook of one layer.

A tap does one thing: it copies `output[0]` into its slice of a flat float16 buffer. That crops,
converts and copies at once, allocates nothing, and is done before an in-place ReLU behind the
layer can overwrite it. Under torch.compile the same copy is traced and becomes part of the graph.
"""

from __future__ import annotations

import weakref
from _thread import get_ident
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from record.capture.batch_axis import WHOLE, BatchSize, choose, known_axis
from record.capture.hidden_hooks import Hook
from record.capture.output_slots import MAX_CALLS, OutputSlots
from record.capture.phase import BROKEN, DONE, IDLE, INSIDE, OPEN, PROBING, WAITING
from record.capture.tensors import (
    in_words,
    one_of,
    outside_transforms,
    plain,
    pool,
    tensors_of,
    unwrapped,
)
from record.capture.tracing import is_capturing, is_exporting
from record.modules.selection import axes_of, describe

if TYPE_CHECKING:
    from record.capture.capture import Capture

_TELLING = (_ConvNd, nn.RNNBase, nn.MultiheadAttention)  # how many images there are
_UNSETTLED = -2  # in the place of an axis: the next output is looked at in full
_RANKS = 8  # of a tensor, so many are told apart
_Tensor, _Parameter = torch.Tensor, nn.Parameter
_AT_REST = (IDLE, DONE, BROKEN)
_MAGNITUDE = "magnitude of complex values"


class LayerHook(Hook):
    """The forward hook of one layer.

    Args:
        taps: All hooks of the recording.
        name: The layer's.
        module: The layer.
        batch_first: What it or a module around it says of the order of its axes.
        axis: The axis that counts the images of a batch, if the user has said it.
    """

    def __init__(
        self,
        taps: Capture,
        name: str,
        module: nn.Module,
        batch_first: bool | None = None,
        axis: int | None = None,
    ) -> None:
        self.taps = taps
        self.name = name
        self.ports: dict[tuple[int | None, str], OutputSlots] = {}
        self.main = self.port(None, "")
        self.said_axis = axis
        self.there = True  # whether the model has the layer
        self.failed = False  # whether it has put out what could not be copied
        self.put_out = ""  # what came where nothing could be recorded
        self._batch_first = batch_first
        self._possible: dict[tuple[str, int], frozenset[int]] = {}
        self._taken: dict[tuple[str, int], int] = {}
        self.adopt(module)

    def adopt(self, module: nn.Module) -> None:
        """Takes a module for the layer: the first one, or one in its place."""
        self._module = weakref.ref(module)
        self.is_recurrent = isinstance(module, nn.RNNBase)
        self.axes = [axes_of(module, rank, self.taps.has_signals) for rank in range(6)]
        self.has_kernel = isinstance(module, _ConvNd)
        # What torch.compile traces cannot look at sizes; nor does it have to, where N is any.
        self._traced_axes = [self._without_sizes(module, rank) for rank in range(_RANKS)]
        self._is_embedding = isinstance(module, nn.Embedding)
        self.unsettle()

    @property
    def module(self) -> nn.Module | None:
        """The layer, which is not kept alive."""
        return self._module()

    @property
    def words(self) -> str:
        """The layer in one line."""
        module = self._module()
        return "" if module is None else describe(module)

    def modules(self) -> list[nn.Module]:
        """The module in whose tables it is."""
        module = self._module()
        return [] if module is None else [module]

    def unsettle(self) -> None:
        """Has the next output looked at in full: a batch of another size comes."""
        self._axis, self._size = _UNSETTLED, 0

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        """The hook."""
        taps = self.taps
        if torch.compiler.is_compiling():
            if not is_exporting() and (taps.training or taps.evaluation):
                taps.traced = True
                if not taps.input.fired:  # a part of the model, called directly
                    taps.input.copy_traced(args, {})
                self.copy_traced(module, output)
            return
        state = taps.state
        asks = taps.pending and not taps.inside
        if state in _AT_REST and not asks:
            return
        if torch._C._current_graph_task_id() != -1:
            return  # a forward inside a backward pass is checkpointing's second one
        if state == INSIDE:
            if taps.thread != get_ident():
                return
            if not asks and self.put(module, output):
                return
        try:
            looks = state not in (INSIDE, PROBING)  # else the model's own forward was looked at
            if looks and (module is not self.module or is_capturing() or taps.input.collides()):
                return
            if asks and state != PROBING:
                taps.on_forward(taps.training, (args, {}))
                state = taps.state
                if state in _AT_REST:
                    return
            if state == WAITING and not taps.begin_with(args):
                return
            if taps.state == OPEN and not taps.goes_on():
                return
            with outside_transforms():
                self.copy(module, output)
        except Exception as error:  # never into the training
            taps.fail(self.name, error)

    def put(self, module: nn.Module, output: Any) -> bool:
        """The usual case of `copy`, in few steps: a map of known shape, whose slots are there.

        Each step in Python costs a training ten times what it costs in a loop of its own, since
        what it needs has gone from the processor's caches.

        Returns:
            False where it is another case, and nothing was done.
        """
        port = self.main
        call = port.calls
        axis = self._axis
        if call >= len(port.slots) or type(output) is not _Tensor or axis == _UNSETTLED:
            return False
        try:
            if not output.is_floating_point():
                return False
            if axis != WHOLE and output.shape[axis] != self._size:
                return False
            slot = port.slots[call]
            image = output.detach() if axis == WHOLE else output.detach().select(axis, 0)
            if image.shape != slot.shape:
                return False
            slot.copy_(image)
            kernel = port.kernel_slot if call == 0 else None
            if kernel is not None:
                weight = module._parameters.get("weight")
                if (
                    type(weight) is _Parameter
                    and weight.shape == kernel.shape
                    and weight.is_floating_point()
                ):
                    kernel.copy_(weight.detach())
                    port.kernel_in_slot = True
        except Exception:  # of another kind than it seemed: to be looked at in full
            return False
        port.calls = call + 1
        port.in_slots |= 1 << call
        if kernel is not None and not port.kernel_in_slot:
            self._copy_kernel(module, 0)
        return True

    def copy(self, module: nn.Module, output: Any) -> None:
        """Copies what the layer put out for the first image, or for each of the fixed ones."""
        parts = self.parts(output)
        if not parts:
            shown = self.is_recurrent and isinstance(output, tuple) and output
            self.put_out = in_words(output[0] if shown else output)
            return
        probing = self.taps.state == PROBING
        numbers = range(self.taps.probes) if probing else (None,)
        whole = len(parts) > 1 and parts[0][1].ndim == 2
        for item, tensor in parts:
            for number in numbers:
                port = self.port(number, item)
                call = port.calls
                try:
                    image, pooled = self._image(port, module, item, tensor, whole)
                    if image is None:
                        continue
                    port.call()
                    port.keep(call, image, pooled)
                except Exception as error:  # never into the training
                    port.calls = call + 1
                    port.give_up(call)
                    self.failed = True
                    self.taps.fail(self.name, error)
                    continue
                if call == 0 and number is None and not item and self.has_kernel:
                    self._copy_kernel(module, image.numel())

    def copy_traced(self, module: nn.Module, output: Any) -> None:
        """The same as torch.compile traces it: without a look at sizes."""
        for item, tensor in self.parts(output):
            axis = self._traced_axes[tensor.ndim] if tensor.ndim < _RANKS else 0
            if tensor.ndim == 0 or (axis != WHOLE and tensor.shape[axis] == 0):
                continue
            image, pooled = self._pooled(one_of(tensor.detach(), axis, 0))
            port = self.port(None, item)
            call = port.call()
            if tensor.is_complex():
                port.note = _MAGNITUDE
            if call < len(port.slots) and port.slots[call].shape == image.shape:
                port.slots[call].copy_(image)
                port.in_slots = (1 << (call + 1)) - 1
            elif call < MAX_CALLS:
                port.found[call] = image.to(torch.float16, copy=True)
                port.pooled[call] = pooled
            if call == 0 and not item and self.has_kernel:
                weight = module._parameters.get("weight")
                if weight is None:
                    continue
                if port.kernel_slot is not None:
                    port.kernel_slot.copy_(weight.detach())
                    port.kernel_in_slot = True
                elif weight.numel() <= image.numel():
                    port.found_kernel = weight.detach().to(torch.float16, copy=True)

    def parts(self, output: Any) -> list[tuple[str, torch.Tensor]]:
        """The tensors of an output and what they are called: one alone needs no name."""
        if self.is_recurrent and isinstance(output, tuple):
            output = output[0]  # the others are states, whose first axis is no batch
        if isinstance(output, torch.Tensor) and output.is_floating_point():
            return [("", output)]
        found = list(tensors_of(output))
        return [("", found[0][1])] if len(found) == 1 else found

    def port(self, probe: int | None, item: str) -> OutputSlots:
        """The port of one part of the output."""
        port = self.ports.get((probe, item))
        if port is None:
            port = self.ports[probe, item] = OutputSlots(probe, self.name, item)
            self.taps.ports.append(port)
        return port

    def _image(
        self, port: OutputSlots, module: nn.Module, item: str, tensor: torch.Tensor, whole: bool
    ) -> tuple[torch.Tensor | None, int]:
        """One image's part of a batch, and of how many values in a row each is the mean."""
        tensor = plain(unwrapped(tensor).detach())
        axis = 0 if tensor.is_nested else self._axis_of(module, item, tensor, whole)
        number = port.probe or 0
        if axis != WHOLE:
            count = tensor.size(axis)
            if count <= number:
                return None, 1
            if number and count > self.taps.probes and count % self.taps.probes == 0:
                number *= count // self.taps.probes  # each image has several rows
        if tensor.is_complex():
            port.note = port.note or _MAGNITUDE
        return self._pooled(one_of(tensor, axis, number))

    def _pooled(self, image: torch.Tensor) -> tuple[torch.Tensor, int]:
        most = self.taps.max_map
        if most is None:
            return image, 1
        spatial = [
            place for place, axis in enumerate(self.axes[min(5, image.ndim)]) if axis in "DHWL"
        ]
        factor = max([-(-image.shape[place] // most) for place in spatial], default=1)
        return pool(image, spatial, factor) if factor > 1 else image, max(1, factor)

    def _axis_of(self, module: nn.Module, item: str, tensor: torch.Tensor, whole: bool) -> int:
        """The axis that counts the images; what is learned of it is kept for the next outputs."""
        rank, batch = tensor.ndim, self.taps.batch
        if self.said_axis is not None and self.said_axis < rank:
            axis = self.said_axis
        else:
            known = known_axis(module, item, rank, whole)
            if known is None:
                axis = self._by_sizes(item, tensor, batch)
            else:
                axis = known
                if isinstance(module, _TELLING) and self.taps.state != PROBING:
                    self.taps.learn(rank, None if known == WHOLE else int(tensor.shape[known]))
        if not item and self.taps.max_map is None and self.taps.state == INSIDE:
            self._axis, self._size = axis, 0 if axis == WHOLE else int(tensor.shape[axis])
        return axis

    def _by_sizes(self, item: str, tensor: torch.Tensor, batch: BatchSize) -> int:
        key = item, tensor.ndim
        tokens = tensor.ndim == 3 and self.axes[2] == "TC"
        choice = choose(tensor.shape, batch, self._batch_first, self._possible.get(key), tokens)
        positions = self._is_embedding and tensor.ndim == 2 and bool(batch.sizes)
        if positions and tensor.shape[0] not in batch.sizes:  # of positions, not of images
            return WHOLE
        if positions and self.taps.input.rank == 2 and batch.sizes[0] > 1:
            # Of tokens, one number for each image or for each position: as many as images.
            note = "batch axis uncertain: rows may be positions or images, the first was taken"
            self.port(None, item).note = note
            self.taps.say(f"{self.name}: {note}; say which with batch_axis", note)
        if self.taps.state == PROBING:  # which says nothing of the training's batches
            return choice.axis
        before = self._taken.get(key, choice.axis)
        self._taken[key] = choice.axis
        if len(batch.sizes) == 1 and not batch.whole and choice.axis != WHOLE:
            self._possible[key] = choice.possible
        if choice.note:
            self.port(None, item).note = choice.note
        if choice.unsure:
            self.taps.say(f"{self.name}: {choice.note}; say which with batch_axis", choice.note)
        if before != choice.axis and WHOLE not in (before, choice.axis):
            self.taps.say(
                f"{self.name}: a batch of another size shows that axis {choice.axis} counts its "
                f"images, not axis {before}, as was taken before: the frames recorded so far are "
                "not those of the first image",
                f"axis of {self.name}",
            )
        return choice.axis

    def _copy_kernel(self, module: nn.Module, most: int) -> None:
        """Copies the kernels where they are parameters.

        A parametrised weight (spectral_norm, say) is computed anew at each access, and that may
        change the training.
        """
        weight = module._parameters.get("weight")
        if weight is None or (type(weight) is not nn.Parameter and not _is_here(weight)):
            return
        try:
            kernel = weight.detach()
            if not weight.is_floating_point():
                kernel = kernel.abs()
            self.main.keep_kernel(kernel, most)
        except Exception as error:  # never into the training
            self.taps.fail(f"the kernels of {self.name}", error)

    def _without_sizes(self, module: nn.Module, rank: int) -> int:
        if self.said_axis is not None and self.said_axis < rank:
            return self.said_axis
        known = known_axis(module, "", rank)
        if known is not None:
            return known
        return 1 if self._batch_first is False and rank >= 3 else 0


def _is_here(weight: torch.Tensor) -> bool:
    """Whether a parameter's values are in this process, as they were used."""
    if isinstance(weight, nn.parameter.UninitializedParameter):
        return False
    return type(weight).__name__ != "DTensor" and not weight.is_meta
