"""All hooks of a recording, installed on a model and its layers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

from torch import nn

from record.capture.captured_frames import CapturedFrames
from record.capture.compiled_code import forget_compiled
from record.capture.gradient_hook import GradientHook
from record.capture.gradients import Gradients
from record.capture.hidden_hooks import (
    add_forward_hook,
    add_pre_forward_hook,
    copy_guard,
    remove_hooks,
)
from record.capture.hook_guards import hook_guards
from record.capture.layer_hook import LayerHook
from record.capture.model_hook import ModelHook, PostForwardHook, PreForwardHook
from record.capture.phase import IDLE, CaptureListener, CaptureState
from record.modules.selection import Patterns, choose_among
from replay import schema
from replay.schema import OptionError

if TYPE_CHECKING:
    from record.capture.attention import Attention


class Capture:
    """Copies the first image's part of what each layer puts out, as float16.

    Args:
        model: The network, unwrapped. It is not kept alive.
        layers: The modules to record, by name.
        max_map: Maps that are larger than this along an axis are pooled before they are copied.
        batch_axes: Which axis counts the images of a batch, by globs of layers' names or `input`.
        attention: Whose attention is recorded, `cls` or `full`; None for none.
        gradients: The layers whose gradients are recorded too, by names, globs or classes; True
            means all.

    Attributes:
        state: What the hooks share: how far the recording of the batch has come.
        frames: What was captured of the batch, and its layout.
        attention: Records attention; None where nobody asks for it.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: dict[str, nn.Module],
        max_map: int | None = None,
        batch_axes: Mapping[str, int] | None = None,
        attention: str | None = None,
        gradients: Patterns | bool = None,
    ) -> None:
        self.state = CaptureState(model, max_map, batch_axes)
        self._with_gradients = gradients
        self._gradients = Gradients(self.state) if gradients else None
        self._model_hook = ModelHook(self.state)
        self._layer_hooks: list[LayerHook] = []
        self.frames = CapturedFrames(self.state, self._layer_hooks)
        chosen = choose_among(layers, model, gradients, schema.GRADIENTS)
        self.attention: Attention | None = None
        if attention is not None:
            from record.capture.attention import Attention

            full = attention == "full"
            self.attention = Attention(self.state, self._model_hook, self.frames, full)
        for name, module in layers.items():
            self._add(name, module, name in chosen)

    @property
    def root(self) -> nn.Module | None:
        """The model; None once nobody else keeps it alive."""
        return self.state.root

    @property
    def layer_names(self) -> set[str]:
        """The names of the layers whose maps are recorded."""
        return {hook.name for hook in self._layer_hooks if hook.in_model}

    def _add(self, name: str, module: nn.Module, with_gradients: bool) -> None:
        if self._gradients is None or not with_gradients:
            self._layer_hooks.append(LayerHook(self.state, self._model_hook, name, module))
            return
        hook = GradientHook(self.state, self._model_hook, name, module, self._gradients)
        self._layer_hooks.append(hook)
        self.frames.further.append(hook.gradients)

    def install(self, listener: CaptureListener) -> None:
        """Adds the hooks. A graph that was compiled without them is compiled anew.

        Args:
            listener: Has its methods called for each forward, and for what goes wrong.
        """
        self.state.listen(listener)
        root = self.root
        assert root is not None
        hook_guards.begin(self)
        forget_compiled()
        copy_guard.begin(root)
        if self._gradients is not None:
            self._gradients.begin()
        self._attach(root)

    def _attach(self, root: nn.Module) -> None:
        for hook in self._layer_hooks:
            module = hook.module
            if hook.in_model and module is not None:
                add_forward_hook(module, hook)
        add_pre_forward_hook(root, PreForwardHook(self._model_hook))
        if self.attention is not None:
            self.attention.attach(root)
        add_forward_hook(root, PostForwardHook(self._model_hook), always=True)

    def _detach(self) -> None:
        """Takes the hooks out of the model's modules, and out of those that were layers of it."""
        root = self.root
        layers = [module for hook in self._layer_hooks if (module := hook.module) is not None]
        for module in layers if root is None else [*layers, *root.modules()]:
            remove_hooks(module, self.state)

    def remove(self) -> None:
        """Removes the hooks."""
        self._model_hook.show_hooks()
        if self.attention is not None:
            self.attention.detach()
        self._detach()
        copy_guard.end()
        hook_guards.end(self)
        self.state.phase = IDLE
        self.state.loaded = None
        if self._gradients is not None:
            self._gradients.free()
        if self.state.traced:
            forget_compiled()

    def begin_forward(self, args: Any, kwargs: dict[str, Any], frame: FrameType | None) -> None:
        """Begins a forward of the model that has begun before the hooks were there.

        Args:
            args: The positional arguments of the forward.
            kwargs: The keyword arguments of the forward.
            frame: The frame of the forward's call, if it is not that of the caller's caller.
        """
        root = self.root
        if root is not None:
            self._model_hook.before(root, args, kwargs, frame)
            if self.attention is not None:
                self.attention.begin(root)

    def follow(self, find: Callable[[nn.Module], dict[str, nn.Module]]) -> list[str]:
        """Takes in layers that were replaced or added since the model was last looked at.

        Args:
            find: Returns the layers to record of the model as it is now, by name.

        Returns:
            What has changed, in words; nothing where the layers are as they were.
        """
        root = self.root
        if root is None or not self.state.model_has_changed():
            return []
        found = find(root)
        by_name = {hook.name: hook for hook in self._layer_hooks}
        replaced = [n for n, m in found.items() if n in by_name and by_name[n].module is not m]
        added = [name for name in found if name not in by_name]
        gone = [name for name, hook in by_name.items() if hook.in_model and name not in found]
        back = [name for name, hook in by_name.items() if not hook.in_model and name in found]
        self._detach()
        self.state.look_at(root)
        for name, hook in by_name.items():
            hook.in_model = name in found
            if hook.in_model:
                hook.adopt(found[name])
        chosen: set[str] = set()
        with contextlib.suppress(OptionError):  # of a model that has none of those any more
            chosen = choose_among(found, root, self._with_gradients, schema.GRADIENTS)
        for name in added:
            self._add(name, found[name], name in chosen)
        copy_guard.cover(root)
        forget_compiled()
        self._attach(root)
        changes = (("replaced", replaced), ("added", added + back), ("removed", gone))
        return [f"{what}: {', '.join(names)}" for what, names in changes if names]
