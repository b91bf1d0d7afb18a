"""Which batches are recorded, decided once for each: by a schedule, and by a budget of bytes."""

from __future__ import annotations

from record.schedule.budget import Budget
from record.schedule.schedule import Schedule

_MAX_REMEMBERED = 512  # batches


class BatchChoice:
    """Decides which batches are recorded.

    Args:
        schedule: Which batches are recorded.
        budget: Which of these fit into so many bytes; None where all fit.

    Attributes:
        keeps_all: Whether every batch is recorded, so that nobody has to ask.
        budget: As given.
    """

    def __init__(self, schedule: Schedule, budget: Budget | None) -> None:
        self.keeps_all = budget is None and schedule == Schedule()
        self.budget = budget
        self._schedule = schedule
        self._decided: dict[tuple[int, int, int], bool] = {}

    def decide(self, at: tuple[int, int, int]) -> tuple[bool, int]:
        """Decides whether a batch is recorded; a budget is asked once for each batch.

        Args:
            at: The batch's epoch, its number in the epoch, and its number in the run.

        Returns:
            Whether the batch is recorded; and of how many frames in the file only the first is
            to stay from now on, to make room.
        """
        if at in self._decided:
            return self._decided[at], 1
        keep, thinning = self._schedule.keeps(*at), 1
        if keep and self.budget is not None:
            keep = self.budget.keeps()
            thinning = self.budget.take_thinning()
        self._decided[at] = keep
        if len(self._decided) > _MAX_REMEMBERED:
            del self._decided[next(iter(self._decided))]
        return keep, thinning
