"""What a recorder wrote of attention and class activation, read and drawn without it."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from torch import nn

import replay
from record import Recorder
from replay.maps.views import look_at
from replay.options import FilmOptions

SIDE, PATCH, WIDTH = 24, 4, 16
TOKENS = (SIDE // PATCH) ** 2


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        return x + self.attention(y, y, y, need_weights=False)[0]


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, WIDTH, PATCH, PATCH)
        self.class_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.places = nn.Parameter(torch.randn(1, TOKENS + 1, WIDTH) * 0.2)
        self.blocks = nn.Sequential(Block(), Block())
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(x), -1, -1), tokens], 1) + self.places
        return self.head(self.blocks(tokens)[:, 0])


def test_attention_that_was_recorded_is_drawn(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = Transformer()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    batches = [(torch.randn(4, 1, SIDE, SIDE), torch.randint(0, 3, (4,))) for _ in range(3)]
    path = tmp_path / "run.h5"
    rows = {}
    with Recorder(model, path, attention=True, probe=batches[0][0][:1]) as recorder:
        for epoch in range(2):
            for batch, (images, labels) in enumerate(recorder.track(batches)):
                rows[epoch, batch] = expected(copy.deepcopy(model), images[:1])
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(images), labels)
                loss.backward()
                optimizer.step()
                recorder.log(loss=loss.item())
    with replay.open(path) as run:
        assert run.attentions == ("blocks.0.attention", "blocks.1.attention")
        found = run.attention("blocks.1.attention")
        assert found.layer.queries == "class"
        (shown,), options = look_at([run], FilmOptions(view="attention"))
        assert options.layers == "blocks.1.attention"
        series = shown["blocks.1.attention"]
        assert series.layer.shape == (2, SIDE // PATCH, SIDE // PATCH)
        for cell, right in rows.items():
            np.testing.assert_allclose(found[cell], right, atol=1e-3)
            grid = right[:, 1:].reshape(series.layer.shape)
            np.testing.assert_allclose(series[cell], grid, atol=1e-3)
        assert run.probe(0).attention("blocks.0.attention")[1, 2].shape == (2, TOKENS + 1)
    made = replay.animate(path, tmp_path / "film.gif", view="attention", layers="all", probe=0)
    assert made.frames == 6
    assert made.remarks == ()
    assert replay.verify(path)


def expected(model: Transformer, image: torch.Tensor) -> np.ndarray:
    """The class token's attention in the second block, by definition: (heads, T)."""
    with torch.no_grad():
        tokens = model.patches(image).flatten(2).transpose(1, 2)
        tokens = torch.cat([model.class_token, tokens], 1) + model.places
        y = model.blocks[1].norm(model.blocks[0](tokens))
        attention = model.blocks[1].attention
        _, weights = attention(y, y, y, average_attn_weights=False)
    return weights[0, :, 0].numpy()
