"""The hook of one layer.

It copies `output[0]` into its slice of a flat float16 buffer. That crops, converts and copies at
once, allocates nothing, and is done before an in-place ReLU behind the layer can overwrite it.
Under torch.compile the same copy is traced and becomes part of the graph.
"""

from __future__ import annotations

import weakref
from _thread import get_ident
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from record.capture.batch_axis import WHOLE, known_axis
from record.capture.fixed_images import copy_together
from record.capture.hidden_hooks import Hook
from record.capture.model_hook import ModelHook
from record.capture.output_axis import OutputAxis
from record.capture.phase import (
    BROKEN,
    DONE,
    IDLE,
    INSIDE,
    OPEN,
    PROBING,
    WAITING,
    CaptureState,
    compiles_here,
    is_capturing,
    is_exporting,
)
from record.capture.slots import MAX_CALLS, UNSETTLED, OutputSlots
from record.capture.tensors import (
    describe_output,
    has_values,
    image_part,
    outside_transforms,
    pool_means,
    tensors_of,
    to_plain,
    without_transforms,
)
from record.modules.selection import describe_module

_KNOWS_COUNT = (_ConvNd, nn.RNNBase, nn.MultiheadAttention)  # layers that know the batch's axis
_RANKS = 8  # numbers of axes for which the batch's axis is known before a tensor comes
_Tensor, _Parameter = torch.Tensor, nn.Parameter
_AT_REST = (IDLE, DONE, BROKEN)
_MAGNITUDE = "magnitude of complex values"


