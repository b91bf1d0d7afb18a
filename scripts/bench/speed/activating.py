"""What class activation of ten fixed images at every tenth batch costs a training."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from attending import vit_tiny
from recording import Recorded, Training, pairs
from table import Line, ratio, run
from torch import nn

from record import Recorder
from record.training.models import build

_CLASSES, _EVERY = 10, 10


class Activation(Recorded):
    """The usual layers at every tenth batch, and ten images, one of each class, with their maps."""

    def __init__(self, model: nn.Module, folder: Path, size: int) -> None:
        self.model, self.folder = model, folder
        self.recorder = Recorder(
            model,
            folder / "run.h5",
            every=_EVERY,
            probe=torch.rand(_CLASSES, 3, size, size),
            labels=list(range(_CLASSES)),
            cam=True,
            quiet=True,
        )
        self.recorder._capture.remove()

    def on(self) -> None:
        super().on()
        self.recorder._progress.await_forward()  # of the batch at which the last block ended

    def close(self) -> None:
        super().close()
        assert self.recorder.committed, "nothing was recorded"


def lines(quick: bool) -> Iterator[Line]:
    torch.manual_seed(0)
    seconds, each = (5, 0.3) if quick else (60, 1.0)
    trainings = [("ViT-tiny", 224, 8), ("tiny", 128, 16), ("resnet18", 64, 32)]
    if not quick:  # takes minutes: in a batch of eight there are fewer images than are shown
        trainings.insert(0, ("ViT-tiny", 224, 16))
    for name, size, batch in trainings:
        model = vit_tiny() if name == "ViT-tiny" else build(name, _CLASSES, size)
        training = Training(model.train(), torch.rand(batch, 3, size, size))
        watch = functools.partial(Activation, size=size)
        found, step = pairs(training, watch, seconds, each=each, multiple=_EVERY)
        what = f"class activation of 10 images, every=10 / plain step: {name}, {size}×{size}"
        yield ratio(f"{what}, batch {batch} ({1000 * step:.1f} ms)", found, target=1.05)


if __name__ == "__main__":
    sys.exit(run(lines, "class activation", __doc__.splitlines()[0]))
