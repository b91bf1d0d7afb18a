"""What the network makes of the fixed images: the classes that it gives them, and why."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from record.capture.class_activation import ClassActivation
from record.capture.class_scores import CannotActivateError, class_scores
from record.capture.undisturbed_backward import saved_as_they_are

_FIELDS = ("prediction", "probability", "label_probability", "class")


class ProbeClasses:
    """Keeps of each showing which class the network gave each image, and how likely it held it.

    Args:
        labels: The class of each image, None where it is not known; grows with the images.
        activation: Keeps class activation of them as well; None where nobody asked for it.
        known: How many classes there are; 0 where that is not known.

    Attributes:
        labels: As given.
        activation: As given.
        values: By fields' names, what was found when the images were last shown.
        reason: Why nothing is known of classes, in words; empty where there is.
        note: What is to be said of where the classes are taken from; empty where that is clear.
    """

    def __init__(
        self,
        labels: Sequence[int | None] = (),
        activation: ClassActivation | None = None,
        known: int = 0,
    ) -> None:
        self.labels: list[int | None] = list(labels)
        self.activation = activation
        self.values: dict[str, Any] = {}
        self.reason = self.note = ""
        self._known = known
        self._said: set[str] = set()

    @contextlib.contextmanager
    def watching(self, root: nn.Module) -> Iterator[None]:
        """Has what class activation needs kept from a forward.

        Args:
            root: The model.
        """
        self.values = {}
        if self.activation is None or self.reason:
            yield
            return
        with self.activation.watching(root):
            yield

    def take(self, output: Any, count: int, size: Sequence[int]) -> None:
        """Takes what the model has put out for the images; nothing is raised.

        Args:
            output: What it has put out.
            count: The number of images.
            size: Their height and width.
        """
        if not self.reason:
            with saved_as_they_are():
                self._take(output, count, size)

    def _take(self, output: Any, count: int, size: Sequence[int]) -> None:
        labels = (*self.labels, *itertools.repeat(None, count - len(self.labels)))
        try:
            scores = class_scores(output, count, self._known)
            if scores.guess:
                self.note = (
                    f"classes of the fixed images: their scores are taken to be {scores.guess} "
                    "that may be; name the right one `logits`, or give metadata its `classes`"
                )
            known = [scores.label_of(label) for label in labels]
            said, likely = scores.as_labels(known), scores.probabilities
            predicted = likely.argmax(1)
            classes = torch.where(said < 0, predicted, said)  # whose scores count
            of_labels = likely.gather(1, said.clamp(min=0)[:, None])[:, 0].float()
            of_labels = of_labels.masked_fill(said < 0, torch.nan)
            facts = [predicted, likely.amax(1), of_labels, classes]
            self.values = _as_values(torch.stack([fact.detach().float() for fact in facts]))
        except Exception as error:
            self.reason = " ".join(str(error).split())[:160]
            if not isinstance(error, CannotActivateError):
                self.reason = f"{type(error).__name__}: {self.reason}"
            return
        if self.activation is not None:
            self.activation.take(scores, classes, known, size)

    def take_values(self) -> dict[str, Any]:
        """Returns what was found when the images were last shown, once."""
        values, self.values = self.values, {}
        return values

    def new_problem(self) -> str:
        """Returns what cannot be kept, in a line, once; empty where there is nothing to say."""
        text = ""
        if self.reason:
            wanted = "classes of the probe" if self.activation is None else "class activation"
            text = f"{wanted}: given up, since {self.reason}"
        elif self.activation is not None and self.activation.reason:
            text = f"class activation: given up, since {self.activation.reason}"
        elif self.activation is not None and self.activation.absence:
            text = f"class activation: none at some showings, since {self.activation.absence}"
        if text in self._said:
            return ""
        self._said.add(text)
        return text


def _as_values(facts: torch.Tensor) -> dict[str, Any]:
    """Returns facts by the names of their fields, as floats or as what becomes such in a moment.

    Args:
        facts: A row for each of the fields, with a number for each image, float32.
    """
    found: Any
    if facts.device.type == "cuda":
        host = torch.empty(facts.shape, dtype=facts.dtype, pin_memory=True)
        host.copy_(facts, non_blocking=True)
        found = [list(row.unbind()) for row in host]
    else:
        found = facts.tolist()
    return {
        f"probe{number}.{name}": value
        for name, row in zip(_FIELDS, found, strict=True)
        for number, value in enumerate(row)
    }
