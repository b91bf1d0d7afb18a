"""The trackers by name."""

from __future__ import annotations

from importlib import import_module
from typing import cast

from replay.schema import OptionError
from replay.schema.destinations import Destination
from replay.trackers.interface import Tracker

_CLASSES = {
    "tensorboard": "TensorBoard",
    "wandb": "Wandb",
    "mlflow": "MLflow",
    "aim": "Aim",
    "trackio": "Trackio",
    "folder": "Folder",
}


def find_tracker(destination: Destination) -> type[Tracker]:
    """Returns what pushes to a tracker.

    Raises:
        OptionError: Its package is not installed, or cannot be imported.
    """
    if destination.missing:
        raise OptionError(destination.missing)
    name = destination.tracker
    try:
        if name != "folder":
            import_module(name)
        module = import_module(f"replay.trackers.{name}")
    except ImportError as error:
        raise OptionError(f"{name}: its package cannot be imported: {error}") from error
    return cast("type[Tracker]", getattr(module, _CLASSES[name]))