class LayerHook(Hook):
    """The forward hook of one layer.

    Args:
        state: What all hooks of the recording share.
        model_hook: The hook of the model that the layer belongs to.
        name: The layer's name.
        module: The layer.

    Attributes:
        name: The layer's name.
        slots: Where each tensor goes that the layer puts out, by the number of the fixed image
            (None for a batch's) and by what it is called in the output.
        main: Where a batch's only tensor goes.
        in_model: Whether the model has the layer.
        failed: Whether the layer has put out what could not be copied.
        put_out: What the layer put out where nothing could be recorded, in words.
    """

    _look_for_rerun: Any = None  # called where that matters

    def __init__(
        self, state: CaptureState, model_hook: ModelHook, name: str, module: nn.Module
    ) -> None:
        self._state = self.recording = state
        self._model_hook = model_hook
        self.name = name
        self.slots: dict[tuple[int | None, str], OutputSlots] = {}
        self.main = self._slots_of(None, "")
        self.in_model = True
        self.failed = False
        self.put_out = ""
        self._said_axis = state.axes.said(name)
        self._batch_first = state.axes.around.get(id(module))
        self._by_sizes = OutputAxis(state, name, self._batch_first)
        self._probe_axes: dict[tuple[str, int], int] = {}
        self.adopt(module)

    def adopt(self, module: nn.Module) -> None:
        """Takes a module for the layer: the first one, or one that has come in its place."""
        self._module = weakref.ref(module)
        self._is_recurrent = isinstance(module, nn.RNNBase)
        self._axes = self._state.axes.of_output(module)
        self._has_kernel = isinstance(module, _ConvNd)
        # What torch.compile traces cannot look at sizes; nor does it have to, where N is any.
        self._traced_axes = [self._axis_without_sizes(module, rank) for rank in range(_RANKS)]
        self._is_embedding = isinstance(module, nn.Embedding)
        self.main.axis = UNSETTLED

    @property
    def module(self) -> nn.Module | None:
        """The layer; None once nobody else keeps it alive."""
        return self._module()

    @property
    def description(self) -> str:
        """The layer in one line, as torch prints it."""
        module = self._module()
        return "" if module is None else describe_module(module)

    def modules(self) -> list[nn.Module]:
        """Returns the layer, in whose tables the hook is."""
        module = self._module()
        return [] if module is None else [module]

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        """Copies what the layer has put out, if it is to be recorded."""
        state = self._state
        if torch.compiler.is_compiling() and compiles_here():
            if not is_exporting() and (state.training or state.evaluation):
                state.traced = True
                if not state.input.fired:  # a part of the model, called directly
                    self._model_hook.copy_traced(args, {})
                self._copy_traced(module, output)
            return
        phase = state.phase
        may_begin = state.pending and not state.inside
        at_rest = phase in _AT_REST and not may_begin
        if at_rest or torch._C._current_graph_task_id() != -1:  # checkpointing's second forward
            if self._look_for_rerun is not None:
                self._look_for_rerun(output)
            return
        if phase == INSIDE:
            if state.thread != get_ident():
                return
            if not may_begin and self._copy_like_the_last(module, output):
                return
        try:
            # The model's own forward was looked at when it began; other calls are now.
            if phase not in (INSIDE, PROBING) and (
                module is not self.module or is_capturing() or self._model_hook.collides()
            ):
                return
            if may_begin and phase != PROBING:
                state.forward_begins(state.training, (args, {}))
                phase = state.phase
                if phase in _AT_REST:
                    return
            if phase == WAITING and not self._model_hook.begin_with_part(args):
                return
            if state.phase == OPEN and not state.takes_parts():
                return
            if phase == PROBING and state.thread not in (0, get_ident()):
                return  # a forward of another thread, not the fixed image's
            with outside_transforms():
                self._copy(module, output)
        except Exception as error:  # never into the training
            state.fail(self.name, error)

    # One batch

    def _copy_like_the_last(self, module: nn.Module, output: Any) -> bool:
        """Copies a map where it has the shape of the last one, and its slots are there.

        That is the usual case of `_copy`, in few steps: each costs a training ten times what it
        does in a loop of its own. Returns whether it was so: where not, nothing was done.
        """
        slots = self.main
        call = slots.calls
        axis = slots.axis
        if call >= len(slots.slots) or type(output) is not _Tensor or axis == UNSETTLED:
            return False
        try:
            if not output.is_floating_point():
                return False
            if axis != WHOLE and output.shape[axis] != slots.size:
                return False
            slot = slots.slots[call]
            image = output.detach() if axis == WHOLE else output.detach().select(axis, 0)
            if image.shape != slot.shape:
                return False
            slot.copy_(image)
            kernel = slots.kernel_slot if call == 0 else None
            if kernel is not None:
                weight = module._parameters.get("weight")
                if (
                    type(weight) is _Parameter
                    and weight.shape == kernel.shape
                    and weight.is_floating_point()
                ):
                    kernel.copy_(weight.detach())
                    slots.kernel_in_slot = True
        except Exception:  # of another kind than it seemed: to be looked at in full
            return False
        slots.calls = call + 1
        slots.in_slots |= 1 << call
        if kernel is not None and not slots.kernel_in_slot:
            self._copy_kernel(module, 0)
        return True

    def _copy(self, module: nn.Module, output: Any) -> None:
        """Copies what the layer put out for the first image, or for each of the fixed ones."""
        parts = self._parts(output)
        if not parts:
            shown = self._is_recurrent and isinstance(output, tuple) and output
            self.put_out = describe_output(output[0] if shown else output)
            return
        state = self._state
        numbers = state.images_of("", self.name)
        whole = len(parts) > 1 and parts[0][1].ndim == 2
        if state.phase == PROBING and numbers and len(parts) == 1 and state.max_map is None:
            item, tensor = parts[0]
            several = [self._slots_of(number, item) for number in numbers]
            if copy_together(several, tensor, lambda: self._axis_of(module, item, tensor, whole)):
                return
        for item, tensor in parts:
            for number in numbers:
                slots = self._slots_of(number, item)
                call = slots.calls
                try:
                    image, pooled = self._image(slots, module, item, tensor, whole)
                    if image is None:
                        continue
                    slots.calls = call + 1
                    slots.keep(call, image, pooled)
                    if image.ndim == 2 and call in slots.found:
                        self._note_image(slots, call)
                except Exception as error:  # never into the training
                    slots.calls = call + 1
                    slots.give_up(call)
                    self.failed = True
                    state.fail(self.name, error)
                    continue
                if call == 0 and number is None and not item and self._has_kernel:
                    self._copy_kernel(module, image.numel())

    def _note_image(self, slots: OutputSlots, call: int) -> None:
        """Notes of what image tokens are, by whose size their places are told."""
        shape = self._state.input.shape
        if shape is not None and len(shape) in (3, 4):
            slots.image_sizes[call] = int(shape[-2]), int(shape[-1])

    def _copy_traced(self, module: nn.Module, output: Any) -> None:
        """Copies what the layer put out as torch.compile traces it: whatever the sizes."""
        for item, tensor in self._parts(output):
            axis = self._traced_axes[tensor.ndim] if tensor.ndim < _RANKS else 0
            if tensor.ndim == 0 or (axis != WHOLE and tensor.shape[axis] == 0):
                continue
            image, pooled = self._pooled(image_part(tensor.detach(), axis, 0))
            slots = self._slots_of(None, item)
            call = slots.calls
            slots.calls = call + 1
            if tensor.is_complex():
                slots.note = _MAGNITUDE
            if call < len(slots.slots) and slots.slots[call].shape == image.shape:
                slots.slots[call].copy_(image)
                slots.in_slots = (1 << (call + 1)) - 1
            elif call < MAX_CALLS:
                slots.found[call] = image.to(torch.float16, copy=True)
                slots.pooled[call] = pooled
            if call == 0 and not item and self._has_kernel:
                weight = module._parameters.get("weight")
                if weight is None:
                    continue
                if slots.kernel_slot is not None:
                    slots.kernel_slot.copy_(weight.detach())
                    slots.kernel_in_slot = True
                elif weight.numel() <= image.numel():
                    slots.found_kernel = weight.detach().to(torch.float16, copy=True)

    def _parts(self, output: Any) -> list[tuple[str, torch.Tensor]]:
        """Returns the tensors of an output by what they are called: one alone has no name."""
        if self._is_recurrent and isinstance(output, tuple):
            output = output[0]  # the others are states, whose first axis is no batch
        if isinstance(output, torch.Tensor) and output.is_floating_point():
            return [("", output)]
        found = list(tensors_of(output))
        return [("", found[0][1])] if len(found) == 1 else found

    def _slots_of(self, probe: int | None, item: str) -> OutputSlots:
        """Returns the slots of one part of the output, which are made when it first comes."""
        slots = self.slots.get((probe, item))
        if slots is None:
            slots = self.slots[probe, item] = OutputSlots(probe, self.name, item)
            self._state.slots.append(slots)
        return slots

    def _image(
        self, slots: OutputSlots, module: nn.Module, item: str, tensor: torch.Tensor, whole: bool
    ) -> tuple[torch.Tensor | None, int]:
        """Returns one image's part of an output, pooled if it is too large, and by which factor."""
        tensor = to_plain(without_transforms(tensor).detach())
        axis = 0 if tensor.is_nested else self._axis_of(module, item, tensor, whole)
        state = self._state
        number = 0 if state.alone is not None else slots.probe or 0
        if number and axis != WHOLE and tensor.size(axis) != state.probes:
            state.mixed.add(("", self.name))  # whose its rows are nobody can say
            return None, 1
        if axis != WHOLE and tensor.size(axis) == 0:
            return None, 1
        if tensor.is_complex():
            slots.note = slots.note or _MAGNITUDE
        return self._pooled(image_part(tensor, axis, number))

    def axes_of(self, shape: Sequence[int]) -> str:
        """Returns what the axes of one image's part of this shape are, as in `schema.AXES`."""
        return self._axes.of(shape)

    def _pooled(self, image: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Returns one image's part, pooled if it is too large, and by which factor."""
        most = self._state.max_map
        if most is None:
            return image, 1
        spatial = [n for n, axis in enumerate(self.axes_of(image.shape)) if axis in "DHWL"]
        factor = max([-(-image.shape[place] // most) for place in spatial], default=1)
        return pool_means(image, spatial, factor) if factor > 1 else image, max(1, factor)

    def _copy_kernel(self, module: nn.Module, most: int) -> None:
        """Copies the kernels where they are parameters.

        A parametrised weight (spectral_norm, say) is computed anew at each access, and that may
        change the training.
        """
        weight = module._parameters.get("weight")
        if weight is None or (type(weight) is not nn.Parameter and not has_values(weight)):
            return
        try:
            kernel = without_transforms(weight).detach()
            if not weight.is_floating_point():
                kernel = kernel.abs()
            self.main.keep_kernel(kernel, most)
        except Exception as error:  # never into the training
            self._state.fail(f"the kernels of {self.name}", error)

    # Which axis counts the images

    def _axis_of(self, module: nn.Module, item: str, tensor: torch.Tensor, whole: bool) -> int:
        """Returns the axis that counts the images; keeps what is learned for the next outputs."""
        state, rank = self._state, tensor.ndim
        if self._said_axis is not None and self._said_axis < rank:
            axis = self._said_axis
        elif state.alone is not None and (item, rank) in self._probe_axes:
            axis = self._probe_axes[item, rank]  # of one image, sizes tell little
        else:
            known = known_axis(module, item, rank, whole)
            if known is None:
                axis, note = self._by_sizes.find(item, tensor, self._axes, self._is_embedding)
                if note:
                    self._slots_of(None, item).note = note
            else:
                axis = known
                if isinstance(module, _KNOWS_COUNT) and state.phase != PROBING:
                    count = None if known == WHOLE else int(tensor.shape[known])
                    self._model_hook.learn(rank, count)
        if not item and state.max_map is None and state.phase == INSIDE:
            size = 0 if axis == WHOLE else int(tensor.shape[axis])
            self.main.axis, self.main.size = axis, size
        if state.phase == PROBING and state.alone is None:
            self._probe_axes[item, rank] = axis
        return axis

    def _axis_without_sizes(self, module: nn.Module, rank: int) -> int:
        """Returns the axis that counts the images in outputs of so many axes, of whatever sizes."""
        if self._said_axis is not None and self._said_axis < rank:
            return self._said_axis
        known = known_axis(module, "", rank)
        if known is not None:
            return known
        return 1 if self._batch_first is False and rank >= 3 else 0
