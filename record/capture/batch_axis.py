"""Which axis of a tensor counts the images of a batch, told from evidence.

What tells, the strongest first: what the user said; the kind of a module that knows its own rank (a
Conv2d puts out four axes for a batch and three for one image); the size of the batch, which the
axis must have; what `batch_first` the module around says; a forward of another batch size, under
which only the right axis can have changed with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

WHOLE = -1  # in the place of an axis: the tensor is one image's, all of it

_DIGIT = re.compile(r"([123])d$")
_RANKED = re.compile(r"(Conv|ConvTranspose|Pool|MaxUnpool|Pad)[123]d$")
_TRANSFORMERS = (
    nn.Transformer,
    nn.TransformerEncoder,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoder,
    nn.TransformerDecoderLayer,
)


@dataclass(frozen=True)
class BatchSize:
    """How many images a forward sees.

    Attributes:
        sizes: What the size may be, the likeliest first; empty where nobody knows.
        whole: Whether the forward sees one image without an axis for a batch.
        axis: The axis of the input that counts the images.
        note: Why that is uncertain, in words; empty where it is not.
    """

    sizes: tuple[int, ...] = ()
    whole: bool = False
    axis: int = 0
    note: str = ""


@dataclass(frozen=True)
class Choice:
    """The axis that was taken, and how sure that is.

    Attributes:
        axis: From 0, or WHOLE.
        possible: The axes that the evidence allows, the one that was taken among them.
        note: What a reader has to know of the choice; empty where there is nothing.
        unsure: Whether another axis may be the right one.
    """

    axis: int
    possible: frozenset[int]
    note: str = ""
    unsure: bool = False


def known_axis(module: nn.Module, item: str, rank: int, whole: bool = False) -> int | None:
    """Returns the axis that a module of a known kind has for the batch, whatever the sizes are.

    Args:
        module: The module.
        item: Which of its outputs: empty for a single one, `0`, `1` of a tuple.
        rank: The number of axes of the output.
        whole: Whether another output of the same call had no axis for a batch.

    Returns:
        The axis or WHOLE; None for a module of another kind, whose axis varies.
    """
    if isinstance(module, nn.GroupNorm):
        return 0
    if isinstance(module, nn.RNNBase):
        return _axis_of_sequence(bool(module.batch_first), rank)
    if isinstance(module, nn.RNNCellBase):
        return {1: WHOLE, 2: 0}.get(rank)
    if isinstance(module, nn.MultiheadAttention):
        if item == "1":  # its weights, (N, L, S) or (N, heads, L, S), have the batch in front
            return WHOLE if whole or rank == 2 else 0
        return _axis_of_sequence(bool(module.batch_first), rank)
    if isinstance(module, _TRANSFORMERS):
        first = _flag(module)
        return None if first is None else _axis_of_sequence(first, rank)
    return _axis_of_spatial(module, rank)


def _axis_of_spatial(module: nn.Module, rank: int) -> int | None:
    """Returns the axis of a module with 1d, 2d or 3d in its class's name; None for any other."""
    for kind in type(module).__mro__:
        digit = _DIGIT.search(kind.__name__)
        if digit is None or not kind.__module__.startswith("torch.nn."):
            continue
        spatial = int(digit.group(1))
        if isinstance(module, _NormBase) and "Instance" not in kind.__name__:
            return 0  # a BatchNorm has no other mode
        if rank == spatial + 2:
            return 0
        may_lack = isinstance(module, (_ConvNd, _NormBase)) or _RANKED.search(kind.__name__)
        return WHOLE if rank == spatial + 1 and may_lack else None
    return None


def _axis_of_sequence(batch_first: bool, rank: int) -> int | None:
    """Returns the axis of (T, N, D) or (N, T, D), or that of (T, D), which has none."""
    return {2: WHOLE, 3: 0 if batch_first else 1}.get(rank)


def batch_first_around(model: nn.Module) -> dict[int, bool]:
    """Returns what `batch_first` says around each module, by its id, where something says it.

    The nearest flag counts: the module itself, the parts that it consists of (a transformer block
    has the flag on its attention), then what it is in.
    """
    said: dict[int, bool] = {}

    def descend(module: nn.Module, outer: bool | None) -> None:
        own = _flag(module)
        outer = outer if own is None else own
        if outer is not None:
            said.setdefault(id(module), outer)
        for child in module.children():
            descend(child, outer)

    descend(model, None)
    return said


