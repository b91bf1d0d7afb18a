"""The batches that go on: one for each pass over `track` that is under way."""

from __future__ import annotations

from _thread import get_ident

from record.reporting import Problems
from record.session.batch import Batch


class OpenBatches(dict[object, Batch]):
    """By pass, the batch that goes on.

    Mostly there is one. A pass within a batch of another one ends before that batch does. Passes
    of which neither is within the other are said: which batch a forward is of is then the less
    certain, and their epochs are not those of the training.

    Args:
        problems: Warns of them.
    """

    def __init__(self, problems: Problems) -> None:
        super().__init__()
        self._problems = problems

    def mine(self) -> list[Batch]:
        """Returns those that this thread has begun."""
        return [batch for batch in self.values() if batch.thread == get_ident()]

    def begin(self, source: object, batch: Batch) -> None:
        """Adds the batch of a pass."""
        if any(other.thread != batch.thread for other in self.values()):
            self._problems.warn(
                "several threads go through track() at once: each pass is an epoch of its own, "
                "numbered in the order in which they began",
                "passes in threads",
            )
        self[source] = batch

    def end(self, source: object) -> Batch | None:
        """Removes and returns the batch of a pass; None where it had none."""
        batch = self.pop(source, None)
        if batch is not None and any(other.at[2] > batch.at[2] for other in self.mine()):
            self._problems.warn(
                "two passes over track() go on side by side, as in zip(track(a), track(b)): each "
                "counts epochs of its own, a forward that has none of their memory is the later "
                "one's, and what is logged belongs to the last forward; track(zip(a, b)) is one "
                "batch for each step",
                "passes side by side",
            )
        return batch
