"""From one batch to the next: where the training stands, and which of its batches are recorded."""

from __future__ import annotations

import threading
from _thread import get_ident
from collections.abc import Callable
from typing import Any

from torch import nn

from record.capture.capture import Capture
from record.capture.phase import BROKEN, DONE, IDLE, INSIDE, OPEN, WAITING
from record.capture.probe import Probe
from record.capture.tensors import storages_of
from record.reporting import Problems, listed
from record.schedule.budget import Budget
from record.schedule.schedule import Schedule
from record.session.frame_sender import FrameSender, Sealed

FORWARDS, STEPS, TRACK = "forwards", "steps", "track"  # what separates batches
_LATE = 16  # batches that ended before their forward began, at most, that are remembered


class Batch:
    """One batch of the training.

    Attributes:
        at: Its epoch, batch and step.
        keep: Whether it is recorded.
        loaded: What the loader handed out.
        thread: That in which it began.
        values: What was logged with it.
        seen: Whether its forward was seen to begin, recorded or not.
        sealed: Its frames, where they were put aside.
        ends_epoch: Whether it is known to be the last one of its epoch.
    """

    def __init__(
        self,
        at: tuple[int, int, int],
        keep: bool,
        loaded: Any = None,
        ends_epoch: bool = False,
    ) -> None:
        self.at = at
        self.keep = keep
        self.loaded = loaded
        self.ends_epoch = ends_epoch
        self.thread = get_ident()
        self.values: dict[str, Any] = {}
        self.seen = False
        self.sealed: Sealed | None = None
        self.storages: dict[int, Any] | None = None

    def consumed_by(self, inputs: dict[int, Any]) -> bool:
        """Whether a forward's inputs, by their storages, are what the loader handed out."""
        if self.storages is None:
            self.storages = storages_of(self.loaded)
        return not self.storages.keys().isdisjoint(inputs)


