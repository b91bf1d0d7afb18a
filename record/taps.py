"""The forward hooks: the first image of what each layer puts out, copied, as float16.

A tap does one thing: it copies `output[0]` into its slice of a flat float16 buffer. That crops,
converts and copies at once, allocates nothing, and is done before an in-place ReLU behind the
layer can overwrite it. Under torch.compile the same copy is traced and becomes part of the graph.

The first recorded forward finds out which layers fire, how often and in what shape; from this
comes the layout, and from then on every tap has its slice.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from record.layers import axes_of, batch_second, describe
from record.wire import Layout
from replay.schema import Layer

# Of a batch: its forward has yet to come, runs, or has been recorded. OPEN: parts of the model are
# called directly, so that nobody can say when its forward ends. PROBING: a fixed image.
IDLE, WAITING, INSIDE, OPEN, DONE, PROBING = range(6)

MAX_CALLS = 64  # of one layer in one batch
MAX_SHAPES = 8  # of one layer call, or of the input, in one run

# What a frame is of: the fixed image or None, the layer, the part of its output, the call within
# the batch, the shape.
Key = tuple["int | None", str, str, int, tuple[int, ...]]

# The parts of a flat buffer: the input's, and by port those of its calls and of its kernels.
Slices = tuple[torch.Tensor | None, dict["Port", tuple[list[torch.Tensor], torch.Tensor | None]]]


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


class Taps:
    """All hooks of one recording, installed on the layers and on the model.

    Args:
        model: The network, unwrapped.
        layers: The modules to record, by name.
        on_forward: Called when a forward of the model begins, before it is recorded, with
            whether it is a training pass.
        fail: Called with a name and an exception when a hook could not do its work.
        max_map: Maps that are larger in one of their axes are pooled before they are copied.

    Attributes:
        state: IDLE, WAITING for a batch's forward, INSIDE it, DONE with it, OPEN or PROBING.
        traced: Whether torch.compile has traced the hooks; they then copy at every forward.
        inside: Whether the model's own forward runs, recorded or not.
        pending: Whether a layer that fires outside of it may begin a new batch: asks `on_forward`.
        opened: Whether parts of the model were ever called directly.
        counts_on: Whether a compiled model's further forwards of a batch are calls of their own;
            else the last one is recorded. Never changed while recording: graphs depend on it.
        several: Whether all forwards of a batch are recorded, not its first one alone.
        evaluation: Whether forwards in evaluation mode are recorded too.
        probes: Number of fixed images in a forward while PROBING.
        asks_autocast: Whether it matters under which autocast a forward runs.
        ports: Every tensor that was ever put out.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: dict[str, nn.Module],
        on_forward: Callable[[bool], None],
        fail: Callable[[str, Exception], None],
        max_map: int | None = None,
    ) -> None:
        self.root = model
        self.layers = layers
        self.state = IDLE
        self.traced = False
        self.counts_on = False
        self.several = False
        self.inside = False
        self.pending = False
        self.opened = False
        self.evaluation = False
        self.probes = 0
        self.asks_autocast = False
        self.on_forward = on_forward
        self.fail = fail
        self.max_map = max_map
        self.has_signals = any("1d" in type(m).__name__ for m in model.modules())
        self.input = Root(self)
        self.ports: list[Port] = []
        self.taps = [Tap(self, name, module) for name, module in layers.items()]
        self.keys: list[Key] = []  # the layout's layers, in its order
        self.layout = Layout((), ())
        self._pointed: Slices | None = None
        self._handles: list[Any] = []

    def install(self) -> None:
        """Adds the hooks. A graph compiled without them is compiled anew."""
        if _has_compiled():
            torch.compiler.reset()
        _let_scripts_pass()
        _active.add(self)
        self._attach()

    def _attach(self) -> None:
        # Unbound: a ScriptModule refuses by name what works when it is called from Python.
        after, before = nn.Module.register_forward_hook, nn.Module.register_forward_pre_hook
        for tap, module in zip(self.taps, self.layers.values(), strict=True):
            self._handles.append(after(module, tap))
        self._handles.append(before(self.root, _Before(self.input), with_kwargs=True))
        self._handles.append(after(self.root, _After(self.input)))

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @contextlib.contextmanager
    def lifted(self) -> Iterator[None]:
        """The model without hooks, for as long as it is looked at by what cannot read them."""
        self._detach()
        try:
            yield
        finally:
            self._attach()

    def remove(self) -> None:
        """Removes the hooks."""
        _active.discard(self)
        self._detach()
        self.state = IDLE
        if self.traced:
            torch.compiler.reset()

    def begin_with(self, module: nn.Module, args: Any) -> bool:
        """A layer put something out though the model itself was not called: its parts are.

        Returns:
            Whether that is recorded: in evaluation mode it is not.
        """
        if not (self.root.training or self.evaluation):
            return False
        self.state = OPEN
        self.opened = True
        if not self.input.fired:  # else a compiled graph has begun, and left the rest to Python
            self.reset()
            self.input.copy(args, {})
        return True

    def reset(self) -> None:
        """Forgets what was found in a forward that began and was not recorded."""
        self.input.fired = self.input.has_image = False
        self.input.found = None
        for port in self.ports:
            port.reset()

    def slices(self, flat: torch.Tensor) -> Slices:
        """The layout's parts of a flat float16 buffer, for `point_at`."""
        layout = self.layout
        parts: dict[Port, tuple[list[torch.Tensor], torch.Tensor | None]] = {}
        for place, port, call, _ in self._places():
            slots, own = parts.get(port, ([], None))
            kernel = layout.kernel_slots[place]
            if call == len(slots):  # a call's first shape; its calls are in their order
                slots.append(view(flat, layout.map_slots[place]))
            parts[port] = slots, own if kernel is None else view(flat, kernel)
        image = view(flat, layout.image_slots[0]) if layout.images else None
        return image, parts

    def point_at(self, slices: Slices | None) -> None:
        """Gives every tap its slices of a buffer; None takes them away."""
        if slices is not None and slices is self._pointed:
            return
        self._pointed = slices
        self.input.slot, parts = (None, {}) if slices is None else slices
        for port in self.ports:
            port.slots, port.kernel_slot = parts.get(port, ([], None))

    @property
    def fired(self) -> bool:
        """Whether a forward was recorded since the last `reset`."""
        return self.input.fired

    @property
    def silent(self) -> list[str]:
        """Names of the layers that have never fired."""
        known = {name for _, name, *_ in self.keys}
        fired = {port.layer for port in self.ports if port.found}
        return [tap.name for tap in self.taps if tap.name not in known | fired]

    @property
    def regular(self) -> bool:
        """Whether the last forward put all that the layout has, and nothing else, into its slots.

        So it is in all but a few batches of a usual training; the others are looked at layer by
        layer, by `extend`, `fill` and `missing`.
        """
        seen = self.input
        if not self.layout.layers or seen.found is not None:
            return False
        held = 0
        for port in self.ports:
            if port.found or port.calls != len(port.slots):
                return False
            held += port.calls
        return held == len(self.keys)  # a layer of several shapes has more keys than calls

    def extend(self) -> bool:
        """Adds what was found for the first time to the layout; False where nothing is new."""
        images = self.layout.images
        if self.input.found is not None and len(images) < MAX_SHAPES:
            shape = tuple(self.input.found.shape)
            images += (shape,) if shape not in images else ()
        known = set(self.keys)
        shapes: dict[tuple[int | None, str, str, int], int] = {}
        for *call_key, _ in self.keys:
            at = tuple(call_key)
            shapes[at] = shapes.get(at, 0) + 1  # type: ignore[index, arg-type]
        fresh: list[Layer] = []
        for tap, module in zip(self.taps, self.layers.values(), strict=True):
            for port in tap.ports.values():
                for call, found in sorted(port.found.items()):
                    key = (port.probe, port.layer, port.item, call, tuple(found.shape))
                    others = shapes.get(key[:4], 0)
                    if key in known or others >= MAX_SHAPES:
                        continue
                    self.keys.append(key)
                    kernel = port.found_kernel if call == 0 else None
                    fresh.append(
                        Layer(
                            name=_spell(key, varied=others > 0),
                            module=describe(module),
                            shape=key[4],
                            kernel=None if kernel is None else tuple(kernel.shape),
                            axes=tap.axes[min(5, found.ndim)],
                            pooled=port.pooled.get(call, 1),
                            probe=port.probe,
                        )
                    )
        if not fresh and images == self.layout.images:
            return False
        self.layout = Layout(images, self.layout.layers + tuple(fresh))
        return True

    def fill(self, flat: torch.Tensor) -> None:
        """Copies what was found without a slot into a flat buffer."""
        layout = self.layout
        image = self.image
        if self.input.found is not None and image is not None:
            view(flat, layout.image_slots[image]).copy_(self.input.found)
        for place, port, call, shape in self._places():
            found = port.found.get(call)
            kernel = layout.kernel_slots[place]
            try:
                if found is not None and found.shape == shape:
                    view(flat, layout.map_slots[place]).copy_(found)
                if call == 0 and kernel is not None and port.found_kernel is not None:
                    view(flat, kernel).copy_(port.found_kernel)
            except Exception as error:  # this layer's frame is missing, the others are not
                port.calls = min(port.calls, call)
                self.fail(port.layer, error)

    @property
    def image(self) -> int | None:
        """Which of the layout's images the last forward saw; None without one."""
        if not self.input.has_image:
            return None
        found = self.input.found
        if found is None:
            return 0
        shape = tuple(found.shape)
        return self.layout.images.index(shape) if shape in self.layout.images else None

    def missing(self) -> tuple[list[int], int, list[str]]:
        """Of the last forward: places without a frame, layers that were silent, lost frames."""
        places: list[int] = []
        there: dict[tuple[Port, int], bool] = {}
        for place, port, call, shape in self._places():
            found = port.found.get(call)
            first = (port, call) not in there
            present = call < port.calls and (first if found is None else found.shape == shape)
            there[port, call] = there.get((port, call), False) or present
            if not present:
                places.append(place)
        absent = sum(port.probe is None and not held for (port, _), held in there.items())
        lost = [
            port.layer
            for port in self.ports
            for call in range(min(port.calls, MAX_CALLS))
            if not there.get((port, call), False)
        ]
        return places, absent, lost

    def _places(self) -> Iterator[tuple[int, Port, int, tuple[int, ...]]]:
        by_name = {tap.name: tap for tap in self.taps}
        for place, (probe, layer, item, call, shape) in enumerate(self.keys):
            yield place, by_name[layer].ports[probe, item], call, shape


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


