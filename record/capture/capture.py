"""All hooks of a recording: the first image of what each layer puts out, copied, as float16.

The first recorded forward finds out which layers fire, how often and in what shape; from this
comes the layout, and from then on every tap has its slice.
"""

from __future__ import annotations

import contextlib
import fnmatch
import sys
import weakref
from _thread import get_ident
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from record.capture.batch_axis import BatchSize, around, known_axis
from record.capture.hidden_hooks import attach, attach_always, lifted, shield, strip
from record.capture.layer_hook import LayerHook
from record.capture.model_hook import ModelHook, PostForwardHook, PreForwardHook
from record.capture.output_slots import OutputSlots
from record.capture.phase import IDLE, OPEN
from record.capture.tensors import size_of_batch
from record.modules.structure import Structure
from record.protocol.layout import BatchLayout
from replay.schema import Layer

MAX_SHAPES = 8  # of one layer call, or of the input, in one run

# What a frame is of: the fixed image or None, the layer, the part of its output, the call within
# the batch, the shape.
Key = tuple["int | None", str, str, int, tuple[int, ...]]

# The parts of a flat buffer: the input's, and by port those of its calls and of its kernels.
Slices = tuple[
    torch.Tensor | None, dict["OutputSlots", tuple[list[torch.Tensor], torch.Tensor | None]]
]


class CaptureListener(Protocol):
    """What is told of the forwards of a model; nothing of it may raise, but where it is said."""

    def forward_begins(self, training: bool, inputs: tuple[Any, dict[str, Any]]) -> None:
        """A forward begins, of the model or of a part that is called directly.

        Not told of one that is captured into a graph, nor of one within another.
        """

    def forward_ended(self, output: Any) -> None:
        """The model's own forward, recorded or not, has ended without an error."""

    def collided(self) -> None:
        """A forward began in one thread while another thread's was recorded."""

    def hook_failed(self, name: str, error: Exception) -> None:
        """A hook could not do its work; may raise where the user has asked for that."""

    def say(self, text: str, key: str | None = None) -> None:
        """Something is to be known of the recording, once."""


