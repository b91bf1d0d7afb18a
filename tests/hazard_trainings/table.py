"""The table of hazards: what has been seen to break the recording of feature maps, row by row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from hazard_trainings.networks import (
    LAYERS,
    BrokenImageError,
    Net,
    Wrapper,
    extreme,
    frozen,
    one_replica,
    scripted,
    wrapped_checkpoint,
)


def batches(*sizes: int) -> list[torch.Tensor]:
    """Batches of (3, 12, 12) images, as many in each as `sizes` says."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(size, 3, 12, 12, generator=generator) for size in sizes or (4, 3, 3)]


def sized(*sides: int) -> list[torch.Tensor]:
    """Batches of two images, of another height and width in each batch."""
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(2, 3, side, side, generator=generator) for side in sides]


def broken() -> list[torch.Tensor]:
    data = batches(4, 3, 3, 3)
    data[1] *= 1e4
    return data


def call(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return model(images)


def autocast(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.autocast(images.device.type, dtype=torch.bfloat16):
        return model(images).float()


def evaluations_between(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """An evaluation before and one after the forward that is trained on."""
    model.eval()
    model(2 * images)
    model.train()
    output = model(images)
    model.eval()
    with torch.no_grad():
        model(3 * images)
    model.train()
    return output


def retried(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """As after an out-of-memory error: the first try breaks off behind conv1."""
    with pytest.raises(BrokenImageError):
        model(1e4 * images)
    return model(images)


def checkpointed(reentrant: bool) -> Callable[[nn.Module, torch.Tensor], torch.Tensor]:
    return lambda model, images: checkpoint(model, images, use_reentrant=reentrant)


def needing_gradients() -> list[torch.Tensor]:
    return [images.requires_grad_() for images in batches()]


@dataclass(frozen=True)
class Hazard:
    """One row.

    Attributes:
        model: Makes the network.
        layers: What is recorded.
        paths: Where a layer of that name is in the model, if not under its name.
        forward: What a training step calls.
        data: The batches of an epoch.
        prepare: What is done to the model and to each batch.
        reference: Makes the network that the plain hooks watch, if it is another one.
        reference_forward: What a training step calls that the plain hooks watch, likewise.
        attach: What the recorder is given of the model.
        image: What `run.inputs` should hold, of a batch.
        mark: How the loop marks batches: track, step, or neither.
        lost: Batches of each epoch without a frame.
        pick: By layer, what of its output belongs to the first image: by item, as the file names
            it. Where nothing is said, `output[0]`.
        between: What else happens to the model, behind each step.
        evaluate: What an evaluation at the end of an epoch calls.
        warns: What of the warnings of ours is expected.
    """

    model: Callable[[], nn.Module] = Net
    layers: tuple[str, ...] = LAYERS
    paths: dict[str, str] = field(default_factory=dict)
    forward: Callable[[nn.Module, torch.Tensor], torch.Tensor] = call
    data: Callable[[], list[torch.Tensor]] = batches
    prepare: Callable[[Any], Any] = lambda x: x
    reference: Callable[[], nn.Module] | None = None
    reference_forward: Callable[[nn.Module, torch.Tensor], torch.Tensor] | None = None
    attach: Callable[[nn.Module], nn.Module] = lambda model: model
    image: Callable[[torch.Tensor], torch.Tensor] = lambda images: images[0]
    mark: str = "track"
    lost: tuple[int, ...] = ()
    pick: dict[str, Callable[[Any], dict[str, torch.Tensor]]] = field(default_factory=dict)
    between: Callable[[nn.Module, Any], object] = lambda model, images: None
    evaluate: Callable[[nn.Module, Any], object] = lambda model, images: model(images[:, :, 1:, 1:])
    warns: str = ""


def moved(prefix: str) -> dict[str, str]:
    return {name: f"{prefix}.{name}" for name in LAYERS}


def under(prefix: str) -> tuple[str, ...]:
    return tuple(f"{prefix}.{name}" for name in LAYERS)


HAZARDS = {
    "in_place_relu_after_the_layer": Hazard(layers=("norm", "conv2")),
    "module_called_twice": Hazard(layers=("relu",)),
    "half_precision": Hazard(prepare=lambda x: x.to(torch.float16)),
    "bfloat16": Hazard(prepare=lambda x: x.to(torch.bfloat16)),
    "autocast_bfloat16": Hazard(forward=autocast),
    "double_precision": Hazard(prepare=lambda x: x.to(torch.float64)),
    "channels_last": Hazard(prepare=lambda x: x.to(memory_format=torch.channels_last)),
    "checkpointing_reentrant": Hazard(
        model=lambda: Net("reentrant"),
        data=needing_gradients,
        reference=Net,
    ),
    "checkpointing_non_reentrant": Hazard(model=lambda: Net("non-reentrant"), reference=Net),
    "whole_model_checkpointed_reentrant": Hazard(
        forward=checkpointed(True), reference_forward=call, data=needing_gradients, mark="neither"
    ),
    "whole_model_checkpointed_non_reentrant": Hazard(
        forward=checkpointed(False), reference_forward=call, mark="neither"
    ),
    "checkpointing_reentrant_and_forward_called_directly": Hazard(
        model=lambda: Net("reentrant"),
        forward=lambda model, x: model.forward(x),
        data=needing_gradients,
        reference=Net,
    ),
    "checkpointing_non_reentrant_and_forward_called_directly": Hazard(
        model=lambda: Net("non-reentrant"),
        forward=lambda model, x: model.forward(x),
        reference=Net,
    ),
    "checkpoint_wrapper_around_a_layer": Hazard(model=wrapped_checkpoint, reference=Net),
    "frozen_layer_and_layer_in_eval_mode": Hazard(model=frozen),
    "sequential_wrapper": Hazard(model=lambda: nn.Sequential(Net()), layers=under("0")),
    "custom_wrapper": Hazard(model=lambda: Wrapper(Net()), layers=under("net")),
    "data_parallel_with_one_replica": Hazard(model=one_replica, paths=moved("module")),
    "recorder_on_the_module_inside_a_wrapper": Hazard(
        model=lambda: Wrapper(Net()), paths=moved("net"), attach=lambda model: model.net
    ),
    "scripted_submodule_beside_a_recorded_layer": Hazard(model=scripted, layers=("conv1",)),
    "scripted_submodule_itself": Hazard(model=scripted, layers=("conv1", "part")),
    "neither_track_nor_step": Hazard(mark="neither"),
    "forward_retried_in_the_same_batch": Hazard(forward=retried, reference_forward=call),
    "exception_inside_forward": Hazard(data=broken, lost=(1,)),
    "exception_inside_forward_with_step": Hazard(data=broken, lost=(1,), mark="step"),
    "forward_called_directly": Hazard(forward=lambda model, x: model.forward(x)),
    "forward_called_directly_with_step": Hazard(
        forward=lambda model, x: model.forward(x), mark="step"
    ),
    "parts_called_directly": Hazard(
        forward=lambda model, x: model.decode(model.encode(2 * x)),
        image=lambda images: 2 * images[0],
    ),
    "train_and_eval_switched_inside_an_epoch": Hazard(forward=evaluations_between),
    "train_and_eval_switched_with_step": Hazard(forward=evaluations_between, mark="step"),
    "batches_of_one_image": Hazard(data=lambda: batches(1, 1, 1)),
    "smaller_last_batch": Hazard(data=lambda: batches(5, 5, 1)),
    "images_whose_size_changes": Hazard(data=lambda: sized(12, 16, 12, 14, 16)),
    "values_beyond_float16": Hazard(model=extreme, layers=("conv1", "conv2")),
}
