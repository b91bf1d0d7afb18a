"""The gradient with respect to one recorded map: from a hook in its graph to a sum.

The hook goes to the node of the graph that made the map: the gradient that comes by there is the
one with respect to the map as it was recorded, also where an in-place operation has changed the
tensor since. What comes by in several backward passes of a batch is summed. When the batch ends the
hook is dead, whoever keeps the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from record.capture.backward_pass import BackwardPass, BackwardPasses, is_backward_compiled
from record.capture.batch_axis import WHOLE
from record.capture.gradient_scaling import scale_on_cpu, sum_blocks
from record.capture.slots import OutputSlots
from record.capture.tensors import image_part, pool_means, to_plain

_LARGE = 1 << 16  # values of a frame that is scaled at once
_Tensor = torch.Tensor
_COMPLEX = "complex values, whose magnitude is recorded"
_NESTED = "a nested tensor"
UNKNOWN_FACTOR = "scaled by the GradScaler's factor, which is not known"


class AwaitingLayer(Protocol):
    """A layer that waits for gradients."""

    def axes_of(self, shape: Sequence[int]) -> str:
        """Returns what the axes of one image's part are."""

    @property
    def passes(self) -> BackwardPasses:
        """What is known of the backward pass that was looked at last."""

    def current_pass(self) -> BackwardPass:
        """Returns what the backward pass is that runs."""

    def failed(self, error: Exception) -> None:
        """Says once that a gradient could not be taken; it is missing."""


class _GraphHook:
    """A hook in the graph of one forward; it does nothing any more once the batch has ended."""

    __slots__ = ("_number", "target")

    def __init__(self, target: MapGradient, number: int) -> None:
        self.target: MapGradient | None = target
        self._number = number  # of the map among what the node puts out

    def __call__(self, gradients: Sequence[torch.Tensor | None]) -> None:
        target, gradient = self.target, gradients[self._number]
        if target is not None and gradient is not None:
            target.add(gradient)