_active: weakref.WeakSet[Taps] = weakref.WeakSet()  # of recordings that are going on


def _let_scripts_pass() -> None:
    """Lets torch.jit.script, which takes every hook for code of the model, see none of ours.

    What it calls for each module is wrapped once and stays so; without a recording the wrapper
    does nothing.
    """
    home: Any = torch.jit._recursive
    create = getattr(home, "create_script_module", None)
    if create is None or getattr(create, "lifts_taps", False):
        return

    @functools.wraps(create)
    def lifting(*args: Any, **kwargs: Any) -> Any:
        with contextlib.ExitStack() as stack:
            for taps in list(_active):
                stack.enter_context(taps.lifted())
            return create(*args, **kwargs)

    lifting.lifts_taps = True  # type: ignore[attr-defined]
    home.create_script_module = lifting


def _has_compiled() -> bool:
    """Whether torch.compile has compiled anything yet.

    To forget what was never compiled would cost seconds where there is a GPU: torch imports its
    compiler for it.
    """
    frames = sys.modules.get("torch._dynamo.convert_frame")
    codes = getattr(frames, "input_codes", None)
    return frames is not None and bool(getattr(codes, "seen", True))


def view(flat: torch.Tensor, slot: Any) -> torch.Tensor:
    """The part of a flat buffer that a slot names, in the slot's shape."""
    return flat[slot.start : slot.stop].view(slot.shape)


