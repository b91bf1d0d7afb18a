"""The model that a plan stands for, and which axis of what its modules put out is the batch.

Any plan gives a model that can be trained: a part that does not fit what comes before it is left
out. Where the batch is, is known here by how the model is made, and nowhere looked up in a tensor.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import nn

from generated import modules as ours
from generated import outputs
from generated.plans import Part, Plan
from generated.rules import Rule, one, tensors_in

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
POOLS = (
    (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
    (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
)
MOST_TOKENS = 32


@dataclass(frozen=True)
class Flow:
    """What goes from one part to the next.

    Attributes:
        kind: `map` (C, ...), `tokens` (T, D), `vector` (D,) or `number` () of one image.
        shape: Of one image.
        axis: Where the batch lies; None where there is none.
        writable: Whether a layer may overwrite it without breaking the backward pass.
    """

    kind: str
    shape: tuple[int, ...]
    axis: int | None
    writable: bool

    @property
    def form(self) -> tuple[Any, ...]:
        """What has to be the same for the same layer to take it."""
        return self.kind, self.shape, self.axis


class Builder:
    """Makes a model of a plan.

    Args:
        plan: The plan.
        batches: The sizes of the batches that it will be given.

    Attributes:
        model: The model.
        rules: By the id of a module, what is to be recorded of what it puts out.
        axes: By the id of a module that puts out one tensor, the axis of its batch.
        opaque: Ids of modules whose outputs nobody can record.
    """

    def __init__(self, plan: Plan, batches: set[int]) -> None:
        self.rules: dict[int, Rule] = {}
        self.axes: dict[int, int | None] = {}
        self.opaque: set[int] = set()
        self._sizes = set(batches)
        if plan.calls and plan.some and plan.batched:
            for _ in range(plan.calls):
                self._sizes |= {(size + 1) // 2 for size in self._sizes}
        self._avoided = set() if plan.clash else self._sizes
        self._known: list[tuple[nn.Module, Flow, Flow]] = []
        recursive = plan.calls > 0
        flow = Flow(
            "map" if plan.rank else "tokens",
            plan.shape,
            0 if plan.batched else None,
            writable=not recursive and plan.style in ("tensor", "keyword"),
        )
        stem = (
            Part("conv", 2, 1) if plan.rank else Part("recur" if not plan.batched else "linear", 3)
        )
        trip = Part("trip")
        body, flow = self.row((stem, *plan.parts[:2], trip, *plan.parts[2:]), flow)
        some = plan.some and plan.batched and plan.style != "list"
        model = ours.Net(self.holder(nn.Sequential(*body), flow), plan.style, plan.calls, some)
        self.model = self.holder(model, flow)
        self.model.to(getattr(torch, plan.precision))

    # Rules

    def plain(self, module: nn.Module, axis: int | None) -> nn.Module:
        """It puts out one tensor with the batch in this axis."""
        self.rules[id(module)] = lambda output, number: one("", output, axis, number)
        self.axes[id(module)] = axis
        return module

    def holder(self, module: nn.Module, flow: Flow) -> nn.Module:
        """It puts out what its last part does."""
        return self.plain(module, flow.axis)

    def several(self, module: nn.Module, axes: dict[str, int | None]) -> nn.Module:
        """It puts out several tensors, each with the batch in an axis of its own."""

        def rule(output: Any, number: int) -> list[tuple[str, torch.Tensor]]:
            tensors = list(tensors_in(output))
            assert {name for name, _ in tensors} == set(axes) or len(axes) == 1
            if len(tensors) == 1:
                return one("", tensors[0][1], next(iter(axes.values())), number)
            return [
                part for name, tensor in tensors for part in one(name, tensor, axes[name], number)
            ]

        self.rules[id(module)] = rule
        return module

    def unreadable(self, module: nn.Module) -> nn.Module:
        """It puts out nothing that can be recorded."""
        self.rules[id(module)] = lambda output, number: []
        self.opaque.add(id(module))
        return module

    # Parts

    def row(self, parts: tuple[Part, ...], flow: Flow) -> tuple[list[nn.Module], Flow]:
        """Modules one behind the other."""
        made = []
        for part in parts:
            module, after = self.part(part, flow)
            if module is not None:
                made.append(module)
                flow = after
        return made, flow

    def part(self, part: Part, flow: Flow) -> tuple[nn.Module | None, Flow]:
        """One part behind what comes before it; None where it does not fit."""
        before = None
        if part.kind in ("encoder", "attention", "recur") and flow.kind == "map":
            before = self.part(Part("tokens", part.b), flow)
        start = flow if before is None or before[0] is None else before[1]
        made = getattr(self, f"make_{part.kind}")(part, start)
        if made is None:
            return None, flow
        module, after = made
        if before is not None and before[0] is not None:
            self.plain(module, after.axis)
            module = nn.Sequential(before[0], module)
        if id(module) not in self.rules:
            self.plain(module, after.axis)
        if not part.inner:
            self._known.append((module, flow, after))
        return module, after

    def inside(self, part: Part, flow: Flow) -> tuple[nn.Module, Flow]:
        """What a part holds, as one module."""
        made, after = self.row(part.inner, flow)
        if len(made) == 1:
            return made[0], after
        return self.plain(nn.Sequential(*made), after.axis), after

    def width(self, wanted: int) -> int:
        """A number of features that is no batch's size, so that it cannot be taken for one."""
        return next(n for n in range(wanted, 99) if n not in self._avoided)

    def make_conv(self, part: Part, flow: Flow) -> Any:
        if flow.kind != "map":
            return None
        channels, *space = flow.shape
        kernel, padding, stride = ((1, 0, 1), (3, 1, 1), (3, 1, 2), (2, 0, 1))[part.b % 4]
        if min(space) < kernel:
            kernel, padding, stride = 1, 0, 1
        out = 1 + part.a % 6
        kind = CONVOLUTIONS[len(space) - 1]
        module = kind(channels, out, kernel, stride=stride, padding=padding, bias=part.a % 2 == 0)
        space = [(n + 2 * padding - kernel) // stride + 1 for n in space]
        return module, replace(flow, shape=(out, *space), writable=True)

    def make_transposed(self, part: Part, flow: Flow) -> Any:
        if flow.kind != "map" or max(flow.shape[1:]) > 6:
            return None
        channels, *space = flow.shape
        out = 1 + part.a % 4
        module = TRANSPOSED[len(space) - 1](channels, out, 2, stride=2)
        return module, replace(flow, shape=(out, *[2 * n for n in space]), writable=True)

    def make_norm(self, part: Part, flow: Flow) -> Any:
        if flow.kind == "number":
            return None
        if flow.kind != "map":
            return nn.LayerNorm(flow.shape[-1]), replace(flow, writable=True)
        channels, *space = flow.shape
        choice = part.a % 3
        if flow.axis is None or (choice == 0 and 1 in self._sizes and prod(space) == 1):
            choice = 2
        if choice == 2 and prod(space) == 1:
            return None
        module: nn.Module
        if choice == 0:
            module = BATCH_NORMS[len(space) - 1](channels)
        elif choice == 1:
            module = nn.GroupNorm(channels if part.b % 2 else 1, channels)
        else:
            module = INSTANCE_NORMS[len(space) - 1](channels, affine=part.b % 2 == 1)
        if choice == 1 and 1 in self._sizes and prod(space) == 1:
            return None
        return module, replace(flow, writable=True)

    def make_activation(self, part: Part, flow: Flow) -> Any:
        choice = part.a % 5
        if choice < 3:
            module: nn.Module = (nn.ReLU if choice < 2 else nn.LeakyReLU)(inplace=flow.writable)
            return module, replace(flow, writable=False)
        module = nn.GELU() if choice == 3 else nn.Tanh()
        return module, replace(flow, writable=choice == 3)

    def make_dropout(self, part: Part, flow: Flow) -> Any:
        return nn.Dropout(0.25, inplace=flow.writable and part.a % 2 == 1), replace(
            flow, writable=False
        )

    def make_pool(self, part: Part, flow: Flow) -> Any:
        if flow.kind != "map":
            return None
        channels, *space = flow.shape
        choice = part.a % 4
        if choice == 1 and len(space) == 3:
            choice = 0  # torch has no AvgPool3d for bfloat16
        kind: Any = POOLS[choice][len(space) - 1]
        if choice < 2:
            if min(space) < 2:
                return None
            return kind(2), replace(flow, shape=(channels, *[n // 2 for n in space]), writable=True)
        size = 1 + part.b % 3
        return kind(size), replace(flow, shape=(channels, *[size] * len(space)), writable=True)

    def make_linear(self, part: Part, flow: Flow) -> Any:
        if flow.kind not in ("tokens", "vector"):
            return None
        out = self.width(2 + part.a % 7)
        module = nn.Linear(flow.shape[-1], out)
        return module, replace(flow, shape=(*flow.shape[:-1], out), writable=True)

    def make_trip(self, part: Part, flow: Flow) -> Any:
        return ours.Trip(), flow

    def make_identity(self, part: Part, flow: Flow) -> Any:
        return nn.Identity(), flow

    # From one kind to another

    def make_tokens(self, part: Part, flow: Flow) -> Any:
        if flow.kind != "map" or prod(flow.shape[1:]) > MOST_TOKENS:
            return None
        count, width = prod(flow.shape[1:]), flow.shape[0]
        if flow.axis is not None and (count in self._avoided or width in self._avoided):
            return None
        second = flow.axis is not None and part.a % 2 == 1
        axis = None if flow.axis is None else int(second)
        module = ours.ToTokens(second, flow.axis is not None)
        return module, Flow("tokens", (count, width), axis, writable=False)

    def make_swap(self, part: Part, flow: Flow) -> Any:
        if flow.kind != "tokens" or flow.axis is None:
            return None
        if self._avoided & set(flow.shape):
            return None
        return ours.Swap(), replace(flow, axis=1 - flow.axis, writable=False)

    def make_mean(self, part: Part, flow: Flow) -> Any:
        if flow.kind not in ("map", "tokens"):
            return None
        offset = 0 if flow.axis is None else 1
        if flow.kind == "map":
            axes = tuple(range(offset + 1, offset + len(flow.shape)))
            width = flow.shape[0]
        else:
            axes = (0 if flow.axis == 1 else offset,)
            width = flow.shape[1]
        if flow.axis is None:
            axes = axes if flow.kind == "map" else (0,)
        axis = None if flow.axis is None else 0
        return ours.Mean(axes), Flow("vector", (width,), axis, writable=True)

    def make_flatten(self, part: Part, flow: Flow) -> Any:
        if flow.kind != "map" or prod(flow.shape) > 200:
            return None
        module = nn.Flatten(0 if flow.axis is None else 1)
        return module, Flow("vector", (prod(flow.shape),), flow.axis, writable=False)

    def make_number(self, part: Part, flow: Flow) -> Any:
        if flow.kind != "vector" or flow.axis is None:
            return None
        linear = self.plain(nn.Linear(flow.shape[0], 1), 0)
        squeeze = self.plain(ours.Squeeze(), 0)
        return nn.Sequential(linear, squeeze), Flow("number", (), 0, writable=False)

    # What puts out several tensors, or none

    def make_encoder(self, part: Part, flow: Flow) -> Any:
        if flow.kind != "tokens":
            return None
        width = flow.shape[1]
        heads = 2 if width % 2 == 0 and part.b % 2 else 1
        module = nn.TransformerEncoderLayer(
            width,
            heads,
            dim_feedforward=self.width(6),
            dropout=0.1 * (part.a % 2),
            batch_first=flow.axis != 1,
            norm_first=part.b % 3 == 1,
        )
        for inner in module.modules():
            self.plain(inner, flow.axis)
        self.several(module.self_attn, {"": flow.axis})
        return module, replace(flow, writable=False)

    def make_attention(self, part: Part, flow: Flow) -> Any:
        if flow.kind != "tokens":
            return None
        width = flow.shape[1]
        heads = 2 if width % 2 == 0 and part.b % 2 and 2 not in self._avoided else 1
        average = part.a % 2 == 0 or 1 in self._avoided
        module = outputs.Attend(width, heads, flow.axis != 1, average)
        weights = None if flow.axis is None else 0
        self.several(module.mha, {"0": flow.axis, "1": weights})
        return module, replace(flow, writable=False)

    def make_recur(self, part: Part, flow: Flow) -> Any:
        if flow.kind != "tokens":
            return None
        kind = (nn.RNN, nn.LSTM, nn.GRU)[part.a % 3]
        hidden, both = self.width(3 + part.b % 3), part.b % 2 == 1
        if both and 2 * hidden in self._avoided:
            both = False
        rnn = kind(flow.shape[1], hidden, batch_first=flow.axis != 1, bidirectional=both)
        packed = part.a % 5 == 4 and flow.axis is not None
        if packed:
            self.unreadable(rnn)
        else:
            self.rules[id(rnn)] = lambda output, number: one("", output[0], flow.axis, number)
        shape = (flow.shape[0], hidden * (1 + both))
        return outputs.Recur(rnn, packed), replace(flow, shape=shape, writable=False)

    def make_fourier(self, part: Part, flow: Flow) -> Any:
        if flow.kind != "map":
            return None
        module = outputs.Fourier()
        self.plain(module.spectrum, flow.axis)
        return module, replace(flow, writable=False)

    def make_opaque(self, part: Part, flow: Flow) -> Any:
        what = ("object", "none", "empty", "text", "sparse", "meta")[part.a % 6]
        inner = outputs.Opaque(what)
        self.unreadable(inner)
        if what == "sparse":
            self.rules[id(inner)] = lambda output, number: one(
                "", output.to_dense(), flow.axis, number
            )
        return outputs.Aside(inner), flow

    def make_integers(self, part: Part, flow: Flow) -> Any:
        if flow.kind != "map" or flow.axis is None:
            return None
        inner = outputs.Integers(1, ("argmax", "sign")[part.a % 2])
        self.plain(inner, 0)
        self.opaque.add(id(inner))
        return outputs.Aside(inner), flow

    def make_fork(self, part: Part, flow: Flow) -> Any:
        shape = list(outputs.SHAPES)[part.a % len(outputs.SHAPES)]
        half = (len(part.inner) + 1) // 2
        still = replace(flow, writable=False)
        left, after = self.inside(replace(part, inner=part.inner[:half]), still)
        right, beside = self.inside(replace(part, inner=part.inner[half:]), still)
        fork = outputs.Fork(left, right, shape)
        axes = dict(zip(outputs.ITEMS[shape], (after.axis, beside.axis), strict=False))
        self.several(fork, axes)
        return outputs.Pick(fork), replace(after, writable=False)

    # What holds others

    def make_sequential(self, part: Part, flow: Flow) -> Any:
        made, after = self.row(part.inner, flow)
        return nn.Sequential(*made), after

    def make_row(self, part: Part, flow: Flow) -> Any:
        made, after = self.row(part.inner, flow)
        return ours.Row(made), after

    def make_table(self, part: Part, flow: Flow) -> Any:
        inner, after = self.inside(part, flow)
        return ours.Table(inner), after

    def make_bypassed(self, part: Part, flow: Flow) -> Any:
        inner, after = self.inside(part, flow)
        return ours.Bypassed(inner), after

    def make_residual(self, part: Part, flow: Flow) -> Any:
        inner, after = self.inside(part, replace(flow, writable=False))
        if after.form != flow.form:
            return ours.Table(inner), after
        return ours.Residual(inner), replace(after, writable=True)

    def make_repeated(self, part: Part, flow: Flow) -> Any:
        inner, after = self.inside(part, replace(flow, writable=False))
        times = 2 + part.a % 3 if after.form == flow.form else 1
        return ours.Repeated(inner, times), replace(after, writable=False)

    def make_again(self, part: Part, flow: Flow) -> Any:
        """A module that the model has in another place already."""
        there = [
            (module, after)
            for module, before, after in self._known
            if before.form == flow.form and not getattr(module, "inplace", False)
        ]
        if not there:
            return None
        module, after = there[part.a % len(there)]
        return module, replace(after, writable=False)

    def make_checkpoint(self, part: Part, flow: Flow) -> Any:
        inner, after = self.inside(part, replace(flow, writable=False))
        return ours.Checkpointed(inner, part.a % 2 == 1), replace(after, writable=False)

    def make_frozen(self, part: Part, flow: Flow) -> Any:
        inner, after = self.inside(part, replace(flow, writable=False))
        return ours.NoGrad(inner), replace(after, writable=False)

    def make_still(self, part: Part, flow: Flow) -> Any:
        inner, after = self.inside(part, replace(flow, writable=False))
        return ours.Still(inner), after

    def make_snapshot(self, part: Part, flow: Flow) -> Any:
        inner, after = self.inside(part, replace(flow, writable=False))
        return ours.Snapshot(inner), after

    def make_fallback(self, part: Part, flow: Flow) -> Any:
        breaks = part.a % 2 == 1
        inner, after = self.inside(part, replace(flow, writable=False))
        module = ours.Fallback(inner, breaks)
        if breaks:
            self.unreadable(module.inner)
        return module, replace(flow if breaks else after, writable=False)

    def make_scan(self, part: Part, flow: Flow) -> Any:
        if flow.kind != "map" or flow.axis is None:
            return None
        channels, *space = flow.shape
        steps = self.width(2 + part.a % 2)
        clear = not self._avoided & {channels, *space}
        batch_first = not clear or part.b % 2 == 1
        rank = len(space)
        cell = CONVOLUTIONS[rank - 1](2 * channels, channels, 3, padding=1)
        self.plain(cell, 0)
        scan = ours.Scan(cell, batch_first)
        self.plain(scan, 0 if batch_first else 1)
        return ours.Film(scan, steps), replace(flow, writable=False)
