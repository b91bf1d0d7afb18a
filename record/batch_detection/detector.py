"""Detects which forwards of one model make a batch that it was trained on.

A state machine without torch. It is told what happens (items handed out, forwards, backward passes,
optimizer steps) and decides:

- a forward belongs to the loader's item that it consumed, which the memory of its inputs tells,
  else the order in which items were handed out;
- the forwards of an item up to the first backward pass through them are one candidate;
- a candidate that a backward pass and then an optimizer step follow is a batch, which
  `EpochNumbering` numbers;
- a candidate that a later one's training overtakes is no batch: a dry run, a calibration;
- nor is one whose gradients are thrown away, where it is known to be for another model's step, or
  for a change of its input, on which it is trained next.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from record.batch_detection.candidate import BatchCandidate
from record.batch_detection.deliveries import Deliveries, LoaderItem
from record.batch_detection.epochs import BatchPosition, EpochNumbering
from record.batch_detection.running_steps import RunningSteps
from record.batch_detection.unconsumed import UnconsumedItems


class ForwardRole(enum.Enum):
    """What a forward is."""

    NEW = "the first of a candidate"
    JOIN = "a further one of the latest candidate"
    SKIP = "of an item that has been trained on"


OnDecided = Callable[[BatchCandidate, "BatchPosition | None"], None]
"""Called once with each candidate, in their order: with the batch that it is, or None."""


class BatchDetector:
    """The candidates of one model, from their first forward until it is known what they are.

    Args:
        deliveries: What the loaders have handed out.
        on_decided: Called when it is known what a candidate is.

    Attributes:
        waiting: The candidates that are not decided yet, in their order.
        latest: The last candidate, decided or not; None before the first.
        lost: The number of candidates that were trained on after they had been given up.
        steps_unseen: Whether nobody says when an optimizer steps: a backward pass is then enough.
        sees_backward: Whether a backward pass was ever seen.
        epochs: Numbers the batches.
    """

    def __init__(self, deliveries: Deliveries, on_decided: OnDecided) -> None:
        self.waiting: list[BatchCandidate] = []
        self.latest: BatchCandidate | None = None
        self.lost = 0
        self.steps_unseen = False
        self.epochs = EpochNumbering()
        self._deliveries = deliveries
        self._on_decided = on_decided
        self._unconsumed = UnconsumedItems(deliveries.training_threads)
        self._stepped: set[Hashable] = set()  # optimizers, since the last candidate of a new item
        self._steps = RunningSteps()
        self.sees_backward = False
        self._adds_up = False  # whether the gradients of an attack are used, too
        self._separate = False  # whether the forwards of an item are not trained on together

    def fetched(self, item: LoaderItem) -> None:
        """Notes that a loader handed out an item."""
        self._unconsumed.add(item)

    def evaluated(self, items: Sequence[LoaderItem], thread: Hashable) -> None:
        """Notes a forward in evaluation mode.

        Args:
            items: The items that it consumes, as far as the memory of its inputs tells.
            thread: The thread in which it runs.
        """
        if items:
            self._unconsumed.remove(items)
        else:
            self._unconsumed.pass_over(() if self.latest is None else self.latest.items, thread)

    def forward(
        self,
        items: Sequence[LoaderItem],
        thread: Hashable,
        again: bool = False,
        derived_from: Sequence[LoaderItem] | None = None,
    ) -> ForwardRole:
        """Notes that a forward begins that may be trained on.

        Args:
            items: The items that it consumes, as far as the memory of its inputs tells.
            thread: The thread in which it runs.
            again: Whether the latest candidate has had the same input.
            derived_from: Where its input is the output of another model, the items that that
                model consumed; else None.

        Returns:
            What the forward is.
        """
        last = self.latest
        derived = derived_from is not None and not items
        if (
            derived_from
            and derived
            and (last is None or last.is_futile or last.is_older_than(derived_from))
        ):
            items = derived_from
        if last is None or not self._continues(last, items, thread, again, derived):
            return self._begin(items, thread, extra=False, derived=derived)
        if last.stepped:
            return self._begin(items, thread, extra=True, derived=derived, like=last)
        if last.trained and last.attacks and last in self.waiting and not last.call:
            return self._continue_attack(last, items, thread, derived)
        if last.trained:
            real = last.derived and items and not derived  # which are worth more
            if last not in self.waiting or not (real or last.was_for_others):
                return ForwardRole.SKIP
            self._drop(last)  # a generator's turn came first
            return self._begin(items, thread, extra=last.extra, derived=derived, like=last)
        if self._separate:
            return self._begin(items, thread, extra=last.extra, derived=derived, like=last)
        self._assign_items(last, items, thread)
        return ForwardRole.JOIN

    def graph_freed(self, candidate: BatchCandidate) -> None:
        """Notes that no backward pass can go through a candidate any longer."""
        if not candidate.trained:
            candidate.alive = False

    def backward(self, loss: Any, candidates: Mapping[BatchCandidate, bool] | None) -> None:
        """Notes that a backward pass has run that may train the model.

        Args:
            loss: The loss that it began from, if that is one number.
            candidates: The candidates that it went through, and whether through their first
                forward; None if that cannot be told.
        """
        if candidates is None:
            candidates = {} if self.latest is None else {self.latest: True}
        fresh: list[BatchCandidate] = []
        for candidate in candidates:
            if candidate.given_up:
                candidate.given_up = False
                self.lost += 1
            elif (not candidate.trained or candidate.was_for_others) and candidate in self.waiting:
                fresh.append(candidate)
        fresh.sort(key=lambda candidate: candidate.begun)
        for candidate in fresh:
            if candidate is not fresh[0] and candidate.fits(fresh[0]):
                self._merge(candidate, fresh[0])
                continue
            candidate.trained = self.sees_backward = True
            candidate.dropped = candidate.for_others = False
            candidate.loss = loss
            if not candidates[candidate]:
                candidate.mixed = self._separate = True

    def gradients_dropped(self, thread: Hashable = None) -> None:
        """Notes that all gradients of the model were thrown away, in a thread."""
        call = self._steps.call_in(thread)  # a closure does so before each of its passes
        for candidate in self.waiting:
            if candidate.trained and candidate.thread == thread:
                candidate.dropped = not call or candidate.call != call
                candidate.mixed |= candidate.dropped and candidate.attacks and self._adds_up
        last = self.latest
        if last is not None and last.first is not None and not last.trained:
            self._end_attack(last)

    def other_stepped(self, thread: Hashable = None) -> None:
        """Notes that an optimizer of other models has stepped, in a thread."""
        for candidate in self.waiting:
            if candidate.trained and not candidate.dropped and candidate.thread == thread:
                candidate.for_others = True

    def step_begins(self, optimizer: Hashable, thread: Hashable = None) -> None:
        """Notes that an optimizer of the model begins to step; it may call the model.

        Args:
            optimizer: The optimizer.
            thread: The thread in which it steps.
        """
        self._steps.begin(optimizer, thread)

    def stepped(self, optimizer: Hashable, trains: bool = True, thread: Hashable = None) -> None:
        """Notes that an optimizer of the model has stepped, and decides what that tells.

        Args:
            optimizer: The optimizer.
            trains: Whether it had anything to train by, where no backward pass was ever seen.
            thread: The thread in which it has stepped.
        """
        self._steps.end(optimizer, thread)
        again = optimizer in self._stepped
        self._stepped.add(optimizer)
        trained = [candidate for candidate in self.waiting if candidate.trained]
        if not trained and not self.sees_backward and trains:  # trained without a backward pass
            trained = [one for one in self.waiting if one.thread == thread][:1]
        # Where all were thrown away, the gradients were kept elsewhere, and put back.
        trained = [one for one in trained if not one.was_for_others] or trained
        if not trained:
            return
        for one in trained:
            if one.first is not None or (one.attacks and one.dropped):
                self._adds_up = not one.dropped
        threads = {candidate.thread for candidate in trained}
        end = self.waiting.index(trained[-1]) + 1
        for candidate in self.waiting[:end]:
            if candidate in trained:
                candidate.stepped = True
            elif candidate.alive and candidate.thread not in threads:
                continue  # another thread is about to train on it
            self._decide(candidate, candidate in trained and (again or not candidate.extra))

    def decide_oldest(self) -> None:
        """Decides the oldest candidate now: one that was trained on counts, even before a step."""
        if self.waiting:
            oldest = self.waiting[0]
            oldest.given_up = not oldest.trained
            self._decide(oldest, oldest.counts)

    def close(self) -> None:
        """Decides all candidates: the training is over."""
        while self.waiting:
            self.decide_oldest()

    def possible_positions(self, candidate: BatchCandidate) -> list[BatchPosition]:
        """Returns the positions that a waiting candidate may get, the likeliest first."""
        before = self.waiting[: self.waiting.index(candidate)]
        certain = [one.items for one in before if one.counts and one is not candidate.first]
        positions = [self.epochs.predict(certain, candidate.items)]
        if len(certain) < len(before):
            every = [one.items for one in before]
            positions.append(self.epochs.predict(every, candidate.items))
        return positions

    # Whether a forward continues the latest candidate

    def _continues(
        self,
        last: BatchCandidate,
        items: Sequence[LoaderItem],
        thread: Hashable,
        again: bool,
        derived: bool,
    ) -> bool:
        """Returns whether a forward belongs to the same item as the latest candidate."""
        call = self._steps.call_in(thread)
        if call and last.call == call:
            return True  # a closure: one batch for each step
        if not last.trained and (call or not last.alive):
            return False
        pending = last.may_go_on
        # What two threads ask for, each for itself, they train on each for itself.
        elsewhere = last.thread != thread
        if items:
            shared = [item for item in items if item.source in last.items]
            if shared:
                return any(last.items[item.source] == item.index for item in shared)
            if not last.items or (elsewhere and all(item.thread == thread for item in items)):
                return False
            return all(last.since < item.time < last.begun for item in items)
        if again or derived:
            return pending or bool(last.items) or not self.steps_unseen
        fresh = self._fresh_item(last, thread)
        if fresh is not None:
            others = elsewhere and fresh.thread == thread
            return pending and not others and bool(last.items) and fresh.time < last.begun
        if elsewhere:
            return False
        if not last.items:
            return pending
        if not last.stepped and last.loaders_have_ended:
            return False  # its loader had no more, so that this comes from somewhere else
        return pending or not any(source.listed for source in last.items)

    def _fresh_item(self, last: BatchCandidate | None, thread: Hashable) -> LoaderItem | None:
        """Returns the item that a forward consumes whose inputs do not tell, or None."""
        item = self._unconsumed.next_for(() if last is None else last.items, thread)
        if last is None or item is None or item.thread == thread:
            return item
        pending = last.alive and last.may_go_on and last.items and not last.loaders_have_ended
        return None if pending else item  # another thread reads ahead: that says nothing of it

    def _is_repeated(self, last: BatchCandidate, thread: Hashable) -> bool:
        """Returns whether a forward after a futile candidate has what was made of its input."""
        fresh = self._fresh_item(last, thread)
        if fresh is not None:
            return bool(last.items) and fresh.time < last.begun
        return not last.loaders_have_ended

    # Candidates

    def _begin(
        self,
        items: Sequence[LoaderItem],
        thread: Hashable,
        extra: bool,
        derived: bool,
        like: BatchCandidate | None = None,
    ) -> ForwardRole:
        """Begins a candidate with a forward.

        Args:
            items: The items that the forward consumes, as far as they are known.
            thread: The thread in which it runs.
            extra: As the candidate's attribute.
            derived: As the candidate's attribute.
            like: A candidate of the same items, where `items` is empty.
        """
        last = self.latest
        if last is not None and last in self.waiting:
            futile = last.is_futile
            if futile and not items and like is None and self._is_repeated(last, thread):
                like, extra = last, last.extra
            if futile or (last.extra and not last.stepped and not extra):
                self._drop(last)
        if self.steps_unseen:
            for waiting in [one for one in self.waiting if one.trained]:
                waiting.stepped = True
                self._decide(waiting, not waiting.extra)
        if not extra:
            self._stepped.clear()
        since = 0 if last is None else last.since if last.is_futile else last.begun
        candidate = BatchCandidate(
            since=since,
            extra=extra,
            derived=derived,
            told=bool(items) or (like is not None and like.told),
            call=self._steps.call_in(thread),
            thread=thread,
        )
        if like is not None and not items:
            candidate.items = dict(like.items)
        elif not items:
            fresh = self._fresh_item(last, thread)
            if fresh is not None:
                items = (fresh, *self._unconsumed.companions(fresh, since, thread))
        self._assign_items(candidate, items, thread)
        candidate.begun = self._deliveries.tick()
        self.waiting.append(candidate)
        self.latest = candidate
        return ForwardRole.NEW

    def _assign_items(
        self, candidate: BatchCandidate, items: Sequence[LoaderItem], thread: Hashable
    ) -> None:
        """Notes that a candidate consumes items."""
        for item in items:
            candidate.items.setdefault(item.source, item.index)
            item.source.consume()
        if items:
            self._unconsumed.consume(items, thread)

    def _continue_attack(
        self, last: BatchCandidate, items: Sequence[LoaderItem], thread: Hashable, derived: bool
    ) -> ForwardRole:
        """Begins a candidate with a forward that follows one by which its input may be changed."""
        first = last.first or last
        if self._adds_up and not first.dropped:
            return ForwardRole.SKIP
        if last is not first:
            self._drop(last)
        role = self._begin(items, thread, extra=True, derived=derived, like=last)
        if self.latest is not None:
            self.latest.first = first
            self._end_attack(self.latest)
        return role

    def _end_attack(self, last: BatchCandidate) -> None:
        """Has a candidate count in the place of the first one, if that was for the attack alone."""
        first = last.first
        if first is not None and first.dropped and first in self.waiting:
            last.first, last.extra = None, first.extra
            self._drop(first)

    def _merge(self, candidate: BatchCandidate, first: BatchCandidate) -> None:
        """Merges two candidates that one backward pass goes through and that fit each other."""
        self._separate = self._separate and candidate.items != first.items
        for source, index in candidate.items.items():
            first.items.setdefault(source, index)
        if self.latest is candidate:
            self.latest = first
        self._drop(candidate)

    def _drop(self, candidate: BatchCandidate) -> None:
        """Decides that a candidate is no batch."""
        self._decide(candidate, False)

    def _decide(self, candidate: BatchCandidate, is_batch: bool) -> None:
        """Takes a candidate off the waiting ones and tells what it is."""
        self.waiting.remove(candidate)
        position = self.epochs.assign(candidate.items, candidate.begun) if is_batch else None
        self._on_decided(candidate, position)
