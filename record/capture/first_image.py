"""The first image's part of what a model was given: to be shown to it again."""

from __future__ import annotations

from collections import OrderedDict
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
    """The arguments of a forward, with the first image alone.

    Attributes:
        args: The positional arguments.
        kwargs: The keyword arguments.
        image: The image, of the dtype and the device that the model was given it in; None where
            the model is given no picture but numbers of tokens.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    image: torch.Tensor | None


def keep_first_image(args: Any, kwargs: dict[str, Any], batch: BatchSize) -> FirstImage:
    """Copies the first image's part of the arguments of a forward.

    A tensor whose first axis is as long as the batch is cut to its first row; everything else is
    taken as it is.

    Args:
        args: The positional arguments.
        kwargs: The keyword arguments.
        batch: How many images the forward sees.

    Raises:
        CannotProbeError: What belongs to the first image cannot be told from the rest.
    """
    if batch.whole or batch.axis != 0 or len(batch.sizes) != 1 or batch.note:
        raise CannotProbeError("nothing says for sure which axis of its input counts the images")
    image, listed = images_of(args, kwargs)
    if listed:
        raise CannotProbeError("it is given a list of images")
    keeper = _Keeper(batch.sizes[0])
    kept_args = tuple(keeper.keep(value) for value in args)
    kept_kwargs = {name: keeper.keep(value) for name, value in kwargs.items()}
    if not keeper.cut:
        raise CannotProbeError("it is given no tensor")
    if image is not None and image.is_floating_point() and image.shape[0] == batch.sizes[0]:
        image = image_part(image.detach(), 0, 0).clone()
    else:
        image = None
    return FirstImage(kept_args, kept_kwargs, image)


class _Keeper:
    """Copies arguments.

    Args:
        images: The number of images in the batch.

    Attributes:
        cut: The number of tensors of which the first row was kept.
    """

    def __init__(self, images: int) -> None:
        self.cut = 0
        self._images = images
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
        if tensor.ndim and tensor.shape[0] == self._images:
            tensor = tensor[:1]
            self.cut += 1
        self._bytes += tensor.numel() * tensor.element_size()
        if self._bytes > _MOST_BYTES:
            raise CannotProbeError("what it is given for one image is large")
        return tensor.clone()
