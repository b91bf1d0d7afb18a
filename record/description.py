"""What a recording says of the run at its root: what was run, on what, and how it is recorded."""

from __future__ import annotations

import datetime
import platform
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from record.ranks import run_id
from replay import schema


def describe(model: nn.Module, world: int, meta: dict[str, Any]) -> dict[str, Any]:
    """The attributes of the file's root.

    Args:
        model: The network, unwrapped.
        world: Processes of the run.
        meta: Becomes part of the JSON; what it says goes before what is found here.
    """
    return {
        "format": schema.FORMAT,
        "version": schema.VERSION,
        "run_id": run_id(world),
        "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "meta": schema.encode_meta({**_environment(model), **meta}),
    }


def _environment(model: nn.Module) -> dict[str, Any]:
    return {
        "command": [Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]],
        "versions": {
            "mapreel": _version(),
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
        "model": type(model).__name__,
        "parameters": count_parameters(model),
    }


def count_parameters(model: nn.Module) -> int | None:
    """Number of trainable and other parameters; None before a lazy module knows its own."""
    parameters = list(model.parameters())
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in parameters):
        return None
    return sum(parameter.numel() for parameter in parameters)


def _version() -> str:
    from record import __version__

    return __version__