def pool(image: torch.Tensor, spatial: list[int], factor: int) -> torch.Tensor:
    """The means of blocks of `factor` values along each spatial axis, in the image's dtype.

    Blocks at the far edges are smaller where the size is no multiple of the factor.
    """
    first, count = spatial[0], len(spatial)
    flat = (
        image.movedim(spatial, list(range(-count, 0))) if spatial[-1] != image.ndim - 1 else image
    )
    means = (nn.functional.avg_pool1d, nn.functional.avg_pool2d, nn.functional.avg_pool3d)
    values = flat if flat.dtype == torch.float64 else flat.float()
    pooled = means[count - 1](
        values.unsqueeze(0), factor, ceil_mode=True, count_include_pad=False
    ).squeeze(0)
    if flat is not image:
        pooled = pooled.movedim(list(range(-count, 0)), list(range(first, first + count)))
    return pooled


def tensors_of(output: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """The floating-point tensors in a tuple, list, dict or dataclass, and how to get at them.

    >>> [name for name, _ in tensors_of({"a": torch.zeros(1), "b": (torch.ones(1), None)})]
    ['a', 'b.0']
    """
    if isinstance(output, torch.Tensor):
        if output.is_floating_point():
            yield name, output
        return
    if isinstance(output, dict):
        parts = [(str(key), part) for key, part in output.items()]
    elif isinstance(output, (tuple, list)) and not isinstance(output, nn.utils.rnn.PackedSequence):
        parts = [(str(place), part) for place, part in enumerate(output)]
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        fields = dataclasses.fields(output)
        parts = [(field.name, getattr(output, field.name)) for field in fields]
    else:
        return
    for key, part in parts:
        yield from tensors_of(part, f"{name}.{key}" if name else key)


def first_image(args: Any, kwargs: dict[str, Any]) -> torch.Tensor | None:
    """The first argument that is a batch of images or signals, (N, C, ...); None without one."""
    if args and isinstance(args[0], torch.Tensor):  # as nearly all have it
        image = args[0]
        if image.ndim >= 3 and image.shape[0] > 0 and image.is_floating_point():
            return image
    for value in [*args, *kwargs.values()]:
        for _, tensor in tensors_of(value):
            if tensor.ndim >= 3 and tensor.shape[0] > 0:
                return tensor
    return None


def _spell(key: Key, varied: bool) -> str:
    """A layer's name in the file: `fpn[p3]#1@64x20x28`."""
    _, layer, item, call, shape = key
    name = layer + (f"[{item}]" if item else "") + (f"#{call}" if call else "")
    return f"{name}@{'x'.join(str(n) for n in shape)}" if varied else name
