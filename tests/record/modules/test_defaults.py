"""Which layers are recorded where nobody chose, and what modules are called."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import nn

import replay
from record import Recorder
from record.modules.names import named_modules, unwrap
from record.modules.selection import find_layers
from record.torchvision_import import import_torchvision
from replay.schema import OptionError

pytestmark = pytest.mark.usefixtures("quick_writers")

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks are faster so, and others' tests are left as they are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Attention(nn.Module):
    """As vit-pytorch has it: the norm is in it."""

    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.to_out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.to_qkv(self.norm(x)).chunk(3, -1)
        return self.to_out(torch.softmax(q @ k.transpose(1, 2), -1) @ v)


class FeedForward(nn.Module):
    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


class Block(nn.Module):
    """As timm has it."""

    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    def __init__(self, dim: int = 8) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, 4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class Run(nn.Module):
    """Calls its parts one after the other, and lists of lists as transformers do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for part in self.children():
            if isinstance(part, nn.ModuleList):
                for block in part:
                    for piece in block if isinstance(block, nn.ModuleList) else [block]:
                        x = piece(x)
            else:
                x = part(x)
        return x


def run(**parts: nn.Module) -> nn.Module:
    model = Run()
    for name, part in parts.items():
        model.add_module(name, part)
    return model


def timm_vit() -> nn.Module:
    return run(
        patch_embed=PatchEmbed(),
        blocks=nn.Sequential(*(Block() for _ in range(3))),
        norm=nn.LayerNorm(8),
        head=nn.Linear(8, 2),
    )


def simple_vit() -> nn.Module:
    layers = nn.ModuleList(nn.ModuleList([Attention(), FeedForward()]) for _ in range(3))
    return run(
        to_patch_embedding=nn.Sequential(PatchRows(), nn.Linear(48, 8)),
        transformer=run(layers=layers),
        linear_head=nn.Linear(8, 2),
    )


class PatchRows(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.unfold(x, 4, stride=4).transpose(1, 2)


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.key = nn.Linear(8, 4)
        self.value = nn.Linear(8, 4)


class Several(nn.Module):
    """A transformer's block with its heads, or experts, in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(8)
        self.heads = nn.ModuleList(Head() for _ in range(6))
        self.proj = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Stage(nn.Module):
    """As timm's and transformers' Swin has it: blocks, then half the size."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(depth))
        self.downsample = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.tokens = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 4))
        self.channels = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class ConvNeXtBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(32, 32, 3, padding=1, groups=32)
        self.norm = nn.LayerNorm(32)
        self.fc1, self.fc2 = nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Residual(nn.Module):
    """A ResNet's block with a squeeze in front of its end, made of Linears."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)
        self.squeeze = nn.Sequential(nn.Linear(8, 2), nn.Linear(2, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


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


def train(model: nn.Module, path: Path, layers: Any = None) -> dict[str, list[np.ndarray]]:
    """Three batches in two epochs; what plain hooks saw of the layers that were recorded."""
    seen: dict[str, list[np.ndarray]] = {}
    for name, module in find_layers(unwrap(model), layers).items():
        module.register_forward_hook(
            lambda m, a, out, n=name: seen.setdefault(n, []).append(
                out[0].detach().clone().half().numpy()
            )
        )
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    with Recorder(model, path, layers) as recorder:
        for _ in range(2):
            for images in recorder.track([torch.randn(2, 3, 8, 8) for _ in range(3)]):
                optimizer.zero_grad()
                output = model(images)
                output = getattr(output, "last_hidden_state", output)
                output.square().mean().backward()
                optimizer.step()
    return seen


def check(path: Path, seen: dict[str, list[np.ndarray]]) -> None:
    with replay.open(path) as run:
        assert run.frames == [(e, b) for e in range(2) for b in range(3)]
        assert sorted(run.layers) == sorted(seen)
        for name, frames in seen.items():
            for at, frame in zip(run.frames, frames, strict=True):
                assert run[name][at].tobytes() == frame.tobytes()


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


class FullyShardedDataParallel(nn.Module):
    """Stands around a module as FSDP1's does."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._fsdp_wrapped_module = module

    def forward(self, *args: Any) -> Any:
        return self._fsdp_wrapped_module(*args)


def test_fsdp_does_not_show_in_names(tmp_path: Path) -> None:
    torch.manual_seed(0)
    expected = list(find_layers(timm_vit()))
    model = timm_vit()
    for i in range(3):
        model.blocks[i] = FullyShardedDataParallel(model.blocks[i])  # type: ignore[index, operator]
    whole = FullyShardedDataParallel(model)
    assert unwrap(whole) is model
    assert not [name for name in named_modules(whole) if "_fsdp" in name]
    seen = train(whole, tmp_path / "run.h5")
    assert list(seen) == expected
    check(tmp_path / "run.h5", seen)


SHARDED = """
import sys, warnings
warnings.simplefilter("ignore")
import torch, torch.distributed as dist
from torch import nn
from record import Recorder
sys.path.insert(0, sys.argv[3])
from test_defaults import timm_vit
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}.store", rank=0, world_size=1)
torch.manual_seed(0)
model = timm_vit()
if sys.argv[1] == "1":
    from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
    from torch.distributed.fsdp.wrap import ModuleWrapPolicy
    kinds = {type(model.blocks[0])}
    model = FSDP(model, auto_wrap_policy=ModuleWrapPolicy(kinds), device_id=torch.device("cpu"))
else:
    from torch.distributed.fsdp import fully_shard
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    for part in (model.patch_embed.proj, *model.blocks):
        fully_shard(part, mesh=mesh)
    fully_shard(model, mesh=mesh)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
with Recorder(model, sys.argv[2]) as recorder:
    for images in recorder.track([torch.randn(2, 3, 8, 8) for _ in range(3)]):
        model(images).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
dist.destroy_process_group()
"""


@pytest.mark.parametrize("version", [1, 2])
def test_names_of_a_sharded_model(tmp_path: Path, version: int) -> None:
    path = tmp_path / "run.h5"
    done = subprocess.run(
        [sys.executable, "-c", SHARDED, str(version), str(path), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with replay.open(path) as run:
        assert list(run.layers) == ["patch_embed.proj", "blocks.0", "blocks.1", "blocks.2"]
        assert len(run.frames) == 3
    with h5py.File(path) as file:  # FSDP2 makes a class of its own out of each
        modules = [str(maps.attrs["module"]) for maps in file["maps"].values()]
    assert sorted(text.partition("(")[0] for text in modules) == [*["Block"] * 3, "Conv2d"]
