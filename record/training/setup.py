"""Prepares the built-in training run: its data, its model, and what will be recorded of it."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Sized
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from record.capture.probe import MAX_IMAGES
from record.formatting import format_count
from record.planning.layout import FoundLayout, find_layout
from record.schedule.budget import parse_bytes
from record.schedule.plan import Plan, make_plan
from record.schedule.schedule import Schedule
from record.session.metadata import count_parameters
from record.training import checkpoint as checkpoints
from record.training import data as data_sets
from record.training import models
from record.training.data import Data
from record.training.photos import Sample
from record.training.settings import Settings
from replay.schema import OptionError

DEFAULT_SIZE = 128
_CLASSES = 10  # where a run is planned without data
_MOST_SEED = (1 << 32) - 1  # what numpy takes as well as torch
_TINY_LR, _DEFAULT_LR = 1e-2, 1e-3  # OneCycleLR's maximum


@dataclass(frozen=True)
class Run:
    """A training run that is ready to start.

    Attributes:
        settings: What was asked for.
        data: The samples.
        model: The network, on its device, in training mode.
        device: Where it runs.
        size: Height and width of the images, in pixels.
        found: The layers that will be recorded, with their shapes.
        batches: The number of batches in an epoch.
        schedule: Which batches will be recorded.
        state: The checkpoint to go on from, or None.
    """

    settings: Settings
    data: Data
    model: nn.Module
    device: torch.device
    size: int
    found: FoundLayout
    batches: int
    schedule: Schedule
    state: dict[str, Any] | None = None

    @property
    def start(self) -> int:
        """The epoch that the training begins with."""
        return 0 if self.state is None else int(self.state["epoch"])

    @property
    def parameters(self) -> int:
        """The number of parameters, trainable or not."""
        return count_parameters(self.model) or 0

    @property
    def plan(self) -> Plan:
        """What will be recorded, and the space that it takes."""
        chosen = self.settings
        made = make_plan(
            self.found.layout, self.schedule, chosen.epochs, self.batches, chosen.budget
        )
        name = type(self.model).__name__
        outputs = self.found.outputs
        return replace(made, outputs=outputs, model=name, parameters=self.parameters)

    @property
    def probe(self) -> torch.Tensor | None:
        """The fixed images, (N, C, H, W), to be shown at recorded batches; None for none."""
        images = [image for image, _ in self.fixed]
        return torch.stack(images) if images else None

    @functools.cached_property
    def fixed(self) -> list[Sample]:
        """The fixed images with their labels."""
        return self.data.fixed(self.settings.probes)

    @property
    def labels(self) -> list[int] | None:
        """The labels of the fixed images, where the recording is to know of classes."""
        asks = self.settings.asks_classes and self.fixed
        return [int(label) for _, label in self.fixed] if asks else None

    def metadata(self) -> dict[str, Any]:
        """Returns the run's description for the recording."""
        chosen = self.settings
        return {
            "dataset": chosen.data,
            "classes": self.data.classes,
            "mean": list(self.data.mean),
            "std": list(self.data.std),
            "model": chosen.model,
            "parameters": self.parameters,
            "device": str(self.device),
            "epochs": chosen.epochs,
            "batches": self.batches,
            "batch_size": chosen.batch_size,
            "lr": self.lr,
            "seed": chosen.seed,
            "image_size": self.size,
            "amp": chosen.amp,
            "compile": chosen.compile,
            **self._probe_metadata(),
        }

    def _probe_metadata(self) -> dict[str, Any]:
        """Returns the labels of the fixed images, if there are any."""
        labels = [int(label) for _, label in self.fixed]
        return {"probe": [{"label": label} for label in labels]} if labels else {}

    @property
    def lr(self) -> float:
        """The largest learning rate of the schedule."""
        if self.settings.lr is not None:
            return self.settings.lr
        return _TINY_LR if self.settings.model == "tiny" else _DEFAULT_LR


