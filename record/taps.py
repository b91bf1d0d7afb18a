"""The forward hooks: the first image of what each layer puts out, copied, as float16.

A tap does one thing: it copies `output[0]` into its slice of a flat float16 buffer. That crops,
converts and copies at once, allocates nothing, and is done before an in-place ReLU behind the
layer can overwrite it. Under torch.compile the same copy is traced and becomes part of the graph.

The first recorded forward finds out which layers fire, how often and in what shape; from this
comes the layout, and from then on every tap has its slice.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from record.layers import describe
from record.wire import Layout
from replay.schema import Layer

# Of a batch: its forward has yet to come, runs, or has been recorded.
IDLE, WAITING, INSIDE, DONE = range(4)

Key = tuple[str, int]  # layer name, call within the forward

# The input's part of a flat buffer, and by layer those of its calls and of its kernels.
Slices = tuple[torch.Tensor | None, dict[str, tuple[list[torch.Tensor], torch.Tensor | None]]]


class Tap:
    """The forward hook of one layer.

    Pickled or copied with the model (`torch.save(model)`, a deepcopy for an average of the
    weights) it turns into a hook that does nothing and needs no mapreel to load.
    """

    def __init__(self, taps: Taps, name: str, module: nn.Module) -> None:
        self.taps = taps
        self.name = name
        self.calls = 0
        self.slots: list[torch.Tensor] = []  # one for each known call, of the frame's shape
        self.kernel_slot: torch.Tensor | None = None
        self.found: dict[int, torch.Tensor] = {}  # calls without a fitting slot
        self.found_kernel: torch.Tensor | None = None
        # A parametrised weight (weight_norm, say) is computed anew at each access: leave it be.
        self.has_kernel = isinstance(module, _ConvNd) and "weight" in module._parameters

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        """The hook."""
        if torch.compiler.is_compiling():
            if self.taps.root.training:
                self.taps.traced = True
                self.copy(module, output)
        elif self.taps.state == INSIDE and torch._C._current_graph_task_id() == -1:
            # A forward inside a backward pass is checkpointing's second one.
            try:
                self.copy(module, output)
            except Exception as error:  # never into the training
                self.taps.fail(self.name, error)

    def copy(self, module: nn.Module, output: Any) -> None:
        """Copies the first image of what the layer put out, and the kernels that made it."""
        tensor = output if isinstance(output, torch.Tensor) else first_tensor(output)
        if tensor is None or tensor.ndim == 0 or tensor.shape[0] == 0:
            return
        if tensor.is_meta:
            raise ValueError("its output has a shape but no values (device meta)")
        image = tensor.detach()[0]
        call = self.calls
        self.calls = call + 1
        if call < len(self.slots) and self.slots[call].shape == image.shape:
            self.slots[call].copy_(image)
        else:
            self.found[call] = image.to(torch.float16, copy=True)
        if call == 0 and self.has_kernel:
            weight = module.weight.detach()  # type: ignore[operator]
            if self.kernel_slot is not None:
                self.kernel_slot.copy_(weight)
            elif weight.numel() <= image.numel():
                self.found_kernel = weight.to(torch.float16, copy=True)

    def __reduce__(self) -> Any:
        return getattr, (contextlib.nullcontext(), "__exit__")

    def __deepcopy__(self, memo: Any) -> Any:
        return contextlib.nullcontext().__exit__


class Root:
    """The hooks of the model itself: when a forward begins and ends, and its input image."""

    def __init__(self, taps: Taps) -> None:
        self.taps = taps
        self.slot: torch.Tensor | None = None
        self.found: torch.Tensor | None = None
        self.fired = False

    def before(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        """Forward pre-hook: begins a recording if this is a training pass that is waited for."""
        taps = self.taps
        if torch.compiler.is_compiling():
            if module.training:
                taps.traced = True
                for tap in taps.taps:
                    tap.calls = 0
                self.copy(args, kwargs)
            return
        if not module.training or torch._C._current_graph_task_id() != -1:
            return
        try:
            taps.on_forward()
            # INSIDE: an earlier forward of this batch ended in an exception.
            if taps.state in (WAITING, INSIDE):
                taps.state = INSIDE
                taps.reset()
                self.copy(args, kwargs)
        except Exception as error:
            taps.fail("input", error)

    def after(self, module: nn.Module, args: Any, output: Any) -> None:
        """Forward hook: ends it."""
        if not torch.compiler.is_compiling() and self.taps.state == INSIDE:
            self.taps.state = DONE

    def copy(self, args: Any, kwargs: dict[str, Any]) -> None:
        """Copies the first image of the input, as the network sees it."""
        tensor = first_image(args, kwargs)
        self.fired = True
        if tensor is None:
            return
        image = tensor.detach()[0]
        if self.slot is not None and self.slot.shape == image.shape:
            self.slot.copy_(image)
        else:
            self.found = image.to(torch.float16, copy=True)

    def __reduce__(self) -> Any:
        return getattr, (contextlib.nullcontext(), "__exit__")


class Taps:
    """All hooks of one recording, installed on the layers and on the model.

    Args:
        model: The network, unwrapped.
        layers: The modules to record, by name.
        on_forward: Called when a training forward of the model begins, before it is recorded.
        fail: Called with a name and an exception when a hook could not do its work.

    Attributes:
        state: IDLE, WAITING for a batch's forward, INSIDE it, or DONE with it.
        traced: Whether torch.compile has traced the hooks; they then copy at every forward.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: dict[str, nn.Module],
        on_forward: Callable[[], None],
        fail: Callable[[str, Exception], None],
    ) -> None:
        self.root = model
        self.layers = layers
        self.state = IDLE
        self.traced = False
        self.on_forward = on_forward
        self.fail = fail
        self.input = Root(self)
        self.taps = [Tap(self, name, module) for name, module in layers.items()]
        self.keys: list[Key] = []  # the layout's layers, in its order
        self.layout = Layout(None, ())
        self._handles: list[Any] = []

    def install(self) -> None:
        """Adds the hooks. A graph compiled without them is compiled anew."""
        if "torch._dynamo" in sys.modules:
            torch.compiler.reset()
        for tap, module in zip(self.taps, self.layers.values(), strict=True):
            self._handles.append(module.register_forward_hook(tap))
        self._handles.append(
            self.root.register_forward_pre_hook(_Before(self.input), with_kwargs=True)
        )
        self._handles.append(self.root.register_forward_hook(_After(self.input)))

    def remove(self) -> None:
        """Removes the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.state = IDLE
        if self.traced:
            torch.compiler.reset()

    def reset(self) -> None:
        """Forgets what was found in a forward that began and was not recorded."""
        self.input.fired, self.input.found = False, None
        for tap in self.taps:
            tap.calls, tap.found_kernel = 0, None
            tap.found.clear()

    def slices(self, flat: torch.Tensor) -> Slices:
        """The layout's parts of a flat float16 buffer, for `point_at`."""
        layout = self.layout
        parts: dict[str, tuple[list[torch.Tensor], torch.Tensor | None]] = {}
        for (name, _), maps, kernel in zip(
            self.keys, layout.map_slots, layout.kernel_slots, strict=True
        ):
            slots, own = parts.get(name, ([], None))
            slots.append(view(flat, maps))  # a layer's calls are in their order
            parts[name] = slots, own if kernel is None else view(flat, kernel)
        image = None if layout.image_slot is None else view(flat, layout.image_slot)
        return image, parts

    def point_at(self, slices: Slices | None) -> None:
        """Gives every tap its slices of a buffer; None takes them away."""
        self.input.slot, parts = (None, {}) if slices is None else slices
        for tap in self.taps:
            tap.slots, tap.kernel_slot = parts.get(tap.name, ([], None))

    @property
    def fired(self) -> bool:
        """Whether a forward was recorded since the last `reset`."""
        return self.input.fired

    @property
    def silent(self) -> list[str]:
        """Names of the layers that have never fired."""
        known = {name for name, _ in self.keys}
        return [tap.name for tap in self.taps if tap.name not in known and not tap.found]

    def extend(self) -> bool:
        """Adds what was found for the first time to the layout; False where nothing is new.

        A known layer call keeps its shape: a frame of another one is not a new layer.
        """
        image = self.layout.image
        if image is None and self.input.found is not None:
            image = tuple(self.input.found.shape)
        known = set(self.keys)
        fresh: list[Layer] = []
        for tap, module in zip(self.taps, self.layers.values(), strict=True):
            for call, found in sorted(tap.found.items()):
                if (tap.name, call) in known:
                    continue
                kernel = tap.found_kernel if call == 0 else None
                self.keys.append((tap.name, call))
                fresh.append(
                    Layer(
                        name=tap.name if call == 0 else f"{tap.name}#{call}",
                        module=describe(module),
                        shape=tuple(found.shape),
                        kernel=None if kernel is None else tuple(kernel.shape),
                    )
                )
        if not fresh and image == self.layout.image:
            return False
        self.layout = Layout(image, self.layout.layers + tuple(fresh))
        return True

    def fill(self, flat: torch.Tensor) -> None:
        """Copies what was found without a slot, where its shape fits, into a flat buffer."""
        layout = self.layout
        if self.input.found is not None and layout.image == tuple(self.input.found.shape):
            assert layout.image_slot is not None
            view(flat, layout.image_slot).copy_(self.input.found)
        for place, tap, call in self._places():
            found = tap.found.get(call)
            kernel = layout.kernel_slots[place]
            try:
                if found is not None and found.shape == layout.layers[place].shape:
                    view(flat, layout.map_slots[place]).copy_(found)
                if call == 0 and kernel is not None and tap.found_kernel is not None:
                    view(flat, kernel).copy_(tap.found_kernel)
            except Exception as error:  # this layer's frame is missing, the others are not
                tap.calls = min(tap.calls, call)
                self.fail(tap.name, error)

    def missing(self) -> tuple[list[int], list[str], bool]:
        """Of the last forward: places without a frame, names of another shape, image there."""
        places, misfits = [], []
        for place, tap, call in self._places():
            found = tap.found.get(call)
            fits = found is None or found.shape == self.layout.layers[place].shape
            if call >= tap.calls or not fits:
                places.append(place)
            if not fits:
                misfits.append(self.layout.layers[place].name)
        found = self.input.found
        has_image = self.layout.image is not None and (
            found is None or tuple(found.shape) == self.layout.image
        )
        return places, misfits, has_image

    def _places(self) -> list[tuple[int, Tap, int]]:
        by_name = {tap.name: tap for tap in self.taps}
        return [(place, by_name[name], call) for place, (name, call) in enumerate(self.keys)]


class _Before:
    """`Root.before` as a hook that survives being pickled and copied with the model."""

    def __init__(self, root: Root) -> None:
        self.root = root

    def __call__(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        self.root.before(module, args, kwargs)

    def __reduce__(self) -> Any:
        return getattr, (contextlib.nullcontext(), "__exit__")


class _After(_Before):
    """`Root.after` likewise."""

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        self.root.after(module, args, output)


def view(flat: torch.Tensor, slot: Any) -> torch.Tensor:
    """The part of a flat buffer that a slot names, in the slot's shape."""
    return flat[slot.start : slot.stop].view(slot.shape)


def first_tensor(output: Any) -> torch.Tensor | None:
    """The first tensor in a tuple, list or dict, however deep; None where there is none."""
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, (tuple, list)):
        for part in output:
            tensor = first_tensor(part)
            if tensor is not None:
                return tensor
    return None


def first_image(args: Any, kwargs: dict[str, Any]) -> torch.Tensor | None:
    """The first argument that is a batch of images or signals, (N, C, ...); None without one."""
    for value in [*args, *kwargs.values()]:
        tensor = first_tensor(value)
        if tensor is not None and tensor.ndim >= 3 and tensor.shape[0] > 0:
            return tensor
    return None
