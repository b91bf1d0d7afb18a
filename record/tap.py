"""The hook of one layer, and those of the model itself.

A tap does one thing: it copies `output[0]` into its slice of a flat float16 buffer. That crops,
converts and copies at once, allocates nothing, and is done before an in-place ReLU behind the
layer can overwrite it. Under torch.compile the same copy is traced and becomes part of the graph.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from record.layers import axes_of, batch_second
from record.outputs import first_image, pool, tensors_of

if TYPE_CHECKING:
    from record.taps import Taps

# Of a batch: its forward has yet to come, runs, or has been recorded. OPEN: parts of the model are
# called directly, so that nobody can say when its forward ends. PROBING: a fixed image.
IDLE, WAITING, INSIDE, OPEN, DONE, PROBING = range(6)

MAX_CALLS = 64  # of one layer in one batch


class Port:
    """One tensor that a layer puts out, over the calls of a batch.

    Attributes:
        calls: How often it was put out in this batch.
        slots: A slice of the buffer for each known call, in the shape that the call had first.
        found: By call, copies of what has no fitting slot.
        kernel_slot: A slice for the kernels.
        found_kernel: A copy of the kernels, without a slot for them.
    """

    def __init__(self, probe: int | None, layer: str, item: str) -> None:
        self.probe, self.layer, self.item = probe, layer, item
        self.calls = 0
        self.slots: list[torch.Tensor] = []
        self.found: dict[int, torch.Tensor] = {}
        self.pooled: dict[int, int] = {}  # of what was found
        self.kernel_slot: torch.Tensor | None = None
        self.found_kernel: torch.Tensor | None = None

    def take(self, image: torch.Tensor, pooled: int) -> int:
        """Copies what was put out for one image; returns the number of the call."""
        call = self.calls
        self.calls = call + 1
        if call < len(self.slots) and self.slots[call].shape == image.shape:
            self.slots[call].copy_(image)
        elif call < MAX_CALLS:
            self.found[call] = image.to(torch.float16, copy=True)
            self.pooled[call] = pooled
        return call

    def reset(self) -> None:
        """Forgets what was found."""
        self.calls = 0
        if self.found:
            self.found.clear()
        self.found_kernel = None


class Tap:
    """The forward hook of one layer.

    Pickled or copied with the model (`torch.save(model)`, a deepcopy for an average of the
    weights) it turns into a hook that does nothing and needs no mapreel to load.
    """

    def __init__(self, taps: Taps, name: str, module: nn.Module) -> None:
        self.taps = taps
        self.name = name
        self.ports: dict[tuple[int | None, str], Port] = {}
        self.main = self.port(None, "")
        self.batch_axis = 1 if batch_second(taps.root, module) else 0
        self.is_recurrent = isinstance(module, nn.RNNBase)
        self.axes = [axes_of(module, rank, taps.has_signals) for rank in range(6)]
        # A parametrised weight (weight_norm, say) is computed anew at each access: leave it be.
        self.has_kernel = isinstance(module, _ConvNd) and "weight" in module._parameters
        self.weights = module._parameters
        self.quick = taps.max_map is None

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        """The hook."""
        taps = self.taps
        if torch.compiler.is_compiling():
            if taps.root.training or taps.evaluation:
                taps.traced = True
                if not taps.input.fired:  # a part of the model, called directly
                    taps.input.copy(args, {})
                self.copy(module, output)
            return
        state = taps.state
        asks = taps.pending and not taps.inside
        if state in (IDLE, DONE) and not asks:
            return
        if torch._C._current_graph_task_id() != -1:
            return  # a forward inside a backward pass is checkpointing's second one
        if state == INSIDE and not asks and self.put(output):
            return
        try:
            if asks and state != PROBING:
                taps.on_forward(taps.root.training)
                state = taps.state
                if state in (IDLE, DONE):
                    return
            if state == WAITING and not taps.begin_with(module, args):
                return
            if state == OPEN and not (taps.root.training or taps.evaluation):
                return
            if state == PROBING:
                self.copy_probes(output)
            else:
                self.copy(module, output)
        except Exception as error:  # never into the training
            taps.fail(self.name, error)

    def put(self, output: Any) -> bool:
        """The usual case of `copy`, in few steps: a map of known shape, whose slots are there.

        Each step in Python costs a training ten times what it costs in a loop of its own, since
        what it needs has gone from the processor's caches.

        Returns:
            False where it is another case, and nothing was done.
        """
        port = self.main
        call = port.calls
        if call >= len(port.slots) or not self.quick or not isinstance(output, torch.Tensor):
            return False
        slot = port.slots[call]
        if output.ndim < 3 or not output.shape[self.batch_axis]:
            return False
        kernel = port.kernel_slot if call == 0 else None
        weight = None if kernel is None else self.weights.get("weight")
        if weight is None and kernel is not None:
            return False
        try:
            image = output.detach().select(self.batch_axis, 0)
            if image.shape != slot.shape:
                return False
            slot.copy_(image)
            port.calls = call + 1
            if kernel is not None and weight is not None:
                kernel.copy_(weight.detach())
        except Exception as error:  # never into the training
            self.taps.fail(self.name, error)
        return True

    def copy(self, module: nn.Module, output: Any) -> None:
        """Copies the first image of what the layer put out, and the kernels that made it."""
        if isinstance(output, torch.Tensor):
            image, pooled = self.image(output, 0)
            if image is None:
                return
            if self.main.take(image, pooled) == 0 and self.has_kernel:
                weight = module.weight.detach()  # type: ignore[operator]
                if self.main.kernel_slot is not None:
                    self.main.kernel_slot.copy_(weight)
                elif weight.numel() <= image.numel():
                    self.main.found_kernel = weight.to(torch.float16, copy=True)
            return
        for item, tensor in self.parts(output):
            image, pooled = self.image(tensor, 0)
            if image is not None:
                self.port(None, item).take(image, pooled)

    def copy_probes(self, output: Any) -> None:
        """Copies what the layer put out for each of the fixed images."""
        for item, tensor in self.parts(output):
            for number in range(self.taps.probes):
                image, pooled = self.image(tensor, number)
                if image is not None:
                    self.port(number, item).take(image, pooled)

    def parts(self, output: Any) -> list[tuple[str, torch.Tensor]]:
        """The tensors of an output and what they are called: one alone needs no name."""
        if self.is_recurrent and isinstance(output, tuple):
            output = output[0]  # the others are states, whose first axis is no batch
        found = list(tensors_of(output))
        return [("", found[0][1])] if len(found) == 1 else found

    def image(self, tensor: torch.Tensor, number: int) -> tuple[torch.Tensor | None, int]:
        """One image's part of a batch, and of how many values in a row each is the mean."""
        axis = self.batch_axis if tensor.ndim > 2 else 0
        if tensor.ndim == 0 or tensor.shape[axis] <= number:
            return None, 1
        if tensor.is_meta:
            raise ValueError("its output has a shape but no values (device meta)")
        image = tensor.detach().select(axis, number)
        most = self.taps.max_map
        if most is None:
            return image, 1
        spatial = [
            place for place, axis in enumerate(self.axes[min(5, image.ndim)]) if axis in "DHWL"
        ]
        factor = max([-(-image.shape[place] // most) for place in spatial], default=1)
        return pool(image, spatial, factor) if factor > 1 else image, max(1, factor)

    def port(self, probe: int | None, item: str) -> Port:
        """The port of one part of the output."""
        port = self.ports.get((probe, item))
        if port is None:
            port = self.ports[probe, item] = Port(probe, self.name, item)
            self.taps.ports.append(port)
        return port

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
        self.has_image = False
        self.fired = False
        self.dtype: torch.dtype | None = None  # of the last input, and where it was
        self.device: torch.device | None = None
        self.autocast: torch.dtype | None = None  # under which it was seen

    def before(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        """Forward pre-hook: begins a recording if this is a training pass that is waited for."""
        taps = self.taps
        if torch.compiler.is_compiling():
            if module.training or taps.evaluation:
                taps.traced = True
                if not taps.counts_on:
                    for port in taps.ports:
                        port.calls = 0
                if not (taps.counts_on and self.fired):
                    self.copy(args, kwargs)
            return
        if taps.state == PROBING or torch._C._current_graph_task_id() != -1:
            return
        taps.inside = True
        try:
            taps.on_forward(module.training)
            if not (module.training or taps.evaluation):
                return
            if taps.state == DONE and taps.several:
                taps.state = INSIDE
            # INSIDE: an earlier forward of this batch ended in an exception.
            elif taps.state in (WAITING, INSIDE):
                taps.state = INSIDE
                taps.reset()
                self.copy(args, kwargs)
        except Exception as error:
            taps.fail("input", error)

    def after(self, module: nn.Module, args: Any, output: Any) -> None:
        """Forward hook: ends it."""
        if torch.compiler.is_compiling():
            return
        self.taps.inside = False
        if self.taps.state == INSIDE:
            self.taps.state = DONE

    def copy(self, args: Any, kwargs: dict[str, Any]) -> None:
        """Copies the first image of the input, as the network sees it."""
        tensor = first_image(args, kwargs)
        self.fired = True
        self.has_image = tensor is not None
        if tensor is None:
            return
        image = tensor.detach()[0]
        self.dtype, self.device = image.dtype, image.device
        if self.taps.asks_autocast:
            kind = image.device.type
            enabled = torch.is_autocast_enabled(kind)
            self.autocast = torch.get_autocast_dtype(kind) if enabled else None
        if self.slot is not None and self.slot.shape == image.shape:
            self.slot.copy_(image)
            self.found = None
        else:
            self.found = image.to(torch.float16, copy=True)

    def __reduce__(self) -> Any:
        return getattr, (contextlib.nullcontext(), "__exit__")


class Before:
    """`Root.before` as a hook that survives being pickled and copied with the model."""

    def __init__(self, root: Root) -> None:
        self.root = root

    def __call__(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        """The hook."""
        self.root.before(module, args, kwargs)

    def __reduce__(self) -> Any:
        return getattr, (contextlib.nullcontext(), "__exit__")


class After(Before):
    """`Root.after` likewise."""

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        """The hook."""
        self.root.after(module, args, output)
