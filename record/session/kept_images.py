"""The images of a training that are kept, to be shown again: the first, or one of each class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from record.capture.first_image import CannotProbeError, FirstImage, join_images, keep_first_image
from record.capture.phase import CaptureState

_MOST_IMAGES = 64
_MOST_BYTES = 1 << 26  # of all images
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.uint8)
_LABELS = ("label", "labels", "target", "targets", "y", "class", "classes")


class KeptImages:
    """Keeps images out of what recorded forwards are given.

    Args:
        by_class: Whether one image of each class is kept, the first that is seen, and not the first
            image alone. Where no labels are seen it is the first image.
        sees_labels: Whether the label of the first image is wanted.

    Attributes:
        labels: The class of each image, None where it is not known.
        unusable: Why what the last forward was given cannot be shown again; empty where it can.
        sees_classes: Whether labels were seen, by which one image of each class is kept.
        is_unsure: Whether several numbers for each image were seen that may be labels.
    """

    def __init__(self, by_class: bool = False, sees_labels: bool = False) -> None:
        self.labels: list[int | None] = []
        self.unusable = ""
        self.sees_classes = self.is_unsure = False
        self._by_class = by_class
        self._sees_labels = sees_labels or by_class
        self._images: list[FirstImage] = []
        # The images as the file keeps them, and what waits until they have come from a GPU.
        self._stored: list[tuple[torch.Tensor, Callable[[], Any]]] = []
        self._bytes = 0
        self._told = 0  # images that were handed out
        self._given: FirstImage | None = None

    @property
    def collects(self) -> bool:
        """Whether there may be more to keep."""
        is_full = len(self._images) >= _MOST_IMAGES or self._bytes >= _MOST_BYTES
        return self.sees_classes and not is_full

    def stop(self) -> None:
        """Keeps what there is, and nothing more."""
        self._bytes = _MOST_BYTES

    def see(self, state: CaptureState, args: Any, kwargs: dict[str, Any]) -> None:
        """Keeps what a recorded forward is given; nothing is raised.

        Args:
            state: What the hooks of the recording share.
            args: The positional arguments of the forward.
            kwargs: Its keyword arguments.
        """
        try:
            sizes = state.batch.sizes
            labels = None
            if self._sees_labels and len(sizes) == 1:
                found = _label_tensors((state.loaded, kwargs), sizes[0])
                self.is_unsure |= len(found) > 1
                labels = _as_list(found[0]) if found else None
            if self._by_class and labels is not None:
                self._see_classes(state, args, kwargs, labels)
            elif not self.sees_classes:
                first = keep_first_image(args, kwargs, state.batch)
                self._forget()
                self._add(first, None if labels is None else labels[0])
        except Exception as error:
            if not self.sees_classes:
                self._forget()
                self.unusable = in_words(error)

    def given(self) -> FirstImage | None:
        """Returns what a forward is given with all images; None without any.

        Raises:
            CannotProbeError: They cannot be shown together.
        """
        if self._given is None and self._images:
            self._given = join_images(self._images)
        return self._given

    def alone(self) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """Returns what a forward is given with each of the images by itself, to be copied."""
        return [(image.args, image.kwargs) for image in self._images]

    def __len__(self) -> int:
        return len(self._images)

    def take_new(self) -> npt.NDArray[np.float16] | None:
        """Returns all images, float16 (N, C, H, W), where there are more than at the last call.

        Where the network is given no pictures, N is 0.
        """
        if len(self._images) == self._told:
            return None
        self._told = len(self._images)
        for _, arrived in self._stored:
            arrived()
        if not self._stored:
            return np.zeros((0, 1, 1, 1), np.float16)
        return torch.stack([image for image, _ in self._stored]).numpy()

    def _see_classes(
        self, state: CaptureState, args: Any, kwargs: dict[str, Any], labels: Sequence[int]
    ) -> None:
        if not self.sees_classes:
            self._forget()
            self.sees_classes = True
        first: dict[int, int] = {}
        for row, label in enumerate(labels):
            if label >= 0 and label not in self.labels:
                first.setdefault(label, row)
        for label, row in sorted(first.items()):
            if not self.collects:
                break
            image = keep_first_image(args, kwargs, state.batch, row)
            if not self._images or _shape(image) == _shape(self._images[0]):
                self._add(image, label)

    def _add(self, image: FirstImage, label: int | None) -> None:
        self._images.append(image)
        self.labels.append(label)
        self._given = None
        if image.image is not None:
            self._stored.append(_to_host(image.image))
            self._bytes += image.image.numel() * image.image.element_size()

    def _forget(self) -> None:
        for kept in (self._images, self._stored, self.labels):
            kept.clear()
        self._given, self._bytes = None, 0


def labels_beside(values: Any, images: int) -> list[int] | None:
    """Finds the labels in what a loader hands out or a model is given, a number for each image.

    What a list has for each image by itself, the labels of its boxes, say, is none.

    Args:
        values: The batch.
        images: How many images it has.

    Returns:
        The labels; None where there are none, or one cannot tell.
    """
    found = _label_tensors((values,), images)
    return _as_list(found[0]) if found else None


def in_words(error: Exception) -> str:
    """Returns an error as it is said."""
    if isinstance(error, CannotProbeError):
        return str(error)
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def _label_tensors(batches: Sequence[Any], images: int) -> list[torch.Tensor]:
    """Returns the tensors that may be labels, of the first of some batches that has any.

    Those that are called labels come before all others.
    """
    named: list[list[torch.Tensor]] = []
    others: list[list[torch.Tensor]] = []
    for values in batches:
        found = [
            (name.lower(), tensor)
            for name, tensor in _named_tensors("", values, images)
            if tensor.dtype in _INTEGERS and tensor.ndim in (1, 2)
            if tensor.numel() == tensor.shape[0] == images
        ]
        named.append([tensor for name, tensor in found if name in _LABELS])
        others.append([tensor for name, tensor in found if not name or name.isdigit()])
    return next((several for several in (*named, *others) if several), [])


def _as_list(labels: torch.Tensor) -> list[int]:
    return [int(number) for number in labels.reshape(-1).tolist()]


def _named_tensors(
    name: str, value: Any, images: int, depth: int = 4
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields the tensors in containers with the last part of what they are called."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif depth and isinstance(value, Mapping):
        for key, part in value.items():
            yield from _named_tensors(str(key), part, images, depth - 1)
    elif depth and isinstance(value, (list, tuple)) and not _is_by_image(value, images):
        for number, part in enumerate(value[:16]):
            yield from _named_tensors(str(number), part, images, depth - 1)


def _is_by_image(parts: Sequence[Any], images: int) -> bool:
    """Whether a list has a part for each image, as targets of a detection are."""
    if len(parts) != images:
        return False
    if all(isinstance(part, Mapping) for part in parts):
        return True
    return images > 1 and all(
        isinstance(part, torch.Tensor) and part.dtype in _INTEGERS and part.ndim == 1
        for part in parts
    )


def _shape(image: FirstImage) -> Any:
    return None if image.image is None else image.image.shape


def _to_host(image: torch.Tensor) -> tuple[torch.Tensor, Callable[[], Any]]:
    """Begins to copy an image, as float16, and returns it with what waits for the copy's end."""
    image = image.to(torch.float16)
    if image.device.type != "cuda":
        return image.cpu(), lambda: None
    host = torch.empty(image.shape, dtype=image.dtype, pin_memory=True)
    host.copy_(image, non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return host, event.synchronize  # long since there, a batch later
