"""Records what the attention of a model looks at, from within its recorded forwards.

A model under torch.compile is left alone: its attention is seen where it runs as it is written,
which is when it is shown fixed images.
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from _thread import get_ident
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from record.capture.attention_calls import attention_calls, calling_modules, references
from record.capture.attention_frames import AttentionFrames
from record.capture.attention_order import Lead
from record.capture.attention_others import as_fused, find_others
from record.capture.attention_products import ProductMode
from record.capture.attention_source import ModuleNames
from record.capture.attention_windows import Windows
from record.capture.captured_frames import CapturedFrames
from record.capture.hidden_hooks import Hook, add_forward_hook, add_pre_forward_hook
from record.capture.model_hook import ModelHook
from record.capture.phase import (
    INSIDE,
    PROBING,
    CaptureState,
    compiles_here,
    is_capturing,
    is_transformed,
)
from record.capture.tensors import outside_transforms

_OF_TORCH = ("torch.nn.", "torch.jit.")  # whose modules write no attention out, or show none


class Attention:
    """Records the attention of the first image of each recorded forward, and of fixed images.

    Args:
        state: What all hooks of the recording share.
        model_hook: The hook of the model, which knows its outermost forward.
        frames: Takes the sources of the frames.
        full: Whether the attention of every query is recorded, not one row for each head.

    Attributes:
        state: As given.
        quiet: Classes of modules that are not followed any more.
    """

    def __init__(
        self, state: CaptureState, model_hook: ModelHook, frames: CapturedFrames, full: bool
    ) -> None:
        self._reason = ""
        self.state = state
        self._model_hook = model_hook
        self._names: ModuleNames | None = None
        self._references: list[tuple[dict[str, Any], str]] = []
        self._others: list[tuple[dict[str, Any], str, str]] = []
        self._thread = 0  # of the forward that is listened to; 0 while there is none
        self._windows: Windows | None = None
        self._products = ProductMode(self)
        self._kept = AttentionFrames(state, frames, full, self._products.tokens.behind)
        self._searches = True  # for attention that is written out: until a forward was seen
        self._follows = False
        self._followed: set[type[nn.Module]] = set()
        self._late: set[type[nn.Module]] = set()  # of which none ran yet
        self.quiet: set[type[nn.Module]] = set()
        self._said_size = self._said_other = False

    def attach(self, root: nn.Module) -> None:
        """Adds the hooks, behind those of the model's own forward."""
        add_pre_forward_hook(root, _Before(self, self.state))
        add_forward_hook(root, _Behind(self, self.state), always=True)
        self._names = None
        self._searches = True
        self._products.tokens.behind.clear()
        for kinds in (self._followed, self._late, self.quiet):
            kinds.clear()

    def detach(self) -> None:
        """Ends whatever goes on."""
        self._stop()

    @property
    def why_none(self) -> str:
        """Why no attention was recorded, in words; empty where some was, or it was said."""
        if self._kept.any or self._reason or self._said_other:
            return ""
        state = self.state
        if state.traced:
            return "the model is compiled, and no fixed images were shown to it"
        if state.opened:
            return "the parts of the model are called directly"
        return "no attention that is known was computed in a recorded forward"

    def begin(self, module: nn.Module) -> None:
        """Begins to listen, where a forward has begun that is recorded."""
        state = self.state
        if self._model_hook.depth != 1:
            return  # within another one
        if self._thread:
            self._stop()  # it was left by an interrupt
        probing = state.phase == PROBING
        if not probing and not (state.phase == INSIDE and state.thread == get_ident()):
            return
        if not (module.training or state.evaluation or probing):
            return
        try:
            if self._names is None:
                self._look_at(state.root or module)
            if self._names is None or self._names.root() is not module:
                self._names = ModuleNames(module)  # of the replica that sees the first image
            if probing and state.traced:
                self._note_compiled()
            if self._reason and not probing:
                return
            attention_calls.begin(self, self._references, self._others)
            self._thread = get_ident()
            # A mode would keep evaluation from its fast path.
            self._follows = (self._searches or probing) and (module.training or probing)
            if self._follows:
                self._products.searches = self._searches
                self._products.enter()
        except Exception as error:  # never into the training
            self._stop()
            state.fail("attention", error)

    def end(self) -> None:
        """Ends listening, with the forward."""
        if self._thread != get_ident() or self._model_hook.depth > 1:
            return
        try:
            ended = sys.exc_info()[1] is None
            if self.state.phase == INSIDE and ended and self._follows:
                self._searches = False
                self._follow_modules()
            self._stop()
            if not self._said_size and self._kept.any:
                self._said_size = True
                if size := self._kept.size_in_words():
                    self.state.say(size, "attention size")
        except Exception as error:
            self.state.fail("attention", error)

    def _stop(self) -> None:
        self._thread = 0
        self._windows = None
        self._products.end()
        attention_calls.end(self)

    def _follow_modules(self) -> None:
        """Has what modules write out followed while these run, and not the whole forward.

        Those of classes of which none ran yet are followed too, until one has shown what it does.
        """
        root = self.state.root
        if root is None:
            return
        found = {type(module) for module in self._products.modules}
        kinds = {type(module) for module in root.modules()} - self._products.ran - found
        late = {kind for kind in kinds if not kind.__module__.startswith(_OF_TORCH)}
        self._searches = type(root) in found - self._followed
        for module in root.modules():
            if type(module) in (found | late) - self._followed:
                add_pre_forward_hook(module, _Enter(self, self._products, module))
                add_forward_hook(module, _Leave(self, self._products, module), always=True)
        self._followed |= found | late
        self._late = late
        self._products.ran.clear()

    def has_run(self, module: nn.Module) -> None:
        """Ends following a class of modules that turned out to compute no attention."""
        kind = type(module)
        if kind in self._late:
            self._late.discard(kind)
            if not any(type(other) is kind for other in self._products.modules):
                self.quiet.add(kind)

    def _look_at(self, root: nn.Module) -> None:
        """Takes in the modules of a model, as it is or as it has become."""
        self._names = ModuleNames(root)
        self._kept.look_at(root)
        self._references = references(root)
        self._others = find_others(root)
        compiled = any(
            module._compiled_call_impl is not None or type(module).__name__ == "OptimizedModule"
            for module in root.modules()
            if not isinstance(module, torch.jit.ScriptModule)
        )
        if compiled:
            self._note_compiled()

    def _note_compiled(self) -> None:
        if not self._reason:
            self._reason = "the model is compiled"
            self.state.say(
                "attention: the model is compiled, and recorded is that of fixed images that are "
                "given (a probe), which it sees as it is written; not that of its batches",
                "attention compiled",
            )

    # What is told of attention

    def fused(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Records what a call of `scaled_dot_product_attention` has weighed its values with."""
        self._keep(
            lambda name, module, call: self._kept.keep_fused(
                name, module, call, args, kwargs, self._products.order
            )
        )

    def other(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Records what `flex_attention` has weighed with; says what of others is not seen."""
        if not self.listens():
            return
        if name != "flex_attention":
            self._others = [each for each in self._others if each[2] != name]
            self._said_other = True
            words = f"attention of {name} is not seen: its kernels keep no weights"
            self.state.say(words, f"attention {name}")
            return
        self._keep(
            lambda found, module, call: self._kept.keep_fused(
                found, module, call, (), as_fused(args, kwargs), self._products.order
            )
        )

    def explicit(self, weights: torch.Tensor) -> None:
        """Records weights that an `nn.MultiheadAttention` has computed itself."""
        self._keep(lambda name, module, _: self._kept.keep_weights(name, module, weights))

    def written_out(
        self, name: str, module: nn.Module, weights: torch.Tensor, lead: Lead | None
    ) -> None:
        """Records weights that the code of a module has computed itself."""
        self._keep(lambda *_: self._kept.keep_weights(name, module, weights, lead))

    def windowed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Takes in which windows the attention is of that comes next."""
        self._windows = None
        if self.listens():
            try:
                self._windows = Windows.of_call(*args, **kwargs)
            except Exception as error:  # another version's arguments
                self._cannot("attention", error)

    def window_weights(self, weights: torch.Tensor) -> None:
        """Records the attention within windows, each put back into its place in the image."""
        windows, self._windows = self._windows, None
        if windows is not None:
            self._keep(
                lambda name, module, _: self._kept.keep_windows(name, module, weights, windows)
            )

    def _keep(self, keep: Callable[[str, nn.Module, FrameType], None]) -> None:
        """Has attention recorded of the innermost module whose forward runs; nothing is raised."""
        if not self.listens():
            return
        name = "attention"
        try:
            for module, call in calling_modules(sys._getframe(2)):
                found = self.name_of(module)
                if found is not None:
                    name = found
                    with _aside():
                        keep(name, module, call)
                    return
        except Exception as error:  # never into the training
            self._cannot(name, error)

    # Who computes it

    def listens(self) -> bool:
        """Whether what is computed now belongs to what is recorded."""
        return (
            self._thread == get_ident()
            and self.state.phase in (INSIDE, PROBING)
            and torch._C._current_graph_task_id() == -1  # else checkpointing's second forward
            and not is_capturing()
        )

    def name_of(self, module: nn.Module) -> str | None:
        """Returns the name of a module; None where it is not of the model."""
        return None if self._names is None else self._names.of(module)

    def _cannot(self, name: str, error: Exception) -> None:
        """Says once for each module why its attention is not recorded."""
        if isinstance(error, ValueError):  # it is of a kind that is not known
            reason = " ".join(str(error).split())[:200]
            self.state.say(f"{name}: its attention is not recorded: {reason}", f"attention {name}")
        else:
            self.state.fail(name, error)


def _aside() -> contextlib.AbstractContextManager[Any]:
    """Keeps modes of the user's, and torch.func, from acting on what is done meanwhile."""
    if not (torch._C._len_torch_dispatch_stack() or is_transformed()):  # as nearly always
        return torch._C.DisableTorchFunction()
    return _aside_of_modes()


@contextlib.contextmanager
def _aside_of_modes() -> Iterator[None]:
    modes: Any = contextlib.nullcontext()
    if torch._C._len_torch_dispatch_stack():  # one that counts operations, say
        modes = _disable_current_modes()
    with torch._C.DisableTorchFunction(), outside_transforms(), modes:
        yield


class _Before(Hook):
    """Begins to listen at the beginning of each recorded forward of the model."""

    def __init__(self, attention: Attention, state: CaptureState) -> None:
        self._attention, self._state, self.recording = attention, state, state

    def modules(self) -> list[nn.Module]:
        """Returns the model, in whose tables the hook is."""
        root = self._state.root
        return [] if root is None else [root]

    def __call__(self, module: nn.Module, args: Any, kwargs: Any = None) -> None:
        """Passes the call on; what torch.compile traces is left alone.

        A hook that was taken out while hooks are called is still called, without what it asked for.
        """
        if not compiles_here():
            self._attention.begin(module)


class _Behind(_Before):
    """Ends listening at the end of each forward of the model."""

    def __call__(self, module: nn.Module, args: Any, output: Any = None) -> None:
        """Passes the call on."""
        if not compiles_here():
            self._attention.end()


class _Enter(Hook):
    """Begins to follow what a module computes, at the beginning of each of its forwards."""

    def __init__(self, attention: Attention, products: ProductMode, module: nn.Module) -> None:
        self._attention, self._products = attention, products
        self._module, self.recording = weakref.ref(module), attention.state

    def modules(self) -> list[nn.Module]:
        """Returns the module, in whose tables the hook is."""
        module = self._module()
        return [] if module is None else [module]

    def __call__(self, module: nn.Module, args: Any, kwargs: Any = None) -> None:
        """Begins, where the forward is recorded."""
        if self._is_followed(module):
            self._products.enter()

    def _is_followed(self, module: nn.Module) -> bool:
        if compiles_here() or type(module) in self._attention.quiet:
            return False
        return self._attention.listens()


class _Leave(_Enter):
    """Ends following what a module computes."""

    def __call__(self, module: nn.Module, args: Any, output: Any = None) -> None:
        """Ends, where the forward is recorded."""
        if self._is_followed(module):
            self._attention.has_run(module)
            self._products.leave()
