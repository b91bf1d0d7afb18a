"""A small vision transformer for images of 64x64, of which the gallery shows the attention."""

from __future__ import annotations

import torch
from torch import nn


class Net(nn.Module):
    """Patches of 8x8, a class token, four layers of four heads."""

    def __init__(self, num_classes: int = 10, width: int = 96) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, 8, stride=8)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(torch.randn(1, 65, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the scores, (N, classes), of images (N, 3, 64, 64)."""
        tokens = self.embed(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(tokens), -1, -1), tokens], dim=1)
        scores: torch.Tensor = self.head(self.norm(self.blocks(tokens + self.places))[:, 0])
        return scores
