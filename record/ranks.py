"""Which process of a distributed run this is."""

from __future__ import annotations

import os
import uuid

import torch

_NAMESPACE = uuid.UUID("6d9a4a5c-4b1e-4a38-9f0c-6c2b1f3f6f6e")


def rank_and_world() -> tuple[int, int]:
    """This process's rank and the number of processes; (0, 1) of a run that is not distributed.

    Taken from torch.distributed once it is initialised, before that from the variables RANK and
    WORLD_SIZE that torchrun sets.
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
    """Identifies the run: random, but the same for all processes of a distributed one.

    What they agree on without talking to each other is where they meet, and, on one machine, the
    process that started them.
    """
    if world == 1:
        return uuid.uuid4().hex
    known = [os.environ.get(name, "") for name in ("TORCHELASTIC_RUN_ID", "MASTER_ADDR")]
    known.append(os.environ.get("MASTER_PORT", ""))
    if int(os.environ.get("LOCAL_WORLD_SIZE", world)) == world:
        known.append(str(os.getppid()))
    return uuid.uuid5(_NAMESPACE, " ".join(known)).hex
