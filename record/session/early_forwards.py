"""The first forwards of a training: each a batch of its own, or several that `step` ends."""

from __future__ import annotations

from collections.abc import Callable

from record.session.batch import Batch
from record.session.frame_sender import FrameSender

_MOST = 8  # forwards that wait, after which each is taken for a batch


class EarlyForwards:
    """Forwards that were taken for batches and wait until the training says what ends a batch.

    Where `step` is called behind the second or a later one, all of them were one batch's.

    Attributes:
        batches: Those that wait, in their order, with their frames.
        waits: Whether there may be more of them, which are taken whatever the schedule says.
    """

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.waits = True

    def keep(self, batch: Batch, sender: FrameSender) -> bool:
        """Has a batch wait; returns whether it does: not once there were too many."""
        self.waits = self.waits and len(self.batches) < min(_MOST, sender.spare)
        if self.waits:
            self.batches.append(batch)
        return self.waits

    def release(self, send: Callable[[Batch], None]) -> None:
        """Sends all: each was a batch."""
        self.waits = False
        waiting, self.batches = self.batches, []
        for batch in waiting:
            send(batch)

    def discard(self, sender: FrameSender) -> None:
        """Forgets all: the training begins behind them."""
        self.waits = False
        waiting, self.batches = self.batches, []
        for batch in waiting:
            if batch.sealed is not None:
                sender.discard(batch.sealed)

    def join(self, last: Batch, sender: FrameSender) -> Batch:
        """Returns the batch that all of them are, with the frames of one and all values.

        Args:
            last: The batch of the last forward, whose frames the hooks still hold.
            sender: Takes the others' frames back.
        """
        everything = [*self.batches, last]
        first = next((batch for batch in everything if batch.has_gradients), everything[0])
        first.at, first.keep, first.undecided = everything[0].at, True, True
        values = [batch.values for batch in everything]
        first.values = {name: value for each in values for name, value in each.items()}
        self.batches = [batch for batch in self.batches if batch is not first]
        self.discard(sender)
        return first
