"""Runs a script and keeps, independently of mapreel, what its convolutions put out in training.

    python spy.py out.npz script.py [arguments]
"""

import atexit
import runpy
import sys

import numpy as np
import torch
from torch import nn

frames: dict[str, list[np.ndarray]] = {}
names: dict[int, str] = {}
keep: list[nn.Module] = []


def watch(kind):
    forward = kind.forward

    def spied(self, *args, **kwargs):
        output = forward(self, *args, **kwargs)
        if self.training and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            if id(self) not in names:
                names[id(self)] = f"{len(names)}"
                keep.append(self)
            frames.setdefault(names[id(self)], []).append(output[0].detach().half().numpy().copy())
        return output

    kind.forward = spied


if __name__ == "__main__":
    from record.torchvision_import import import_torchvision

    import_torchvision()
    target, *sys.argv = sys.argv[1:]
    for kind in (nn.Conv2d, nn.ConvTranspose2d):
        watch(kind)
    atexit.register(
        lambda: np.savez(
            target, **{f"{n}/{i}": f for n, fs in frames.items() for i, f in enumerate(fs)}
        )
    )
    sys.path[0] = sys.argv[0].rpartition("/")[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
