"""Which layers are recorded where nobody names any."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from usual_networks import (
    Attention,
    Block,
    ConvNeXtBlock,
    FeedForward,
    Mixer,
    PatchEmbed,
    Residual,
    Several,
    Stage,
    check,
    run,
    simple_vit,
    timm_vit,
    train,
)

from record.modules.selection import find_layers
from record.torchvision_import import import_torchvision
from replay.schema import OptionError

pytestmark = pytest.mark.usefixtures("quick_writers")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks are faster so, and others' tests are left as they are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


CASES: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "timm's ViT": (timm_vit, ["patch_embed.proj", "blocks.0", "blocks.1", "blocks.2"]),
    "vit-pytorch's SimpleViT": (
        simple_vit,
        [f"transformer.layers.{i}.{j}" for i in range(3) for j in range(2)],
    ),
    "lists in dicts": (
        lambda: run(
            layers=nn.ModuleList(
                nn.ModuleDict({"mix": Attention(), "mlp": FeedForward()}) for _ in range(2)
            )
        ),
        ["layers.0.mix", "layers.0.mlp", "layers.1.mix", "layers.1.mlp"],
    ),
    "nanoGPT": (
        lambda: run(
            wte=nn.Embedding(5, 8),
            h=nn.ModuleList(Block() for _ in range(2)),
            ln_f=nn.LayerNorm(8),
            lm_head=nn.Linear(8, 5),
        ),
        ["h.0", "h.1"],
    ),
    "heads in a list": (
        lambda: run(blocks=nn.Sequential(Several(), Several())),
        ["blocks.0", "blocks.1"],
    ),
    "stages of blocks": (
        lambda: run(stem=nn.Conv2d(3, 8, 4), stages=nn.Sequential(Stage(2), Stage(1))),
        ["stem", "stages.0.blocks.0", "stages.0.blocks.1", "stages.1.blocks.0"],
    ),
    "one block several times": (
        lambda: run(blocks=nn.Sequential(*[Block()] * 3)),
        ["blocks.0"],
    ),
    "two encoders": (
        lambda: run(encoder_q=timm_vit(), encoder_k=timm_vit()),
        [
            f"encoder_{e}.{n}"
            for e in "qk"
            for n in ("patch_embed.proj", "blocks.0", "blocks.1", "blocks.2")
        ],
    ),
    "MLP-Mixer": (
        lambda: run(patch_embed=PatchEmbed(), blocks=nn.Sequential(Mixer(), Mixer())),
        ["patch_embed.proj", "blocks.0", "blocks.1"],
    ),
    "ConvNeXt": (
        lambda: run(
            stem=nn.Conv2d(3, 32, 4), blocks=nn.Sequential(ConvNeXtBlock(), ConvNeXtBlock())
        ),
        ["stem", "blocks.0", "blocks.0.conv_dw", "blocks.1", "blocks.1.conv_dw"],
    ),
    "blocks by number": (
        lambda: run(proj=nn.Conv2d(3, 8, 4), block1=Block(), block2=Block()),
        ["proj", "block1", "block2"],
    ),
    "ResNet": (
        lambda: run(conv1=nn.Conv2d(3, 8, 3), layer1=nn.Sequential(Residual(), Residual())),
        ["conv1", "layer1.0.conv1", "layer1.0.conv2", "layer1.1.conv1", "layer1.1.conv2"],
    ),
    "U-Net": (
        lambda: run(
            downs=nn.ModuleList(
                nn.ModuleList([nn.Conv2d(3, 4, 3), nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU())])
                for _ in range(2)
            ),
            up=nn.ConvTranspose2d(4, 4, 2),
            out=nn.Conv2d(4, 1, 1),
        ),
        ["downs.0.0", "downs.0.1.0", "downs.1.0", "downs.1.1.0", "out"],
    ),
    "a head of equal parts": (
        lambda: run(
            conv=nn.Conv2d(3, 4, 3),
            head=nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(3))),
        ),
        ["conv"],
    ),
    "signals": (
        lambda: run(conv=nn.Conv1d(3, 4, 3), head=nn.Linear(4, 2)),
        ["conv"],
    ),
    "an MLP": (
        lambda: run(fc1=nn.Linear(3, 4), act=nn.ReLU(), fc2=nn.Linear(4, 2)),
        ["fc1", "fc2"],
    ),
    "neither": (lambda: run(rnn=nn.LSTM(3, 4), act=nn.ReLU()), ["rnn"]),
}


@pytest.mark.parametrize("case", CASES)
def test_defaults(case: str) -> None:
    make, expected = CASES[case]
    assert list(find_layers(make())) == expected


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("vit_b_16", {"Conv2d": 1, "EncoderBlock": 12}),
        ("swin_t", {"Conv2d": 1, "SwinTransformerBlock": 12, "PatchMerging": 3}),
        ("convnext_tiny", {"Conv2d": 22, "CNBlock": 18}),
        ("resnet50", {"Conv2d": 53}),
        ("efficientnet_b0", {"Conv2d": 81}),
        ("densenet121", {"Conv2d": 120}),
        ("vgg11", {"Conv2d": 8}),
        ("mobilenet_v3_small", {"Conv2d": 52}),
    ],
)
def test_models_of_torchvision(name: str, kinds: dict[str, int]) -> None:
    with torch.device("meta"):
        model = import_torchvision().models.get_model(name)
    found = [type(module).__name__ for module in find_layers(model).values()]
    assert {kind: found.count(kind) for kind in found} == kinds


@pytest.mark.parametrize("make", [timm_vit, simple_vit])
def test_blocks_are_recorded(tmp_path: Path, make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    seen = train(make(), tmp_path / "run.h5")
    assert len(seen) >= 4
    check(tmp_path / "run.h5", seen)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_blocks_of_transformers_are_recorded(tmp_path: Path) -> None:
    import_torchvision()
    transformers = pytest.importorskip("transformers", reason="not tested: transformers is missing")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=8,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=8,
        patch_size=4,
    )
    seen = train(transformers.ViTModel(config, add_pooling_layer=False), tmp_path / "run.h5")
    blocks = [name for name in seen if name.rsplit(".", 1)[-1].isdigit()]
    assert (len(seen), len(blocks)) == (4, 3)
    check(tmp_path / "run.h5", seen)


class Adapted(nn.Module):
    """As peft's LoRA has it: a layer around the one that was there."""

    adapter_layer_names = ("lora_A", "lora_B")

    def __init__(self, layer: nn.Module, down: nn.Module, up: nn.Module) -> None:
        super().__init__()
        self.base_layer = layer.requires_grad_(False)
        self.lora_A = nn.ModuleDict({"default": down})
        self.lora_B = nn.ModuleDict({"default": up})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base_layer(x) + self.lora_B["default"](self.lora_A["default"](x))


