"""What the modules of a model say of the order of axes."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence

from torch import nn
from torch.nn.modules.conv import _ConvNd

from record.capture.batch_axis import batch_first_around, known_axis
from record.modules.output_axes import OutputAxes, channels_before

_TAKES_INPUT = (_ConvNd, nn.RNNBase, nn.MultiheadAttention, nn.Linear, nn.Embedding)


class ModelAxes:
    """What the modules of a model say of the order of axes.

    Args:
        model: The network, unwrapped. It is not kept alive.
        said: Which axis counts the images, as the user said, by globs of layers' names or `input`.

    Attributes:
        has_signals: Whether the model has layers for one spatial axis.
        around: What `batch_first` says around each module, by its id.
        batch_first: What all modules say that say anything; None where they differ or say nothing.
        has_second: Whether any of them has the batch second.
        knows_its_axes: Whether the model is of a kind that knows the axes of sequences.
        before: How many channels what was defined before a leaf puts out, by the leaf's id.
        has_fast_path: Whether the model has layers that take a faster way in evaluation mode
            where they have no hooks, which does not give the same numbers to the bit.
        takes_batches: Whether the input was seen to be a batch, whatever it looked like.
    """

    def __init__(self, model: nn.Module, said: Mapping[str, int]) -> None:
        self._said = dict(said)
        self.takes_batches = False
        self.look_at(model)

    def look_at(self, model: nn.Module) -> None:
        """Takes in the modules of a model, at first or after it has changed."""
        modules = list(model.modules())
        self.has_signals = any("1d" in type(m).__name__ for m in modules)
        self.around = batch_first_around(model)
        flags = set(self.around.values())
        self.batch_first = flags.pop() if len(flags) == 1 else None
        self.has_second = False in self.around.values()
        self.knows_its_axes = known_axis(model, "", 3) is not None  # a bare LSTM, say
        first = next((m for m in modules if isinstance(m, _ConvNd)), None)
        self._convolution = None if first is None else (len(first.kernel_size), first.in_channels)
        begins = next((m for m in modules if isinstance(m, _TAKES_INPUT)), None)
        self._features = begins.input_size if isinstance(begins, nn.RNNBase) else None
        self.before = channels_before(model)
        self.has_fast_path = any(isinstance(m, nn.TransformerEncoderLayer) for m in modules)
        self.takes_batches = False

    def said(self, name: str) -> int | None:
        """Returns the axis that the user named for a layer or for the `input`; None without one."""
        for pattern, axis in self._said.items():
            if fnmatch.fnmatchcase(name, pattern):
                return axis
        return None

    def of_output(self, module: nn.Module) -> OutputAxes:
        """Returns what the axes of a module's outputs are."""
        return OutputAxes(module, self.has_signals, self.before.get(id(module)))

    def is_one_image(self, shape: Sequence[int]) -> bool:
        """Whether an input of this shape is a single image, without an axis for a batch."""
        if self.takes_batches:
            return False
        if len(shape) == 2 and shape[1] == self._features:  # (T, D), for a recurrent layer
            return True
        if self._convolution is None:
            return False
        spatial, channels = self._convolution
        return len(shape) == spatial + 1 and channels in (0, shape[0])

    def suits_convolution(self, shape: Sequence[int]) -> bool:
        """Whether an input has as many axes as the model's first convolution takes of a batch."""
        return self._convolution is not None and len(shape) == self._convolution[0] + 2
