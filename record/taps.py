"""All hooks of a recording: the first image of what each layer puts out, copied, as float16.

The first recorded forward finds out which layers fire, how often and in what shape; from this
comes the layout, and from then on every tap has its slice.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from record.layers import describe
from record.tap import IDLE, MAX_CALLS, OPEN, After, Before, Port, Root, Tap
from record.wire import Layout
from replay.schema import Layer

MAX_SHAPES = 8  # of one layer call, or of the input, in one run

# What a frame is of: the fixed image or None, the layer, the part of its output, the call within
# the batch, the shape.
Key = tuple["int | None", str, str, int, tuple[int, ...]]

# The parts of a flat buffer: the input's, and by port those of its calls and of its kernels.
Slices = tuple[torch.Tensor | None, dict["Port", tuple[list[torch.Tensor], torch.Tensor | None]]]


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
        self._handles.append(before(self.root, Before(self.input), with_kwargs=True))
        self._handles.append(after(self.root, After(self.input)))

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


def _spell(key: Key, varied: bool) -> str:
    """A layer's name in the file: `fpn[p3]#1@64x20x28`."""
    _, layer, item, call, shape = key
    name = layer + (f"[{item}]" if item else "") + (f"#{call}" if call else "")
    return f"{name}@{'x'.join(str(n) for n in shape)}" if varied else name
