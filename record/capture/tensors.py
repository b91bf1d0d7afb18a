"""What a layer puts out or a model is given: the tensors in it, and their size."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch.multiprocessing.reductions import StorageWeakRef

from record.capture.batch_axis import WHOLE

_MOST_PARTS = 16  # of a container, that are looked at


def tensors_of(output: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Yields the tensors of numbers in a tuple, list, dict or dataclass, and what they are called.

    Only floating-point and complex ones: counts, indices and masks are no feature maps.

    >>> [name for name, _ in tensors_of({"a": torch.zeros(1), "b": (torch.ones(1), None)})]
    ['a', 'b.0']
    """
    if isinstance(output, torch.Tensor):
        if output.is_floating_point() or output.is_complex() or output.is_quantized:
            yield name, output
        return
    for key, part in _parts(output):
        yield from tensors_of(part, f"{name}.{key}" if name else key)


def _parts(output: Any) -> list[tuple[str, Any]]:
    """Returns what a container holds, by name; nothing where the object is no container."""
    if isinstance(output, Mapping):
        return [(str(key), part) for key, part in output.items()]
    if isinstance(output, (tuple, list)) and not isinstance(output, nn.utils.rnn.PackedSequence):
        return [(str(place), part) for place, part in enumerate(output)]
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        fields = dataclasses.fields(output)
        return [(field.name, getattr(output, field.name)) for field in fields]
    return []


def describe_output(output: Any) -> str:
    """Says in words what a layer put out that cannot be recorded: `a tensor of int64 (4, 10)`."""
    if output is None:
        return "nothing (None)"
    if isinstance(output, torch.Tensor):
        kind = str(output.dtype).removeprefix("torch.")
        return f"a tensor of {kind} {tuple(output.shape)}"
    parts = _parts(output)
    if not parts:
        empty = isinstance(output, (tuple, list, Mapping)) and not isinstance(
            output, nn.utils.rnn.PackedSequence
        )
        return f"an empty {type(output).__name__}" if empty else f"a {type(output).__name__}"
    inside = list(dict.fromkeys(describe_output(part) for _, part in parts))
    return f"a {type(output).__name__} of {', '.join(inside[:3])}"


def images_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[torch.Tensor | None, int]:
    """Finds what a model is given to look at: the first argument that can be images or signals.

    Args:
        args: The positional arguments.
        kwargs: The keyword arguments.

    Returns:
        The tensor, of any kind of number, and 0; or the first image of a list of images of
        (C, H, W), as detection models take them, and how many there are. None without either.
    """
    if args and isinstance(args[0], torch.Tensor):  # as nearly all have it
        image = args[0]
        if image.ndim >= 3 and image.shape[0] > 0 and image.is_floating_point():
            return image, 0
    for number, value in enumerate([*args, *kwargs.values()]):
        found = _first_images(value)
        if found is not None and (found[0].dtype != torch.bool or number == 0):
            return found  # what is true or false is a mask, but in the first place
    return None, 0


