"""Trains under DistributedDataParallel, plain, watched and recorded: see test_distributed.py.

python -m torch.distributed.run --standalone --nproc-per-node 2 tests/record/capture/ddp_script.py FOLDER
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from record import Recorder


def train(
    rank: int,
    path: Path | None = None,
    watch: Callable[[nn.Module], None] | None = None,
    images_of: Callable[[tuple[int, int], torch.Tensor], None] | None = None,
) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential()
    net.conv1 = nn.Conv2d(3, 6, 3)
    net.relu = nn.ReLU(inplace=True)
    net.conv2 = nn.Conv2d(6, 4, 3)
    net.relu2 = nn.ReLU(inplace=True)
    net.pool = nn.AdaptiveAvgPool2d(1)
    model = DistributedDataParallel(net)
    if watch:
        watch(net)
    recorder = Recorder(model, path, layers="conv*") if path else None
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(rank)
    data = [torch.randn(4, 3, 12, 12, generator=generator) for _ in range(3)]
    with recorder or contextlib.nullcontext():
        for epoch in range(2):
            for batch, images in enumerate(recorder.track(data) if recorder else data):
                loss = model(images).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if images_of:
                    images_of((epoch, batch), images)
    return net.state_dict()


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    torch.save(train(rank), folder / f"plain-{rank}.pt")
    recorded = train(rank, folder / "run.h5" if rank == 0 else None)
    torch.save(recorded, folder / f"recorded-{rank}.pt")

    found: list[torch.Tensor] = []
    frames = {}

    def watch(net: nn.Module) -> None:
        for layer in (net.conv1, net.conv2):
            layer.register_forward_hook(
                lambda module, args, output: found.append(output[0].detach().clone().half())
            )

    def images_of(at: tuple[int, int], images: torch.Tensor) -> None:
        frames[at] = (images[0].half(), *found)
        found.clear()

    train(rank, None, watch, images_of)
    if rank == 0:
        torch.save(frames, folder / "frames.pt")
    # gloo may abort in the process that is still at work when the other one has gone.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