class MapGradient:
    """The gradient with respect to what one call of a layer has put out.

    Args:
        layer: The gradients of the layer.
        slots: Where it goes.
        call: The number of the call in a batch.

    Attributes:
        slots: As the argument.
        call: As the argument.
        is_awaited: Whether one may come: the map was computed from what requires gradients.
        has_come: Whether one has come in this batch.
        is_by_grad: Whether what has come is of `torch.autograd.grad`: it counts where nothing was
            brought by a `backward` in this batch.
        has_failed: Whether one could not be taken, which was said.
        never: Why none can come of what was put out, in words; empty where one can.
        total: The sum of what has come, float32, of the first image.
        exponent: Where the sum has been scaled already, its exponent; else None.
        is_taken: Whether just one has come, in the form that nearly all have, and its slot is
            there.
        pooled: How many values along each spatial axis became one of the map.
    """

    def __init__(self, layer: AwaitingLayer, slots: OutputSlots, call: int) -> None:
        self.slots, self.call = slots, call
        self.has_come = self.is_awaited = self.has_failed = self.is_by_grad = False
        self.never = ""
        self.total: torch.Tensor | None = None
        self.exponent: int | None = None
        self.is_taken = False
        self.pooled = 1
        self._layer = layer
        self._passes = layer.passes
        self._axis = 0
        self._hook: _GraphHook | None = None
        self._alias: torch.Tensor | None = None  # of a map that is a view of another tensor
        self._version = 0
        self._reruns = 0  # how often checkpointing computed the map anew

    def await_from(self, output: torch.Tensor, axis: int, pooled: int) -> None:
        """Waits for the gradient with respect to a map that was just recorded.

        Args:
            output: What the layer put out.
            axis: The axis that counts the images, or WHOLE.
            pooled: How many values along each spatial axis became one of the map.
        """
        if self._hook is not None:
            self.end()
        self.has_come = self.has_failed = self.is_awaited = self.is_taken = False
        self.exponent, self.is_by_grad, self.never = None, False, ""
        self._axis, self.pooled, self._reruns = axis, pooled, 0
        self._add_hook(output)

    def await_from_rerun(self, output: torch.Tensor) -> None:
        """Takes a map that checkpointing computes anew, where the first one had no graph."""
        if self._hook is None or self._reruns:
            self._reruns += 1
            self._add_hook(output)

    def _add_hook(self, output: torch.Tensor) -> None:
        if not output.requires_grad:
            return
        self.never = _COMPLEX if output.is_complex() else _NESTED if output.is_nested else ""
        if self.never:
            return
        node = output.grad_fn
        if node is None or is_backward_compiled():
            return
        self.is_awaited = True
        self._hook = _GraphHook(self, output.output_nr)
        node.register_prehook(self._hook)
        if output._is_view():
            # An in-place operation behind gives a view another node, which other gradients pass.
            self._alias, self._version = output.detach(), output._version

    def end(self) -> None:
        """Ends the batch: what still comes belongs to none."""
        if self._hook is not None:
            self._hook.target = None
        self._hook = self._alias = None
        self.is_awaited = False

    @property
    def is_whole(self) -> bool:
        """Whether what has come is the whole gradient with respect to the recorded map."""
        changed = self._alias is not None and self._alias._version != self._version
        return self.has_come and not (changed or self.has_failed) and self._reruns < 2

    def add(self, gradient: torch.Tensor) -> None:
        """Takes a gradient that a backward pass brings by; raises nothing into it."""
        try:
            if self.has_come or self._alias is not None or not self._take(gradient):
                self.is_taken = False
                self._add(gradient.detach())
        except Exception as error:
            self.has_failed, self.is_taken = True, False
            self._layer.failed(error)

    def scale(self) -> int:
        """Scales the sum, which lies in main memory, if it has not been; returns its exponent."""
        if self.exponent is None:
            assert self.total is not None
            self.exponent = scale_on_cpu(self.total, self.total)
        return self.exponent

    def put(self) -> None:
        """Puts what was taken into its slot."""
        assert self.total is not None
        slots, call, is_there = self.slots, self.call, self.exponent is not None
        exponent = self.scale()
        if not is_there:
            slots.slots[call].copy_(self.total)
        slots.exponent_slots[call].fill_(exponent)
        slots.in_slots |= 1 << call

    def _take(self, gradient: torch.Tensor) -> bool:
        """Takes the only gradient of a batch, as nearly all are, in few steps.

        A large one is scaled while it is in the processor's caches, where it is not when the batch
        ends. Small ones are scaled then, one behind the other: what is in the caches no more when
        a hook is called is what it takes to do anything in Python.

        Returns:
            Whether it was done: where not, nothing was.
        """
        passes, total, call = self._passes, self.total, self.call
        known = passes.task == torch._C._current_graph_task_id()
        found = passes.last if known else self._layer.current_pass()
        if not found.counts or found.only_first or found.factor is not None or not found.is_known:
            return False
        slots = self.slots.slots
        if total is None or call >= len(slots) or type(gradient) is not _Tensor:
            return False
        if self.pooled != 1 or self._reruns:
            return False
        if gradient.dtype is not torch.float32 or gradient.layout is not torch.strided:
            return False
        whole = gradient.detach()
        image = whole if self._axis == WHOLE else whole.select(self._axis, 0)
        slot = slots[call]
        if not (image.is_cpu and total.is_cpu and image.shape == total.shape == slot.shape):
            return False
        if total.numel() < _LARGE:
            total.copy_(image)
        else:
            self.exponent = scale_on_cpu(image, total)
            slot.copy_(total)
        self.has_come = self.is_taken = True
        return True

    def _add(self, gradient: torch.Tensor) -> None:
        if gradient.is_cuda and torch.cuda.is_current_stream_capturing():
            return
        found = self._layer.current_pass()
        if not found.counts or (found.only_first and self.has_come):
            return
        if self.is_by_grad:  # of a part of the loss, or on the way to it, and not of the whole
            self.has_come = False
        if not found.is_known:
            self.slots.note = UNKNOWN_FACTOR
        image = self._image(to_plain(gradient))
        if found.factor is not None:
            image = image.float().div(found.factor)
        total = self.total
        if total is None or total.shape != image.shape or total.device != image.device:
            total = self.total = torch.empty(image.shape, dtype=torch.float32, device=image.device)
            self.has_come = False
        if self.exponent is not None:  # then it is the first one of several
            half = self.exponent // 2  # 2**163 is no float32
            total.mul_(2.0**half).mul_(2.0 ** (self.exponent - half))
            self.exponent = None
        if self.has_come:
            total.add_(image)
        else:
            total.copy_(image)
        self.has_come, self.is_by_grad = True, found.only_first

    def _image(self, gradient: torch.Tensor) -> torch.Tensor:
        """Returns the first image's part, with respect to the map as it was pooled."""
        image = image_part(gradient, self._axis, 0)
        if self.pooled == 1:
            return image
        letters = self._layer.axes_of(image.shape)
        spatial = [place for place, letter in enumerate(letters) if letter in "DHWL"]
        pooled = pool_means(image, spatial, self.pooled).float()
        sum_blocks(pooled, image.shape, spatial, self.pooled)
        return pooled
