from __future__ import annotations

import pytest
import torch
from torch import nn

from record.modules.names import named_modules, unwrap
from record.modules.selection import find_layers
from record.planning import find_layout
from record.training.models import auxiliary_weight, build, logits_and_auxiliary, native_size
from replay.schema import OptionError


def test_tiny_begins_as_the_post_of_2019() -> None:
    model = build("tiny", 10, 128)
    conv1 = model.conv1
    assert isinstance(conv1, nn.Conv2d)
    assert (conv1.in_channels, conv1.out_channels) == (3, 12)
    assert (conv1.kernel_size, conv1.stride, conv1.padding) == ((3, 3), (1, 1), (1, 1))
    layout = find_layout(model, None, torch.zeros(2, 3, 128, 128)).layout
    assert [layer.shape for layer in layout.layers] == [(12, 128, 128), (24, 32, 32), (32, 16, 16)]
    assert model(torch.zeros(4, 3, 28, 28)).shape == (4, 10)


@pytest.mark.parametrize(
    ("name", "heads"), [("resnet18", 0), ("vit_b_16", 0), ("googlenet", 2), ("inception_v3", 1)]
)
def test_torchvision_models(name: str, heads: int) -> None:
    size = 299 if name == "inception_v3" else 64
    with torch.device("meta"):
        model = build(name, 7, size).train()
        logits, auxiliary = logits_and_auxiliary(model(torch.empty(2, 3, size, size)))
    assert logits.shape == (2, 7)
    assert [head.shape for head in auxiliary] == [(2, 7)] * heads
    assert native_size("inception_v3") == 299


def test_auxiliary_weights() -> None:
    assert (auxiliary_weight(1), auxiliary_weight(2)) == (0.4, 0.3)


def test_finding_the_layout_leaves_the_model_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    layout = find_layout(model, ["Conv2d", "BatchNorm2d"], torch.ones(2, 3, 8, 8)).layout
    assert [layer.name for layer in layout.layers] == ["0", "1"]
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert torch.equal(state, torch.get_rng_state())
    assert not model[0]._forward_hooks


def test_a_model_that_is_no_classifier() -> None:
    with pytest.raises(OptionError, match=r"expected logits \(N, classes\), found \(2, 3, 4, 4\)"):
        logits_and_auxiliary(torch.zeros(2, 3, 4, 4))
    with pytest.raises(OptionError, match="unknown model 'resnet_18'.* 'resnet18'"):
        build("resnet_18", 10, 64)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.act = nn.ReLU()


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Conv2d(3, 3, 1)  # a name that wrappers use too
        self.layer1 = nn.Sequential(Block(), Block())
        self.head = nn.Linear(3, 2)


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (None, ["module", "layer1.0.conv", "layer1.1.conv"]),
        ("layer1.0.conv", ["layer1.0.conv"]),
        ("layer1.*", ["layer1.0.conv", "layer1.0.act", "layer1.1.conv", "layer1.1.act"]),
        ("layer?", ["layer1"]),
        (["ReLU", "head"], ["layer1.0.act", "layer1.1.act", "head"]),
        ("Block", ["layer1.0", "layer1.1"]),
        ("Model", ["Model"]),
    ],
)
def test_patterns(patterns: str | list[str] | None, names: list[str]) -> None:
    assert list(find_layers(Model(), patterns)) == names


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.compile itself
def test_wrappers_do_not_show_in_names() -> None:
    model = Model()
    model.layer1[1] = torch.compile(model.layer1[1])
    compiled = torch.compile(model)
    assert unwrap(compiled) is model
    assert "layer1.1.conv" in named_modules(model)
    assert isinstance(find_layers(model, "layer1.1.conv")["layer1.1.conv"], nn.Conv2d)
    alone = nn.Conv2d(3, 4, 1)
    assert find_layers(alone) == {"Conv2d": alone}