class Lora(nn.Linear):
    """As loralib has it: a Linear with two more weights."""

    def __init__(self) -> None:
        super().__init__(8, 8)
        self.lora_A = nn.Parameter(torch.randn(2, 8))
        self.lora_B = nn.Parameter(torch.zeros(8, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + x @ self.lora_A.T @ self.lora_B.T


def test_the_sum_of_an_adapted_layer_is_recorded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm_vit()
    for block in model.blocks:  # type: ignore[union-attr]
        down, up = nn.Linear(8, 2, bias=False), nn.Linear(2, 24, bias=False)
        block.attn.to_qkv = Adapted(block.attn.to_qkv, down, up)  # type: ignore[union-attr]
    embed = model.patch_embed
    embed.proj = Adapted(embed.proj, nn.Conv2d(3, 2, 4, 4), nn.Conv2d(2, 8, 1))  # type: ignore[union-attr]
    model.head = nn.Sequential(Lora(), nn.Linear(8, 2))
    seen = train(model, tmp_path / "run.h5")
    blocks = [n for i in range(3) for n in (f"blocks.{i}", f"blocks.{i}.attn.to_qkv")]
    assert sorted(seen) == sorted(["patch_embed.proj", *blocks, "head.0"])
    check(tmp_path / "run.h5", seen)


def test_a_list_of_modules_means_what_is_in_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = simple_vit()
    parts = [f"transformer.layers.{i}.{j}" for i in range(3) for j in range(2)]
    for pattern in ("transformer.layers", "transformer.layers.?", "ModuleList"):
        assert list(find_layers(model, pattern)) == parts
    assert list(find_layers(model, "transformer.layers.1")) == parts[2:4]
    seen = train(model, tmp_path / "run.h5", "transformer.layers")
    check(tmp_path / "run.h5", seen)
    model.empty, model.scales = nn.ModuleList(), nn.ParameterList([torch.zeros(2)])  # type: ignore[assignment]
    assert "empty" not in find_layers(model, "*")
    assert "scales" not in find_layers(model, "*")
    for name in ("empty", "scales"):
        with pytest.raises(OptionError, match=f"{name}' matches only what is never called"):
            find_layers(model, name)


def test_a_list_that_has_a_forward_is_a_layer() -> None:
    class Chain(nn.ModuleList):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for part in self:
                x = part(x)
            return x

    model = run(chain=Chain([nn.Linear(2, 2)]))
    assert list(find_layers(model, "chain")) == ["chain"]
