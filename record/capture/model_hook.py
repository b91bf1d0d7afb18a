"""The hooks of the model itself: when a forward begins and ends, and its input image."""

from __future__ import annotations

import sys
from _thread import allocate_lock, get_ident
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from record.capture.batch_axis import WHOLE, BatchSize, choose
from record.capture.hidden_hooks import Hook
from record.capture.phase import BROKEN, DONE, INSIDE, OPEN, PROBING, WAITING
from record.capture.tensors import (
    first_tensor,
    images_of,
    one_of,
    outside_transforms,
    plain,
    unwrapped,
)
from record.capture.tracing import is_capturing, is_exporting

if TYPE_CHECKING:
    from record.capture.capture import Capture


class ModelHook:
    """When a forward of the model begins and ends, and the first image that it is given.

    One forward at a time is recorded: the outermost one, of one thread.

    Args:
        taps: All hooks of the recording.

    Attributes:
        slot: A slice of the buffer for the image.
        in_slot: Whether it is in there.
        found: A copy of an image without a fitting slot.
        fired: Whether a forward was seen since the last batch.
        dtype: Of the last input.
        device: Where it was.
        autocast: Under which it was seen.
    """

    def __init__(self, taps: Capture) -> None:
        self.taps = taps
        self.slot: torch.Tensor | None = None
        self.in_slot = False
        self.found: torch.Tensor | None = None
        self.fired = False
        self.dtype: torch.dtype | None = None
        self.device: torch.device | None = None
        self.autocast: torch.dtype | None = None
        self._transformed = False  # whether it was a pass of torch.func
        self._usual: torch.Size | None = None  # of all inputs so far; None where they vary
        self._varies = False
        self._shape: torch.Size | None = None  # of the last input
        self._possible: frozenset[int] | None = None
        self._others: set[int] = set()  # threads in a forward that is not recorded
        self._claim = allocate_lock()  # held while a forward of the model runs
        self._running: FrameType | None = None  # of the outermost one
        self._depth = 0
        self._outer: list[tuple[BatchSize, torch.Size | None]] = []  # of forwards around it
        self._thread = 0
        self._raising: BaseException | None = None  # when it began

    def before(
        self, module: nn.Module, args: Any, kwargs: dict[str, Any], frame: FrameType | None = None
    ) -> None:
        """Forward pre-hook: begins a recording if this is a training pass that is waited for.

        Args:
            module: The model.
            args: What it is called with.
            kwargs: Likewise.
            frame: The call's, where it is not two above; see `_is_below`.
        """
        taps = self.taps
        if torch.compiler.is_compiling():
            if not is_exporting() and (module.training or taps.evaluation):
                self._begin_traced(args, kwargs)
            return
        if taps.state == PROBING and module is taps.root:
            self._depth += 1
            if self._depth > 1:  # the model calls itself with a fixed image, too
                self._enter(args, kwargs)
            return
        if self._passes_by(module, args):
            return
        training = module.training
        if not self._claim.acquire(blocking=False):
            if self._thread != get_ident():
                self._others.add(get_ident())
                if training or taps.evaluation:
                    taps.collide()  # another thread's forward is being recorded
                return
            if self._is_below(self._running):  # the model calls itself
                self._depth += 1
                self._enter(args, kwargs)
                return
            # Else it was left by an interrupt, of which torch tells no hook.
        self._others.discard(get_ident())
        frame = frame or sys._getframe(2)
        self._running = frame.f_back if frame.f_code.co_name == "inner" else frame
        self._outer.clear()
        self._depth, self._thread, self._raising = 1, get_ident(), sys.exc_info()[1]
        taps.inside = True
        try:
            taps.on_forward(training, (args, kwargs))
            if not (training or taps.evaluation):
                taps.pause()
            elif taps.state == DONE and self._transformed and not _is_transformed():
                # What was recorded was a pass of torch.func; this is the training's own.
                taps.state, taps.thread = INSIDE, self._thread
                taps.reset()
                self.copy(args, kwargs)
            elif taps.state == DONE and taps.several:
                taps.state, taps.thread = INSIDE, self._thread
            # OPEN: parts of the model were called before it; the model itself is what counts.
            elif taps.state in (WAITING, BROKEN) or (taps.state == OPEN and not taps.several):
                taps.state, taps.thread = INSIDE, self._thread
                taps.reset()
                self.copy(args, kwargs)
        except Exception as error:
            taps.fail("input", error)

    def after(self, module: nn.Module, args: Any, output: Any) -> None:
        """Forward hook: ends it, also where it ended in an exception."""
        if torch.compiler.is_compiling():
            return
        if self.taps.state == PROBING and module is self.taps.root and self._depth:
            self._depth -= 1
            if self._depth:
                self._leave()
            return
        if self._running is None or self._thread != get_ident():
            self._others.discard(get_ident())
            return
        if self._passes_by(module, args) or not self._is_below(self._running):
            return
        self._depth -= 1
        if self._depth:
            self._leave()
            return
        failed = sys.exc_info()[1] is not self._raising
        self._running = self._raising = None
        taps = self.taps
        taps.inside = False
        try:
            taps.resume()
            if taps.state == INSIDE:
                taps.state = BROKEN if failed else DONE
            if not failed:
                taps.on_end(output)
        except Exception as error:
            taps.fail("frame", error)
        finally:
            self._claim.release()

    def copy(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Copies the first image of the input, as the network sees it."""
        self.fired = True
        self._transformed = _is_transformed()
        with outside_transforms():
            tensor, listed = images_of(args, kwargs)
            first = first_tensor(args, kwargs) if tensor is None else tensor
            if first is None:
                self._look_at_size(None, 0)
                return
            first = plain(unwrapped(first).detach())
            axis = self._look_at_size(first, listed)
            if tensor is None and not (axis == WHOLE and first.is_floating_point()):
                return
            tensor = first
            self.dtype, self.device = tensor.dtype, tensor.device
            if axis != WHOLE and tensor.size(axis) == 0:
                return
            image = one_of(tensor, axis, 0)
            if self.taps.asks_autocast:
                kind = image.device.type
                enabled = torch.is_autocast_enabled(kind)
                self.autocast = torch.get_autocast_dtype(kind) if enabled else None
            if self.slot is not None and self.slot.shape == image.shape:
                self.slot.copy_(image)
                self.in_slot = True
            else:
                self.found = image.to(torch.float16, copy=True)

    def copy_traced(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """The same as torch.compile traces it: without a look at sizes."""
        self.fired = True
        tensor, listed = images_of(args, kwargs)
        if tensor is None:
            return
        image = one_of(tensor.detach(), WHOLE if listed else 0, 0)
        self.dtype, self.device = tensor.dtype, tensor.device
        if self.slot is not None and self.slot.shape == image.shape:
            self.slot.copy_(image)
            self.in_slot = True
            self.found = None
        else:
            self.found = image.to(torch.float16, copy=True)

    @property
    def rank(self) -> int | None:
        """Number of axes of the last input; None where it was no image."""
        return None if self._shape is None else len(self._shape)

    def divide(self) -> None:
        """What was taken for an image is a batch of them: keeps the first."""
        if self.found is not None and self.found.ndim > 1:
            self.found = self.found[0].clone()
        self.in_slot = False

    def reset(self) -> None:
        """Forgets what was found."""
        self.fired = self.in_slot = False
        self.found = None

    def _begin_traced(self, args: Any, kwargs: dict[str, Any]) -> None:
        taps = self.taps
        taps.traced = True
        if not taps.counts_on:
            for port in taps.ports:
                port.calls = port.in_slots = 0
        if not (taps.counts_on and self.fired):
            self.copy_traced(args, kwargs)

    # How many images there are

    def _look_at_size(self, tensor: torch.Tensor | None, listed: int) -> int:
        """Finds out how many images the forward sees; returns the axis that counts them."""
        taps = self.taps
        shape = None if tensor is None or tensor.is_nested else tensor.shape
        if shape is not None and shape == self._shape and not listed and not self._outer:
            return WHOLE if taps.batch.whole else taps.batch.axis  # as in the last forward
        self._shape = shape
        for tap in taps.taps:
            tap.unsettle()
        if listed:
            taps.batch = BatchSize((listed,))
            return WHOLE
        if shape is None:
            taps.batch = BatchSize(taps.sizes_without_image())
            return 0
        taps.batch, axis = self._sizes(shape)
        return axis

    def _enter(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """The model calls itself, maybe with another number of images."""
        outer = self.taps.batch, self._shape
        self._outer.append(outer)
        try:
            tensor, listed = images_of(args, kwargs)
            first = first_tensor(args, kwargs) if tensor is None else tensor
            with outside_transforms():
                inner = None if first is None else unwrapped(first)
                rank = -1 if inner is None or listed or inner.is_nested else inner.ndim
                if inner is not None and outer[1] is not None and rank == len(outer[1]):
                    self._shape = None  # of the outer one's axes, with a size of its own
                    batch = self.taps.batch
                    if not batch.whole and batch.axis < rank:
                        size = int(inner.shape[batch.axis])
                        self.taps.batch = BatchSize((size,), axis=batch.axis, note=batch.note)
                    for tap in self.taps.taps:
                        tap.unsettle()
                else:
                    self._look_at_size(inner, listed)
        except Exception as error:
            self.taps.fail("input", error)
        self._shape = outer[1]  # the input that is recorded is the outer one's

    def _leave(self) -> None:
        """It has returned."""
        if self._outer:
            self.taps.batch, self._shape = self._outer.pop()
            for tap in self.taps.taps:
                tap.unsettle()

    def _sizes(self, shape: torch.Size) -> tuple[BatchSize, int]:
        taps = self.taps
        said = taps.said_axis("input")
        if said is not None and said < len(shape):
            return BatchSize((shape[said],), axis=said), said
        is_images = len(shape) >= 4 or taps.batch_first is not False
        if taps.suits_convolution(shape) and is_images:
            return BatchSize((shape[0],)), 0
        size = None if self._outer else taps.batch_size()  # an inner call has a size of its own
        if size is not None and size not in shape[:2]:
            size = None  # of what was loaded, but not of what the model is given
        if size is None and taps.is_one_image(shape):
            return BatchSize(whole=True), WHOLE
        axis = self._smaller_at_the_end(shape) if size is None else None
        if axis is not None:
            self._possible = frozenset((axis,))
        if size is None and self._possible is not None and len(self._possible) == 1:
            axis = min(self._possible)
            if 0 <= axis < len(shape):
                return BatchSize((shape[axis],), axis=axis), axis
        if size is not None:
            if len(shape) == 2:  # of numbers, (T, N) as likely as (N, T)
                axis = 0 if shape[0] == size else 1
                if shape[0] != shape[1]:
                    self._possible = frozenset((axis,))
                return BatchSize((size,), axis=axis), axis
            choice = choose(shape, BatchSize((size,)), taps.batch_first, self._possible)
            self._possible = choice.possible
            if choice.note:
                taps.say(f"input: {choice.note}; say which with batch_axis", "axis of the input")
            if choice.axis != WHOLE:
                return BatchSize((size,), axis=choice.axis), choice.axis
        if taps.batch_first is False and not taps.suits_convolution(shape):
            note = ""
            if shape[0] != shape[1] and not taps.knows_its_axes:
                note = (
                    "batch axis uncertain: axis 1 of the input was taken, since batch_first is "
                    "False in the model"
                )
                taps.say(f"input: {note}; say which with batch_axis", "axis of the input")
            return BatchSize((shape[1], shape[0]), axis=1, note=note), 1
        if taps.has_second:
            return BatchSize((shape[0], shape[1])), 0
        return BatchSize((shape[0],)), 0

    def _smaller_at_the_end(self, shape: torch.Size) -> int | None:
        """The axis along which an epoch's last input is smaller than all others: the batch's."""
        usual, taps = self._usual, self.taps
        if usual is None and not self._varies:
            self._usual = shape
        if usual is None or shape == usual:
            return None
        if not taps.ends_epoch or len(shape) != len(usual):
            self._usual, self._varies = None, True
            return None
        smaller = [axis for axis, (a, b) in enumerate(zip(shape, usual, strict=True)) if a != b]
        if smaller not in ([0], [1]) or shape[smaller[0]] > usual[smaller[0]]:
            return None
        axis = smaller[0]
        if axis == 1 and not taps.suits_convolution(shape):
            taps.say(
                "input: the last batch shows that axis 1 counts the images, not axis 0, as was "
                "taken before: the frames recorded so far are not those of the first image",
                "axis of the input",
            )
        return axis if axis == 0 or not taps.suits_convolution(shape) else None

    # Which forward it is

    def collides(self) -> bool:
        """Whether this thread is in a forward of the model that is not recorded, for another's."""
        return get_ident() in self._others

    def _passes_by(self, module: nn.Module, args: Any) -> bool:
        """Whether a forward is none of the model's own: a copy's, a probe's, a captured one."""
        if self.taps.state == PROBING or torch._C._current_graph_task_id() != -1:
            return True
        other = module is not self.taps.root and not self._is_first_replica(module, args)
        return other or is_capturing()

    @staticmethod
    def _is_below(running: FrameType | None) -> bool:
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and frame is not running:
            frame = frame.f_back
        return frame is not None

    def _is_first_replica(self, module: nn.Module, args: Any) -> bool:
        """Whether it is the replica of DataParallel that sees the first image."""
        if not getattr(module, "_is_replica", False):
            return False
        root = self.taps.root
        home = None if root is None else next((p.device for p in root.parameters()), None)
        tensor = images_of(args, {})[0]
        return tensor is not None and tensor.device == home


def _is_transformed() -> bool:
    """Whether torch.func acts on what runs now."""
    return torch._C._functorch.peek_interpreter_stack() is not None


class PreForwardHook(Hook):
    """`ModelHook.before` as a hook."""

    def __init__(self, root: ModelHook) -> None:
        self.root = root

    def modules(self) -> list[nn.Module]:
        """The model."""
        root = self.root.taps.root
        return [] if root is None else [root]

    def __call__(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        """The hook."""
        self.root.before(module, args, kwargs)


class PostForwardHook(PreForwardHook):
    """`ModelHook.after` as a hook."""

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        """The hook."""
        self.root.after(module, args, output)
