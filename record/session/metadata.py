"""What the root of a recording says of the run: the program, the model, the process."""

from __future__ import annotations

import os
import uuid
from typing import Any

import torch
from torch import nn

import record.run_facts as run_facts


def root_attributes(
    model: nn.Module, rank: int, world: int, facts: dict[str, Any], meta: dict[str, Any]
) -> dict[str, Any]:
    """Returns the attributes of the file's root.

    Args:
        model: The network, unwrapped.
        rank: The number of this process in the run.
        world: The number of processes of the run.
        facts: What the recorder was asked for; becomes part of the JSON where it is not None.
        meta: Becomes part of the JSON, and takes the place of what is found here.
    """
    if world > 1:
        facts = {**facts, "rank": rank, "world_size": world}
    asked = {name: fact for name, fact in facts.items() if fact is not None}
    known = {
        **run_facts.environment(torch=str(torch.__version__)),
        "model": type(model).__name__,
        "parameters": count_parameters(model),
    }
    return run_facts.root_attributes(run_id(world), {**known, **asked, **meta})


def count_parameters(model: nn.Module) -> int | None:
    """Returns the number of all parameters; None before a lazy module knows its own."""
    parameters = list(model.parameters())
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in parameters):
        return None
    return sum(parameter.numel() for parameter in parameters)


_NAMESPACE = uuid.UUID("6d9a4a5c-4b1e-4a38-9f0c-6c2b1f3f6f6e")


def rank_and_world() -> tuple[int, int]:
    """Returns this process's rank and the number of processes of the run, (0, 1) for a single one.

    They are taken from torch.distributed once it is initialised, before that from the variables
    RANK and WORLD_SIZE that torchrun sets.
    """
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank()), int(distributed.get_world_size())
    try:
        rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except (KeyError, ValueError):
        return 0, 1
    return (rank, world) if 0 <= rank < world else (0, 1)


def run_id(world: int) -> str:
    """Returns a name for the run: random, but the same for all processes of a distributed one.

    The processes do not talk to each other for it: they all know where they meet, and, on one
    machine, the process that started them.
    """
    if world == 1:
        return uuid.uuid4().hex
    known = [os.environ.get(name, "") for name in ("TORCHELASTIC_RUN_ID", "MASTER_ADDR")]
    known.append(os.environ.get("MASTER_PORT", ""))
    if int(os.environ.get("LOCAL_WORLD_SIZE", world)) == world:
        known.append(str(os.getppid()))
    return uuid.uuid5(_NAMESPACE, " ".join(known)).hex
