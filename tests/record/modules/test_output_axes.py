"""Where the channels of an output are: by what a block consists of, and by the output's sizes."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest
import torch
from torch import nn

from record import Recorder
from record.modules.output_axes import OutputAxes, channels_before
from record.training.models import import_torchvision


class TurnsRound(nn.Module):
    """A block as ConvNeXt has it: linear layers over channels that are last, and back again."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.up, self.act = nn.Linear(channels, 4 * channels), nn.GELU()
        self.down = nn.Linear(4 * channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.conv(x).permute(0, 2, 3, 1))
        return x + self.down(self.act(self.up(y))).permute(0, 3, 1, 2)


class Dense(nn.Module):
    """A block as DenseNet has it: it puts out more channels than any layer in it."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, growth, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.conv(x)], 1)


@pytest.mark.parametrize(
    ("module", "shape", "axes"),
    [
        (TurnsRound(12), (12, 8, 8), "CHW"),
        (TurnsRound(12), (12, 8, 12), "HWC"),  # where sizes say nothing, its last layer does
        (Dense(24, 8), (32, 8, 8), "CHW"),  # as wide as the last layer has channels
        (nn.Linear(4, 12), (8, 8, 12), "HWC"),
        (nn.Linear(4, 12), (65, 12), "TC"),
        (nn.Conv1d(4, 12, 3), (24, 12), "CL"),
        (nn.Sequential(nn.Conv2d(3, 12, 4, 4), nn.Flatten(2)), (12, 65), "CL"),
        (nn.Sequential(nn.Conv2d(3, 12, 4, 4), nn.Flatten(2)), (65, 12), "TC"),  # transposed
        (nn.GRU(4, 12, bidirectional=True), (65, 24), "TC"),
        (nn.Conv3d(1, 12, 3), (12, 5, 8, 8), "CDHW"),
        (nn.ReLU(), (12, 8, 8), "CHW"),
        (nn.Linear(4, 12), (12,), "C"),
        (nn.Linear(4, 12), (), ""),
    ],
)
def test_sizes_tell(module: nn.Module, shape: tuple[int, ...], axes: str) -> None:
    assert OutputAxes(module, False).of(shape) == axes


def test_an_activation_follows_what_comes_before_it() -> None:
    block = TurnsRound(12)
    before = channels_before(nn.Sequential(nn.Conv2d(3, 12, 3), block, nn.ReLU()))
    assert before[id(block.act)] == 48
    assert OutputAxes(block.act, False, before[id(block.act)]).of((8, 8, 48)) == "HWC"
    assert OutputAxes(nn.ReLU(), False, 12).of((12, 8, 8)) == "CHW"
    assert OutputAxes(nn.ReLU(), False, 12).of((8, 8, 8)) == "CHW"


def maxvit() -> nn.Module:
    kind = import_torchvision().models.maxvit.MaxVit
    return kind((64, 64), 8, 4, [16, 32], [1, 1], 8, 0.0, num_classes=4)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("network", "last", "axes", "channels"),
    [
        (maxvit, "blocks.1.layers.0", "CHW", 32),
        (lambda: nn.Sequential(nn.Conv2d(3, 12, 4, 4), TurnsRound(12), Head(12)), "1", "CHW", 12),
    ],
)
def test_class_activation_of_a_block_that_turns_its_axes_round(
    tmp_path: Path, network: object, last: str, axes: str, channels: int
) -> None:
    torch.manual_seed(0)
    model = network()  # type: ignore[operator]
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    path = tmp_path / "run.h5"
    images = torch.randn(2, 3, 64, 64)
    with Recorder(model, path, layers=[last], probe=images[:2], cam=last) as recorder:
        for batch, _ in recorder.track([(images, None)]):
            optimizer.zero_grad()
            loss = model(batch).square().mean()
            loss.backward()
            optimizer.step()
    with h5py.File(path) as file:
        weights = file[f"probe/0/cam/maps/{last}"]
        assert weights.shape[2:] == (channels,)
        maps = file[f"probe/0/maps/{last}"]
        assert maps.attrs["axes"] == axes
        assert maps.shape[2 + axes.index("C")] == channels


class Head(nn.Module):
    """Scores of the mean over the positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scores = nn.Linear(channels, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scores(x.mean((2, 3)))


def test_every_layer_of_maxvit_that_has_weights(tmp_path: Path) -> None:
    model = maxvit()
    names = [name for name, _ in model.named_modules() if name.startswith("blocks.1.layers.0")]
    with Recorder(model, tmp_path / "run.h5", layers=names) as recorder:
        for images in recorder.track([torch.randn(2, 3, 64, 64)]):
            model(images).sum().backward()
    blocks = ("MBconv", "window_attention", "grid_attention")
    with h5py.File(tmp_path / "run.h5") as file:
        for name, maps in file["maps"].items():
            if name.rpartition(".")[2] in blocks or name.endswith("layers.0"):
                assert maps.attrs["axes"] == "CHW", name
