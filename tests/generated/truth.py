"""What a recording has to hold: found by a hook of its own, and a model of what is recorded.

The hook is torch's global one, which is on no module and in no copy of one; it clones at once.
"""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.module import register_module_forward_hook

from generated.brief import Brief
from generated.training import Training

At = tuple[int, int]
Maps = dict[tuple[str, str], list["np.ndarray[Any, Any]"]]
"""By the name of a layer and of a part of what it puts out, what was put out in each call."""


@dataclass(frozen=True, repr=False)
class Asked(Brief):
    """What is asked of a recorder.

    Attributes:
        layers: all modules, all leaves (a glob), the body (a glob), classes, or some modules.
        number: Which of these.
        every: As the recorder has it.
        schedule: As the recorder has it: "", first=N or epochs=N.
        told: Whether the recorder is told where the batch is, where that is the second axis.
    """

    layers: str = "all"
    number: int = 0
    every: int = 1
    schedule: str = ""
    told: bool = False

    def patterns(self, model: nn.Module) -> list[str]:
        """The patterns for a model."""
        called = {
            name or type(model).__name__: module
            for name, module in model.named_modules()
            if not isinstance(module, (nn.ModuleList, nn.ModuleDict))
        }
        names = list(called)
        classes = sorted({type(module).__name__ for module in called.values()})
        some = 2 + self.number % 3
        return {
            "all": names,
            "leaves": ["*"],
            "body": ["body.*"],
            "classes": [*classes[self.number % some :: some], "body"],
            "some": [*names[self.number % some :: some], "body.0"],
        }[self.layers]

    def axes(self, training: Training) -> dict[str, int]:
        """Where the batch is, as far as the recorder is told.

        Of a sequence that comes alone, without labels, nobody can tell the batch from the tokens.
        """
        known = training.builder.axes
        named = [(name or "Net", module) for name, module in training.model.named_modules()]
        second = {name: 1 for name, module in named if known.get(id(module)) == 1}
        plan, marks = training.plan, training.loop.marks
        alone = plan.rank == 0 and plan.batched and bool(second) and marks != "track"
        return {**(second if self.told else {}), **({"input": 0} if alone else {})}

    def keeps(self, epoch: int, batch: int) -> bool:
        """Whether a batch is to be recorded."""
        word, _, number = self.schedule.partition("=")
        if batch % self.every or (word == "first" and batch >= int(number)):
            return False
        return word != "epochs" or epoch == int(number)


@dataclass
class Frame:
    """What one forward put out.

    Attributes:
        image: The first image as the network saw it.
        maps: By name and part, what was put out in each call.
        kernels: By name, the weights in the first call.
        probes: The same maps of each fixed image.
        values: What was logged.
    """

    image: np.ndarray[Any, Any]
    maps: Maps = field(default_factory=dict)
    kernels: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    probes: list[Maps] = field(default_factory=list)


def named(maps: Maps) -> dict[str, np.ndarray[Any, Any]]:
    """Maps by the names that they have in a file, but for their shape."""
    return {
        name + (f"[{item}]" if item else "") + (f"#{call}" if call else ""): values
        for (name, item), calls in maps.items()
        for call, values in enumerate(calls)
    }


