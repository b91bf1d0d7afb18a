"""One row of the table: a tiny training, and the truth about what its layers put out.

The truth comes from hooks of its own, which clone at once, on a training of its own. It knows
nothing of any tool: only the forwards that a row calls its training forwards count.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

Array = np.ndarray[Any, Any]
Call = Callable[..., Any]  # a training forward: the model's, or a tool's in its place
Calls = dict[str, list[Array]]  # of one batch: what a layer put out, call by call

KERNEL = " (kernels)"  # behind a layer's name: what made its maps, where a tool keeps that, too
UNREADABLE: Array = np.empty(0, np.float16)  # stands for what raises an error when it is read


class BrokenBatchError(Exception):
    """Raised inside a forward; the training goes on with the next batch."""


def mean_square(call: Call, model: nn.Module, batch: Any) -> torch.Tensor:
    """What most rows do in a step."""
    loss: torch.Tensor = call(batch).square().mean()
    return loss


def first(output: torch.Tensor) -> torch.Tensor:
    """The first image's part of what a layer put out, where the batch is the first axis."""
    return output[0]


@dataclass(frozen=True)
class Row:
    """One situation.

    Attributes:
        what: The situation in a few words.
        make: Makes the network.
        layers: What is looked at: a module's path, or `path[1]` for one tensor of its output.
        data: Makes the batches of an epoch.
        step: The loss of a training step; it makes the training forwards by its first argument.
        pick: How the first image's part is had of a layer's output, where it is not `output[0]`.
        image: What a picture of the input may hold, of a batch: any of these. None: not looked at.
        reference: Makes the network that the truth watches, if it is another one.
        reference_step: The step of that one, likewise.
        prepare: Done to the model after the tool has been attached to it.
        turn: Done at the beginning of an epoch; True where the optimizer has to be made anew.
        before: Done before each step; what it returns must be the same without the tool.
        after: Likewise, behind each step.
        at_end: Likewise, once, while the tool is still attached.
        tracked: Whether the tool is told of epochs and batches, where it can be.
        missing: Layers whose output no picture can be made of; their absence has to be said.
        silent: Batches that may have no frame, as their forward fails.
        close: How far a frame may be from the truth: 0 where it is to be equal to the bit.
        together: Layers that have to be of one forward in each frame, in whatever order they come.
        world: Processes that train together.
        killed: After how many batches the training is killed.
    """

    what: str
    make: Callable[[], nn.Module]
    layers: tuple[str, ...]
    data: Callable[[], list[Any]]
    step: Callable[[Call, nn.Module, Any], torch.Tensor] = mean_square
    pick: dict[str, Callable[[torch.Tensor], torch.Tensor]] = field(default_factory=dict)
    image: Callable[[Any], list[torch.Tensor]] | None = None
    reference: Callable[[], nn.Module] | None = None
    reference_step: Callable[[Call, nn.Module, Any], torch.Tensor] | None = None
    prepare: Callable[[nn.Module], Any] | None = None
    turn: Callable[[nn.Module, int], bool] | None = None
    before: Callable[[nn.Module, Any], Any] | None = None
    after: Callable[[nn.Module, Any], Any] | None = None
    at_end: Callable[[nn.Module, Any], Any] | None = None
    tracked: bool = True
    missing: tuple[str, ...] = ()
    silent: tuple[int, ...] = ()
    close: float = 0.0
    together: bool = False
    world: int = 1
    killed: int = 0
    epochs: int = 2
    rate: float = 0.05

    def paths(self) -> dict[str, tuple[str, int]]:
        """The module and the tensor in what it puts out, by layer."""
        found = {}
        for layer in self.layers:
            path, _, item = layer.partition("[")
            found[layer] = path, int(item.rstrip("]") or 0)
        return found


def leaves(output: Any) -> list[torch.Tensor]:
    """The tensors in whatever a module puts out."""
    if isinstance(output, torch.Tensor):
        return [output]
    if isinstance(output, PackedSequence):
        return [output.data]
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, (tuple, list)):
        return [leaf for part in output for leaf in leaves(part)]
    return [leaf for leaf in vars(output).values() if isinstance(leaf, torch.Tensor)]


