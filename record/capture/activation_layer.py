"""The layer that class activation is of: where its maps come by, and which one it is by default.

By default it is the last layer whose maps have positions, and whose positions all have a say in the
scores: behind a network's last attention only the class token has one. So of ResNet-18 it is the
last block, of a network whose convolutions are followed by nothing but pools the last of them, and
of a vision transformer the first norm of its last block, as of pytorch-grad-cam's examples.
"""

from __future__ import annotations

import weakref
from _thread import get_ident
from typing import Any

import torch
from torch import nn

from record.capture.batch_axis import WHOLE, choose_axis, known_axis
from record.capture.hidden_hooks import Hook
from record.capture.phase import CaptureState
from record.capture.tensors import tensors_of
from record.modules.names import is_called, named_modules

_LATEST = 24  # modules in the order of their definition, that may be the last ones to be called
_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_MOST_CALLS = 16  # of one layer, that are looked at


class LayerCall:
    """What a layer has put out for the fixed images, as the rest of the network was given it.

    Args:
        name: The layer's name.
        module: The layer.
        item: What the tensor is called among those that the layer puts out.
        tensor: What the layer has put out, by which the scores are differentiated.
        state: What the hooks of the recording share.

    Attributes:
        name: As given.
        module: As given.
        item: As given.
        tensor: As given.
        axis: The axis that counts the images, or WHOLE.
        axes: What the axes of one image's part are, as in `schema.AXES`.
    """

    def __init__(
        self, name: str, module: nn.Module, item: str, tensor: torch.Tensor, state: CaptureState
    ) -> None:
        self.name, self.module, self.item, self.tensor = name, module, item, tensor
        rank = tensor.ndim
        said, known = state.axes.said(name), known_axis(module, item, rank)
        if said is not None and said < rank:
            self.axis = said
        elif known is not None:
            self.axis = known
        else:
            first = state.axes.around.get(id(module))
            self.axis = choose_axis(tensor.shape, state.batch, first).axis
        part = tensor.shape if self.axis == WHOLE else tensor.movedim(self.axis, 0).shape[1:]
        self.axes = state.axes.of_output(module).of(part)

    def by_position(self, values: torch.Tensor) -> torch.Tensor:
        """Returns values of the tensor's shape as (N, C, positions)."""
        values = values.movedim(self.axis, 0)
        return values.movedim(1 + self.axes.index("C"), 1).flatten(2)

    def has_positions(self, images: int) -> bool:
        """Whether these are maps of so many images, of more than one position each."""
        if self.axis == WHOLE or "C" not in self.axes or self.tensor.shape[self.axis] != images:
            return False
        return self.by_position(self.tensor.detach()).shape[2] > 1


