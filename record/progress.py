"""From one batch to the next: where the training stands, and which of its batches are recorded."""

from __future__ import annotations

from typing import Any

from record import tap as tap_states
from record.probe import Probe
from record.schedule import Budget, Schedule
from record.shipping import Shipping
from record.taps import Taps
from record.trouble import Trouble, listed

FORWARDS, STEPS, TRACK = "forwards", "steps", "track"  # what separates batches


class Progress:
    """Arms the taps for each batch that is to be recorded, and sends off what they gathered.

    Args:
        taps: The hooks.
        schedule: Which batches are recorded.
        budget: Which of these fit.
        probe: Fixed images, shown to the network after each recorded batch.
        trouble: What goes wrong is said there.

    Attributes:
        mode: FORWARDS, until the training says more; then STEPS or TRACK.
        epoch: The current one.
        next_epoch: The number of the next pass over the batches.
        batch: The current one, from 0 in each epoch.
        step: The batches before the current one.
        values: What was logged with the current batch.
        shipping: Where recorded batches go; None where nothing is recorded, or nothing more.
        checked_silence: Whether a batch was recorded, and layers that did not fire were named.
    """

    def __init__(
        self,
        taps: Taps,
        schedule: Schedule,
        budget: Budget | None,
        probe: Probe | None,
        trouble: Trouble,
    ) -> None:
        self.mode = FORWARDS
        self.epoch = self.next_epoch = self.batch = self.step = 0
        self.values: dict[str, Any] = {}
        self.shipping: Shipping | None = None
        self.checked_silence = False
        self._taps = taps
        self._schedule = schedule
        self._budget = budget
        self._probe = probe
        self._trouble = trouble
        self._keep = False  # whether the current batch is recorded
        self._decided = (-1, -1, -1)  # for which epoch, batch and step that was decided
        self._forwarded = False  # whether it was seen to begin, where forwards separate batches

    @property
    def at(self) -> tuple[int, int, int]:
        """The current epoch, batch and step."""
        return self.epoch, self.batch, self.step

    def begin_epoch(self, batches: int | None) -> None:
        """The next pass over the batches begins, of so many if that is known."""
        if self.mode != TRACK:
            self._discard()
            self.mode = TRACK
        self.epoch = self.next_epoch
        self.next_epoch += 1
        self.expect(batches)

    def begin_batch(self, batch: int) -> None:
        """A batch begins, of this number in its epoch."""
        self.batch = batch
        self.arm()

    def end_batch(self) -> None:
        """It ends."""
        self.finish()
        self._taps.state = tap_states.IDLE

    def turn_to_epoch(self, number: int) -> None:
        """An epoch begins whose batches end with `end_step`."""
        if self.mode == FORWARDS:
            self.finish()
            self.mode = STEPS
        self._discard()
        self.next_epoch = self.epoch = number
        self.batch = 0
        self.arm()

    def end_step(self) -> None:
        """A batch ends and the next begins, unless `begin_batch` says when."""
        if self.mode == TRACK:
            return
        self.mode = STEPS
        self.finish()
        self.arm()

    def forward(self, training: bool) -> None:
        """A forward of the model begins."""
        if training and self.mode == FORWARDS:
            if self._forwarded:
                self.finish()
                self.arm()
            self._forwarded = True

    def expect(self, batches: int | None) -> None:
        """An epoch has so many batches, if that is known."""
        if self.shipping is not None:
            self.shipping.batches = batches

    def arm(self) -> None:
        """Makes the taps wait for the forward of the current batch, if it is to be recorded."""
        if self.shipping is None:
            return
        self.values.clear()
        self._taps.state = tap_states.IDLE
        self._taps.reset()
        if self._decide(self.shipping) and self.shipping.prepare():
            self._taps.state = tap_states.WAITING

    def finish(self) -> None:
        """Sends off the current batch, if its forward was recorded, and counts on."""
        taps, shipping = self._taps, self.shipping
        armed = taps.state != tap_states.IDLE
        ran = taps.fired and taps.state != tap_states.INSIDE
        if self.mode != TRACK and not taps.fired and self._keep and armed:
            return  # a step without a forward is no batch
        self._forwarded = False
        if armed and ran and shipping is not None and not shipping.has_failed(1):
            try:
                if self._probe is not None:
                    self._run_probe(self._probe)
                values, self.values = self.values, {}
                shipping.ship(self.at, values)
            except Exception as error:
                taps.fail("frame", error)
            if not self.checked_silence:
                self._check_silence()
        taps.state = tap_states.IDLE
        self.batch += 1
        self.step += 1

    def _decide(self, shipping: Shipping) -> bool:
        """Whether the current batch is recorded; a budget is asked once for each batch."""
        at = self.at
        if at != self._decided:
            self._decided = at
            self._keep = self._schedule.keeps(*at)
            if self._keep and self._budget is not None:
                self._keep = self._budget.keeps()
                thinning = self._budget.take_thinning()
                if thinning > 1:
                    shipping.thin(thinning)
        return self._keep

    def _run_probe(self, probe: Probe) -> None:
        """Shows the fixed images to the model; without them the batch is still recorded."""
        try:
            probe.run(self._taps)
        except Exception as error:
            self._probe = None
            reason = " ".join(str(error).split())[:200]
            self._trouble.meet(f"the probe was given up: {type(error).__name__}: {reason}")

    def _check_silence(self) -> None:
        self.checked_silence = True
        silent = self._taps.silent
        if silent:
            self._trouble.warn(f"did not fire in the first batch: {listed(silent)}")

    def _discard(self) -> None:
        """Forgets a forward that no `end_step` has confirmed."""
        self.values.clear()
        self._taps.reset()
        self._taps.state = tap_states.IDLE
