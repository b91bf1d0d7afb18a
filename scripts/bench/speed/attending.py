"""What recording attention or gradients of every batch costs the training of a ViT-tiny."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from recording import Recorded, Training, pairs
from table import Line, ratio, run
from torch import nn

import replay
from record import Recorder
from record.torchvision_import import import_torchvision


class Attention(Recorded):
    """The class token's attention of all layers, and no more maps than of the first convolution."""

    def __init__(self, model: nn.Module, folder: Path) -> None:
        self.model, self.folder = model, folder
        self.recorder = Recorder(model, folder / "run.h5", ["conv_proj"], attention=True)
        self.recorder._capture.remove()


class Gradients(Recorded):
    """What each of the twelve layers puts out, and the gradient with respect to it."""

    def __init__(self, model: nn.Module, folder: Path) -> None:
        self.model, self.folder = model, folder
        layers = ["conv_proj", *(f"encoder.layers.encoder_layer_{number}" for number in range(12))]
        self.recorder = Recorder(model, folder / "run.h5", layers, gradients=True)
        self.recorder._capture.remove()

    def close(self) -> None:
        super().close()
        with replay.open(self.folder / "run.h5") as run:
            kept = [name for name in run.gradients if len(run.gradient(name).frames)]
        assert len(kept) == 13, f"gradients of {len(kept)} layers of 13 were recorded"


def vit_tiny() -> nn.Module:
    """A ViT-tiny of patches of 16, as DeiT has it."""
    import_torchvision()
    from torchvision.models import VisionTransformer

    return VisionTransformer(224, 16, 12, 3, 192, 768, num_classes=10)  # type: ignore[no-any-return]


def lines(quick: bool) -> Iterator[Line]:
    torch.manual_seed(0)
    seconds, each = (8, 0.5) if quick else (90, 1.0)
    images = torch.rand(8, 3, 224, 224)
    training = Training(vit_tiny().train(), images)
    found, step = pairs(training, Attention, seconds, each=each)
    what = f"recorded with attention / plain step: ViT-tiny, batch 8 ({1000 * step:.0f} ms)"
    yield ratio(what, found, target=1.03)
    found, _ = pairs(training, Gradients, 0.7 * seconds, each=each)
    what = "recorded with gradients of 13 layers / plain step: ViT-tiny, batch 8"
    yield ratio(what, found, target=1.05)


if __name__ == "__main__":
    sys.exit(run(lines, "attention", __doc__.splitlines()[0]))
