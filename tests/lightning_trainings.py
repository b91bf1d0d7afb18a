"""Models and trainings of Lightning, small and quiet."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import replay
from record.torchvision_import import import_torchvision
from replay.schema import OptionError

QUIET = [
    pytest.mark.usefixtures("quick_writers"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    # What Lightning has to say about small loaders, worker processes and the machine's devices.
    pytest.mark.filterwarnings("ignore::UserWarning:lightning"),
    pytest.mark.filterwarnings("ignore::UserWarning:pytorch_lightning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch.utils.data"),
]


STYLES = {
    "self(x)": (None, "net."),
    "self.net(x), module=net": ("net", ""),
    "self.net(x)": (None, "net."),
}


def need(name: str) -> ModuleType:
    with contextlib.suppress(OptionError):
        import_torchvision()  # beside a CPU build of torch, Lightning's own import of it fails
    return pytest.importorskip(name, reason=f"not tested: the callback in {name}, it is missing")


class Images(torch.utils.data.Dataset):
    """Ten images, the same ones each time."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        generator = torch.Generator().manual_seed(index)
        return torch.randn(3, 10, 10, generator=generator), index % 3


def loader(**options: Any) -> torch.utils.data.DataLoader:
    return torch.utils.data.DataLoader(Images(), batch_size=4, **options)


def make(library: ModuleType, style: str, fails_at: int = -1) -> Any:
    """A LightningModule: conv1, an in-place ReLU, conv2; its forward is called or is not."""

    class Model(library.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential()
            self.net.conv1 = nn.Conv2d(3, 6, 3, padding=1)
            self.net.norm = nn.BatchNorm2d(6)
            self.net.relu = nn.ReLU(inplace=True)
            self.net.conv2 = nn.Conv2d(6, 3, 3)
            self.losses: list[float] = []
            self.rates: list[float] = []
            self.frames: list[dict[str, np.ndarray]] = []
            self.watched = False

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x)

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            if len(self.losses) == fails_at:
                raise ZeroDivisionError
            images, labels = batch
            self.frames.append({"input": images[0].half().numpy()})
            outputs = self(images) if style.startswith("self(x)") else self.net(images)
            loss = nn.functional.cross_entropy(outputs.mean((2, 3)), labels)
            self.losses.append(loss.item())
            self.rates.append(self.optimizers().param_groups[0]["lr"])
            return loss

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self(2 * batch[0])
            self.net(2 * batch[0])

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
            }

        def watch(self) -> None:
            """Plain hooks that clone."""
            for name in ("conv1", "norm", "conv2"):

                def keep(module: nn.Module, args: Any, output: torch.Tensor, n: str = name) -> None:
                    if self.training:
                        self.frames[-1][n] = output[0].detach().clone().half().numpy()

                self.net.get_submodule(name).register_forward_hook(keep)

    torch.manual_seed(0)
    return Model()


def make_trainer(library: ModuleType, folder: Path, *callbacks: Any, **options: Any) -> Any:
    """On the CPU, two epochs, with a sanity check."""
    return library.Trainer(
        **{
            "max_epochs": 2,
            "accelerator": "cpu",
            "devices": 1,
            "num_sanity_val_steps": 2,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": folder,
            "callbacks": list(callbacks),
            **options,
        }
    )


def fit(library: ModuleType, model: Any, folder: Path, *callbacks: Any, **options: Any) -> Any:
    """Two epochs on the CPU with a sanity check and validations; the weights and buffers."""
    torch.manual_seed(1)
    trainer = make_trainer(library, folder, *callbacks, **options)
    trainer.fit(model, loader(shuffle=True), loader())
    return {name: value.clone() for name, value in model.state_dict().items()}


def check_losses(path: Path, losses: list[float], first: int = 0) -> None:
    """Epochs of three batches, from an epoch on."""
    with replay.open(path) as run:
        assert run.closed
        epochs = range(first, first + len(losses) // 3)
        assert run.frames == [(e, b) for e in epochs for b in range(3)]
        assert [run.batches["loss"][at] for at in run.frames] == losses
        assert [run.batches["step"][at] for at in run.frames] == list(range(len(losses)))
