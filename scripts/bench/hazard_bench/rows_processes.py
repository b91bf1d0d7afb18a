"""Rows of several processes or threads, and of one that is killed."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import torch
from rows import BOTH, Net, images, shard
from torch import nn
from training import Call, Row

VICTIM = "HAZARD_VICTIM"  # in the environment of a training that will be killed


class Wide(nn.Module):
    """Two Linears behind a convolution, which processes share."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc1 = nn.Linear(4, 6)
        self.fc2 = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.fc1(self.conv(x).mean((2, 3))))


def tensor_parallel() -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    plan = {"fc1": ColwiseParallel(use_local_output=False), "fc2": RowwiseParallel()}
    return parallelize_module(Wide(), init_device_mesh("cpu", (2,)), plan)


def sharded() -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    return fully_shard(Wide(), mesh=init_device_mesh("cpu", (2,)))


class Meeting(nn.Module):
    """Two threads meet between its layers, so that their forwards run into each other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.conv2 = nn.Conv2d(4, 2, 3)
        self.slow = threading.local()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(x)
        time.sleep(getattr(self.slow, "seconds", 0.0))
        return self.conv2(y)


def pairs() -> list[tuple[torch.Tensor, torch.Tensor]]:
    data = images(*[2] * 20)
    return list(zip(data[::2], data[1::2], strict=True))


class Racing:
    """Each of two threads trains with a batch of its own; who overtakes whom changes."""

    # Milliseconds: when the first begins, between its layers; likewise the second.
    TIMES = ((0, 60, 20, 10), (0, 30, 15, 45), (15, 10, 0, 60), (20, 40, 0, 30), (0, 20, 0, 50))

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, call: Call, model: Any, batch: Any) -> torch.Tensor:
        times = self.TIMES[self.number % len(self.TIMES)]
        self.number += 1
        failed: list[BaseException] = []

        def one(images: torch.Tensor, delay: int, pause: int) -> None:
            time.sleep(delay / 1000)
            model.slow.seconds = pause / 1000
            try:
                call(images).square().mean().backward()
            except BaseException as error:
                failed.append(error)

        threads = [
            threading.Thread(target=one, args=(images, *times[2 * place : 2 * place + 2]))
            for place, images in enumerate(batch)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]
        return torch.zeros((), requires_grad=True)


def one_after_the_other(call: Call, model: Any, batch: Any) -> torch.Tensor:
    for part in batch:
        call(part)
    return torch.zeros((), requires_grad=True)


def saying(call: Call, model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """A step that says when it begins, for whoever kills it."""
    if VICTIM in os.environ:
        print("step", flush=True)
        time.sleep(0.01)
    return call(batch).square().mean()


ROWS: dict[str, Row] = {
    "tensor-parallel": Row(
        "tensor-parallel Linears (DTensor), two processes", tensor_parallel,
        ("conv", "fc1", "fc2"), images, world=2,
    ),
    "fsdp2": Row("fully_shard (FSDP2), two processes", sharded, ("conv", "fc1"), shard, world=2),
    "threads": Row(
        "two threads train one model", Meeting, BOTH, pairs, Racing(),
        reference_step=one_after_the_other, together=True, rate=0.0, tracked=False, epochs=1,
        image=lambda batch: [part[0] for part in batch],
    ),
    "killed": Row(
        "kill -9 in the middle", Net, ("conv1", "norm"), lambda: images(*[4] * 200), saying,
        killed=60, epochs=1,
    ),
}  # fmt: skip
