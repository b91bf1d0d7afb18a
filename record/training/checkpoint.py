"""Saves the built-in training at the end of an epoch: all that the next batch depends on."""

from __future__ import annotations

import contextlib
import os
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from record.training.settings import Settings
from replay.schema import OptionError, OutputError

_FORMAT = "mapreel checkpoint 1"
# What may differ between the run and its continuation: where things lie and what is recorded.
_MAY_DIFFER: tuple[str, ...] = (
    "data_dir",
    "download",
    "workers",
    "device",
    "input",
    "batches",
    "checkpoint",
    "resume",
)
_MAY_DIFFER += ("layers", "every", "schedule", "budget", "max_map", "probe", "cam", "attention")
_MAY_DIFFER += ("gradients", "batch_axis")


@dataclass(frozen=True)
class StatefulParts:
    """What has a state in a training, apart from the random numbers."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    shuffle: torch.Generator


def save(path: Path, settings: Settings, epoch: int, parts: StatefulParts) -> None:
    """Writes a checkpoint; an older one stays until the new one is on the disk.

    Args:
        path: The file.
        settings: The run's settings.
        epoch: The epoch that comes next.
        parts: What has a state to be kept.

    Raises:
        OutputError: The file cannot be written.
    """
    numbers: Any = np.random.get_state()
    name, keys, position, has_gauss, gauss = numbers
    version, words, normal = random.getstate()
    state = {
        "format": _FORMAT,
        "settings": _settings_that_bind(settings),
        "epoch": epoch,
        "model": parts.model.state_dict(),
        "optimizer": parts.optimizer.state_dict(),
        "schedule": parts.schedule.state_dict(),
        "scaler": parts.scaler.state_dict(),
        "shuffle": parts.shuffle.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": [version, list(words), normal],
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss],
    }
    new_path = path.with_name(f"{path.name}.new")
    try:
        with open(new_path, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new_path, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(new_path)
        raise OutputError(f"cannot write the checkpoint {path}: {error.strerror}") from error


def load(path: Path, settings: Settings) -> dict[str, Any]:
    """Reads a checkpoint; nothing in it is executed.

    Args:
        path: The file.
        settings: The settings of the run that goes on.

    Raises:
        OptionError: The file is missing, is no checkpoint, or belongs to another training.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise OptionError(f"no checkpoint {path}; make one with --checkpoint {path}") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise OptionError(f"{path} cannot be read as a checkpoint: {reason}") from error
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise OptionError(f"{path} is no checkpoint of record train")
    expected = _settings_that_bind(settings)
    differences = [
        f"{name.replace('_', '-')} {state['settings'].get(name)!r}, not {value!r}"
        for name, value in expected.items()
        if state["settings"].get(name) != value
    ]
    if differences:
        raise OptionError(f"{path} belongs to another training: it has {'; '.join(differences)}")
    return state


def check_replaceable(path: Path) -> None:
    """Makes sure that a new training replaces no file but a checkpoint of an earlier one.

    Raises:
        OutputError: It is something else.
    """
    if not path.is_file() or not path.stat().st_size:
        return
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # whatever it is, it is none of ours
        state = None
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        raise OutputError(
            f"{path} exists, and is no checkpoint of record train; choose another --checkpoint, "
            "or --overwrite to replace it"
        )


def restore(state: dict[str, Any], parts: StatefulParts) -> int:
    """Puts the training into the state of a checkpoint.

    Returns:
        The epoch that comes next.
    """
    parts.model.load_state_dict(state["model"])
    parts.optimizer.load_state_dict(state["optimizer"])
    parts.schedule.load_state_dict(state["schedule"])
    parts.scaler.load_state_dict(state["scaler"])
    parts.shuffle.set_state(state["shuffle"])
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    version, words, normal = state["python"]
    random.setstate((version, tuple(words), normal))
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    return int(state["epoch"])


def _settings_that_bind(settings: Settings) -> dict[str, Any]:
    """Returns the settings that a run and its continuation have in common."""
    return {name: value for name, value in asdict(settings).items() if name not in _MAY_DIFFER}
