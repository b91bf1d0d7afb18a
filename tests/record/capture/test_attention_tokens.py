"""Which attention has a class token's row, and where the image's patches are among the keys."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from record.capture.attention_tokens import ModelTokens


def model(patch: int | None = 16, **tokens: int) -> nn.Module:
    made = nn.Module()
    made.inner = nn.Module()
    made.patch = nn.Linear(2, 2) if patch is None else nn.Conv2d(3, 4, patch, patch)
    for name, count in tokens.items():
        setattr(made.inner, name, nn.Parameter(torch.zeros(1, count, 4)))
    return made


@pytest.mark.parametrize(
    ("made", "image", "sizes", "expected"),
    [
        (model(cls_token=1), (224, 224), (197, 197), ("class", (14, 14))),
        (model(class_token=1), (224, 160), (141, 141), ("class", (14, 10))),
        (model(None, cls_token=1), (32, 64), (33, 33), ("class", (4, 8))),  # no convolution
        (model(cls_token=1, reg_token=4), (224, 224), (201, 201), ("class", (14, 14))),
        (model(cls_token=1, dist_token=1), (224, 224), (198, 198), ("class", (14, 14))),
        (model(), (224, 224), (196, 196), ("mean", (14, 14))),
        (model(reg_token=4), (224, 224), (200, 200), ("mean", (14, 14))),
        (model(cls_token=1), (224, 224), (196, 196), ("mean", (14, 14))),  # it comes later
        (model(cls_token=1), (224, 224), (1, 197), ("class", (14, 14))),  # it asks alone
        (model(cls_token=1), (224, 224), (7, 7), ("mean", None)),
        (model(cls_token=1), None, (197, 197), ("mean", None)),
        (model(cls_token=1), (224, 224), (50, 50), ("mean", None)),  # a masked autoencoder
        (model(4), (32, 32), (16, 16), ("mean", None)),
        (model(None), (32, 32), (16, 16), ("mean", (4, 4))),
    ],
)
def test_tokens(
    made: nn.Module,
    image: tuple[int, int] | None,
    sizes: tuple[int, int],
    expected: tuple[str, tuple[int, int] | None],
) -> None:
    assert tuple(ModelTokens(made, full=False).of(*sizes, False, image)) == expected
    assert tuple(ModelTokens(made, full=True).of(*sizes, False, image)) == ("all", expected[1])
    assert ModelTokens(made, full=False).of(*sizes, True, image).queries == "mean"  # causal


def test_stages_of_fewer_tokens() -> None:
    tokens = ModelTokens(model(4), full=False)
    assert tokens.of(64, 64, False, (32, 32)).grid == (8, 8)
    assert tokens.of(64, 16, False, (32, 32)).grid == (4, 4)
    assert tokens.of(4, 4, False, (32, 32)).grid == (2, 2)
