"""From one batch to the next: where the training stands, and which of its batches are recorded."""

from __future__ import annotations

import threading
from _thread import get_ident
from typing import Any

import torch

from record.capture.phase import BROKEN, DONE, IDLE, INSIDE, OPEN, WAITING, CaptureState
from record.reporting import Problems
from record.session.batch import COLLIDED, Batch, LateBatches, OpenBatches, UnrecordedForwards
from record.session.epoch_numbers import whole_epoch
from record.session.frame_sender import FrameSender
from record.session.model_checks import ModelChecks
from record.session.sending import BatchSending

FORWARDS, STEPS, TRACK = "forwards", "steps", "track"  # what separates batches


class Progress:
    """Has the hooks record each batch that is to be recorded, and sends its frames off.

    A forward is told to which batch it belongs when it begins: usually the one that goes on, but
    something around `track` may read ahead, and several threads may train one model.

    Args:
        state: The state of the hooks, which tell this object of forwards.
        checks: Looks after the model.
        problems: Warns of what goes wrong.

    Attributes:
        mode: What separates batches: FORWARDS until the training says more, then STEPS or TRACK.
        epoch: The number of the current epoch.
        next_epoch: The number of the next pass over the batches.
        batch: The number of the current batch, from 0 in each epoch.
        step: The number of batches before the current one.
        sender: Takes the frames of recorded batches; None where nothing is recorded any more.
        copy_failed: Whether a hook could not do its work.
        counts_one_epoch: Whether nothing has ever said where an epoch begins.
    """

    def __init__(self, state: CaptureState, checks: ModelChecks, problems: Problems) -> None:
        self.mode = FORWARDS
        self.epoch = self.next_epoch = self.batch = self.step = 0
        self.sender: FrameSender | None = None
        self.copy_failed, self.counts_one_epoch = False, True
        self._state, self._checks, self._problems = state, checks, problems
        self._lock = threading.RLock()
        self._current = Batch((0, 0, 0), False)
        self._captured: Batch | None = None  # whose forward the hooks hold, or take
        self._open = OpenBatches(problems)
        self._late, self._unrecorded = LateBatches(problems), UnrecordedForwards()
        self._sending = BatchSending(state, checks, self.hook_failed, self.count_lost, self._keeps)
        self._trained = self._sending.trained
        self._forwarded = False  # whether it was seen to begin, where forwards separate batches
        self._collided: set[int] = set()  # threads with a forward that was not recorded
        self._passed_over = 0  # such forwards, where forwards separate batches

    def begin(self, sender: FrameSender) -> None:
        """Begins to send frames off."""
        self.sender = self._sending.sender = sender

    def renew_lock(self) -> None:
        """Makes a new lock in a forked child, where nobody is left that could release the old."""
        self._lock = threading.RLock()

    def log(self, name: str, value: Any) -> None:
        """Keeps a value with the batch that this thread trains on."""
        with self._lock:  # another thread's forward may just put this one's batch aside
            if get_ident() in self._collided and self.mode != TRACK:
                return  # of a forward that is not recorded
            mine = self._open.mine()
            if mine or not self._unrecorded.since:  # else of a forward that belongs to no batch
                batch = self._trained.get(get_ident()) or (mine[-1] if mine else self._current)
                batch.values[name] = value

    def begin_epoch(self, batches: int | None, images: int | None = None) -> int:
        """Begins the next pass over the batches.

        Args:
            batches: How many batches there are, if that is known.
            images: How many images each has, but maybe the last, if that is known.

        Returns:
            The number of the epoch.
        """
        with self._lock:
            if self.mode != TRACK:
                self._discard()
                self.mode = TRACK
            self.epoch, self.counts_one_epoch = self.next_epoch, False
            self.next_epoch += 1
            if self.sender is not None:
                self.sender.batches = batches
            self._state.usual = images
            return self.epoch

    def begin_loaded(self, source: object, epoch: int, batch: int, loaded: Any) -> None:
        """Begins a batch that a pass over a loader hands out.

        Args:
            source: Tells the pass from others.
            epoch: The number of the pass's epoch.
            batch: The batch's number in its epoch, from 0.
            loaded: What the loader hands out.
        """
        with self._lock:
            self.epoch, self.batch = epoch, batch
            at, sender = (epoch, batch, self.step), self.sender
            ends_epoch = sender is not None and sender.batches == batch + 1
            begun = Batch(at, self._keeps(at), loaded, ends_epoch)
            self.step += 1
            self._open.begin(source, begun)
            self._begin(begun)

    def end_loaded(self, source: object) -> None:
        """Ends the batch of a pass, which is asked for its next batch or left; then the pass."""
        with self._lock:
            if (batch := self._open.end(source)) is None:
                self._sending.hold()
                return
            self._end(batch)
            batch.loaded = None
            if self._open and batch is self._current:
                others = [other for other in self._open.values() if not other.seen]
                if others:  # a pass within a pass has ended
                    self._begin(others[-1])

    def begin_batch(self, batch: int) -> None:
        """Begins a batch of this number in its epoch, which `end_step` ends."""
        with self._lock:
            self.batch = batch
            self.await_forward()

    def turn_to_epoch(self, number: Any) -> None:
        """Begins an epoch whose batches end with `end_step`."""
        with self._lock:
            following = self.next_epoch + (not self.counts_one_epoch)
            whole = whole_epoch(number, following, self._problems.warn)
            if self.mode == FORWARDS and whole:  # else nothing has begun before
                self.finish()
                self._sending.flush()
            self._discard()
            self.mode, self.counts_one_epoch = STEPS, False
            self.epoch, self.next_epoch, self.batch = whole, whole, 0
            self.await_forward()

    def end_step(self) -> None:
        """Ends a batch and begins the next, unless `begin_loaded` says when batches begin."""
        if self.mode == TRACK:
            return
        with self._lock:
            if get_ident() in self._collided:
                self._collided.discard(get_ident())  # its forward was not recorded
                return
            if self._trained and self._sending.send_mine(self._open.values()):
                return  # whose forward was put aside for another thread's
            if (early := self._sending.early).batches and self.sender is not None:
                last, self._current = self._current, early.join(self._current, self.sender)
                _, self.batch, self.step = self._current.at
                if self._current is not last:
                    self._captured, self._state.phase = None, IDLE
            self.mode = STEPS
            self.finish()
            self.await_forward()

    def await_forward(self) -> None:
        """Makes the hooks wait for the forward of the current batch, if it is to be recorded."""
        if self.sender is not None:
            at = self.epoch, self.batch, self.step
            early = self.mode == FORWARDS and self._sending.early.waits
            self._begin(Batch(at, early or self._keeps(at), undecided=early))

    def finish(self) -> None:
        """Sends off the current batch, if its forward was recorded, and counts on."""
        state = self._state
        if state.phase == INSIDE and state.thread != get_ident():
            return  # it is another thread's, and not at its end
        awaited = state.phase != IDLE and self._current.keep
        unseen = not (self._current.seen or state.opened or state.traced)
        if self.mode != TRACK and not state.fired and (awaited or unseen):
            if self.mode == STEPS and self._current.evaluated:
                self._unrecorded.note_end(self._current)
            return  # a step without a forward is no batch
        self._end(self._current)
        self._count_on()

    def _count_on(self) -> None:
        self._forwarded, self._captured = False, None
        passed, self._passed_over = 1 + self._passed_over, 0
        self.batch, self.step = self.batch + passed, self.step + passed

    def forward_begins(self, training: bool, inputs: tuple[Any, dict[str, Any]]) -> None:
        """Finds out to which batch a forward belongs that begins with these inputs."""
        state = self._state
        if not training and not state.evaluation:
            self._current.evaluated = True
            return
        with self._lock:
            self._collided.discard(get_ident())
            if self.mode == FORWARDS:
                self._sending.send_mine(self._open.values())
                if self._forwarded and state.holds_another_threads:
                    # What that thread logs with it may be still to come.
                    self._sending.seal(self._current)
                    self._trained.put(self._current, state.thread)
                    self._count_on()
                    self.await_forward()
                elif self._forwarded:
                    self.finish()
                    self.await_forward()
                self._forwarded = True
            elif self.mode == STEPS:
                if state.holds_another_threads:
                    self.collided()
                    return
            elif self._late.batches or self._open or self._captured is not None:
                batch = self._late.batch_of(inputs, [*self._open.values()])
                if batch is None and not self._late.is_said:
                    self._unrecorded.note_outside()
                self._turn_to(batch)
                return
            elif not self._late.is_said:
                self._unrecorded.note_outside()
            self._current.seen, self._current.has_gradients = True, torch.is_grad_enabled()
            if state.phase in (WAITING, BROKEN):
                self._captured = self._current
                if state.has_visibly_changed():
                    self._checks.follow_changes()

    def forward_ended(self, output: Any) -> None:
        """Does nothing: where a forward ends, no batch does."""

    def collided(self) -> None:
        """Counts a forward as lost that begins while another thread's runs."""
        self.count_lost(1)
        with self._lock:
            self._collided.add(get_ident())
            if self.mode == FORWARDS:
                self._passed_over += 1
            elif self.mode == TRACK:
                for batch in self._open.mine():
                    batch.seen = True
        self._problems.warn(COLLIDED, "threads")

    def hook_failed(self, name: str, error: Exception) -> None:
        """Counts a frame as lost that could not be copied, and warns or raises."""
        self.copy_failed = True
        self.count_lost(1)
        self._problems.fail(name, error)

    def say(self, text: str, key: str | None = None) -> None:
        """Warns the user of something, once for each key."""
        self._problems.warn(text, key)

    def count_lost(self, frames: int) -> None:
        """Counts so many frames as lost."""
        if self.sender is not None:
            self.sender.count_lost(frames)

    def _turn_to(self, batch: Batch | None) -> None:
        """Has the hooks take the forward of this batch, if it is to be recorded."""
        state = self._state
        if batch is None or batch.seen or not batch.keep:
            if batch is not None:
                self._leave_out(batch)
                if batch is self._captured and state.phase in (WAITING, BROKEN, OPEN):
                    return  # tried again, or the parts that were called before it
            if state.phase in (WAITING, BROKEN):
                state.phase = IDLE
            return
        batch.seen = True
        if state.phase == OPEN or (state.phase == DONE and self._captured is None):
            return  # parts of the model, or a compiled one: they tell no batches apart
        if self._captured is not None and self._captured is not batch:
            self._put_aside()
        self._sending.send_mine(self._open.values())
        if state.phase not in (WAITING, BROKEN):
            state.phase = IDLE
            state.reset()
            if self.sender is None or not self.sender.prepare(batch.refusal):
                return
            state.phase = WAITING
        state.loaded, state.ends_epoch = batch.loaded, batch.ends_epoch
        if state.has_visibly_changed():
            self._checks.follow_changes()
        self._captured = batch
        self._trained.put(batch)
        self._sending.send_overdue([*self._open.values(), batch])

    def _leave_out(self, batch: Batch) -> None:
        """Notes that this thread goes on to a batch that is not recorded, unless it was noted."""
        if batch.seen:
            return
        batch.seen = True
        if self._captured in (None, self._trained.get(get_ident())):
            self._put_aside()
            self._state.phase = IDLE
            self._captured = batch  # so that no other thread has the hooks take its forward
        self._sending.send_mine(self._open.values())
        self._trained.put(batch)

    def _begin(self, batch: Batch) -> None:
        """Makes the hooks wait for the forward of a batch, if it is to be recorded."""
        state, sender = self._state, self.sender
        before, self._current = self._current, batch
        if sender is None:
            return
        if not before.seen:
            sender.forgive(before.refusal)
        if self._trained.have_hooks(state, self._captured if self.mode == TRACK else None):
            return  # which sees to it when its next forward begins, in `_turn_to`
        self._put_aside()
        if (state.traced or state.opened) and state.has_visibly_changed():
            self._checks.follow_changes()  # else when its forward begins
        state.phase = IDLE
        state.reset()
        state.loaded, state.ends_epoch = batch.loaded, batch.ends_epoch
        keep = batch.keep or any(late.keep for late in self._late.batches)
        if keep and not batch.seen and sender.prepare(batch.refusal):
            state.phase = WAITING

    def _end(self, batch: Batch) -> None:
        """Sends the frames of a batch off that ends."""
        state, sender = self._state, self.sender
        if sender is None:
            return
        if self._trained and self.mode == TRACK and self._trained.is_elsewhere(batch):
            self._unrecorded.end(batch)
            return  # that thread may still log, and update weights: it is sent when it goes on
        if self._captured is batch or (self._captured is None and batch is self._current):
            ran = state.input.fired and state.phase not in (IDLE, INSIDE, BROKEN)
            batch.seen = batch.seen or state.input.fired
            if state.phase == INSIDE and state.thread != get_ident():
                return  # it is sent when its thread goes on
            self._captured = None
            if ran and not sender.has_failed(1):
                self._sending.seal(batch)
            state.phase, state.loaded = IDLE, None
        self._unrecorded.end(batch)
        if self._trained:
            self._trained.forget(batch)
        if self.mode == TRACK and batch.sealed is not None:
            self._sending.send_later(batch)
        elif self.mode == FORWARDS:
            self._sending.send_early(batch)
        else:
            self._sending.send(batch)
        if not batch.seen and not state.traced and self.mode == TRACK:
            self._late.add(batch)

    def _put_aside(self) -> None:
        """Makes room in the hooks: what they hold waits for the end of its batch."""
        batch, self._captured = self._captured, None
        state, sender = self._state, self.sender
        took = state.phase == DONE and state.fired
        if batch is not None and took and sender is not None and not sender.has_failed(1):
            self._sending.seal(batch)

    def flush(self) -> None:
        """Sends off what has ended, and waits for more."""
        with self._lock:
            mine, going_on = self._trained.get(get_ident()), self._open.values()
            if self.mode == TRACK and mine not in (None, *going_on):
                if self._captured is mine:
                    self._put_aside()
                    self._state.phase = IDLE
                self._sending.send_mine(going_on)
            self._sending.flush()

    def close(self) -> None:
        """Sends off what waits for more, and nothing from now on."""
        self.flush()
        with self._lock:
            if self.mode == TRACK:
                self._put_aside()
            if self.sender is not None and not self._current.seen:
                self.sender.forgive(self._current.refusal)
            for batch in [*self._open.values(), *self._trained.values()]:
                self._sending.send(batch)
            self._open.clear()
            if self._checks.named_silent:  # else nothing was recorded at all, and why is said
                self._unrecorded.say(self._problems)
        self.sender = self._sending.sender = None

    def _keeps(self, at: tuple[int, int, int]) -> bool:
        if self.mode == TRACK:  # first: for this batch others may be taken out of the file
            self._sending.send_ended()
        return (sender := self.sender) is not None and (sender.choice.keeps_all or sender.keeps(at))

    def _discard(self) -> None:
        """Forgets a forward that no `end_step` has confirmed."""
        self._sending.discard_early()
        self._current.values.clear()
        self._state.reset()
        self._captured, self._state.phase = None, IDLE
