"""Builds the network of the built-in training: `tiny`, torchvision's by name, or a factory's."""

from __future__ import annotations

import importlib
import inspect
import sys
import warnings
from typing import Any

import torch
from torch import nn

from record.torchvision_import import import_torchvision
from replay.schema import OptionError
from replay.schema.suggestions import did_you_mean


class Tiny(nn.Module):
    """Three convolutions, the first as in the post of 2019: 3 to 12 channels, 3x3.

    Input (N, 3, H, W) with H and W at least 8; output (N, classes).
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 12, kernel_size=3, stride=1, padding=1)
        self.conv2 = nn.Conv2d(12, 24, kernel_size=3, stride=1, padding=1)
        self.conv3 = nn.Conv2d(24, 32, kernel_size=3, stride=1, padding=1)
        self.relu = nn.ReLU()
        self.pool1 = nn.MaxPool2d(4)
        self.pool2 = nn.MaxPool2d(2)
        self.average = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(32, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the logits of a batch of images, (N, classes)."""
        x = self.pool1(self.relu(self.conv1(images)))  # (N, 12, H/4, W/4)
        x = self.pool2(self.relu(self.conv2(x)))  # (N, 24, H/8, W/8)
        x = self.average(self.relu(self.conv3(x)))  # (N, 32, 1, 1)
        logits: torch.Tensor = self.fc(x.flatten(1))
        return logits


def build(name: str, classes: int, size: int) -> nn.Module:
    """Builds a network with random weights.

    Args:
        name: `tiny`, a classification model that torchvision names, or `package.module:factory`,
            a callable that returns a module. Where the factory takes `num_classes`, it gets it.
        classes: Number of classes.
        size: Height and width of the images; given to models that need to know it.

    Raises:
        OptionError: The name is unknown, and the closest ones are said; or the factory failed.
    """
    if name == "tiny":
        return Tiny(classes)
    if ":" in name:
        return _from_factory(name, classes)
    models = import_torchvision().models
    known = models.list_models(module=models)
    if name not in known:
        raise OptionError(
            f"unknown model {name!r}; expected tiny, package.module:factory or a classification "
            f"model of torchvision{did_you_mean(name, ['tiny', *known])}"
        )
    builder = models.get_model_builder(name)
    for sized in _size_arguments(size):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the default initialisation that will change
                model: nn.Module = builder(weights=None, num_classes=classes, **sized)
            return model
        except TypeError as error:
            if sized and "unexpected keyword" in str(error):
                continue
            raise OptionError(f"cannot build {name} for {size}x{size} images: {error}") from error
        except ValueError as error:
            raise OptionError(f"cannot build {name} for {size}x{size} images: {error}") from error
    raise AssertionError("a model can be built without a size")


def native_size(name: str) -> int | None:
    """Returns the size in pixels that torchvision trained a model with; None for other models."""
    if name == "tiny" or ":" in name:
        return None
    models = import_torchvision().models
    try:
        weights = models.get_model_weights(name)
        return int(weights.DEFAULT.transforms().crop_size[0])
    except (ValueError, AttributeError, IndexError):
        return None


def logits_and_auxiliary(output: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Returns a classifier's logits, and those of its auxiliary heads (Inception, GoogLeNet).

    Raises:
        OptionError: The output holds no tensor of shape (N, classes).
    """
    if isinstance(output, torch.Tensor):
        parts = [output]
    elif isinstance(output, dict):
        parts = [part for part in output.values() if isinstance(part, torch.Tensor)]
    elif isinstance(output, (tuple, list)):
        parts = [part for part in output if isinstance(part, torch.Tensor)]
    else:
        parts = []
    if not parts or parts[0].ndim != 2:
        shape = tuple(parts[0].shape) if parts else type(output).__name__
        raise OptionError(f"the model's output: expected logits (N, classes), found {shape}")
    return parts[0], parts[1:]


def auxiliary_weight(heads: int) -> float:
    """Returns the weight of an auxiliary head's loss.

    0.4 for Inception v3's one head (as in torchvision's reference training), 0.3 for GoogLeNet's
    two (Szegedy et al., 2014, section 5).
    """
    return 0.4 if heads == 1 else 0.3


def _size_arguments(size: int) -> list[dict[str, Any]]:
    """Returns the arguments to try by which a model is told the size of the images."""
    return [{"image_size": size}, {"input_size": (size, size)}, {}]


def _from_factory(name: str, classes: int) -> nn.Module:
    """Builds a network by somebody's factory; as for `build`."""
    module_name, _, attribute = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        target: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            target = getattr(target, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise OptionError(f"cannot import the model {name!r}: {error}") from error
    try:
        takes = inspect.signature(target).parameters
        model = target(num_classes=classes) if "num_classes" in takes else target()
    except Exception as error:  # the user's own code
        raise OptionError(
            f"the model factory {name!r} failed: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(model, nn.Module):
        raise OptionError(
            f"the model factory {name!r}: expected it to return a torch.nn.Module, "
            f"found {type(model).__name__}"
        )
    return model
