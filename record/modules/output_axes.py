"""What the axes of a layer's outputs are, by what the layer consists of and by their sizes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from torch import nn

# Layers that act on the last axis of what they are given, and those that act on the first one
# behind the batch: by them one knows what the axes of an output are.
_CHANNELS_LAST = (
    nn.Linear,
    nn.LayerNorm,
    nn.Embedding,
    nn.MultiheadAttention,
    nn.TransformerEncoder,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoder,
    nn.TransformerDecoderLayer,
    nn.RNNBase,
)
_SPATIAL = re.compile(r"[123]d$")  # Conv2d, BatchNorm1d, torchvision's LayerNorm2d
_BACK_TO_FIRST = "WindowDepartition"  # of MaxViT: after its tokens, channels are first again
_RANKS = {2: ("CL", "TC"), 3: ("CHW", "HWC"), 4: ("CDHW", "DHWC")}
_LENGTHS = ("out_features", "out_channels", "num_features", "embedding_dim", "embed_dim")


class OutputAxes:
    """What the axes of one image's part of a module's output are, as in `schema.AXES`.

    A block is judged by the last layer in it that tells, such as a convolution (channels first) or
    a linear layer (channels last). A block may turn the axes round again in its forward, as
    ConvNeXt's and MaxViT's do: where the axis that this leaves for the channels is not as long as
    that layer has channels, and the other one is, it is the other one.

    A module of which nothing tells, such as an activation, has its channels where those of what
    was defined before it are, if the sizes say so.

    Args:
        module: The module.
        has_signals: Whether the model has 1-D convolutions, pools or norms: an output of two
            axes that nothing else tells is then a signal (C, L), else tokens (T, C).
        before: How many channels what was defined before it puts out; None where that is not known.
    """

    def __init__(self, module: nn.Module, has_signals: bool, before: int | None = None) -> None:
        self._last: bool | None = None  # whether channels come last; None where nothing tells
        self._has_signals = has_signals
        self._channels: int | None = None
        self._is_signal = False
        for part in module.modules():
            dims = getattr(part, "dims", None)
            if type(part).__name__ == "Permute" and isinstance(dims, (list, tuple)):
                self._last = dims[-1] == 1
            elif _SPATIAL.search(type(part).__name__):
                self._last = False
            elif isinstance(part, _CHANNELS_LAST):
                self._last = True
            else:
                continue
            self._channels = _channels_of(part) or self._channels
            self._is_signal = type(part).__name__.endswith("1d")
        if self._last is None:
            self._channels = before
        if any(type(part).__name__ == _BACK_TO_FIRST for part in module.modules()):
            self._last = False

    def of_rank(self, rank: int) -> str:
        """Returns the axes of a part with so many, whatever their sizes are."""
        if rank not in _RANKS:
            return "C" if rank == 1 else ""
        last = rank == 2 and not self._has_signals if self._last is None else self._last
        return _RANKS[rank][last]

    def of(self, shape: Sequence[int]) -> str:
        """Returns the axes of a part of this shape."""
        found = self.of_rank(len(shape))
        if len(shape) not in _RANKS or self._channels is None:
            return found
        first, last = shape[0] == self._channels, shape[-1] == self._channels
        # A block may put out more than its last layer does, and height, width or length be by
        # chance what that has of channels: a square says so, of two axes only the block's kind.
        chance = self._channels in shape[1:-1] or (len(shape) == 2 and self._is_signal)
        return found if first == last or chance else _RANKS[len(shape)][last]


def channels_before(model: nn.Module) -> dict[int, int]:
    """Returns how many channels what was defined before each leaf puts out, by the leaf's id."""
    found: dict[int, int] = {}
    latest: int | None = None
    for module in model.modules():
        tells = isinstance(module, _CHANNELS_LAST) or _SPATIAL.search(type(module).__name__)
        if tells:
            latest = _channels_of(module) or latest
        elif latest is not None and next(module.children(), None) is None:
            found.setdefault(id(module), latest)
    return found


def _channels_of(part: nn.Module) -> int | None:
    """Returns how many channels a layer puts out; None where it does not say."""
    shape = getattr(part, "normalized_shape", None)
    if isinstance(shape, tuple) and shape:
        return int(shape[-1])
    if isinstance(part, nn.RNNBase):
        directions = 2 if part.bidirectional else 1
        return int(part.proj_size or part.hidden_size) * directions
    found = (getattr(part, name, None) for name in _LENGTHS)
    return next((each for each in found if type(each) is int), None)
