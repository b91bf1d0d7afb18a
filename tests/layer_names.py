"""Names of layers that differ in the middle only."""

from __future__ import annotations


def resnet_names() -> list[str]:
    """The 20 convolutions of Hugging Face's ResNet-18."""
    names = ["resnet.embedder.embedder.convolution"]
    for stage in range(4):
        if stage:
            names.append(f"resnet.encoder.stages.{stage}.layers.0.shortcut.convolution")
        names += [
            f"resnet.encoder.stages.{stage}.layers.{layer}.layer.{place}.convolution"
            for layer in range(2)
            for place in range(2)
        ]
    return names