def plain(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor like any other: dense, one, real (complex numbers by their magnitude)."""
    if hasattr(tensor, "full_tensor"):  # of a mesh of processes
        tensor = tensor.full_tensor()
    if tensor.is_nested:
        tensor = torch.nested.to_padded_tensor(tensor, 0.0)
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    return tensor.abs() if tensor.is_complex() else tensor


def to_half(tensor: torch.Tensor) -> Array:
    """As a recording has it: float16, (C, H, W) or whatever the axes are."""
    with torch.no_grad():
        copied: Array = plain(tensor.detach()).to(torch.float16).cpu().contiguous().numpy().copy()
    return copied


def to_half_or_nothing(tensor: torch.Tensor, alone: bool = False) -> Array:
    """The same of what a tool kept, which may be a tensor of a pass that has ended.

    Args:
        tensor: What was kept.
        alone: Whether only this process has it, so that others cannot be asked for their parts.
    """
    try:
        if alone and hasattr(tensor, "full_tensor"):
            if not all(placement.is_replicate() for placement in tensor.placements):
                return UNREADABLE
            tensor = tensor.to_local()
        return to_half(tensor)
    except Exception:
        return UNREADABLE


def bare(model: nn.Module) -> nn.Module:
    """The model without DistributedDataParallel or torch.compile around it."""
    inner = getattr(model, "_orig_mod", None) or getattr(model, "module", None)
    return bare(inner) if isinstance(inner, nn.Module) else model


class Truth:
    """Hooks that clone at once, and count only what the row calls its training forwards."""

    def __init__(self, row: Row, whole: bool) -> None:
        self.row, self.whole = row, whole
        self.batches: list[Calls] = []
        self._active = threading.local()
        self._handles: list[Any] = []

    def attach(self, model: nn.Module) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        modules = dict(bare(model).named_modules())
        for layer, (path, leaf) in self.row.paths().items():
            module = modules.get(path)
            if module is not None:
                hook = self._hook(layer, leaf)
                self._handles.append(nn.Module.register_forward_hook(module, hook))

    def _hook(self, layer: str, leaf: int) -> Callable[..., None]:
        def keep(module: nn.Module, args: Any, output: Any) -> None:
            if getattr(self._active, "now", False):
                tensor = leaves(output)[leaf].detach().clone()
                part = tensor if self.whole else self.row.pick.get(layer, first)(tensor)
                self.batches[-1].setdefault(layer, []).append(to_half(part))
                kernel = module._parameters.get("weight")  # read as an attribute it may be computed
                if not self.whole and kernel is not None and kernel.ndim > 2:
                    kernels = self.batches[-1].setdefault(layer + KERNEL, [])
                    kernels.append(to_half(kernel.clone()))

        return keep

    def call(self, model: nn.Module) -> Call:
        def forward(*args: Any) -> Any:
            self._active.now = True
            try:
                return model(*args)
            finally:
                self._active.now = False

        return forward

    def track(self, data: Iterable[Any], epoch: int) -> Iterator[Any]:
        for batch in data:
            self.batches.append({})
            image = self.row.image
            if image is not None and not self.whole:
                self.batches[-1]["input"] = [to_half(picture) for picture in image(batch)]
            yield batch


@dataclass
class Left:
    """What a training left behind.

    Attributes:
        state: Digests of the weights, the buffers and the random state.
        results: What the row's own doings came to.
        warnings: What was said, by category and text.
        failed: The exception that ended it.
        steps: Optimizer steps until then.
    """

    state: dict[str, str] = field(default_factory=dict)
    results: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    failed: BaseException | None = None
    steps: int = 0


class Nothing:
    """Stands where a tool would: looks at nothing."""

    def attach(self, model: nn.Module) -> None:
        pass

    def call(self, model: nn.Module) -> Call:
        return model

    def track(self, data: Iterable[Any], epoch: int) -> Iterator[Any]:
        yield from data

    def detach(self) -> None:
        pass


def digest(model: nn.Module) -> dict[str, str]:
    """Every weight and buffer to the bit, and the random state."""
    found = {part: hashlib.sha256() for part in ("weights", "buffers", "random state")}
    found["random state"].update(torch.get_rng_state().numpy().tobytes())
    weights = {name for name, _ in model.named_parameters()}
    for name, value in model.state_dict().items():
        part = found["weights" if name in weights else "buffers"]
        part.update(name.encode())
        value = torch.view_as_real(value) if value.is_complex() else plain(value.detach())
        part.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return {part: digest.hexdigest() for part, digest in found.items()}


def train(row: Row, tool: Any, truth: Truth | None = None) -> Left:
    """Trains as the row says, under a tool, the truth's hooks or neither."""
    left = Left()
    torch.manual_seed(0)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            _train(row, truth or tool, left, watched=truth is not None)
        except Exception as error:  # a tool's, since the row alone has none
            left.failed = error
    texts = [f"{one.category.__name__}: {' '.join(str(one.message).split())}" for one in said]
    left.warnings = list(dict.fromkeys(texts))
    return left


def _train(row: Row, tool: Any, left: Left, watched: bool) -> None:
    model = (row.reference or row.make)() if watched else row.make()
    step = (row.reference_step or row.step) if watched else row.step
    data = row.data()
    with contextlib.ExitStack() as stack:
        tool.attach(model)
        if not watched:
            stack.callback(tool.detach)
        if row.prepare is not None:
            row.prepare(model)
        optimizer = torch.optim.SGD(model.parameters(), row.rate)
        for epoch in range(row.epochs):
            if row.turn is not None and row.turn(model, epoch):
                optimizer = torch.optim.SGD(model.parameters(), row.rate)
                if watched:
                    tool.attach(model)
            for batch in tool.track(data, epoch):
                if row.before is not None:
                    left.results.append(str(row.before(model, batch)))
                try:
                    loss = step(tool.call(model), model, batch)
                except BrokenBatchError:
                    continue
                optimizer.zero_grad()
                if loss.requires_grad:
                    loss.backward()
                optimizer.step()
                left.steps += 1
                if row.after is not None:
                    left.results.append(str(row.after(model, batch)))
        if row.at_end is not None:
            left.results.append(str(row.at_end(model, data[-1])))
    left.state = digest(model)