class ActivationLayer:
    """Follows the layers that may be the one.

    Args:
        state: What the hooks of the recording share.
        name: The layer's name; None for the default one.

    Attributes:
        state: As given.
        name: The layer's name; None until the default one is known.
        from_start: Whether the whole forward runs with gradients, and not only what is behind the
            layer: a part of it may run without, which has the rest run without as well.
        calls: What was put out in the last forward, in the order in which that was complete.
        completed: The names of the modules with weights that were looked at, in that order.
    """

    def __init__(self, state: CaptureState, name: str | None) -> None:
        self.name = name
        self.from_start = False
        self.calls: list[LayerCall] = []
        self.completed: list[str] = []
        self.state = state
        self._latest: int | None = _LATEST
        # In the place of what was last put out, and by a number whether it was changed since.
        self._given: tuple[torch.Tensor, int] | None = None
        self._thread = 0
        self._handles: list[Any] = []

    def begin(self, root: nn.Module) -> None:
        """Puts hooks on the modules that may be the layer."""
        self.calls, self.completed, self._given = [], [], None
        self._thread = get_ident()
        named = named_modules(root)
        if self.name is None:
            watched = _candidates(root, named, self._latest)
        else:
            watched = {self.name: named[self.name]} if self.name in named else {}
        for name, module in watched.items():
            self._handles.append(module.register_forward_hook(_WatchHook(self, name, module)))
        if self.from_start:
            torch.set_grad_enabled(True)

    def end(self) -> None:
        """Takes the hooks away; what was put out stays until `forget`."""
        while self._handles:
            self._handles.pop().remove()
        self._given = None

    def forget(self) -> None:
        """Lets what was put out go."""
        self.calls, self.completed = [], []

    def look_further(self) -> bool:
        """Has every module looked at from now on.

        Returns:
            Whether fewer were before.
        """
        before, self._latest = self._latest, None
        return before is not None

    def completes(self, name: str, module: nn.Module, output: Any) -> Any:
        """Takes what a module puts out, and returns what the rest of the network is given for it.

        Args:
            name: The module's name.
            module: The module.
            output: What it puts out.

        Returns:
            The same values with a gradient; None where they stay as they are.
        """
        if self._thread != get_ident() or torch._C._current_graph_task_id() != -1:
            return None
        self.completed.append(name)
        several = list(tensors_of(output))
        if not several:
            return None
        item, tensor = several[0]
        before = self._given
        if before is not None and before[0] is tensor and before[1] == tensor._version:
            return None  # what is in it is meant
        item = item if len(several) > 1 else ""
        is_first = output is tensor or (type(output) in (tuple, list) and output[0] is tensor)
        if (
            not is_first
            or type(tensor) is not torch.Tensor
            or not tensor.is_floating_point()
            or tensor.layout is not torch.strided
            or tensor.is_nested
            or tensor.ndim < 3
            or len(self.calls) >= _MOST_CALLS * (1 if self.name else _LATEST)
        ):
            return None
        torch.set_grad_enabled(True)  # until the forward ends, or what it runs without gradients
        kept = tensor if tensor.requires_grad else tensor.detach().requires_grad_()
        self.calls.append(LayerCall(name, module, item, kept, self.state))
        # Another tensor: what comes behind the layer may change it in place, as a ReLU does.
        given = kept.clone()
        self._given = given, given._version
        return given if output is tensor else type(output)([given, *output[1:]])

    def settle(self, gradients: list[torch.Tensor | None], classes: int, of_pixels: bool) -> bool:
        """Chooses the default layer, if it is not known, by a forward and a gradient.

        Args:
            gradients: The gradient of the scores by what each call has put out; None for nothing.
            classes: The number of classes.
            of_pixels: Whether each pixel has scores.

        Returns:
            Whether it is known.
        """
        if self.name is not None:
            return True
        for number in range(len(self.calls) - 1, -1, -1):
            call, gradient = self.calls[number], gradients[number]
            if gradient is None or not call.has_positions(self.state.probes):
                continue
            if "T" in call.axes and not _is_norm(call.module):
                continue
            channels = call.tensor.movedim(call.axis, 0).shape[1 + call.axes.index("C")]
            if channels == classes and (of_pixels or self._is_last(call.name)):
                continue  # the scores themselves
            felt = call.by_position(gradient).abs().amax((0, 1)) > 0
            if int(felt.sum()) > (felt.numel() // 2 if "T" in call.axes else 0):
                self.name = call.name
                return True
        return False

    def _is_last(self, name: str) -> bool:
        """Whether nothing with weights comes behind a layer but what it is in."""
        place = len(self.completed) - 1 - self.completed[::-1].index(name)
        return all(name.startswith(f"{later}.") for later in self.completed[place + 1 :])


class _WatchHook(Hook):
    """Tells an `ActivationLayer` what a module puts out."""

    def __init__(self, layer: ActivationLayer, name: str, module: nn.Module) -> None:
        self._layer, self._name, self._module = layer, name, weakref.ref(module)
        self.recording = layer.state

    def modules(self) -> list[nn.Module]:
        """Returns the module, in whose tables the hook is."""
        module = self._module()
        return [] if module is None else [module]

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        """Passes the call on."""
        return self._layer.completes(self._name, module, output)


def _candidates(
    root: nn.Module, named: dict[str, nn.Module], latest: int | None
) -> dict[str, nn.Module]:
    """Returns modules with weights, the last ones that are defined and what these are in."""
    names = [
        name
        for name, module in named.items()
        if module is not root
        and type(module) not in _LISTS
        and not isinstance(module, torch.jit.ScriptModule)
        and is_called(module)
        and next(module.parameters(), None) is not None
    ]
    last = names if latest is None else names[-latest:]
    around = {name for name in names if any(other.startswith(f"{name}.") for other in last)}
    return {name: named[name] for name in names if name in around or name in set(last)}


def _is_norm(module: nn.Module) -> bool:
    """Whether it normalises tokens, or is a block that begins with that."""
    parts = [module, *module.children()]
    return any("norm" in type(part).__name__.lower() for part in parts)
