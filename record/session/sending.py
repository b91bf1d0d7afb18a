"""Sends the frames of batches off, once nothing more is logged with them."""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Callable, Collection

from record.capture.phase import CaptureState
from record.session.batch import Batch
from record.session.early_forwards import EarlyForwards
from record.session.frame_sender import FrameSender
from record.session.model_checks import ModelChecks
from record.session.trained_batches import TrainedBatches


class BatchSending:
    """The way of a batch from the hooks to the sender.

    Args:
        state: The state of the hooks.
        checks: Looks after the model.
        on_failure: Called with a name and an error where a batch could not be taken.
        on_lost: Called with a number of frames that are lost.
        keeps: Decides whether a batch is recorded, by its epoch, number and step.

    Attributes:
        sender: Takes the frames of recorded batches; None where nothing is recorded any more.
        early: The first forwards, until the training says what ends a batch.
        trained: By thread, the batch whose forward began last and is not sent.
    """

    def __init__(
        self,
        state: CaptureState,
        checks: ModelChecks,
        on_failure: Callable[[str, Exception], None],
        on_lost: Callable[[int], None],
        keeps: Callable[[tuple[int, int, int]], bool],
    ) -> None:
        self.sender: FrameSender | None = None
        self.early, self.trained = EarlyForwards(), TrainedBatches()
        self._state, self._checks = state, checks
        self._on_failure, self._on_lost, self._keeps = on_failure, on_lost, keeps
        self._ended: Batch | None = None  # that waits for what is logged behind its epoch

    def seal(self, batch: Batch) -> None:
        """Takes what the hooks hold for a batch."""
        assert self.sender is not None
        try:
            if self._checks.has_probe:
                epoch, number, _ = batch.at
                if not self._checks.show_probe(epoch, number, batch.ends_epoch):
                    self._on_lost(1)
                batch.values.update(self._checks.take_probe_values())
            batch.sealed = self.sender.seal()
            if batch.sealed is None:
                self.sender.note_frameless()
        except Exception as error:
            self._on_failure("frame", error)
        if not self._checks.named_silent and self._state.batch.sizes[:1] != (0,):
            self._checks.name_silent_layers()

    def send(self, batch: Batch) -> None:
        """Sends the frames of a batch off, if there are any: nothing more is logged with it."""
        if batch.undecided:
            batch.keep, batch.undecided = self._keeps(batch.at), False
        sealed, batch.sealed = batch.sealed, None
        if sealed is None or self.sender is None:
            return
        try:
            if batch.keep:
                self.sender.send(sealed, batch.at, batch.values)
            else:
                self.sender.discard(sealed)
        except Exception as error:
            self._on_failure("frame", error)

    def send_mine(self, going_on: Collection[Batch]) -> bool:
        """Sends what this thread has trained before, with nothing more to be logged with it.

        Args:
            going_on: Batches that have not ended.

        Returns:
            Whether there was any.
        """
        before = self.trained.pop(get_ident(), None)
        if before is None or before in going_on:
            return False
        self.send(before)
        return True

    def send_overdue(self, going_on: Collection[Batch]) -> None:
        """Sends what threads have trained that do not go on."""
        for batch in self.trained.take_overdue(going_on):
            self.send(batch)

    def send_later(self, batch: Batch) -> None:
        """Sends a batch off that has ended, when the next one begins or the recording ends.

        What is logged behind the last batch of an epoch is that batch's.
        """
        self.send_ended()
        self._ended = batch

    def hold(self) -> None:
        """Has the writer know of the batch that ended last: it waits for more to be logged.

        That is a validation, say, in which the training may be killed.
        """
        ended, sender = self._ended, self.sender
        if ended is None or sender is None or ended.sealed is None or not ended.keep:
            return
        try:
            sender.hold(ended.sealed, ended.at, ended.values)
        except Exception as error:
            self._on_failure("frame", error)

    def send_early(self, batch: Batch) -> None:
        """Sends a batch off that a forward ended, but has the first ones wait."""
        if self.sender is not None and not self.early.keep(batch, self.sender):
            self.early.release(self.send)
            self.send(batch)

    def send_ended(self) -> None:
        """Sends the batch off that ended last."""
        ended, self._ended = self._ended, None
        if ended is not None:
            self.send(ended)

    def flush(self) -> None:
        """Sends off all that has ended."""
        self.early.release(self.send)
        self.send_ended()

    def discard_early(self) -> None:
        """Forgets the first forwards: the training begins behind them."""
        if self.sender is not None:
            self.early.discard(self.sender)
