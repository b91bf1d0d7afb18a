"""Class activation equals what pytorch-grad-cam and captum compute, at moments of a training."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from class_activations import assert_close, maps_of, stored
from torch import nn

from record import Recorder
from record.torchvision_import import import_torchvision

REASON = "not installed: pip install 'mapreel[cam]'"


def imported(name: str) -> Any:
    import_torchvision()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=REASON)


def residual() -> nn.Module:
    return import_torchvision().models.resnet18(num_classes=6)


def transformer() -> nn.Module:
    model = import_torchvision().models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=24, mlp_dim=48,
        num_classes=6,
    )  # fmt: skip
    nn.init.normal_(model.heads.head.weight)
    return model


CASES = {
    "resnet18": (residual, 64, "layer4.1"),
    "vit": (transformer, 32, "encoder.layers.encoder_layer_1.ln_1"),
}
LABELS = [2, 0, 5]


def as_maps(tokens: torch.Tensor) -> torch.Tensor:
    """Tokens behind the class token as maps, (N, C, 4, 4)."""
    return tokens[:, 1:].transpose(1, 2).unflatten(2, (4, 4))


class Apart(nn.Module):
    """Puts the tokens of the image out as maps, and keeps the class token."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        self.token = tokens[:, :1]
        return as_maps(tokens)


class Together(nn.Module):
    def __init__(self, apart: Apart) -> None:
        super().__init__()
        self.kept = [apart]

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.kept[0].token, maps.flatten(2).transpose(1, 2)], 1)


@pytest.fixture(scope="module", params=list(CASES))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A recording of three batches, the network after each, and the images."""
    make, size, layer = CASES[request.param]
    path = tmp_path_factory.mktemp("cam") / "run.h5"
    torch.manual_seed(0)
    model, images = make(), torch.randn(3, 3, size, size)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    data = [(torch.randn(4, 3, size, size), torch.randint(0, 6, (4,))) for _ in range(3)]
    options: Any = {"layers": layer.split(".")[0] + "*", "quiet": True}
    moments = []
    with Recorder(model, path, probe=images, labels=LABELS, cam=True, **options) as recorder:
        for inputs, labels in recorder.track(data):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
            moments.append(copy.deepcopy(model).eval())
    return path, moments, images, layer


def recorded_cam(path: Path, layer: str, probe: int, batch: int) -> np.ndarray:
    """The sum of the maps by their weights, (H, W)."""
    weights = stored(path, "cam", layer, probe)[0, batch]
    maps = maps_of(path, layer, probe)[0, batch]
    if maps.ndim == 2:
        maps = as_maps(torch.from_numpy(maps)[None])[0].numpy()
    return np.tensordot(weights, maps, 1)


def test_as_pytorch_grad_cam(trained: Any) -> None:
    path, moments, images, layer = trained
    library = imported("pytorch_grad_cam")
    from pytorch_grad_cam.utils.image import scale_cam_image
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    size = tuple(images.shape[:1:-1])
    reshape = None if layer.startswith("layer4") else as_maps
    for batch, model in enumerate(moments):
        targets = [ClassifierOutputTarget(label) for label in LABELS]
        with library.GradCAM(model, [model.get_submodule(layer)], reshape_transform=reshape) as cam:
            expected = cam(input_tensor=images, targets=targets)
            gradients = cam.activations_and_grads.gradients[0].numpy()
            weights = cam.get_cam_weights(images, None, targets, None, gradients)
        for probe in range(3):
            assert_close(stored(path, "cam", layer, probe)[0, batch], weights[probe])
            found = np.maximum(recorded_cam(path, layer, probe, batch), 0)[None]
            shown = scale_cam_image(scale_cam_image(found, size))[0]  # the library does so twice
            np.testing.assert_allclose(shown, expected[probe], rtol=0, atol=1e-3)


def test_as_captum(trained: Any) -> None:
    path, moments, images, layer = trained
    captum = imported("captum.attr")
    for batch, model in enumerate(moments):
        module = model.get_submodule(layer)
        if not layer.startswith("layer4"):
            apart = Apart()
            block = model.get_submodule(layer.rpartition(".")[0])
            block.ln_1, module = nn.Sequential(module, apart, Together(apart)), apart
        found = captum.LayerGradCam(model, module).attribute(images, target=LABELS)
        for probe in range(3):
            expected = found[probe, 0].detach().numpy()
            assert_close(recorded_cam(path, layer, probe, batch), expected)
