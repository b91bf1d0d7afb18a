"""The rows that any recorder of feature maps meets: what is known from public reports."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.checkpoint import checkpoint
from training import BrokenBatchError, Call, Row


class Net(nn.Module):
    """Two convolutions, a norm, and a ReLU that is called twice."""

    def __init__(self, checkpointing: str = "", inplace: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(5)
        self.relu = nn.ReLU(inplace)
        self.conv2 = nn.Conv2d(5, 4, 3)
        self.fc = nn.Linear(4, 2)
        self.checkpointing = checkpointing

    def body(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.norm(self.conv1(x)))
        return self.fc(self.relu(self.conv2(x)).mean((2, 3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.checkpointing:
            return checkpoint(self.body, x, use_reentrant=self.checkpointing == "reentrant")
        return self.body(x)


class Fragile(Net):
    """Fails behind conv1 at values that no other batch has."""

    def body(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(x)
        if x.detach().abs().max() > 100:
            raise BrokenBatchError
        return self.fc(self.relu(self.conv2(self.relu(self.norm(y)))).mean((2, 3)))


def in_place() -> Net:
    return Net(inplace=True)


def images(*sizes: int, side: int = 8, seed: int = 1) -> list[torch.Tensor]:
    """Batches of (3, side, side) images, as many in each as `sizes` says."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, 3, side, side, generator=generator) for size in sizes or (4, 4, 4)]


def first_image(batch: torch.Tensor) -> list[torch.Tensor]:
    return [batch[0]]


def broken() -> list[torch.Tensor]:
    data = images(4, 4, 4, 4)
    data[1] *= 1e4
    return data


def needing_gradients() -> list[torch.Tensor]:
    return [batch.requires_grad_() for batch in images()]


def autocast(call: Call, model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return call(batch).float().square().mean()


def half(call: Call, model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    return call(batch).float().square().mean()


def evaluated_between(call: Call, model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    loss = call(batch).square().mean()
    model.eval()
    with torch.no_grad():
        model(3 * batch)
    model.train()
    return loss


def evaluated_before(call: Call, model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        model(2 * batch)
    model.train()
    return call(batch).square().mean()


def compiled() -> nn.Module:
    torch.compiler.reset()
    return torch.compile(Net(), backend="aot_eager")  # type: ignore[return-value]


def plain_parts() -> nn.Module:
    """Modules of torch alone, which can be scripted and read back."""
    net = nn.Sequential()
    net.conv1 = nn.Conv2d(3, 4, 3)
    net.relu = nn.ReLU()
    net.conv2 = nn.Conv2d(4, 2, 3)
    return net


class Ranks:
    """A group of processes for one training: this one, and peers that do the same."""

    variable = "HAZARD_RANK"  # of a peer; the first process has none

    @classmethod
    def rank(cls) -> int:
        return int(os.environ.get(cls.variable, "0"))

    @classmethod
    def join(cls, store: Path, world: int) -> None:
        dist.init_process_group(
            "gloo", init_method=f"file://{store}", rank=cls.rank(), world_size=world
        )

    @staticmethod
    def leave() -> None:
        dist.barrier()
        dist.destroy_process_group()


def distributed() -> nn.Module:
    return nn.parallel.DistributedDataParallel(Net())


def shard() -> list[torch.Tensor]:
    return images(4, 4, 4, seed=1 + Ranks.rank())


def sized(*sides: int) -> Callable[[], list[torch.Tensor]]:
    return lambda: [images(4, side=side, seed=side)[0] for side in sides]


BOTH = ("conv1", "conv2")
ROWS: dict[str, Row] = {
    "inplace": Row(
        "in-place ReLU behind a layer", in_place, ("norm", "conv2"), images, image=first_image
    ),
    "reuse": Row("module called twice in a forward", Net, ("relu",), images, image=first_image),
    "checkpoint-reentrant": Row(
        "activation checkpointing, reentrant",
        lambda: Net("reentrant"),
        BOTH,
        needing_gradients,
        reference=Net,
    ),
    "checkpoint": Row(
        "activation checkpointing, non-reentrant",
        lambda: Net("non-reentrant"),
        BOTH,
        images,
        reference=Net,
    ),
    "autocast": Row(
        "autocast, bfloat16", Net, ("conv1", "norm", "conv2"), images, autocast, image=first_image
    ),
    "half": Row(
        "half precision, in-place ReLU behind a layer",
        lambda: in_place().half(),
        ("conv1", "norm", "conv2"),
        lambda: [batch.half() for batch in images()],
        half,
        image=first_image,
    ),
    "compile": Row(
        "torch.compile (aot_eager)",
        compiled,
        BOTH,
        images,
        reference=Net,
        close=2e-3,
    ),
    "ddp": Row(
        "DistributedDataParallel, two processes",
        distributed,
        BOTH,
        shard,
        world=2,
    ),
    "evaluation": Row(
        "evaluation after each batch", Net, ("conv1", "norm"), images, evaluated_between
    ),
    "evaluation-before": Row(
        "evaluation before each batch", Net, ("conv1", "norm"), images, evaluated_before
    ),
    "exception": Row(
        "a forward that fails in one batch", Fragile, ("conv1", "norm"), broken, silent=(1,)
    ),
    "last-batch": Row(
        "smaller last batch", Net, ("conv1", "norm"), lambda: images(4, 4, 1), image=first_image
    ),
    "sizes": Row(
        "images whose size changes",
        Net,
        BOTH,
        sized(8, 10, 8, 12, 10),
        image=first_image,
    ),
}
