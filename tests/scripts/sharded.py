"""A training over two processes: torchrun --nproc-per-node 2 sharded.py ddp|fsdp1|fsdp2 TRUTH.npz

Rank 0 saves what a hook of its own saw of the first image, and the losses.
"""

import sys

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

way, path = sys.argv[1:]
torch.set_num_threads(1)
torch.manual_seed(0)
dist.init_process_group("gloo")
net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 3), nn.Flatten())
net.append(nn.Linear(32, 2))
if way == "ddp":
    model = nn.parallel.DistributedDataParallel(net)
elif way == "fsdp1":
    from torch.distributed.fsdp import FullyShardedDataParallel

    model = FullyShardedDataParallel(net, device_id=torch.device("cpu"), use_orig_params=True)
else:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for part in (net[0], net[2], net[4], net):
        fully_shard(part, mesh=mesh)
    model = net
seen, losses = [], []
first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
first.register_forward_hook(lambda m, a, o: seen.append((a[0][0], o[0].detach().clone())))
data = TensorDataset(torch.rand(24, 1, 8, 8), torch.randint(0, 2, (24,)))
loader = DataLoader(data, 4, sampler=DistributedSampler(data, shuffle=True))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for epoch in range(2):
    loader.sampler.set_epoch(epoch)
    for x, y in loader:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
if dist.get_rank() == 0:
    images, maps = (np.stack([t.half().numpy() for t in part]) for part in zip(*seen))
    np.savez(path, images=images, maps=maps, losses=losses)
dist.barrier()  # gloo aborts where the other process has gone
dist.destroy_process_group()
