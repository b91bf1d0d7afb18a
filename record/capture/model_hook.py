"""The hooks of the model itself: when a forward begins and ends, and its input image."""

from __future__ import annotations

import contextlib
import sys
from _thread import allocate_lock, get_ident
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

import torch
from torch import nn

from record.capture.batch_axis import WHOLE, BatchSize
from record.capture.hidden_hooks import Hook, without_hooks
from record.capture.input_axis import InputAxis
from record.capture.phase import (
    BROKEN,
    DONE,
    INSIDE,
    OPEN,
    PROBING,
    WAITING,
    CaptureState,
    compiles_here,
    is_capturing,
    is_exporting,
    is_transformed,
)
from record.capture.tensors import (
    first_tensor,
    image_part,
    images_of,
    outside_transforms,
    to_plain,
    without_transforms,
)

_Tensor = torch.Tensor


class ModelHook:
    """Finds out when a forward of the model begins and ends, and copies its first input image.

    One forward at a time is recorded: the outermost one, of one thread.

    Args:
        state: What all hooks of the recording share.
    """

    def __init__(self, state: CaptureState) -> None:
        self.state = state
        self._input_axis = InputAxis(state)
        self._transformed = False  # whether the forward was a pass of torch.func
        self._had_gradients = True  # whether one could be trained on what it put out
        self._others: set[int] = set()  # threads in a forward that is not recorded
        self._claim = allocate_lock()  # held while a forward of the model runs
        self._running: FrameType | None = None  # of the outermost forward
        self._depth = 0  # forwards within one another
        self._outer: list[tuple[BatchSize, torch.Size | None]] = []  # of forwards around it
        self._thread = 0
        self._raising: BaseException | None = None  # when the forward began
        self._hidden: contextlib.ExitStack | None = None  # while the layers have no hooks

    @property
    def depth(self) -> int:
        """How many forwards of the model run, each within the one before."""
        return self._depth

    def before(
        self, module: nn.Module, args: Any, kwargs: dict[str, Any], frame: FrameType | None = None
    ) -> None:
        """Begins a recording if this is a training pass that is waited for.

        Args:
            module: The model.
            args: The positional arguments that it is called with.
            kwargs: The keyword arguments that it is called with.
            frame: The frame of the call, where it is not the caller's caller; see `_is_below`.
        """
        state = self.state
        if torch.compiler.is_compiling() and compiles_here():
            if not is_exporting() and (module.training or state.evaluation):
                self._begin_traced(args, kwargs)
            return
        if state.phase == PROBING and module is state.root_reference():
            self._depth += 1
            if self._depth > 1:  # the model calls itself with a fixed image, too
                self._enter(args, kwargs)
            return
        if self._is_foreign(module, args):
            return
        training, thread = module.training, get_ident()
        if not self._claim.acquire(blocking=False):
            if self._thread != thread:
                self._others.add(thread)
                if training or state.evaluation:
                    state.collided()  # another thread's forward is being recorded
                return
            if self._is_below(self._running):  # the model calls itself
                self._depth += 1
                self._enter(args, kwargs)
                return
            # Else it was left by an interrupt, of which torch tells no hook.
        self._others.discard(thread)
        frame = frame or sys._getframe(2)
        self._running = frame.f_back if frame.f_code.co_name == "inner" else frame
        self._outer.clear()
        self._depth, self._thread, self._raising = 1, thread, sys.exc_info()[1]
        state.inside = True
        try:
            state.forward_begins(training, (args, kwargs))
            if not (training or state.evaluation):
                self._hide_hooks()
            elif state.phase == DONE and self._is_better_than_the_last():
                self._begin(args, kwargs)
            elif state.phase == DONE and state.several:
                state.phase, state.thread = INSIDE, thread
            # OPEN: parts of the model were called before it; the model itself is what counts.
            elif state.phase in (WAITING, BROKEN) or (state.phase == OPEN and not state.several):
                self._begin(args, kwargs)
        except Exception as error:
            state.fail("input", error)

    def after(self, module: nn.Module, args: Any, output: Any) -> None:
        """Ends a forward, also where it ended in an exception.

        Args:
            module: The model.
            args: The positional arguments that it was called with.
            output: What it put out.
        """
        if torch.compiler.is_compiling() and compiles_here():
            return
        state = self.state
        if state.phase == PROBING and module is state.root_reference() and self._depth:
            self._depth -= 1
            if self._depth:
                self._leave()
            return
        if self._running is None or self._thread != get_ident():
            self._others.discard(get_ident())
            return
        if self._is_foreign(module, args) or not self._is_below(self._running):
            return
        self._depth -= 1
        if self._depth:
            self._leave()
            return
        failed = sys.exc_info()[1] is not self._raising
        self._running = self._raising = None
        state.inside = False
        try:
            if self._hidden is not None:
                self.show_hooks()
            if state.phase == INSIDE:
                state.phase = BROKEN if failed else DONE
            if not failed:
                state.forward_ended(output)
        except Exception as error:
            state.fail("frame", error)
        finally:
            self._claim.release()

    def begin_with_part(self, args: Sequence[Any]) -> bool:
        """Begins a recording with a layer: not the model itself is called, but its parts are.

        Args:
            args: The positional arguments that the layer is called with.

        Returns:
            Whether the layer is recorded: in evaluation mode it is not.
        """
        state = self.state
        if not (state.training or state.evaluation):
            return False
        state.phase, state.thread = OPEN, get_ident()
        state.opened = True
        if not state.input.fired:  # else a compiled graph has begun, and left the rest to Python
            self.copy(args, {})
        return True

    def collides(self) -> bool:
        """Whether this thread is in a forward of the model that is not recorded, for another's."""
        return get_ident() in self._others

    # The input image

    def copy(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Copies the first image of the input, as the network sees it.

        Args:
            args: The positional arguments of the forward.
            kwargs: The keyword arguments of the forward.
        """
        state = self.state
        seen = state.input
        seen.fired = True
        self._transformed, self._had_gradients = is_transformed(), torch.is_grad_enabled()
        if not self._transformed and self._copy_like_the_last(args):
            return
        with outside_transforms():
            image, listed = images_of(args, kwargs)
            tensor = first_tensor(args, kwargs) if image is None else image
            if tensor is None:
                self._input_axis.find(None, 0, bool(self._outer))
                return
            tensor = to_plain(without_transforms(tensor).detach())
            axis = self._input_axis.find(tensor, listed, bool(self._outer))
            if image is None and not (axis == WHOLE and tensor.is_floating_point()):
                return
            seen.dtype, seen.device = tensor.dtype, tensor.device
            if axis != WHOLE and tensor.size(axis) == 0:
                return
            if state.asks_autocast:
                seen.note_autocast(tensor.device)
            seen.keep(image_part(tensor, axis, 0))

    def copy_traced(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Copies the first image of the input as torch.compile traces it: whatever the sizes."""
        seen = self.state.input
        seen.fired = True
        tensor, listed = images_of(args, kwargs)
        if tensor is None:
            return
        image = image_part(tensor.detach(), WHOLE if listed else 0, 0)
        seen.dtype, seen.device = tensor.dtype, tensor.device
        seen.keep(image)

    def learn(self, rank: int, count: int | None) -> None:
        """Takes in what a layer has put out that knows its own number of axes.

        Args:
            rank: Number of axes.
            count: How many images it was of; None of one, without an axis for a batch.
        """
        state, seen = self.state, self.state.input
        if count is None and not state.batch.whole and seen.rank in (None, rank):
            state.batch = BatchSize(whole=True)
        elif count is not None and state.batch.whole and seen.rank is not None:
            # What looked like an image was a batch of them, each without its channel.
            state.batch = BatchSize((count,))
            state.axes.takes_batches = True
            seen.divide()

    def _begin(self, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        state = self.state
        state.phase, state.thread = INSIDE, self._thread
        state.reset()
        self.copy(args, kwargs)
        if state.on_inputs is not None:
            state.on_inputs(state, args, kwargs)

    def _begin_traced(self, args: Any, kwargs: dict[str, Any]) -> None:
        state = self.state
        state.traced = True
        if not state.counts_on:
            for slots in state.slots:
                slots.calls = slots.in_slots = 0
        if not (state.counts_on and state.input.fired):
            self.copy_traced(args, kwargs)

    def _copy_like_the_last(self, args: Sequence[Any]) -> bool:
        """Copies the first image where the input is just like that of the last forward.

        That is the usual case of `copy`, in few steps.

        Returns:
            Whether it was: where not, nothing was done.
        """
        state = self.state
        seen, batch = state.input, state.batch
        tensor, slot = args[0] if args else None, seen.slot
        if slot is None or type(tensor) is not _Tensor or self._outer:
            return False
        try:
            if (
                tensor.shape != seen.shape
                or tensor.ndim < 3
                or tensor.dtype != seen.dtype
                or tensor.device != seen.device
                or not tensor.is_floating_point()
                or tensor.layout is not torch.strided
            ):
                return False
            image = tensor.detach() if batch.whole else tensor.detach().select(batch.axis, 0)
            if image.shape != slot.shape:
                return False
            slot.copy_(image)
        except Exception:  # of another kind than it seemed: to be looked at in full
            return False
        seen.in_slot = True
        if state.asks_autocast:
            seen.note_autocast(tensor.device)
        return True

    def _enter(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Begins a forward within a forward, maybe with another number of images."""
        state, seen = self.state, self.state.input
        outer = state.batch, seen.shape
        self._outer.append(outer)
        try:
            image, listed = images_of(args, kwargs)
            tensor = first_tensor(args, kwargs) if image is None else image
            with outside_transforms():
                inner = None if tensor is None else without_transforms(tensor)
                rank = -1 if inner is None or listed or inner.is_nested else inner.ndim
                if inner is not None and outer[1] is not None and rank == len(outer[1]):
                    batch = state.batch  # of the outer one's axes, with a size of its own
                    if not batch.whole and batch.axis < rank:
                        size = int(inner.shape[batch.axis])
                        state.batch = BatchSize((size,), axis=batch.axis, note=batch.note)
                    state.unsettle()
                else:
                    self._input_axis.find(inner, listed, True)
        except Exception as error:
            state.fail("input", error)
        seen.shape = outer[1]  # the input that is recorded is the outer one's

    def _leave(self) -> None:
        """Ends a forward within a forward."""
        if self._outer:
            state = self.state
            state.batch, state.input.shape = self._outer.pop()
            state.unsettle()

    # Which forward it is

    def _is_better_than_the_last(self) -> bool:
        """Whether a forward is the training's own, and what was recorded of the batch is not."""
        # That was a pass of torch.func, or one without gradients: for pseudo-labels, say.
        without = torch.is_grad_enabled() and not (self._had_gradients or self.state.several)
        return (self._transformed or without) and not is_transformed()

    def _is_foreign(self, module: nn.Module, args: Any) -> bool:
        """Whether a forward is none of the model's own: a copy's, a probe's, a captured one."""
        state = self.state
        if state.phase == PROBING or torch._C._current_graph_task_id() != -1:
            return True
        if module is not state.root_reference() and not self._is_first_replica(module, args):
            return True
        return is_capturing()

    @staticmethod
    def _is_below(running: FrameType | None) -> bool:
        """Whether the hook that asks was called, at any depth, from within a frame."""
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and frame is not running:
            frame = frame.f_back
        return frame is not None

    def _is_first_replica(self, module: nn.Module, args: Any) -> bool:
        """Whether a module is the replica of DataParallel that sees the first image."""
        if not getattr(module, "_is_replica", False):
            return False
        root = self.state.root
        home = None if root is None else next((p.device for p in root.parameters()), None)
        tensor = images_of(args, {})[0]
        return tensor is not None and tensor.device == home

    # Forwards in evaluation mode

    def _hide_hooks(self) -> None:
        """Takes the hooks away for a forward whose numbers they would change."""
        state, root = self.state, self.state.root
        if state.axes.has_fast_path and not state.traced and root is not None and not root.training:
            self._hidden = contextlib.ExitStack()
            parts = [module for module in root.modules() if module is not root]
            self._hidden.enter_context(without_hooks(parts, state))

    def show_hooks(self) -> None:
        """Puts the hooks back once such a forward has ended."""
        if self._hidden is not None:
            hidden, self._hidden = self._hidden, None
            hidden.close()


class PreForwardHook(Hook):
    """Calls `ModelHook.before` at the beginning of each forward of the model."""

    def __init__(self, model_hook: ModelHook) -> None:
        self._model_hook, self.recording = model_hook, model_hook.state

    def modules(self) -> list[nn.Module]:
        """Returns the model, in whose tables the hook is."""
        root = self._model_hook.state.root
        return [] if root is None else [root]

    def __call__(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        """Passes the call on."""
        self._model_hook.before(module, args, kwargs)


class PostForwardHook(PreForwardHook):
    """Calls `ModelHook.after` at the end of each forward of the model."""

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        """Passes the call on."""
        self._model_hook.after(module, args, output)
