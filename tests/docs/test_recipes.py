"""Runs the code of docs/recipes.md with the frameworks that it is for."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import replay
from record.torchvision_import import import_torchvision
from replay.schema import OptionError

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("quick_writers"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    # What the frameworks say about small loaders and about the machine's devices.
    pytest.mark.filterwarnings("ignore::UserWarning:lightning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch.utils.data"),
]


def recipe(title: str, namespace: dict[str, Any]) -> dict[str, Any]:
    """Runs the code under a heading of the page; the names that are defined after it."""
    blocks = re.findall(rf"^## {title}\n.*?^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    assert len(blocks) == 1
    exec(compile(blocks[0], f"{PAGE.name}: {title}", "exec"), namespace)
    return namespace


def need(name: str) -> Any:
    with contextlib.suppress(OptionError):
        import_torchvision()  # beside a CPU build of torch, the frameworks' own import fails
    return pytest.importorskip(name, reason=f"not tested: the recipe for {name}, it is missing")


class Net(nn.Module):
    """Watches itself: a plain hook keeps what conv1 put out in each training step."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(6, 3)
        self.frames: list[np.ndarray] = []
        self.conv1.register_forward_hook(self.keep)

    def keep(self, module: nn.Module, args: Any, output: torch.Tensor) -> None:
        if self.training:
            self.frames.append(output[0].detach().clone().half().numpy())

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None) -> Any:
        logits = self.fc(self.relu(self.conv1(pixel_values)).mean((2, 3)))
        if labels is None:
            return logits
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def make() -> Net:
    torch.manual_seed(0)
    return Net()


def images() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(3, 10, 10, generator=generator), torch.tensor(i % 3)) for i in range(10)]


def check(fit: Callable[[Net, bool], None], losses: bool = True) -> None:
    """Trains with and without the recipe, which writes run.h5; 2 epochs of 3 batches."""
    plain, recorded = make(), make()
    fit(plain, False)
    fit(recorded, True)
    for before, after in zip(plain.parameters(), recorded.parameters(), strict=True):
        assert torch.equal(before, after)
    assert not recorded.fc._forward_hooks
    with replay.open("run.h5") as run:
        assert run.closed
        assert run.frames == [(e, b) for e in range(2) for b in range(3)]
        for at, frame in zip(run.frames, recorded.frames, strict=True):
            name = run.layers[0]
            assert name.endswith("conv1")
            assert run[name][at].tobytes() == frame.tobytes()
            assert np.isfinite(run.batches["loss"][at]) == losses


def test_lightning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = need("lightning.pytorch")
    monkeypatch.chdir(tmp_path)

    class Model(library.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self, net: Net) -> None:
            super().__init__()
            self.net = net

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return self.net(*batch)["loss"]

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    def fit(net: Net, recorded: bool) -> None:
        loader = torch.utils.data.DataLoader(images(), batch_size=4)
        if recorded:
            recipe("Lightning", {"model": Model(net), "loader": loader})
        else:
            library.Trainer(max_epochs=2, logger=False).fit(Model(net), loader)

    check(fit)


def test_hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = need("transformers")
    need("accelerate")
    monkeypatch.chdir(tmp_path)
    rows = [{"pixel_values": image, "labels": label} for image, label in images()]

    def fit(net: Net, recorded: bool) -> None:
        arguments = transformers.TrainingArguments(
            output_dir="out",
            num_train_epochs=2,
            per_device_train_batch_size=4,
            learning_rate=0.1,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        )
        callbacks = []
        if recorded:
            callbacks = [recipe("Hugging Face", {})["RecordFeatureMaps"]("run.h5", layers="conv1")]
        transformers.Trainer(
            model=net, args=arguments, train_dataset=rows, eval_dataset=rows, callbacks=callbacks
        ).train()

    check(fit, losses=False)
    with replay.open("run.h5") as run:
        rates = run.batches["lr"].ravel()
    np.testing.assert_allclose(rates, 0.1 * (1 - np.arange(6) / 6), rtol=1e-6)


def test_ignite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = need("ignite.engine")
    monkeypatch.chdir(tmp_path)

    def fit(net: Net, recorded: bool) -> None:
        loader = torch.utils.data.DataLoader(images(), batch_size=4)
        trainer = engine.create_supervised_trainer(
            net, torch.optim.SGD(net.parameters(), 0.1), nn.functional.cross_entropy
        )
        if recorded:
            recipe("Ignite", {"model": net, "trainer": trainer, "loader": loader})
        else:
            trainer.run(loader, max_epochs=2)

    check(fit)


