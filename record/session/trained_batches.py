"""Which thread trains which batch: the one that takes it from `track` may be another."""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Collection

from record.capture.phase import BROKEN, DONE, IDLE, INSIDE, WAITING, CaptureState
from record.session.batch import Batch

_MOST = 4  # threads of which each has a batch that is not sent before its next one begins


class TrainedBatches(dict[int, Batch]):
    """By thread, the batch whose forward began last there, and which has not been sent.

    That with the latest forward is the last one.
    """

    def put(self, batch: Batch, thread: int | None = None) -> None:
        """Notes whose forward begins in a thread; by default in the one that calls."""
        thread = get_ident() if thread is None else thread
        self.pop(thread, None)
        self[thread] = batch

    def forget(self, batch: Batch) -> None:
        """Forgets a batch, whoever trained it."""
        for thread in [thread for thread, one in self.items() if one is batch]:
            del self[thread]

    def is_elsewhere(self, batch: Batch) -> bool:
        """Whether another thread than the one that asks trains it."""
        thread = get_ident()
        return any(one is batch and its != thread for its, one in self.items())

    def have_hooks(self, state: CaptureState, captured: Batch | None) -> bool:
        """Whether the hooks are at another thread's forward, about to be, or at what it trains.

        Args:
            state: The state of the hooks.
            captured: The batch whose forward they hold, or pass over.
        """
        if state.phase == INSIDE:
            return state.thread != get_ident()
        if captured is None or self.get(get_ident()) is captured:
            return False
        goes_on = state.phase in (DONE, IDLE) and self.is_elsewhere(captured)
        return goes_on or state.phase in (WAITING, BROKEN)

    def take_overdue(self, going_on: Collection[Batch]) -> list[Batch]:
        """Returns what threads have trained that do not go on, and forgets it.

        A training may have a thread for each batch.

        Args:
            going_on: Batches that are not overdue.
        """
        earlier = [*self.items()][:-_MOST]
        overdue = [(thread, batch) for thread, batch in earlier if batch not in going_on]
        for thread, _ in overdue:
            del self[thread]
        return [batch for _, batch in overdue]
