"""One image's part of what a model was given, mostly the first one's: to be shown to it again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from record.capture.batch_axis import BatchSize
from record.capture.tensors import image_part, images_of
from replay.schema import RecordingError

_PLAIN = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device)
_MOST_BYTES = 1 << 26  # of all tensors that are kept


class CannotProbeError(RecordingError):
    """The model cannot be shown its first image again without harm; the message says why."""


class FirstImage(NamedTuple):
    """The arguments of a forward, with one image alone, or with several that were joined.

    Attributes:
        args: The positional arguments.
        kwargs: The keyword arguments.
        image: The image, of the dtype and the device that the model was given it in; None where
            the model is given no picture but numbers of tokens.
        rows: By `id`, the tensors among the arguments that have a row for each image.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    image: torch.Tensor | None
    rows: frozenset[int] = frozenset()


def keep_first_image(
    args: Any, kwargs: dict[str, Any], batch: BatchSize, row: int = 0
) -> FirstImage:
    """Copies one image's part of the arguments of a forward.

    A tensor whose first axis is as long as the batch is cut to one row; everything else is taken
    as it is.

    Args:
        args: The positional arguments.
        kwargs: The keyword arguments.
        batch: How many images the forward sees.
        row: The number of the image.

    Raises:
        CannotProbeError: What belongs to the first image cannot be told from the rest.
    """
    if batch.whole or batch.axis != 0 or len(batch.sizes) != 1 or batch.note:
        raise CannotProbeError("nothing says for sure which axis of its input counts the images")
    image, listed = images_of(args, kwargs)
    if listed:
        raise CannotProbeError("it is given a list of images")
    keeper = _Keeper(batch.sizes[0], row)
    kept_args = tuple(keeper.keep(value) for value in args)
    kept_kwargs = {name: keeper.keep(value) for name, value in kwargs.items()}
    if not keeper.rows:
        raise CannotProbeError("it is given no tensor")
    if image is not None and image.is_floating_point() and image.shape[0] == batch.sizes[0]:
        image = image_part(image.detach(), 0, row).clone()
    else:
        image = None
    return FirstImage(kept_args, kept_kwargs, image, frozenset(keeper.rows))


def join_images(images: Sequence[FirstImage]) -> FirstImage:
    """Joins the arguments of several forwards, of one image each, into those of one forward.

    Args:
        images: The arguments, which differ in their images alone; one at least.

    Raises:
        CannotProbeError: They differ in more.
    """
    first = images[0]
    if len(images) == 1:
        return first
    try:
        args, kwargs = _join([(one.args, one.kwargs) for one in images], first.rows)
    except (RuntimeError, IndexError, KeyError, TypeError) as error:
        raise CannotProbeError("what it is given differs from batch to batch") from error
    return FirstImage(args, kwargs, first.image)


def copy_arguments(value: Any) -> Any:
    """Returns kept arguments with copies of their tensors: a forward may write into them."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, (list, tuple)):
        return type(value)(copy_arguments(part) for part in value)
    if isinstance(value, dict):
        return type(value)((key, copy_arguments(part)) for key, part in value.items())
    return value


def _join(values: Sequence[Any], rows: frozenset[int]) -> Any:
    """Returns the first of some values, with the rows of them all in its tensors."""
    value = values[0]
    if isinstance(value, torch.Tensor):
        return torch.cat(list(values)) if id(value) in rows else value
    if isinstance(value, (list, tuple)):
        return type(value)(_join([v[n] for v in values], rows) for n in range(len(value)))
    if isinstance(value, dict):
        return type(value)((key, _join([v[key] for v in values], rows)) for key in value)
    return value


class _Keeper:
    """Copies arguments.

    Args:
        images: The number of images in the batch.
        row: The number of the image that is kept.

    Attributes:
        rows: By `id`, the copies that are one row of a tensor.
    """

    def __init__(self, images: int, row: int) -> None:
        self.rows: set[int] = set()
        self._images, self._row = images, row
        self._bytes = 0

    def keep(self, value: Any) -> Any:
        """Returns a copy of an argument, with the first image alone."""
        if isinstance(value, torch.Tensor):
            return self._keep_tensor(value)
        if isinstance(value, _PLAIN):
            return value
        if type(value) in (list, tuple):
            return type(value)(self.keep(part) for part in value)
        if type(value) in (dict, OrderedDict):
            return type(value)((key, self.keep(part)) for key, part in value.items())
        raise CannotProbeError(f"it is given a {type(value).__name__}")

    def _keep_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        if type(tensor) is not torch.Tensor or tensor.layout is not torch.strided:
            raise CannotProbeError(
                f"it is given a tensor of its own kind ({type(tensor).__name__})"
            )
        if tensor.is_nested or tensor.is_quantized or tensor.is_meta:
            raise CannotProbeError("it is given a tensor of its own kind")
        tensor = tensor.detach()
        is_row = tensor.ndim > 0 and tensor.shape[0] == self._images
        if is_row:
            tensor = tensor[self._row : self._row + 1]
        self._bytes += tensor.numel() * tensor.element_size()
        if self._bytes > _MOST_BYTES:
            raise CannotProbeError("what it is given for one image is large")
        copy = tensor.clone()
        if is_row:
            self.rows.add(id(copy))
        return copy