def _flag(module: nn.Module) -> bool | None:
    """Returns the `batch_first` of a module, or the one that its parts have; None without one."""
    flag = getattr(module, "batch_first", None)
    if isinstance(flag, bool):
        return flag
    parts = module.children() if not isinstance(module, nn.ModuleList) else ()
    flags = {f for part in parts if isinstance(f := getattr(part, "batch_first", None), bool)}
    if len(flags) == 1:
        return flags.pop()
    for name in ("layers", "encoder", "decoder"):  # of nn.TransformerEncoder and the like
        inner = getattr(module, name, None) if isinstance(module, _TRANSFORMERS) else None
        if isinstance(inner, nn.Module):
            return _flag(inner[0] if isinstance(inner, nn.ModuleList) and len(inner) else inner)
    return None


def choose_axis(
    shape: Sequence[int],
    batch: BatchSize,
    batch_first: bool | None = None,
    before: frozenset[int] | None = None,
    tokens: bool = False,
    varied: bool | None = None,
) -> Choice:
    """Chooses the axis that counts the images in a tensor whose module does not know it.

    Args:
        shape: The shape of the tensor.
        batch: How many images the forward sees.
        batch_first: What the modules around say; None where none says anything.
        before: What earlier forwards, of other sizes, have left as possible.
        tokens: Whether the tensor is (N, T, C) or (T, N, C), as far as its module tells.
        varied: Whether earlier forwards had another number of images; None where rows of one image
            are never behind one another in a first axis.
    """
    rank = len(shape)
    if rank == 0 or batch.whole:
        return Choice(WHOLE, frozenset((WHOLE,)))
    prefers_second = batch_first is False and rank >= 3
    if not batch.sizes:
        axis = 1 if prefers_second else 0
        return Choice(axis, frozenset((axis,)))
    for size in batch.sizes:
        fitting = _fitting(shape, size, before)
        if not fitting:
            continue
        if fitting == {1} and _may_be_folded(shape, size, batch, batch_first, before, varied):
            # As many tokens or channels as images, by chance, and windows or frames in the first.
            axis = 0 if batch_first or rank == 4 else 1
            both = frozenset((0, 1))
            if batch_first:
                return Choice(0, both)
            note = (
                f"batch axis uncertain: axis 1 has the size {size}, and axis 0 is a multiple of "
                f"it, {axis} was taken"
            )
            return Choice(axis, both, note, True)
        if len(fitting) == 1:
            return Choice(min(fitting), fitting, batch.note, bool(batch.note))
        axis = 1 if prefers_second and 1 in fitting else min(fitting)
        note = ""
        unsure = prefers_second or batch.axis == 1 or (tokens and batch_first is None)
        if unsure and size > 1 and {0, 1} <= fitting:
            note = f"batch axis uncertain: axes 0 and 1 both have the size {size}, {axis} was taken"
        return Choice(axis, fitting, note or batch.note, bool(note or batch.note))
    size = batch.sizes[0]
    if before is not None and len(before) == 1:
        axis = min(before)
        if axis < rank:
            return Choice(axis, before)
    if prefers_second and batch.axis == 1:
        return Choice(1, frozenset((1,)))
    if size > 1 and shape[0] % size == 0 and shape[0] > 0:
        return Choice(0, frozenset((0,)))  # the batch and another axis in one: windows, time
    note = f"no axis has the size of the batch, {size}: all of it is kept" if size > 1 else ""
    return Choice(WHOLE, frozenset((WHOLE,)), note)


def _may_be_folded(
    shape: Sequence[int],
    size: int,
    batch: BatchSize,
    batch_first: bool | None,
    before: frozenset[int] | None,
    varied: bool | None,
) -> bool:
    """Whether the first axis may hold several rows of each image, where the second one fits."""
    if varied is not False or batch.axis != 0 or batch_first is False:
        return False  # the axis that changes with the batch is the batch's
    return size > 1 and shape[0] > 0 and shape[0] % size == 0 and (before is None or 0 in before)


def _fitting(shape: Sequence[int], size: int, before: frozenset[int] | None) -> frozenset[int]:
    """Returns the axes that are as long as the batch, as far as earlier forwards allow them."""
    fitting = {axis for axis, length in enumerate(shape) if length == size}
    if before is not None and fitting & before:
        return frozenset(fitting & before)
    # Behind the second axis, and for two axes behind the first, stand features.
    return frozenset(fitting & ({0, 1} if len(shape) >= 3 else {0}))
