"""Where the tokens that a layer puts out stand in the image, as far as the model itself tells.

Their number alone says little: the 49 patches of 196 that a masked autoencoder keeps look like a
grid of 7 by 7, and so do a hundred queries of a detector like one of 10 by 10.
"""

from __future__ import annotations

import re

import torch
from torch import nn

from record.capture.attention_tokens import beside_class, patch_size
from replay.schema.token_grid import NOWHERE, PREFIXES

_LEARNED = re.compile(r"quer(y|ies)|latent|object|slot|inducing|seed|refpoint|detection", re.I)
_FEWER = re.compile(r"patch_?merg|down_?sampl|sub_?sampl", re.I)
_POSITIONS = re.compile(r"pos", re.I)
_NO_IMAGE = re.compile(r"text|language|word|decoder", re.I)
_OWN_WEIGHTS = (nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase)
_POOLS = (
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
)


class TokenPlaces:
    """What a model's modules and parameters say of the places of its tokens.

    A model whose first convolution cuts the image into patches has as many tokens as patches, and
    a class token and registers before them. Fewer are a grid of their own in a network of several
    stages, and else some of the patches: what a masked autoencoder keeps, what is left after
    tokens were dropped or merged. As many as the model has learned queries or latents are none of
    the image's, and where such stand beside the patches nobody can say which are which.

    Args:
        model: The network.
    """

    def __init__(self, model: nn.Module) -> None:
        self._patch = patch_size(model)
        self._before = {*PREFIXES, *beside_class(model)}
        self._learned = _learned(model)
        self._positions = _positions(model)
        self._has_stages = _has_stages(model)

    def grid_of(self, tokens: int, image: tuple[int, int], call: int = 0) -> tuple[int, int] | None:
        """Returns in which rows and columns the last of so many tokens stand.

        Args:
            tokens: Their number.
            image: The height and the width of the model's input.
            call: The number of the layer's call in a forward: later ones may be of other images,
                such as smaller crops.

        Returns:
            Rows and columns; `NOWHERE` where the tokens are known to fill no such grid; None where
            the model does not tell.
        """
        if tokens in self._learned:
            return NOWHERE
        if self._patch is None:
            return None
        rows, columns = image[0] // self._patch[0], image[1] // self._patch[1]
        beside = tokens - rows * columns
        if rows * columns < 2:
            return None
        if beside in self._before:
            return rows, columns
        if beside > 0:
            is_joined = any(beside - each in self._before for each in self._learned)
            return NOWHERE if is_joined else None
        # A forward that makes the image smaller itself has its positions for that size.
        has_positions = any(tokens - each in self._positions for each in self._before)
        return None if call or self._has_stages or has_positions else NOWHERE


def _learned(model: nn.Module) -> set[int]:
    """Returns how many learned tokens there are in each set, such as the queries of a detector."""
    found = set()
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            own = [(name.rpartition(".")[2], module.weight)]
        elif isinstance(module, _OWN_WEIGHTS):
            continue
        else:
            own = list(module.named_parameters(recurse=False))
        for of, tensor in own:
            if _LEARNED.search(of) and isinstance(tensor, torch.Tensor) and tensor.ndim > 1:
                found.add(int(tensor.shape[-2]))
    return found - {1}


def _positions(model: nn.Module) -> set[int]:
    """Returns for how many tokens there are embeddings of their positions."""
    found = set()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        of = name.removesuffix(".weight").rpartition(".")[2]
        if not _POSITIONS.search(of) or _NO_IMAGE.search(name) or tensor.ndim < 2:
            continue
        sizes = tuple(tensor.shape)
        found.add(int(sizes[-2]))
        if len(sizes) == 4:  # of rows and columns, before or behind the channels
            found |= {sizes[1] * sizes[2], sizes[2] * sizes[3]}
    return found


def _has_stages(model: nn.Module) -> bool:
    """Returns whether anything but the cutting into patches makes tokens fewer, place by place."""
    modules = list(model.modules())
    convolutions = [each for each in modules if isinstance(each, nn.modules.conv._ConvNd)]
    return any(max(each.stride) > 1 for each in convolutions[1:]) or any(
        isinstance(each, _POOLS) or _FEWER.search(type(each).__name__) for each in modules
    )
