"""A recording says where tokens stand in the image, and of which that is not so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import replay
from record import Recorder

NOWHERE = (0, 0)


class Patches(nn.Module):
    """A transformer of one block: what its tokens are is told by `join`."""

    def __init__(self, size: int = 8, width: int = 6) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, size, size)
        self.block = nn.Linear(width, width)

    def join(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(self.join(self.patches(x).flatten(2).transpose(1, 2)))


class WithClass(Patches):
    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 6))

    def join(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], 1)


class WithRegisters(WithClass):
    def __init__(self) -> None:
        super().__init__()
        self.register_tokens = nn.Parameter(torch.zeros(1, 6, 6))  # 7 with the class token

    def join(self, tokens: torch.Tensor) -> torch.Tensor:
        first = torch.cat([self.cls_token, self.register_tokens], 1)
        return torch.cat([first.expand(len(tokens), -1, -1), tokens], 1)


class Masked(Patches):
    """Keeps a quarter of the patches, as a masked autoencoder does: 16 of 64."""

    def join(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens[:, torch.randperm(64)[:16]]


class MaskedValid(Masked):
    """Says in a word that its patches have nothing around them, as SigLIP does."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 8, 8, padding="valid")


class Merged(WithClass):
    """Merges tokens until there are 36 of 64, which would be a square."""

    def join(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens[:, :28].repeat(1, 2, 1)[:, :36]


class Detector(WithClass):
    """Has detection tokens behind those of the image: 64 + 36 would be a square."""

    def __init__(self) -> None:
        super().__init__()
        self.detection_tokens = nn.Parameter(torch.zeros(1, 36, 6))

    def join(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.cat([tokens, self.detection_tokens.expand(len(tokens), -1, -1)], 1)


class Queries(nn.Module):
    """A detector's decoder behind a convolutional network: 25 queries, one of each square."""

    def __init__(self, latents: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 7, 8, padding=3)
        if latents:
            self.latents = nn.Parameter(torch.randn(25, 6))
        else:
            self.query_embed = nn.Embedding(25, 6)
        self.block = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        learned = self.latents if hasattr(self, "latents") else self.query_embed.weight
        places = self.conv(x).flatten(2).transpose(1, 2)  # (N, 64, 6)
        weights = (learned @ places.transpose(1, 2)).softmax(-1)
        return self.block(weights @ places)


class Staged(Patches):
    """A second stage with a quarter of the tokens, by a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.fewer = nn.Conv2d(6, 6, 2, 2)

    def join(self, tokens: torch.Tensor) -> torch.Tensor:
        maps = tokens.transpose(1, 2).unflatten(2, (8, 8))
        return self.fewer(maps).flatten(2).transpose(1, 2)


class PatchMerging(nn.Module):
    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens.unflatten(1, (4, 2, 4, 2)).mean((2, 4)).flatten(1, 2)


class Swinlike(Patches):
    def __init__(self) -> None:
        super().__init__()
        self.merging = PatchMerging()

    def join(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.merging(tokens)


class Unpatched(nn.Module):
    """Cuts its patches without a convolution: nobody can tell."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(192, 6)
        self.block = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cut = x.unflatten(2, (8, 8)).unflatten(4, (8, 8)).permute(0, 2, 4, 1, 3, 5)
        return self.block(self.embed(cut.flatten(3).flatten(1, 2)))


CASES: list[tuple[Callable[[], nn.Module], tuple[int, int] | None, str]] = [
    (Patches, (8, 8), "tokens as 8×8"),
    (WithClass, (8, 8), "tokens as 8×8, class token left out"),
    (WithRegisters, (8, 8), "tokens as 8×8, first 7 tokens left out"),
    (Masked, NOWHERE, "tokens in a row"),
    (MaskedValid, NOWHERE, "tokens in a row"),
    (Merged, NOWHERE, "tokens in a row"),
    (Detector, NOWHERE, "tokens in a row"),
    (lambda: Queries(latents=False), NOWHERE, "tokens in a row"),
    (lambda: Queries(latents=True), NOWHERE, "tokens in a row"),
    (Staged, None, "tokens as 4×4"),
    (Swinlike, None, "tokens as 4×4"),
    (Unpatched, None, "tokens as 8×8"),
]


def recorded(
    path: Path, model: nn.Module, batches: list[torch.Tensor], **options: Any
) -> replay.Recording:
    """The recording of a short training that gives `block`."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Recorder(model, path, layers=["*block"], quiet=True, **options) as recorder:
        for batch in recorder.track(batches):
            optimizer.zero_grad()
            model(batch).square().mean().backward()
            optimizer.step()
    return replay.open(path)


@pytest.mark.parametrize(("make", "grid", "words"), CASES)
def test_of_each_kind_of_tokens(
    tmp_path: Path, make: Callable[[], nn.Module], grid: tuple[int, int] | None, words: str
) -> None:
    batches = [torch.randn(2, 3, 64, 64) for _ in range(3)]
    options = {"gradients": True, "probe": torch.randn(1, 3, 64, 64)}
    with recorded(tmp_path / "run.h5", make(), batches, **options) as run:
        assert run["block"].layer.grid == grid
        assert run.gradient("block").layer.grid == grid
        assert run.probe(0)["block"].layer.grid == grid
        for of in (run, run.probe(0)):
            made = replay.grid(of, tmp_path / "a.svg", layer="block", overwrite=True)
            assert words in made.captions[0]


class Crops(nn.Module):
    """Calls its network for each size of crops, as for self-distillation."""

    def __init__(self) -> None:
        super().__init__()
        self.network = WithClass()

    def forward(self, crops: list[torch.Tensor]) -> torch.Tensor:
        return torch.stack([self.network(crop).mean((1, 2)) for crop in crops])


def test_smaller_crops_are_images_too(tmp_path: Path) -> None:
    batches: Any = [[torch.randn(2, 3, side, side) for side in (64, 32)] for _ in range(2)]
    with recorded(tmp_path / "run.h5", Crops(), batches) as run:
        found = {run[name].layer.shape: run[name].layer.grid for name in run.layers}
        assert found == {(65, 6): (8, 8), (17, 6): None}
        made = replay.grid(run, tmp_path / "a.svg", layer=run.layers[1])
        assert "tokens as 4×4, class token left out" in made.captions[0]


class Resized(WithClass):
    """Makes its input larger or smaller itself; its positions are those of 64 by 64 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.zeros(1, 65, 6))

    def join(self, tokens: torch.Tensor) -> torch.Tensor:
        return super().join(tokens) + self.pos_embedding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(nn.functional.interpolate(x, size=(64, 64)))


@pytest.mark.parametrize("side", [32, 128])
def test_a_forward_that_resizes_is_guessed(tmp_path: Path, side: int) -> None:
    batches = [torch.randn(2, 3, side, side) for _ in range(2)]
    with recorded(tmp_path / "run.h5", Resized(), batches) as run:
        assert run["block"].layer.grid is None
        made = replay.grid(run, tmp_path / "a.svg")
        assert "tokens as 8×8, class token left out" in made.captions[0]


def test_images_of_another_shape(tmp_path: Path) -> None:
    batches = [torch.randn(2, 3, 32, 64), torch.randn(2, 3, 64, 64)]
    with recorded(tmp_path / "run.h5", WithClass(), batches) as run:
        assert [run[name].layer.grid for name in run.layers] == [(4, 8), (8, 8)]


def test_it_stays_where_a_file_is_copied(tmp_path: Path) -> None:
    batches = [torch.randn(2, 3, 64, 64) for _ in range(40)]
    path = tmp_path / "run.h5"
    with recorded(path, Masked(), batches, budget=60_000) as run:
        assert len(run.frames) < 40
        assert run["block"].layer.grid == NOWHERE
    replay.pack(path, tmp_path / "packed.h5")
    replay.repair(path, tmp_path / "repaired.h5")
    for name in ("packed", "repaired"):
        with replay.open(tmp_path / f"{name}.h5") as run:
            assert run["block"].layer.grid == NOWHERE