def hooked() -> tuple[Net, list[torch.Tensor], list[np.ndarray]]:
    """A net, batches, and what conv1 put out before any hook of a recipe, by a hook of its own."""
    net = make().train()
    batches = [torch.stack([image for image, _ in images()[i : i + 4]]) for i in (0, 4)]
    return net, batches, net.frames


def test_hooks_that_change_an_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    net, batches, own = hooked()
    given: list[np.ndarray] = []
    net.relu.register_forward_pre_hook(
        lambda module, inputs: given.append(inputs[0][0].detach().half().numpy())
    )
    recipe(
        "Hooks that change an output",
        {"model": net, "loader": batches, "train_on": lambda x: net(x).sum().backward()},
    )
    with replay.open("run.h5") as run:
        assert run.frames == [(0, 0), (0, 1)]
        for at, frame, passed in zip(run.frames, own, given, strict=True):
            assert run["conv1"][at].tobytes() == (2 * frame).tobytes()
            np.testing.assert_allclose(passed, 2 * frame.astype(np.float32) + 1, 2e-3, 2e-3)


class Adapted(nn.Module):
    """As peft's LoRA has it."""

    adapter_layer_names = ("lora_A", "lora_B")

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base_layer = layer.requires_grad_(False)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(layer.in_features, rank, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(rank, layer.out_features, bias=False)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base_layer(x) + self.lora_B["default"](self.lora_A["default"](x))


def adapt(model: nn.Module, config: Any) -> nn.Module:
    """As `peft.get_peft_model` does, on a model of two blocks."""
    model.requires_grad_(False)
    for block in model.children():
        if isinstance(block, nn.Sequential):
            block.qkv = Adapted(block.qkv, config.r)
    whole = nn.Sequential()
    whole.base_model = nn.Sequential()
    whole.base_model.model = model
    return whole


@pytest.mark.parametrize("real", [False, True])
def test_lora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real: bool) -> None:
    monkeypatch.chdir(tmp_path)
    if real:
        need("peft")
    else:
        config = lambda r, target_modules: SimpleNamespace(r=r)  # noqa: E731
        fake = SimpleNamespace(LoraConfig=config, get_peft_model=adapt)
        monkeypatch.setitem(sys.modules, "peft", fake)  # type: ignore[arg-type]
    torch.manual_seed(0)
    model = nn.Sequential()
    for number in range(2):
        block = nn.Sequential()
        block.norm, block.qkv = nn.LayerNorm(6), nn.Linear(6, 6)
        model.add_module(f"block{number}", block)
    names: dict[str, Any] = {"model": model, "loader": [torch.randn(2, 4, 6) for _ in range(3)]}
    seen: dict[str, list[np.ndarray]] = {}

    def train_on(images: torch.Tensor) -> None:
        for name, module in names["model"].named_modules():
            if not seen.get("hooked") and name.endswith("qkv"):
                module.register_forward_hook(
                    lambda m, a, out, n=name: seen.setdefault(n, []).append(
                        out[0].detach().half().numpy()
                    )
                )
        seen["hooked"] = [np.zeros(1)]
        names["model"](images).square().mean().backward()

    names["train_on"] = train_on
    recipe("LoRA", names)
    with replay.open("run.h5") as run:
        first = "base_model.model.block0.qkv"
        assert [n for n in run.layers if n.startswith(first)] == [
            first,
            f"{first}.base_layer",
            f"{first}.lora_B.default",
        ]
        for at, frame in zip(run.frames, seen[first], strict=True):
            assert run[first][at].tobytes() == frame.tobytes()


def test_a_frozen_model_that_is_trained_through_its_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Conv2d(4, 2, 3))
    net.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    content = torch.randn(1, 3, 8, 8)
    pictures: list[np.ndarray] = []
    net.register_forward_pre_hook(
        lambda module, inputs: pictures.append(inputs[0][0].detach().half().numpy().copy())
    )
    names = {"model": net, "content": content, "steps": 4}
    names["style_loss"] = lambda maps: maps.square().mean()
    done = recipe("A frozen model that is trained through its input", names)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not torch.equal(done["image"], content)
    with replay.open("run.h5") as run:
        assert run.layers == ("0", "3")
        assert run.frames == [(0, b) for b in range(4)]
        for at, picture in zip(run.frames, pictures, strict=True):
            assert run.inputs[at].tobytes() == picture.tobytes()
        losses = [float(run.batches["loss"][at]) for at in run.frames]
        assert losses == sorted(losses, reverse=True)


def test_arrays_of_any_framework(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe("Arrays of any framework", {})
    with replay.open("run.h5") as run:
        assert run["edges"].frames == [(epoch, batch) for epoch in range(2) for batch in range(3)]
        assert run["edges"][1, 2].shape == (2, 16, 16)
        assert run.inputs[1, 2].shape == (1, 16, 16)
