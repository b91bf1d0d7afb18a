"""Rows in which a program is made of the model, or a copy, or the model changes."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from typing import Any

import torch
from rows import BOTH, Net, first_image, images, plain_parts
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import parametrizations
from training import Row


class Captured:
    """A program of the model, made before each step and run before and after it."""

    def __init__(self, make: Callable[[nn.Module, torch.Tensor], tuple[Any, list[str]]]) -> None:
        self.make = make
        self.program: Any = None

    def before(self, model: nn.Module, batch: torch.Tensor) -> list[Any]:
        self.program, calls = self.make(model, batch.detach())
        return [len(calls), f"copy_: {sum('copy_' in call for call in calls)}", self.run(batch)]

    def run(self, batch: torch.Tensor) -> float:
        return total(self.program(7 * batch))

    def after(self, model: nn.Module, batch: torch.Tensor) -> float:
        return self.run(batch)


def exported(model: nn.Module, batch: torch.Tensor) -> tuple[Any, list[str]]:
    program = torch.export.export(model, (batch,))
    return program.module(), [str(node.target) for node in program.graph.nodes]


def symbolic(model: nn.Module, batch: torch.Tensor) -> tuple[Any, list[str]]:
    graph = make_fx(lambda x: model(x))(batch)
    return graph, [str(node.target) for node in graph.graph.nodes]


def traced(model: nn.Module, batch: torch.Tensor) -> tuple[Any, list[str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.jit.trace(model, batch, check_trace=False)
    return program, [node.kind() for node in program.inlined_graph.nodes()]


EXPORTED, SYMBOLIC, TRACED = Captured(exported), Captured(symbolic), Captured(traced)


def total(output: Any) -> float:
    return float(output.detach().double().sum())


def compiled_part() -> nn.Module:
    torch.compiler.reset()
    net = plain_parts()
    net.conv1.compile(backend="aot_eager")
    return net


def spectral(model: Any) -> None:
    parametrizations.spectral_norm(model.conv1)


def replaced(model: Any, epoch: int) -> bool:
    if epoch == 1:
        model.conv2 = nn.Conv2d(5, 4, 3)
    return epoch == 1


def attempt(make: Callable[[], Any]) -> str:
    try:
        return f"{make():.6f}"
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"[:90]


def scripted(model: nn.Module, batch: torch.Tensor) -> str:
    """torch.jit.script of a copy, as one that keeps the best weights makes it."""
    best = copy.deepcopy(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return attempt(lambda: total(torch.jit.script(best)(batch)))


def pickled(model: nn.Module, batch: torch.Tensor) -> str:
    """A copy that is saved whole, and read back with weights_only."""
    file = io.BytesIO()
    kinds = [nn.Sequential, nn.Conv2d, nn.ReLU]

    def load() -> float:
        torch.save(copy.deepcopy(model), file)
        file.seek(0)
        with torch.serialization.safe_globals(kinds):
            return total(torch.load(file, weights_only=True)(batch))

    return attempt(load)


ROWS: dict[str, Row] = {
    "export": Row(
        "torch.export in training mode", plain_parts, BOTH, images,
        before=EXPORTED.before, after=EXPORTED.after, image=first_image,
    ),
    "make_fx": Row(
        "make_fx in training mode", plain_parts, BOTH, images,
        before=SYMBOLIC.before, after=SYMBOLIC.after,
    ),
    "trace": Row(
        "torch.jit.trace in training mode", plain_parts, BOTH, images,
        before=TRACED.before, after=TRACED.after,
    ),
    "compiled-part": Row(
        "a layer that is compiled", compiled_part, BOTH, images, reference=plain_parts, close=2e-3
    ),
    "script": Row("torch.jit.script of a copy", plain_parts, BOTH, images, at_end=scripted),
    "pickle": Row("weights_only of a saved copy", plain_parts, BOTH, images, at_end=pickled),
    "spectral": Row(
        "spectral_norm that is added later", plain_parts, BOTH, images, prepare=spectral
    ),
    "replaced": Row("a layer that is replaced", Net, BOTH, images, turn=replaced),
}  # fmt: skip
