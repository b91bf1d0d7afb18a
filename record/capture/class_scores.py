"""The scores of classes in what a model puts out, whichever form that has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from record.capture.tensors import describe_output, tensors_of
from replay.schema import RecordingError

_NAMES = ("logits", "out")  # of transformers' outputs, and of torchvision's for each pixel
_OF_PIXELS = (4, 5)  # numbers of axes of scores for each pixel, or for each voxel


class CannotActivateError(RecordingError):
    """Nothing can be said of a class's score; the message says why."""


class ClassScores(NamedTuple):
    """What a model says of some images.

    Attributes:
        scores: The score of each class, float32 or float64 (N, classes), with their gradient.
        probabilities: How likely each class is, likewise, without a gradient.
        of_pixels: Whether the model puts out scores for each pixel.
        guess: Which of several tensors they were taken to be, in words; empty where it is clear.
    """

    scores: torch.Tensor
    probabilities: torch.Tensor
    of_pixels: bool = False
    guess: str = ""

    @property
    def classes(self) -> int:
        """The number of classes."""
        return int(self.scores.shape[1])

    def as_labels(self, labels: Sequence[int | None]) -> torch.Tensor:
        """Returns labels beside the scores, -1 where there is none; nothing waits for a GPU.

        Args:
            labels: The class of each image, None where it is not known.

        Returns:
            Whole numbers, (N,).
        """
        known = [self.label_of(label) for label in labels]
        numbers = [-1 if label is None else label for label in known]
        said = torch.tensor(numbers, device="cpu")  # whatever set_default_device says
        if self.scores.device.type == "cuda":
            return said.pin_memory().to(self.scores.device, non_blocking=True)
        return said.to(self.scores.device)

    def label_of(self, label: int | None) -> int | None:
        """Returns a label where it is one of the classes, else None."""
        return label if label is not None and 0 <= label < self.classes else None


def class_scores(output: Any, count: int, known: int = 0) -> ClassScores:
    """Finds the scores of classes in what a model has put out.

    These are the tensor (N, classes) itself, what is called `logits` or `out` in what holds several
    ones, or the first of them with N images; where it is known how many classes there are, the
    first with as many. A class's score for all pixels is the mean over them. Of one number an
    image, the score of class 1 is the number and that of class 0 its negative.

    Args:
        output: What the model has put out.
        count: How many images it was given.
        known: How many classes there are; 0 where that is not known.

    Raises:
        CannotActivateError: There are no such scores.
    """
    scores, guess = _find(output, count, known)
    if scores is None or scores.shape[0] != count or scores.ndim not in (1, 2, *_OF_PIXELS):
        found = describe_output(output)
        raise CannotActivateError(f"it puts out {found}, not a score for each class")
    if scores.dtype != torch.float64:
        scores = scores.float()
    of_pixels = scores.ndim > 2
    if of_pixels:
        scores = scores.flatten(2).mean(2)
    elif scores.ndim == 1:
        scores = scores[:, None]
    if scores.shape[1] == 1:
        with torch.no_grad():
            probability = torch.sigmoid(scores)
        both = torch.cat([1 - probability, probability], 1)
        return ClassScores(torch.cat([-scores, scores], 1), both, of_pixels, guess)
    with torch.no_grad():
        total = scores.sum(1, keepdim=True)
        are_probabilities = (scores >= 0).all(1, keepdim=True) & ((total - 1).abs() < 1e-3)
        probabilities = torch.where(are_probabilities, scores, scores.softmax(1))
    return ClassScores(scores, probabilities, of_pixels, guess)


def _find(output: Any, count: int, known: int) -> tuple[torch.Tensor | None, str]:
    """Returns the tensor of an output that holds the scores, and how it was guessed, if it was."""
    if isinstance(output, torch.Tensor):
        return output if output.is_floating_point() and output.ndim else None, ""
    for name in _NAMES:
        is_mapping = isinstance(output, Mapping)
        found = output.get(name) if is_mapping else getattr(output, name, None)
        if isinstance(found, torch.Tensor) and found.is_floating_point() and found.ndim:
            return found, ""
    several = [
        (name, tensor)
        for name, tensor in tensors_of(output)
        if tensor.is_floating_point() and tensor.ndim and tensor.shape[0] == count
    ]
    usable = [each for each in several if each[1].ndim in (1, 2, *_OF_PIXELS)]
    if known:
        fitting = [each for each in usable if each[1].ndim > 1 and each[1].shape[1] == known]
        if len(fitting) == 1:
            return fitting[0][1], ""
        usable = fitting or usable
    several = usable or several
    if not several:
        return None, ""
    name, scores = several[0]
    shape = tuple(scores.shape)
    guess = "" if len(several) == 1 else f"output {name}, {shape}, the first of {len(several)}"
    return scores, guess
