"""Attention equals softmax(q kᵀ) of the definition, in five families of networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from attention_models import (
    Expected,
    TinyGPT,
    of_causal,
    of_hugging_face,
    of_multihead,
    of_swin,
    of_timm,
)
from torch import nn

from record import Recorder
from record.torchvision_import import import_torchvision

KINDS = {
    "MultiheadAttention": of_multihead,
    "Attention": of_timm,
    "ViTAttention": of_hugging_face,
    "CausalSelfAttention": of_causal,
    "ShiftedWindowAttention": of_swin,
}


def vit(dropout: float = 0.2) -> nn.Module:
    import_torchvision()
    from torchvision.models import VisionTransformer

    return VisionTransformer(32, 8, 2, 4, 32, 64, dropout, dropout, num_classes=3)


def swin() -> nn.Module:
    import_torchvision()
    from torchvision.models import SwinTransformer

    # 9 x 9 tokens, then 5 x 5, in windows of 4 x 4: padded, shifted, and both.
    return SwinTransformer([4, 4], 16, [2, 2], [2, 4], [4, 4], attention_dropout=0.2, num_classes=3)


def timm_vit(fused: bool) -> nn.Module:
    import_torchvision()
    timm = pytest.importorskip("timm", reason="timm is not installed: its ViT is not recorded")
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, embed_dim=32, num_heads=4,
        attn_drop_rate=0.2, num_classes=3,
    )  # fmt: skip
    for block in model.blocks:
        block.attn.fused_attn = fused
    return model


def hugging_face_vit(implementation: str) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32,
        image_size=32, patch_size=8, num_labels=3, attention_probs_dropout_prob=0.2,
        attn_implementation=implementation,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config)


class Encoder(nn.Module):
    """`nn.TransformerEncoder` over patches, with or without a class token."""

    def __init__(self, class_token: bool) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 8, 8)
        if class_token:
            self.cls_token = nn.Parameter(torch.randn(1, 1, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, 0.2, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        if hasattr(self, "cls_token"):
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1)
        return self.encoder(x)


FAMILIES: dict[str, tuple[Callable[[], nn.Module], str, tuple[int, int] | None]] = {
    "torchvision vit": (vit, "class", (4, 4)),
    "torchvision swin": (swin, "mean", (9, 9)),
    "timm vit": (lambda: timm_vit(True), "class", (4, 4)),
    "timm vit, written out": (lambda: timm_vit(False), "class", (4, 4)),
    "transformers vit": (lambda: hugging_face_vit("sdpa"), "class", (4, 4)),
    "transformers vit, written out": (lambda: hugging_face_vit("eager"), "class", (4, 4)),
    "encoder": (lambda: Encoder(True), "class", (4, 4)),
    "encoder without a class token": (lambda: Encoder(False), "mean", (4, 4)),
    "gpt": (TinyGPT, "mean", None),
    "gpt, written out": (lambda: TinyGPT(flash=False), "mean", None),
}


def inputs(name: str) -> list[torch.Tensor]:
    make = torch.Generator().manual_seed(3)
    if name.startswith("gpt"):
        return [torch.randint(0, 11, (3, 7), generator=make) for _ in range(3)]
    size = 36 if "swin" in name else 32
    return [torch.randn(3, 3, size, size, generator=make) for _ in range(3)]


def loss_of(output: Any) -> torch.Tensor:
    return (output if isinstance(output, torch.Tensor) else output.logits).square().mean()


def train(model: nn.Module, batches: list[torch.Tensor], recorder: Any = None) -> list[float]:
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    losses = []
    for images in batches if recorder is None else recorder.track(batches):
        loss = loss_of(model(images))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("asked", ["cls", "full"])
@pytest.mark.parametrize("name", FAMILIES)
def test_attention_is_that_of_its_definition(
    tmp_path: Path, name: str, asked: str, recwarn: pytest.WarningsRecorder
) -> None:
    torch.manual_seed(0)
    make, queries, grid = FAMILIES[name]
    model = make().train()
    for parameter in model.parameters():  # far from uniform
        if parameter.ndim > 1:
            parameter.data.mul_(2)
    expected = Expected(model, KINDS)
    with Recorder(model, tmp_path / "run.h5", attention=asked, quiet=True) as recorder:
        train(model, inputs(name), recorder)
    with h5py.File(tmp_path / "run.h5") as file:
        found = file["attention/maps"]
        assert sorted(found) == sorted(expected.by_name)
        for place, module in enumerate(sorted(expected.by_name, key=str)):
            frames, whole = found[module], expected.by_name[module]
            assert frames.attrs["axes"] == ("CT" if asked == "cls" else "CQT")
            assert frames.attrs["queries"] == (queries if asked == "cls" else "all")
            if grid is not None and place == 0:
                assert tuple(frames.attrs["grid"]) == grid
            for batch in range(3):
                want = whole[batch]
                if asked == "cls":
                    want = want[:, 0] if queries == "class" else want.mean(1)
                assert frames.shape[2:] == want.shape
                np.testing.assert_allclose(frames[0, batch], want.numpy(), atol=1e-3)
                assert np.isfinite(file[f"attention/ranges/{module}"][0, batch]).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_training_is_the_same_to_the_bit(tmp_path: Path, name: str) -> None:
    results = []
    for attention in (None, False, "cls", "full"):
        torch.manual_seed(0)
        model = FAMILIES[name][0]().train()
        if attention is None:
            losses = train(model, inputs(name))
        else:
            path = tmp_path / f"{attention}.h5"
            with Recorder(model, path, attention=attention, quiet=True) as recorder:
                losses = train(model, inputs(name), recorder)
        weights = [value.numpy().tobytes() for value in model.state_dict().values()]
        results.append((losses, weights, torch.get_rng_state().tolist()))
    assert all(result == results[0] for result in results)