def first_tensor(args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.Tensor | None:
    """Finds the first tensor with any axis that a model is given; None without one."""
    for value in [*args, *kwargs.values()]:
        for tensor in all_tensors(value):
            if tensor.ndim and not tensor.is_nested:
                return tensor
    return None


def _first_images(value: Any) -> tuple[torch.Tensor, int] | None:
    if isinstance(value, torch.Tensor):
        return (value, 0) if value.ndim >= 3 and value.shape[0] > 0 else None
    parts = [part for _, part in _parts(value)]
    if _are_images(value, parts):
        return parts[0], len(parts)
    for part in parts:
        found = _first_images(part)
        if found is not None:
            return found
    return None


def _are_images(value: Any, parts: list[Any]) -> bool:
    """Whether a value is a list of single images, of 1 to 4 channels each and of any sizes."""
    if not isinstance(value, (list, tuple)) or not parts:
        return False
    return all(isinstance(p, torch.Tensor) and p.ndim == 3 and 1 <= p.shape[0] <= 4 for p in parts)


def size_of_batch(batch: Any) -> int | None:
    """Finds how many images are in what a loader handed out; None where nothing tells for sure.

    Labels tell it, one number for each image, or tensors that all begin with the same axis.
    """
    tensors = all_tensors(batch)
    if len(tensors) < 2:
        return None
    labels = {tensor.shape[0] for tensor in tensors if tensor.ndim == 1}
    sizes = {tensor.shape[0] for tensor in tensors if tensor.ndim}
    if len(labels) == 1:
        size = labels.pop()
        return size if all(size in t.shape[:2] for t in tensors if t.ndim > 1) else None
    ranks = {tensor.ndim for tensor in tensors if tensor.ndim}  # of one, they may be sequences
    return sizes.pop() if len(sizes) == 1 and len(ranks) > 1 and not labels else None


def all_tensors(values: Any, depth: int = 4) -> list[torch.Tensor]:
    """Returns the tensors in a batch, in a forward's arguments or in its output, in their order.

    Args:
        values: A tensor or containers of tensors, of any kind.
        depth: How many containers deep to look.
    """
    found: list[torch.Tensor] = []
    stack = [(values, depth)]
    while stack:
        value, deep = stack.pop()
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif deep and value is not None:
            kind = type(value)
            if kind is tuple or kind is list:
                parts = value[:_MOST_PARTS]
            else:
                parts = [part for _, part in _parts(value)[:_MOST_PARTS]]
            stack += [(part, deep - 1) for part in reversed(parts)]
    return found


def storages_of(values: Any) -> dict[int, StorageWeakRef]:
    """Returns the storages of the tensors in a batch or in a forward's arguments, by address.

    They are weak references: nothing is kept alive, and an address is not given out again while
    one holds.
    """
    found: dict[int, StorageWeakRef] = {}
    for tensor in all_tensors(values):
        try:
            storage = without_transforms(tensor).untyped_storage()
            reference = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
        except (RuntimeError, NotImplementedError):  # sparse tensors have none
            continue
        found[reference.cdata] = reference
    return found


Span = tuple[int, int, int]
"""Where a tensor lies: the address of its storage, and of its values there the first byte and the
end of the last one."""


def spans_of(values: Any) -> list[Span]:
    """Returns where the tensors in a batch or in a forward's arguments lie.

    Batches may be parts of one storage: slices of all images, say.
    """
    found: list[Span] = []
    for tensor in all_tensors(values):
        try:
            plain = without_transforms(tensor)
            steps = zip(plain.shape, plain.stride(), strict=True)
            reach = 1 + sum((count - 1) * step for count, step in steps)
            first, size = int(plain.storage_offset()), plain.element_size()
            storage: Any = plain.untyped_storage()
        except (RuntimeError, NotImplementedError):  # sparse tensors have none
            continue
        if plain.numel():
            found.append((storage._cdata, first * size, (first + int(reach)) * size))
    return found


def common_spans(spans: Sequence[Span], others: Sequence[Span]) -> list[Span]:
    """Returns those spans that share memory with one of some others."""
    return [
        (storage, first, end)
        for storage, first, end in spans
        if any(
            storage == other and first < other_end and other_first < end
            for other, other_first, other_end in others
        )
    ]


def to_plain(tensor: torch.Tensor) -> torch.Tensor:
    """Returns the values of a tensor of any kind as an ordinary one, of the same shape.

    Raises:
        ValueError: The tensor has no values here: it is of device meta, or spread over devices.
    """
    if tensor.is_meta:
        raise ValueError("its output has a shape but no values (device meta)")
    kind = type(tensor)
    if kind.__name__ == "DTensor":
        placements = tensor.placements  # type: ignore[attr-defined]
        if not all(p.is_replicate() or p.is_shard(0) for p in placements):
            raise ValueError("its output is spread over several devices (a DTensor)")
        tensor = tensor.to_local()  # type: ignore[attr-defined]
    elif kind is not torch.Tensor and not tensor.is_nested:
        wait = getattr(tensor, "wait", None)  # a collective that is under way
        tensor = wait() if callable(wait) else tensor.as_subclass(torch.Tensor)
    if tensor.is_quantized:
        return tensor.dequantize()
    return tensor.to_dense() if tensor.is_mkldnn else tensor


def image_part(tensor: torch.Tensor, axis: int, number: int) -> torch.Tensor:
    """Returns one image's part of a batch, an ordinary tensor of real numbers.

    Args:
        tensor: Any tensor that `to_plain` returns.
        axis: The axis that counts the images, or WHOLE.
        number: The number of the image, from 0.
    """
    if axis == WHOLE:
        image = tensor
    elif tensor.is_nested:
        image = tensor.unbind(0)[number]
    else:
        image = tensor.select(axis, number)
    if image.layout != torch.strided:
        image = image.to_dense()
    if image.is_complex():
        image = image.abs()
    return image if image.ndim else image.reshape(1)  # one number for each image: one channel


def has_values(weight: torch.Tensor) -> bool:
    """Whether a parameter's values are in this process, as they were used."""
    if isinstance(weight, nn.parameter.UninitializedParameter):
        return False
    return type(weight).__name__ != "DTensor" and not weight.is_meta


def without_transforms(tensor: torch.Tensor) -> torch.Tensor:
    """Returns what is inside of a tensor that torch.func wrapped, in the tensor's own shape.

    Under vmap that is the first of the samples that are computed together. It is to be called
    where no transform acts on what is done with it.
    """
    functorch = torch._C._functorch
    axes: list[int] = []
    while functorch.is_functorch_wrapped_tensor(tensor):
        if functorch.is_batchedtensor(tensor):
            axes.append(functorch.maybe_get_bdim(tensor))
        tensor = functorch.get_unwrapped(tensor)
    for axis in reversed(axes):  # an outer one counts axes without those that are further in
        tensor = tensor.select(axis, 0)
    return tensor


def outside_transforms() -> AbstractContextManager[Any]:
    """Keeps torch.func (grad, vmap and the like) from acting on what is done meanwhile."""
    if torch._C._functorch.peek_interpreter_stack() is None:
        return contextlib.nullcontext()
    return temporarily_clear_interpreter_stack()


def pool_means(image: torch.Tensor, spatial: list[int], factor: int) -> torch.Tensor:
    """Returns the means of blocks of `factor` values along each spatial axis.

    Blocks at the far edges are smaller where the size is no multiple of the factor.

    Args:
        image: One image's part of an output.
        spatial: Its spatial axes, one to three that follow each other.
        factor: The number of values along each axis that become one.
    """
    first, count = spatial[0], len(spatial)
    flat = (
        image.movedim(spatial, list(range(-count, 0))) if spatial[-1] != image.ndim - 1 else image
    )
    means = (nn.functional.avg_pool1d, nn.functional.avg_pool2d, nn.functional.avg_pool3d)
    values = flat if flat.dtype == torch.float64 else flat.float()
    pooled = means[count - 1](
        values.unsqueeze(0), factor, ceil_mode=True, count_include_pad=False
    ).squeeze(0)
    if flat is not image:
        pooled = pooled.movedim(list(range(-count, 0)), list(range(first, first + count)))
    return pooled