def prepare(settings: Settings) -> Run:
    """Loads the data, builds the model and finds out what will be recorded.

    Raises:
        OptionError: The run cannot be done as it is asked for; nothing has been written by then.
    """
    for name, value in (("epochs", settings.epochs), ("batch-size", settings.batch_size)):
        if value < 1:
            raise OptionError(f"--{name} {value}: expected at least 1")
    if settings.every < 1:
        raise OptionError(f"--every {settings.every}: expected at least 1")
    if isinstance(settings.probes, int) and not 0 <= settings.probes <= MAX_IMAGES:
        raise OptionError(f"--probe {settings.probe}: expected 0 to {MAX_IMAGES}")
    if settings.max_map is not None and settings.max_map < 1:
        raise OptionError(f"--max-map {settings.max_map}: expected at least 1")
    schedule = Schedule.parse(settings.schedule, settings.every)
    if settings.budget is not None:
        parse_bytes(settings.budget)
    if settings.workers < 0:
        raise OptionError(f"--workers {settings.workers}: expected 0 or more")
    if settings.lr is not None and not 0 < settings.lr < math.inf:
        raise OptionError(f"--lr {settings.lr:g}: expected a finite number above 0")
    if not 0 <= settings.seed <= _MOST_SEED:
        raise OptionError(f"--seed {settings.seed}: expected 0 to {_MOST_SEED:,}")
    device = find_device(settings.device)
    size = _fitting_size(settings)
    data = data_sets.load(
        settings.data,
        settings.data_dir,
        size,
        settings.seed,
        settings.download,
        settings.samples,
    )
    model = _build(settings, len(data.classes), size)
    samples = len(cast(Sized, data.train))
    batches = -(-samples // settings.batch_size)
    if leaves_one(samples, settings.batch_size):
        batches -= 1
    images = torch.zeros(2, 3, size, size)
    probes = len(data.fixed(settings.probes))
    found = find_layout(
        *(model, settings.layers, images, settings.max_map, probes, settings.batch_axis),
        attention=settings.attention,
        gradients=settings.gradients,
        cam=settings.cam,
    )
    models.logits_and_auxiliary(found.output)
    state = None
    if settings.resume is not None:
        if settings.checkpoint is None:
            raise OptionError("--resume needs the checkpoint to go on from: --checkpoint FILE")
        state = checkpoints.load(settings.checkpoint, settings)
        if state["epoch"] >= settings.epochs:
            trained = format_count(settings.epochs, "epoch")
            raise OptionError(f"{settings.checkpoint}: nothing is left to train of {trained}")
    return Run(settings, data, model.to(device), device, size, found, batches, schedule, state)


def plan(settings: Settings) -> Plan:
    """Plans what a run would record; nothing is trained.

    With an input's shape and a number of batches no data are needed.

    Raises:
        OptionError: The run cannot be done as it is asked for.
    """
    if settings.input is None and settings.batches is None:
        return prepare(settings).plan
    if settings.input is None or settings.batches is None:
        raise OptionError("to plan without data, give both --input CxHxW and --batches N")
    if settings.batches < 1 or settings.epochs < 1:
        raise OptionError("--batches and --epochs: expected at least 1")
    schedule = Schedule.parse(settings.schedule, settings.every)
    model = _build(settings, _CLASSES, settings.input[1])
    images = torch.zeros(2, *settings.input)
    probes = settings.probes if isinstance(settings.probes, int) else _CLASSES
    found = find_layout(
        *(model, settings.layers, images, settings.max_map, probes, settings.batch_axis),
        attention=settings.attention,
        gradients=settings.gradients,
        cam=settings.cam,
    )
    models.logits_and_auxiliary(found.output)
    made = make_plan(found.layout, schedule, settings.epochs, settings.batches, settings.budget)
    name, parameters = type(model).__name__, count_parameters(model)
    return replace(made, outputs=found.outputs, model=name, parameters=parameters)


def find_device(name: str) -> torch.device:
    """Returns the device of a name; `auto` takes a GPU where there is one.

    Raises:
        OptionError: The name is unknown, or the device is not there.
    """
    found = ["cpu"]
    if torch.backends.mps.is_available():
        found.insert(0, "mps")
    found[:0] = [f"cuda:{n}" for n in range(torch.cuda.device_count())]
    if name == "auto":
        return torch.device(found[0])
    device = "cuda:0" if name == "cuda" else name
    if device not in found:
        raise OptionError(f"no device {name!r}; expected auto or one of {', '.join(found)}")
    return torch.device(device)


def leaves_one(samples: int, batch_size: int) -> bool:
    """Returns whether the last of several batches would be a single image, which is left out.

    Batch normalisation has no variance of one value a channel, and raises.
    """
    return samples > batch_size > 1 and samples % batch_size == 1


def _fitting_size(settings: Settings) -> int:
    """Returns the images' size: as asked for, else 128, else what torchvision trained with."""
    if settings.image_size is not None:
        return settings.image_size
    native = models.native_size(settings.model)
    if native is None:
        return DEFAULT_SIZE
    try:
        probe = _build(settings, 2, DEFAULT_SIZE)
        images = torch.zeros(2, 3, DEFAULT_SIZE, DEFAULT_SIZE)
        models.logits_and_auxiliary(find_layout(probe, settings.layers, images).output)
    except OptionError:
        return native
    return DEFAULT_SIZE


def _build(settings: Settings, classes: int, size: int) -> nn.Module:
    """Builds the network, with the same weights for the same seed."""
    set_seed(settings.seed)
    return models.build(settings.model, classes, size)


def set_seed(seed: int) -> None:
    """Seeds the random numbers of Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed % (1 << 32))
    torch.manual_seed(seed)