class Truth:
    """Watches a training, told of batches as a Recorder would be.

    Args:
        training: The training.
        asked: What is recorded of it.
        probe: Fixed images, shown to the model behind each recorded batch.

    Attributes:
        names: By the id of a module, its name.
        frames: What has to be recorded, by epoch and batch.
        fired: Names of layers that put out something in a recorded forward.
        replacements: Names of layers whose module was exchanged.
        opaque: Names of layers of which nobody can record, or has to record, what they put out.
    """

    def __init__(self, training: Training, asked: Asked, probe: torch.Tensor | None = None) -> None:
        self.names = {
            id(module): name
            for name, module in chosen(training.model, asked.patterns(training.model)).items()
        }
        self.opaque = {self.names[key] for key in training.builder.opaque if key in self.names}
        self.fired: set[str] = set()
        self.replacements: set[str] = set()
        self._held: list[nn.Module] = []  # so that no id is given twice
        self.batched = training.plan.batched
        self.frames: dict[At, Frame] = {}
        self._training = training
        self._rules = training.builder.rules
        self._asked = asked
        self._probe = probe
        self._mode = "forwards"
        self._epoch = self._next = self._batch = 0
        self._current: Frame | None = None  # of the forward that runs
        self._frame: Frame | None = None  # of the batch
        self._begun = False  # whether a training forward of this batch has begun
        self._values: dict[str, float] = {}
        self._backward = False

    def __enter__(self) -> Truth:
        self._handle = register_module_forward_hook(self._hook)
        return self

    def __exit__(self, *error: object) -> None:
        self._handle.remove()
        if self._mode == "forwards":
            self._end_batch()

    def _hook(self, module: nn.Module, args: Any, output: Any) -> None:
        name = self.names.get(id(module))
        frame = self._current
        if frame is None or name is None or self._backward:
            return
        self.fired.add(name)
        for item, tensor in self._rules[id(module)](output, 0):
            calls = frame.maps.setdefault((name, item), [])
            calls.append(to_half(tensor))
            weight = module._parameters.get("weight")
            if isinstance(module, _ConvNd) and len(calls) == 1 and weight is not None:
                frame.kernels[name] = to_half(weight.detach())

    def forward_begins(self, training: bool, image: torch.Tensor) -> None:
        if not training:
            return
        if self._mode == "forwards":
            if self._begun:
                self._end_batch()
                self._values = {}
            self._begun = True
        self._begun = True
        self._current = Frame(to_half(image))

    def forward_ends(self, whole: bool) -> None:
        if whole and self._current is not None and self._frame is None:
            self._frame = self._current
        self._current = None

    def backward(self, runs: bool) -> None:
        self._backward = runs

    def copied(self, model: nn.Module) -> None:
        pass

    def replaced(self, old: nn.Module, new: nn.Module) -> None:
        """From now on the new one counts as what the old one was."""
        for before, after in zip(old.modules(), new.modules(), strict=True):
            self._held.append(after)
            if id(before) in self.names:
                self._rules[id(after)] = self._rules[id(before)]
                self.names[id(after)] = self.names[id(before)]
                self.replacements.add(self.names[id(before)])

    def log(self, **values: Any) -> None:
        self._values.update({name: float(value) for name, value in values.items()})

    def track(self, batches: Iterable[Any]) -> Iterator[Any]:
        self._mode = "track"
        self._epoch = self._next
        self._next += 1
        for self._batch, batch in enumerate(batches):
            self._forget()
            try:
                yield batch
            finally:
                self._end_batch()

    def epoch(self, number: int) -> None:
        if self._mode == "forwards":
            self._end_batch()
            self._mode = "steps"
        self._forget()
        self._epoch, self._batch = number, 0

    def step(self) -> None:
        self._mode = "steps"
        if self._begun:  # a step without a forward is no batch
            self._end_batch()
        self._values = {}

    def _end_batch(self) -> None:
        at = self._epoch, self._batch
        if self._frame is not None and self._asked.keeps(*at):
            assert at not in self.frames
            self._frame.values = self._values
            if self._probe is not None:
                self._frame.probes = self._show(self._probe)
            self.frames[at] = self._frame
        self._batch += self._begun or self._mode == "track"
        self._forget()

    def _show(self, images: torch.Tensor) -> list[Maps]:
        """What a copy of the model puts out for fixed images, in evaluation mode."""
        model = self._training.model
        twin = copy.deepcopy(model).eval()
        found: list[Maps] = [{} for _ in images]
        known = {id(b): id(a) for a, b in zip(model.modules(), twin.modules(), strict=True)}

        def hook(module: nn.Module, args: Any, output: Any) -> None:
            name = self.names.get(known.get(id(module), 0))
            if name is not None:
                rule = self._rules[known[id(module)]]
                for number, maps in enumerate(found):
                    for item, tensor in rule(output, number):
                        maps.setdefault((name, item), []).append(to_half(tensor))

        handle = register_module_forward_hook(hook)
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                self._training.call(twin, images)
        finally:
            handle.remove()
        return found

    def _forget(self) -> None:
        self._frame, self._begun, self._values = None, False, {}


def chosen(model: nn.Module, patterns: list[str]) -> dict[str, nn.Module]:
    """The modules that are recorded, by name.

    A name stands for its module, a class's name for all modules of it, a glob for those of the
    modules without children that it fits, or else for all that it fits.
    """
    named = {name or type(model).__name__: module for name, module in model.named_modules()}
    found: set[str] = set()
    for pattern in patterns:
        of_class = {
            name for name, m in named.items() if pattern in {c.__name__ for c in type(m).__mro__}
        }
        fitting = {name for name in named if fnmatch.fnmatchcase(name, pattern)}
        leaves = {name for name in fitting if not list(named[name].children())}
        if pattern in named:
            found.add(pattern)
        elif of_class:
            found |= of_class
        else:
            found |= leaves or fitting
    return {name: module for name, module in named.items() if name in found}


def to_half(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """A copy as float16, as torch converts; of complex numbers the magnitude."""
    values = tensor.abs() if tensor.is_complex() else tensor
    return np.ascontiguousarray(values.detach().clone().to(torch.float16).cpu().numpy())
