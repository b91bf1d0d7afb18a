"""Rows in which the batch is on another axis than the first one, or on none."""

from __future__ import annotations

from typing import Any

import torch
from rows import BOTH, first_image, images, plain_parts
from torch import nn
from training import Row


def second(output: torch.Tensor) -> torch.Tensor:
    """The first image's part where the batch is the second axis."""
    return output[:, 0]


def everything(output: torch.Tensor) -> torch.Tensor:
    """The first image's part where there is but one."""
    return output


class Cell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3 + 2, 8, 3, padding=1)

    def forward(self, x: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor]) -> Any:
        hidden, cell = state
        i, f, o, g = self.conv(torch.cat([x, hidden], 1)).chunk(4, 1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        return o.sigmoid() * cell.tanh(), cell


class ConvLSTM(nn.Module):
    """Takes (T, N, C, H, W), and has a convolution that takes (N, C, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.batch_first = False
        self.cell = Cell()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps, size, _, height, width = x.shape
        state = (x.new_zeros(size, 2, height, width),) * 2
        for step in range(steps):
            state = self.cell(x[step], state)
        return state[0]


class Film(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = ConvLSTM()

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, T, C, H, W)
        return self.rnn(x.transpose(0, 1))


class Transformer(nn.Module):
    """Tokens of small images; the layers inside have (T, N, D), or (N, T, D)."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.batch_first_inside = batch_first
        self.patch = nn.Conv2d(3, 8, 2, 2)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=batch_first)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        return self.encoder(tokens if self.batch_first_inside else tokens.transpose(0, 1))


class Tokens(Transformer):
    """Has four tokens: as many as a batch has images."""

    def __init__(self) -> None:
        super().__init__(batch_first=False)


class Queries(nn.Module):
    """A decoder whose queries are learned, (T, N, D), as detection transformers have it."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 2, 2)
        layer = nn.TransformerDecoderLayer(8, 2, 16, dropout=0.0)
        self.decoder = nn.TransformerDecoder(layer, 2)
        self.queries = nn.Parameter(torch.randn(5, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patch(x).flatten(2).permute(2, 0, 1)
        return self.decoder(self.queries[:, None].expand(-1, len(x), -1), tokens)


DECODER = ("decoder", "decoder.layers.0", "decoder.layers.1.linear1", "decoder.layers.1.norm2")


class Attention(nn.Module):
    """Its attention weights are (N, T, T), whatever axis the tokens have the batch on."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 8, 2, 2)
        self.attn = nn.MultiheadAttention(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patch(x).flatten(2).permute(2, 0, 1)
        output, weights = self.attn(tokens, tokens, tokens, average_attn_weights=False)
        return output + weights.mean()


class Detector(nn.Module):
    """Takes a list of images, as detection models do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, batch: list[torch.Tensor]) -> torch.Tensor:
        return self.conv(torch.stack([nn.functional.pad(x, (0, 2)) for x in batch]))


class Integers(nn.Module):
    """Takes images of bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x.float() / 255)


def of_bytes() -> list[torch.Tensor]:
    return [((batch * 60 + 128).clamp(0, 255)).to(torch.uint8) for batch in images()]


class Scales(nn.Module):
    """Calls itself with a smaller image."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 2, 3, padding=1)
        self.b = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x: torch.Tensor, scales: int = 1) -> torch.Tensor:
        y = self.a(x)
        if scales:
            inner = self(nn.functional.avg_pool2d(x, 2), scales - 1)
            y = y + nn.functional.interpolate(inner, size=x.shape[2:])
        return self.b(y)


ROWS: dict[str, Row] = {
    "convlstm": Row(
        "ConvLSTM with batch_first=False", Film, ("rnn.cell.conv",),
        lambda: [torch.stack([b, 2 * b, 3 * b], 1) for b in images(4, 4, 2)],
    ),
    "encoder": Row(
        "TransformerEncoderLayer(batch_first=True) and its Linear", lambda: Transformer(True),
        ("encoder", "encoder.linear1"), lambda: images(4, 4, 3),
    ),
    "encoder-second": Row(
        "TransformerEncoderLayer(batch_first=False) and its Linear", lambda: Transformer(False),
        ("encoder", "encoder.linear1"), lambda: images(4, 4, 3),
        pick={"encoder": second, "encoder.linear1": second},
    ),
    "ambiguous": Row(
        "as many tokens as images, batch on the second axis", Tokens,
        ("encoder", "encoder.linear1"), lambda: images(4, 4, 4, side=4),
        pick={"encoder": second, "encoder.linear1": second},
    ),
    "decoder": Row(
        "TransformerDecoder, its layers and what is in them", Queries, DECODER,
        lambda: images(4, 4, 3), pick=dict.fromkeys(DECODER, second),
    ),
    "attention": Row(
        "MultiheadAttention's output and weights", Attention, ("attn[0]", "attn[1]"),
        lambda: images(4, 4, 3), pick={"attn[0]": second},
    ),
    "unbatched": Row(
        "images without a batch", plain_parts, BOTH, lambda: [b[0] for b in images()],
        pick=dict.fromkeys(BOTH, everything), image=lambda batch: [batch],
    ),
    "list": Row(
        "a list of images", Detector, ("conv",), lambda: [list(b) for b in images()],
        image=lambda batch: [batch[0]],
    ),
    "bytes": Row(
        "images of uint8", Integers, ("conv",), of_bytes,
        image=lambda batch: [batch[0], batch[0] / 255],
    ),
    "masks": Row(
        "images of bool", Integers, ("conv",), lambda: [batch > 0 for batch in images()],
        image=lambda batch: [batch[0].float()],
    ),
    "self-calling": Row(
        "a model that calls itself", Scales, ("a", "b"), images, image=first_image
    ),
}  # fmt: skip
