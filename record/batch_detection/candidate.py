"""A group of forwards that may turn out to be a batch of the training."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from record.batch_detection.deliveries import LoaderItem, LoaderPass


@dataclass(eq=False)
class BatchCandidate:
    """The forwards of one loader item up to the first backward pass through them.

    Attributes:
        items: The index of the item that was consumed, by loader pass; the first pass leads.
        begun: When its first forward began, in `Deliveries.clock`.
        since: When the candidate before it began, in `Deliveries.clock`.
        extra: Whether the optimizer had already stepped on the item: such a candidate is a batch
            only if the same optimizer steps again.
        derived: Whether its input is the output of another model.
        told: Whether the memory of its inputs told its items.
        call: The number of the optimizer step within which it began; 0 outside of any step.
        thread: The thread in which it began.
        alive: Whether a backward pass can still go through it.
        trained: Whether a backward pass went through it.
        stepped: Whether an optimizer has stepped since that backward pass.
        loss: The loss that the backward pass began from.
        mixed: Whether the backward pass went through a later forward but not through the first.
        given_up: Whether it was decided early, because there was no room to wait any longer.
        attacks: Whether the gradient by its input is made as well, so that it may only be made to
            change the input.
        first: Of the further forwards of an attack, the candidate that the attack began with.
        dropped: Whether the gradients of its backward pass were thrown away before a step.
        for_others: Whether an optimizer of another model has stepped since that backward pass.
    """

    items: dict[LoaderPass, int] = field(default_factory=dict)
    begun: int = 0
    since: int = 0
    extra: bool = False
    derived: bool = False
    told: bool = False
    call: int = 0
    thread: Hashable = None
    alive: bool = True
    trained: bool = False
    stepped: bool = False
    loss: Any = None
    mixed: bool = False
    given_up: bool = False
    attacks: bool = False
    first: BatchCandidate | None = None
    dropped: bool = False
    for_others: bool = False

    @property
    def is_futile(self) -> bool:
        """Whether no backward pass went through it, and none can any longer."""
        return not (self.alive or self.trained)

    @property
    def may_go_on(self) -> bool:
        """Whether a further forward may have the same backward, or an input made by this one's."""
        return not self.trained or (self.attacks and self.told and not self.stepped)

    @property
    def counts(self) -> bool:
        """Whether it is a batch as far as is known before a step."""
        return self.trained and not (self.extra or self.for_others)

    @property
    def was_for_others(self) -> bool:
        """Whether what its backward pass made was of use to another model alone."""
        return self.dropped and self.for_others

    @property
    def loaders_have_ended(self) -> bool:
        """Whether its loaders were asked for more items since it began, and had none."""
        return all(source.ended > self.begun for source in self.items)

    def fits(self, other: BatchCandidate) -> bool:
        """Returns whether both can belong to one batch.

        They cannot where they consumed different items of the same pass.
        """
        return all(other.items.get(source, index) == index for source, index in self.items.items())

    def is_older_than(self, items: Sequence[LoaderItem]) -> bool:
        """Returns whether one of these items was handed out after the candidate's own items."""
        return any(
            item.index > self.items[item.source]
            if item.source in self.items
            else item.time > self.begun
            for item in items
        )
