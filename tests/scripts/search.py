"""A search in the manner of optuna's: many small trainings, each of a new model that is dropped.

python search.py TRIALS

Prints for each: the value, the process's threads, descriptors, children and resident memory.
"""

import gc
import os
import random
import sys
import threading

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)


def build(width):
    return nn.Sequential(
        nn.Conv2d(1, width, 3), nn.ReLU(), nn.Conv2d(width, 4, 3), nn.Flatten(), nn.Linear(576, 2)
    )


def objective(number):
    torch.manual_seed(number)
    model = build(random.Random(number).choice([4, 8, 16]))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    images = torch.full((8, 1, 16, 16), float(number)) / 100
    loader = DataLoader(TensorDataset(images, torch.arange(8) % 2), 4)
    for _ in range(2):
        for x, y in loader:
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return loss.item()


def children():
    mine = str(os.getpid())
    found = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                found += file.read().rsplit(")", 1)[1].split()[1] == mine
        except OSError:
            continue
    return found


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


for number in range(int(sys.argv[1])):
    value = objective(number)
    gc.collect()
    counts = threading.active_count(), len(os.listdir("/proc/self/fd")), children()
    print(f"{number} {value:.9f}", *counts, f"{resident():.1f}", flush=True)