class Progress:
    """Arms the taps for each batch that is to be recorded, and sends off what they gathered.

    A forward is told to which batch it belongs when it begins: usually the one that goes on, but
    something around `track` may read ahead, and several threads may train one model.

    Args:
        schedule: Which batches are recorded.
        budget: Which of these fit.
        probe: Fixed images, shown to the network after each recorded batch.
        trouble: What goes wrong is said there.
        lose: Counts so many frames as lost.
        find: The layers to record, of the model as it is now.

    Attributes:
        taps: The hooks; to be set before anything begins.
        mode: FORWARDS, until the training says more; then STEPS or TRACK.
        epoch: The current one.
        next_epoch: The number of the next pass over the batches.
        batch: The current one, from 0 in each epoch.
        step: The batches before the current one.
        shipping: Where recorded batches go; None where nothing is recorded, or nothing more.
        checked_silence: Whether a batch was recorded, and layers that did not fire were named.
    """

    taps: Capture

    def __init__(
        self,
        schedule: Schedule,
        budget: Budget | None,
        probe: Probe | None,
        trouble: Problems,
        lose: Callable[[int], None],
        find: Callable[[nn.Module], dict[str, nn.Module]],
    ) -> None:
        self.mode = FORWARDS
        self.epoch = self.next_epoch = self.batch = self.step = 0
        self.shipping: FrameSender | None = None
        self.checked_silence = False
        self._schedule = schedule
        self._budget = budget
        self._probe = probe
        self._trouble = trouble
        self._lose = lose
        self._find = find
        self._lock = threading.RLock()
        self._current = Batch((0, 0, 0), False)
        self._bound: Batch | None = None  # whose forward the taps hold, or take
        self._trained: dict[int, Batch] = {}  # by thread, whose forward began last and is not sent
        self._open: dict[object, Batch] = {}  # by the pass over a loader that they come from
        self._late: list[Batch] = []  # that ended before a forward began
        self._decided = (-1, -1, -1)  # of which epoch, batch and step it was decided
        self._forwarded = False  # whether it was seen to begin, where forwards separate batches
        self._collided: set[int] = set()  # threads with a forward that was not recorded
        self._passed_over = 0  # such forwards, where forwards separate batches

    @property
    def at(self) -> tuple[int, int, int]:
        """The current epoch, batch and step."""
        return self.epoch, self.batch, self.step

    def renew_lock(self) -> None:
        """In a forked child, where nobody else is left that could hold it."""
        self._lock = threading.RLock()

    def log(self, name: str, value: Any) -> None:
        """Keeps a value with the batch that this thread trains on."""
        thread = get_ident()
        if thread in self._collided and self.mode != TRACK:
            return  # of a forward that is not recorded
        batch = self._trained.get(thread)
        if batch is None:
            mine = [other for other in self._open.values() if other.thread == thread]
            batch = mine[-1] if mine else self._current
        batch.values[name] = value

    # Passes over a loader

    def begin_epoch(self, batches: int | None, images: int | None = None) -> int:
        """The next pass over the batches begins.

        Args:
            batches: How many there are, if that is known.
            images: How many images each has, but maybe the last, if that is known.

        Returns:
            Its number.
        """
        with self._lock:
            if self.mode != TRACK:
                self._discard()
                self.mode = TRACK
            self.epoch = self.next_epoch
            self.next_epoch += 1
            self.expect(batches)
            self.taps.usual = images
            return self.epoch

    def begin_loaded(self, source: object, epoch: int, batch: int, loaded: Any) -> None:
        """A pass hands out a batch, of this number in its epoch."""
        with self._lock:
            self.epoch, self.batch = epoch, batch
            keep = self.shipping is not None and self._decide()
            last = self.shipping is not None and self.shipping.batches == batch + 1
            begun = Batch(self.at, keep, loaded, last)
            self.step += 1
            self._open[source] = begun
            self._begin(begun)

    def end_loaded(self, source: object) -> None:
        """The pass is asked for its next batch, or left."""
        with self._lock:
            batch = self._open.pop(source, None)
            if batch is None:
                return
            self._end(batch)
            batch.loaded = None
            if batch is self._current:
                others = [other for other in self._open.values() if not other.seen]
                if others:  # a pass within a pass has ended
                    self._begin(others[-1])

    # Batches that are told of

    def begin_batch(self, batch: int) -> None:
        """A batch begins, of this number in its epoch."""
        with self._lock:
            self.batch = batch
            self.arm()

    def turn_to_epoch(self, number: int) -> None:
        """An epoch begins whose batches end with `end_step`."""
        with self._lock:
            if self.mode == FORWARDS:
                self.finish()
                self.mode = STEPS
            self._discard()
            self.next_epoch = self.epoch = number
            self.batch = 0
            self.arm()

    def end_step(self) -> None:
        """A batch ends and the next begins, unless `begin_loaded` says when."""
        if self.mode == TRACK:
            return
        with self._lock:
            if get_ident() in self._collided:
                self._collided.discard(get_ident())  # its forward was not recorded
                return
            if self._send_trained():
                return  # whose forward was put aside for another thread's
            self.mode = STEPS
            self.finish()
            self.arm()

    def expect(self, batches: int | None) -> None:
        """An epoch has so many batches, if that is known."""
        if self.shipping is not None:
            self.shipping.batches = batches

    def arm(self) -> None:
        """Makes the taps wait for the forward of the current batch, if it is to be recorded."""
        if self.shipping is not None:
            self._begin(Batch(self.at, self._decide()))

    def finish(self) -> None:
        """Sends off the current batch, if its forward was recorded, and counts on."""
        taps = self.taps
        if taps.state == INSIDE and taps.thread != get_ident():
            return  # it is another thread's, and not at its end
        armed = taps.state != IDLE and self._current.keep
        unseen = not (self._current.seen or taps.opened or taps.traced)
        if self.mode != TRACK and not taps.fired and (armed or unseen):
            return  # a step without a forward is no batch
        self._end(self._current)
        self._count_on()

    def _count_on(self) -> None:
        self._forwarded = False
        self._bound = None
        self.batch += 1 + self._passed_over
        self.step += 1 + self._passed_over
        self._passed_over = 0

    def _send_trained(self) -> bool:
        """Sends what this thread has trained before, with nothing more to be logged with it."""
        before = self._trained.pop(get_ident(), None)
        if before is None or before in self._open.values():
            return False
        self._send(before)
        return True

    # Forwards

    def forward_begins(self, training: bool, inputs: tuple[Any, dict[str, Any]]) -> None:
        """A forward of the model begins, with these inputs."""
        if not training and not self.taps.evaluation:
            return
        with self._lock:
            if self.mode == FORWARDS:
                self._send_trained()
                if self._forwarded and self._holds_another_threads():
                    # What that thread logs with it may be still to come.
                    self._seal(self._current)
                    self._trained[self.taps.thread] = self._current
                    self._count_on()
                    self.arm()
                elif self._forwarded:
                    self.finish()
                    self.arm()
                self._forwarded = True
            elif self.mode == STEPS:
                if self._holds_another_threads():
                    self.collided()
                    return
            elif self._late or self._open or self._bound is not None:
                self._turn_to(self._batch_of(inputs))
                return
            self._current.seen = True
            if self.taps.state in (WAITING, BROKEN):
                self._bound = self._current
                self._follow_model()

    def collided(self) -> None:
        """A forward began while another thread's ran: one of the two cannot be recorded."""
        with self._lock:
            self._lose(1)
            self._collided.add(get_ident())
            if self.mode == FORWARDS:
                self._passed_over += 1
            elif self.mode == TRACK:
                for batch in self._open.values():
                    batch.seen = batch.seen or batch.thread == get_ident()
        self._trouble.warn(
            "several threads train this model at once: a forward that begins while another one is "
            "recorded is lost, and counted",
            "threads",
        )

    def _holds_another_threads(self) -> bool:
        """Whether the taps hold a batch of another thread that has not said its step yet."""
        return self.taps.state == DONE and self.taps.thread != get_ident()

    def _batch_of(self, inputs: tuple[Any, dict[str, Any]]) -> Batch | None:
        """The batch that a forward consumes; None where it belongs to none."""
        thread = get_ident()
        mine = [batch for batch in self._open.values() if batch.thread == thread]
        there = mine or list(self._open.values())
        usual = there[-1] if there else None
        if usual is not None and not self._late and (mine or len(there) == 1):
            return usual
        known = storages_of(inputs)
        for batch in [*self._late, *self._open.values()]:
            if not batch.seen and batch.consumed_by(known):
                if batch in self._late:  # those before it were skipped
                    del self._late[: self._late.index(batch) + 1]
                else:
                    self._late.clear()
                return batch
        if self._late:
            epoch, number, _ = self._late[0].at
            self._trouble.warn(
                f"batch {number} of epoch {epoch} ended before a forward began: was it skipped, or "
                "does something around track() read ahead? Batches are numbered as they are "
                "handed out; put track() around what reads ahead",
                "late",
            )
            if usual is not None:
                self._late.clear()
        return usual

    def _turn_to(self, batch: Batch | None) -> None:
        """A forward of this batch begins: has the taps take it, if it is to be recorded."""
        taps = self.taps
        if batch is None or batch.seen or not batch.keep:
            if batch is not None:
                batch.seen = True
                if batch is self._bound and taps.state in (WAITING, BROKEN, OPEN):
                    return  # tried again, or the parts that were called before it
            if taps.state in (WAITING, BROKEN):
                taps.state = IDLE
            return
        batch.seen = True
        if taps.state == OPEN or (taps.state == DONE and self._bound is None):
            return  # parts of the model, or a compiled one: they tell no batches apart
        if self._bound is not None and self._bound is not batch:
            self._put_aside()
        self._send_trained()
        if taps.state not in (WAITING, BROKEN):
            taps.state = IDLE
            taps.reset()
            if self.shipping is None or not self.shipping.prepare():
                return
            taps.state = WAITING
        taps.loaded, taps.ends_epoch = batch.loaded, batch.ends_epoch
        self._follow_model()
        self._bound = self._trained[get_ident()] = batch

    # Batches

    def _begin(self, batch: Batch) -> None:
        """Makes the taps wait for the forward of a batch, if it is to be recorded."""
        taps = self.taps
        self._current = batch
        if self.shipping is None:
            return
        if self._is_another_threads():
            return  # which sees to it when its next forward begins, in `_turn_to`
        self._put_aside()
        if taps.traced or taps.opened:  # else when its forward begins
            self._follow_model()
        taps.state = IDLE
        taps.reset()
        taps.loaded, taps.ends_epoch = batch.loaded, batch.ends_epoch
        wanted = batch.keep or any(late.keep for late in self._late)
        if wanted and not batch.seen and self.shipping.prepare():
            taps.state = WAITING

    def _is_another_threads(self) -> bool:
        """Whether another thread's forward runs, or is just about to."""
        if self.taps.state == INSIDE:
            return self.taps.thread != get_ident()
        bound = self._bound
        begins = bound is not None and self._trained.get(get_ident()) is not bound
        return begins and self.mode == TRACK and self.taps.state in (WAITING, BROKEN)

    def _end(self, batch: Batch) -> None:
        """A batch ends: sends its frames off."""
        taps, shipping = self.taps, self.shipping
        if shipping is None:
            return
        if self._bound is batch or (self._bound is None and batch is self._current):
            ran = taps.fired and taps.state not in (IDLE, INSIDE, BROKEN)
            batch.seen = batch.seen or taps.fired
            if taps.state == INSIDE and taps.thread != get_ident():
                return  # it is sent when its thread goes on
            self._bound = None
            if ran and not shipping.has_failed(1):
                self._seal(batch)
            taps.state = IDLE
        self._send(batch)
        if not batch.seen and not taps.traced and self.mode == TRACK:
            if batch.storages is None:
                batch.storages = storages_of(batch.loaded)
            self._late = [*self._late, batch][-_LATE:]

    def _put_aside(self) -> None:
        """Makes room in the taps: what they hold waits for the end of its batch."""
        batch, self._bound = self._bound, None
        taps, shipping = self.taps, self.shipping
        if batch is None or shipping is None or not taps.fired or taps.state != DONE:
            return
        if not shipping.has_failed(1):
            self._seal(batch)

    def _seal(self, batch: Batch) -> None:
        """Takes what the taps hold for a batch."""
        assert self.shipping is not None
        try:
            self._run_probe()
            batch.sealed = self.shipping.seal()
        except Exception as error:
            self.taps.fail("frame", error)
        if not self.checked_silence:
            self._check_silence()

    def _send(self, batch: Batch) -> None:
        """Sends the frames of a batch off, if there are any: nothing more is logged with it."""
        sealed, batch.sealed = batch.sealed, None
        for thread, trained in list(self._trained.items()):
            if trained is batch:
                del self._trained[thread]
        if sealed is None or self.shipping is None:
            return
        try:
            self.shipping.send(sealed, batch.at, batch.values)
        except Exception as error:
            self.taps.fail("frame", error)

    def close(self) -> None:
        """The training is over: sends off what waits for more."""
        with self._lock:
            self._put_aside()
            for batch in [*self._open.values(), *self._trained.values()]:
                self._send(batch)
            self._open.clear()

    def _decide(self) -> bool:
        """Whether the current batch is recorded; a budget is asked once for each batch."""
        at = self.at
        if at == self._decided:
            return self._current.keep
        self._decided = at
        keep = self._schedule.keeps(*at)
        if keep and self._budget is not None:
            keep = self._budget.keeps()
            thinning = self._budget.take_thinning()
            if thinning > 1 and self.shipping is not None:
                self.shipping.thin(thinning)
        return keep

    def _follow_model(self) -> None:
        """Records layers that were replaced or added, under their names, and says so."""
        try:
            for change in self.taps.follow(self._find):
                self._trouble.warn(f"the model has changed while it is recorded; layers {change}")
        except Exception as error:
            self._trouble.warn(f"the model has changed, and cannot be looked at: {error}")

    def _run_probe(self) -> None:
        """Shows the fixed images to the model; without them the batch is still recorded."""
        if self._probe is None:
            return
        if self.taps.thread not in (0, get_ident()):
            self._lose(1)
            self._trouble.warn(
                "the probe was left out where another thread goes on with the training", "probe"
            )
            return
        self._follow_model()
        try:
            self._probe.run(self.taps)
        except Exception as error:
            self._probe = None
            reason = " ".join(str(error).split())[:200]
            self._trouble.meet(f"the probe was given up: {type(error).__name__}: {reason}")

    def _check_silence(self) -> None:
        self.checked_silence = True
        silent = self.taps.silent
        quiet = [name for name, what in silent.items() if not what]
        odd = [f"{name} ({what})" for name, what in silent.items() if what]
        if quiet:
            self._trouble.warn(f"did not fire in the first batch: {listed(quiet)}")
        if odd:
            self._trouble.warn(f"not recorded, since it put out no maps: {listed(odd)}")

    def _discard(self) -> None:
        """Forgets a forward that no `end_step` has confirmed."""
        self._bound = None
        self._current.values.clear()
        self.taps.reset()
        self.taps.state = IDLE