class Capture:
    """All hooks of one recording, installed on the layers and on the model.

    Args:
        model: The network, unwrapped.
        layers: The modules to record, by name.
        listener: Is told of forwards, and of what goes wrong.
        max_map: Maps that are larger in one of their axes are pooled before they are copied.
        axes: Which axis counts the images of a batch, by globs of layers' names or `input`.

    Attributes:
        state: Where the recording stands within a batch: see `states`.
        thread: That whose forward is recorded.
        batch: How many images the forward sees.
        loaded: What a loader handed out for the batch, if it is known.
        usual: How many images the loader hands out, but maybe in an epoch's last batch.
        ends_epoch: Whether it is known to be the last batch of an epoch, often a smaller one.
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
        batch_first: What all modules say that say anything of the order of axes.
        has_second: Whether any of them has the batch second.
        knows_its_axes: Whether the model is of a kind that knows the axes of sequences.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: dict[str, nn.Module],
        listener: CaptureListener,
        max_map: int | None = None,
        axes: Mapping[str, int] | None = None,
    ) -> None:
        self._root = weakref.ref(model)
        self.state = IDLE
        self.thread = 0
        self.batch = BatchSize()
        self.loaded: Any = None
        self.usual: int | None = None
        self.ends_epoch = False
        self.traced = False
        self.counts_on = False
        self.several = False
        self.inside = False
        self.pending = False
        self.opened = False
        self.evaluation = False
        self.probes = 0
        self.asks_autocast = False
        self.max_map = max_map
        self.on_forward = listener.forward_begins
        self.on_end = listener.forward_ended
        self.collide = listener.collided
        self.fail = listener.hook_failed
        self.say = listener.say
        self._said_axes = dict(axes or {})
        self.ports: list[OutputSlots] = []
        self.input = ModelHook(self)
        self.taps: list[LayerHook] = []
        self.keys: list[Key] = []  # the layout's layers, in its order
        self.layout = BatchLayout((), ())
        self._pointed: Slices | None = None
        self._paused: contextlib.ExitStack | None = None
        self._look_at_model(model)
        for name, module in layers.items():
            self._add(name, module)

    @property
    def root(self) -> nn.Module | None:
        """The model, which is not kept alive; None once it is gone."""
        return self._root()

    @property
    def training(self) -> bool:
        """Whether the model is in training mode."""
        root = self._root()
        return root is not None and root.training

    def _look_at_model(self, model: nn.Module) -> None:
        """What the model's modules say of their outputs."""
        modules = list(model.modules())
        self.structure = Structure(model)
        self.has_signals = any("1d" in type(m).__name__ for m in modules)
        self._around = around(model)
        flags = set(self._around.values())
        self.batch_first = flags.pop() if len(flags) == 1 else None
        self.has_second = False in self._around.values()
        self.knows_its_axes = known_axis(model, "", 3) is not None  # a bare LSTM, say
        first = next((m for m in modules if isinstance(m, _ConvNd)), None)
        self._first: tuple[int, int] | None = None  # axes and channels that it takes
        if first is not None:
            self._first = len(first.kernel_size), first.in_channels
        kinds = (_ConvNd, nn.RNNBase, nn.MultiheadAttention, nn.Linear, nn.Embedding)
        begins = next((m for m in modules if isinstance(m, kinds)), None)
        self._features = begins.input_size if isinstance(begins, nn.RNNBase) else None
        self._takes_batches = False  # whatever it looked like
        # In evaluation mode a transformer takes a faster way where it has no hooks, which does
        # not give the same numbers to the bit: there it shall have none.
        self._has_fast_path = any(isinstance(m, nn.TransformerEncoderLayer) for m in modules)

    def _add(self, name: str, module: nn.Module) -> None:
        first = self._around.get(id(module))
        self.taps.append(LayerHook(self, name, module, first, self.said_axis(name)))

    def said_axis(self, name: str) -> int | None:
        """The axis that counts images in a layer's outputs or in the `input`, as the user said."""
        for pattern, axis in self._said_axes.items():
            if fnmatch.fnmatchcase(name, pattern):
                return axis
        return None

    def install(self) -> None:
        """Adds the hooks. A graph compiled without them is compiled anew."""
        root = self.root
        assert root is not None
        if _has_compiled():
            torch.compiler.reset()
        shield.raise_over(root)
        self._attach(root)

    def _attach(self, root: nn.Module) -> None:
        for tap in self.taps:
            module = tap.module
            if tap.there and module is not None:
                attach(module, tap)
        attach(root, PreForwardHook(self.input), before=True)
        attach_always(root, PostForwardHook(self.input))

    def _modules(self) -> list[nn.Module]:
        """The model's modules, and those that were layers of it."""
        root = self.root
        layers = [module for tap in self.taps if (module := tap.module) is not None]
        return layers if root is None else [*layers, *root.modules()]

    def _detach(self) -> None:
        for module in self._modules():
            strip(module)

    def remove(self) -> None:
        """Removes the hooks."""
        self.resume()
        self._detach()
        shield.lower()
        self.state = IDLE
        self.loaded = None
        if self.traced:
            torch.compiler.reset()

    def pause(self) -> None:
        """A forward begins in which hooks would change what the model computes."""
        root = self.root
        if self._has_fast_path and not self.traced and root is not None and not root.training:
            self._paused = contextlib.ExitStack()
            self._paused.enter_context(lifted([m for m in self._modules() if m is not root]))

    def resume(self) -> None:
        """It has ended."""
        if self._paused is not None:
            paused, self._paused = self._paused, None
            paused.close()

    def follow(self, find: Callable[[nn.Module], dict[str, nn.Module]]) -> list[str]:
        """Looks for layers that were replaced or added since the last call.

        Args:
            find: The layers to record, of the model as it is now.

        Returns:
            What has changed, in words; nothing where the model is as it was.
        """
        root = self.root
        if root is None or not self.structure.changed():
            return []
        found = find(root)
        by_name = {tap.name: tap for tap in self.taps}
        replaced = [n for n, m in found.items() if n in by_name and by_name[n].module is not m]
        added = [name for name in found if name not in by_name]
        gone = [tap.name for tap in self.taps if tap.there and tap.name not in found]
        back = [tap.name for tap in self.taps if not tap.there and tap.name in found]
        self._detach()
        self._look_at_model(root)
        for tap in self.taps:
            tap.there = tap.name in found
            if tap.there:
                tap.adopt(found[tap.name])
        for name in added:
            self._add(name, found[name])
        shield.cover(root)
        if self.traced or _has_compiled():
            torch.compiler.reset()
        self._attach(root)
        says = (("replaced", replaced), ("added", added + back), ("removed", gone))
        return [f"{what}: {', '.join(names)}" for what, names in says if names]

    def begin_with(self, args: Any) -> bool:
        """A layer put something out though the model itself was not called: its parts are.

        Returns:
            Whether that is recorded: in evaluation mode it is not.
        """
        if not (self.training or self.evaluation):
            return False
        self.state, self.thread = OPEN, get_ident()
        self.opened = True
        if not self.input.fired:  # else a compiled graph has begun, and left the rest to Python
            self.reset()
            self.input.copy(args, {})
        return True

    def goes_on(self) -> bool:
        """Whether a part that is called directly belongs to what is recorded."""
        return self.thread == get_ident() and (self.training or self.evaluation)

    def reset(self) -> None:
        """Forgets what was found in a forward that began and was not recorded."""
        self.input.reset()
        for port in self.ports:
            port.reset()

    # How many images there are

    def batch_size(self) -> int | None:
        """How many images the loader handed out for this batch; None where that is not known."""
        if self.loaded is None:
            return None
        size = size_of_batch(self.loaded)
        return self.usual if size is None else size

    def sizes_without_image(self) -> tuple[int, ...]:
        """The same where the model is given nothing that could be an image."""
        size = self.batch_size()
        return () if size is None else (size,)

    def is_one_image(self, shape: Sequence[int]) -> bool:
        """Whether an input is a single image, without an axis for a batch."""
        if self._takes_batches:
            return False
        if len(shape) == 2 and shape[1] == self._features:  # (T, D), for a recurrent layer
            return True
        if self._first is None:
            return False
        rank, channels = self._first
        return len(shape) == rank + 1 and channels in (0, shape[0])

    def suits_convolution(self, shape: Sequence[int]) -> bool:
        """Whether an input has as many axes as the model's first convolution takes of a batch."""
        return self._first is not None and len(shape) == self._first[0] + 2

    def learn(self, rank: int, count: int | None) -> None:
        """A layer that knows its own rank has put something out.

        Args:
            rank: Number of axes.
            count: How many images it was of; None of one, without an axis for a batch.
        """
        seen = self.input
        if count is None and not self.batch.whole and seen.rank in (None, rank):
            self.batch = BatchSize(whole=True)
        elif count is not None and self.batch.whole and seen.rank is not None:
            # What looked like an image was a batch of them, each without its channel.
            self.batch = BatchSize((count,))
            self._takes_batches = True
            seen.divide()

    def slices(self, flat: torch.Tensor) -> Slices:
        """The layout's parts of a flat float16 buffer, for `point_at`."""
        layout = self.layout
        parts: dict[OutputSlots, tuple[list[torch.Tensor], torch.Tensor | None]] = {}
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
        self.input.in_slot = False
        for port in self.ports:
            port.point_at(*parts.get(port, ([], None)))

    @property
    def fired(self) -> bool:
        """Whether a forward was recorded since the last `reset`."""
        return self.input.fired

    @property
    def silent(self) -> dict[str, str]:
        """The layers that have put out nothing yet that could be recorded, and what they did."""
        known = {name for _, name, *_ in self.keys}
        known |= {port.layer for port in self.ports if port.found or port.in_slots}
        return {tap.name: tap.put_out for tap in self.taps if not (tap.failed or tap.name in known)}

    @property
    def regular(self) -> bool:
        """Whether the last forward put all that the layout has, and nothing else, into its slots.

        So it is in all but a few batches of a usual training; the others are looked at layer by
        layer, by `extend`, `fill` and `missing`.
        """
        if not self.layout.layers or self.input.found is not None:
            return False
        held = 0
        for port in self.ports:
            if not port.regular:
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
        for tap in self.taps:
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
                            module=tap.words,
                            shape=key[4],
                            kernel=None if kernel is None else tuple(kernel.shape),
                            axes=tap.axes[min(5, found.ndim)],
                            pooled=port.pooled.get(call, 1),
                            probe=port.probe,
                            note=port.note,
                        )
                    )
        if not fresh and images == self.layout.images:
            return False
        self.layout = BatchLayout(images, self.layout.layers + tuple(fresh))
        return True

    def fill(self, flat: torch.Tensor) -> set[int]:
        """Copies what was found without a slot into a flat buffer.

        Kernels that were not copied become NaN, as in the file's cells that nobody wrote.

        Returns:
            The places in the layout that hold their frame, in slots or by this.
        """
        layout = self.layout
        held: set[int] = set()
        first: set[tuple[OutputSlots, int]] = (
            set()
        )  # calls whose first shape, that of slots, was met
        for place, port, call, shape in self._places():
            found = port.found.get(call)
            in_slot = bool(port.in_slots >> call & 1) and (port, call) not in first
            first.add((port, call))
            try:
                if found is not None and found.shape == shape:
                    view(flat, layout.map_slots[place]).copy_(found)
                    in_slot = True
                if in_slot:
                    self._fill_kernel(flat, place, port, call)
                    held.add(place)
            except Exception as error:  # this layer's frame is missing, the others are not
                port.give_up(call)
                self.fail(port.layer, error)
        return held

    def _fill_kernel(self, flat: torch.Tensor, place: int, port: OutputSlots, call: int) -> None:
        slot = self.layout.kernel_slots[place]
        if slot is None or (call == 0 and port.kernel_in_slot):
            return
        kernel = view(flat, slot)
        if call == 0 and port.found_kernel is not None and port.found_kernel.shape == kernel.shape:
            kernel.copy_(port.found_kernel)
        else:
            kernel.fill_(torch.nan)

    def fill_image(self, flat: torch.Tensor) -> int | None:
        """Copies an image that was found without a slot into a flat buffer.

        Returns:
            Which of the layout's images the buffer holds; None where it holds none.
        """
        seen = self.input
        if seen.found is None:
            return 0 if seen.in_slot else None
        shape = tuple(seen.found.shape)
        if shape not in self.layout.images:
            return None
        number = self.layout.images.index(shape)
        view(flat, self.layout.image_slots[number]).copy_(seen.found)
        return number

    def missing(self, held: set[int]) -> tuple[list[int], int, list[str]]:
        """Of the last forward: places without a frame, layers that were silent, lost frames.

        Args:
            held: The places that have one, as `fill` says.
        """
        places: list[int] = []
        there: dict[tuple[OutputSlots, int], bool] = {}
        for place, port, call, _ in self._places():
            there[port, call] = there.get((port, call), False) or place in held
            if place not in held:
                places.append(place)
        absent = sum(port.probe is None and not held for (port, _), held in there.items())
        placed: dict[OutputSlots, set[int]] = {}
        for (port, call), present in there.items():
            if present:
                placed.setdefault(port, set()).add(call)
        lost = [port.layer for port in self.ports for _ in port.unplaced(placed.get(port, set()))]
        return places, absent, lost

    def _places(self) -> Iterator[tuple[int, OutputSlots, int, tuple[int, ...]]]:
        by_name = {tap.name: tap for tap in self.taps}
        for place, (probe, layer, item, call, shape) in enumerate(self.keys):
            yield place, by_name[layer].ports[probe, item], call, shape


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
