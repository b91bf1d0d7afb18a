"""What class activation adds to a recording: found with one image, before anything is trained."""

from __future__ import annotations

from typing import Any

import torch

from record.capture.capture import Capture
from record.capture.probe import Probe
from record.capture.probe_classes import ProbeClasses
from record.session.probe_options import find_activation
from replay.schema import CAM, GRADIENTS, Layer


def activation_layers(capture: Capture, cam: bool | str, args: tuple[Any, ...]) -> list[Layer]:
    """Returns what is recorded of a fixed image for class activation, beside its layers' maps.

    Args:
        capture: The hooks on a copy of the model, which has done a forward.
        cam: As for `Recorder`.
        args: The positional arguments of that forward.

    Returns:
        The layers; none where the model has no class activation, which is said when it is recorded.

    Raises:
        OptionError: There is no such layer, or there are several.
    """
    activation = find_activation(cam, capture)
    images = args[0] if args else None
    if not isinstance(images, torch.Tensor) or images.ndim != 4 or not images.is_floating_point():
        return []
    known = {layer.name for layer in capture.frames.layout.layers if not layer.kind}
    shown = Probe(torch.rand(images[:1].shape), ProbeClasses((), activation))
    shown.run(capture.state)
    capture.frames.extend()
    shown_layers = [layer for layer in capture.frames.layout.layers if layer.probe is not None]
    return [
        layer
        for layer in shown_layers
        if layer.kind in (CAM, GRADIENTS) or (not layer.kind and layer.name not in known)
    ]
