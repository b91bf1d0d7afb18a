"""Which forwards of one model make a batch that it was trained on: a state machine without torch.

It is told what happens (items handed out, forwards, backward passes, optimizer steps) and decides:

- a forward belongs to the loader's item that it consumed: told by the memory of its inputs, else
  by the order in which items were handed out;
- the forwards of an item up to the first backward through them are one capture;
- a capture that a backward and then an optimizer's step follow is a batch, numbered by `Epochs`;
- a capture that is overtaken by a later one's training is none: a dry run, a calibration.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from record.batching.deliveries import Deliveries, Item, Pass, Unconsumed
from record.batching.epochs import Epochs, Place


class Verdict(enum.Enum):
    """What a forward is."""

    NEW = "the first of a capture"
    JOIN = "a further one of the open capture"
    SKIP = "of an item that has been captured"


@dataclass(eq=False)
class CapturedForward:
    """The forwards of an item up to the first backward through them.

    Attributes:
        items: What of which pass it consumed, the first one first.
        begun: When, in `Deliveries.clock`.
        since: When the one before it began.
        extra: Whether the item had been stepped on before: it is a batch only if the same
            optimizer steps again.
        derived: Whether its input is what another model has put out.
        call: Within which step of an optimizer it began; 0 for none.
        alive: Whether a backward can still go through it.
        trained: Whether one did.
        stepped: Whether an optimizer stepped since.
        loss: What that backward began from.
        mixed: Whether that went through a later forward, but not through the first.
        given_up: Whether there was no room to wait for what it is.
    """

    items: dict[Pass, int] = field(default_factory=dict)
    begun: int = 0
    since: int = 0
    extra: bool = False
    derived: bool = False
    call: int = 0
    alive: bool = True
    trained: bool = False
    stepped: bool = False
    loss: Any = None
    mixed: bool = False
    given_up: bool = False


Settle = Callable[[CapturedForward, "Place | None"], None]
"""Told of each capture once, in their order: the batch that it is, or None."""


class Batches:
    """The captures of one model, from their first forward until it is known what they are.

    Args:
        deliveries: What the loaders have handed out.
        settle: Is told what became of a capture.

    Attributes:
        waiting: Captures of which that is not known yet, in their order.
        open: The last capture, settled or not.
        lost: Captures that were trained on after they had been given up.
        steps_unseen: Whether nobody says when an optimizer steps: a backward is then enough.
    """

    def __init__(self, deliveries: Deliveries, settle: Settle) -> None:
        self.waiting: list[CapturedForward] = []
        self.open: CapturedForward | None = None
        self.lost = 0
        self.steps_unseen = False
        self.epochs = Epochs()
        self._deliveries = deliveries
        self._settle = settle
        self._unconsumed = Unconsumed()
        self._stepped: set[Hashable] = set()  # optimizers, since the last capture that is not extra
        self._running: list[tuple[Hashable, int]] = []  # optimizers that step, and which step it is
        self._calls = 0
        self._backwards = False  # whether one was ever seen
        self._apart = False  # whether forwards of an item are not trained on together

    def fetched(self, item: Item) -> None:
        """A loader handed out an item."""
        self._unconsumed.add(item)

    def looked(self, items: Sequence[Item], thread: Hashable) -> None:
        """A forward in evaluation mode."""
        if items:
            self._unconsumed.remove(items)
        else:
            self._unconsumed.pass_over(() if self.open is None else self.open.items, thread)

    def forward(
        self,
        items: Sequence[Item],
        thread: Hashable,
        again: bool = False,
        made_of: Sequence[Item] | None = None,
    ) -> Verdict:
        """A forward that may be trained on begins.

        Args:
            items: What it consumes, as far as the memory of its inputs tells.
            thread: In which it runs.
            again: Whether its input is one that the open capture has had.
            made_of: Where its input is what another model has put out: what that one consumed.
        """
        last = self.open
        derived = made_of is not None and not items
        if made_of and derived:
            futile = last is None or not (last.alive or last.trained)
            if last is None or futile or _is_newer(made_of, last):
                items = made_of
        if last is None or not self._continues(last, items, thread, again, derived):
            return self._begin(items, thread, extra=False, derived=derived)
        if last.stepped:
            return self._begin(items, thread, extra=True, derived=derived, like=last)
        if last.trained:
            if not (last.derived and items and not derived) or last not in self.waiting:
                return Verdict.SKIP
            self._drop(last)  # a generator's turn came first; the real images are worth more
            return self._begin(items, thread, extra=last.extra, derived=False, like=last)
        if self._apart:
            return self._begin(items, thread, extra=last.extra, derived=derived, like=last)
        self._take(last, items, thread)
        return Verdict.JOIN

    def ended(self, capture: CapturedForward) -> None:
        """No backward can go through it any longer: its results are gone."""
        if not capture.trained:
            capture.alive = False

    def backward(self, loss: Any, captures: Mapping[CapturedForward, bool] | None) -> None:
        """A backward pass that may train the model has run.

        Args:
            loss: What it began from, if that is one number.
            captures: Those that it went through, and whether through their first forward; None
                if that cannot be told.
        """
        if captures is None:
            captures = {} if self.open is None else {self.open: True}
        fresh: list[CapturedForward] = []
        for capture in captures:
            if capture.given_up:
                capture.given_up = False
                self.lost += 1
            elif not capture.trained and capture in self.waiting:
                fresh.append(capture)
        fresh.sort(key=lambda one: one.begun)
        for capture in fresh:
            if capture is not fresh[0] and _may_be_one(capture, fresh[0]):
                self._merge(capture, fresh[0])
                continue
            capture.trained = self._backwards = True
            capture.loss = loss
            if not captures[capture]:
                capture.mixed = self._apart = True

    def step_begins(self, optimizer: Hashable) -> None:
        """An optimizer of the model begins to step; it may call the model."""
        self._leave_step(optimizer)  # it has ended in an exception
        self._calls += 1
        self._running.append((optimizer, self._calls))

    def stepped(self, optimizer: Hashable) -> None:
        """An optimizer of the model has stepped."""
        self._leave_step(optimizer)
        again = optimizer in self._stepped
        self._stepped.add(optimizer)
        trained = [capture for capture in self.waiting if capture.trained]
        if not trained and not self._backwards and self.waiting:
            trained = [self.waiting[0]]  # trained without a backward
        if not trained:
            return
        upto = self.waiting.index(trained[-1]) + 1
        for capture in self.waiting[:upto]:
            if capture in trained:
                capture.stepped = True
            self._decide(capture, capture in trained and (again or not capture.extra))

    def make_room(self) -> None:
        """Settles the oldest capture: one that was trained on counts, even before a step."""
        if self.waiting:
            oldest = self.waiting[0]
            oldest.given_up = not oldest.trained
            self._decide(oldest, oldest.trained and not oldest.extra)

    def close(self) -> None:
        """The training is over."""
        while self.waiting:
            self.make_room()

    def foresee(self, capture: CapturedForward) -> list[Place]:
        """The numbers that it may get, the likeliest first."""
        before = self.waiting[: self.waiting.index(capture)]
        sure = [one.items for one in before if one.trained and not one.extra]
        places = [self.epochs.foresee(sure, capture.items)]
        if len(sure) < len(before):
            every = [one.items for one in before]
            places.append(self.epochs.foresee(every, capture.items))
        return places

    # Whether a forward goes on with the last capture

    def _continues(
        self,
        last: CapturedForward,
        items: Sequence[Item],
        thread: Hashable,
        again: bool,
        derived: bool,
    ) -> bool:
        call = self._call
        if call and last.call == call:
            return True  # a closure: one batch for each step
        if not last.trained and (call or not last.alive):
            return False
        pending = not last.trained  # the same backward may go through both
        if items:
            shared = [item for item in items if item.source in last.items]
            if shared:
                return any(last.items[item.source] == item.index for item in shared)
            if not last.items:
                return False
            return all(last.since < item.time < last.begun for item in items)
        if again or derived:
            return pending or bool(last.items) or not self.steps_unseen
        fresh = self._fresh(last, thread)
        if fresh is not None:
            return pending and bool(last.items) and fresh.time < last.begun
        if not last.items:
            return pending
        if not last.stepped and _is_over(last):
            return False  # its loader had no more, so that this comes from somewhere else
        return pending or not any(source.listed for source in last.items)

    def _fresh(self, last: CapturedForward | None, thread: Hashable) -> Item | None:
        """The item that a forward consumes whose inputs do not tell, if there is one."""
        item = self._unconsumed.next_for(() if last is None else last.items, thread)
        if last is None or item is None or item.thread == thread:
            return item
        pending = last.alive and not last.trained and last.items and not _is_over(last)
        return None if pending else item  # another thread reads ahead: that says nothing of it

    def _is_remade(self, last: CapturedForward, thread: Hashable) -> bool:
        """Whether a forward that follows a futile one has what was made of its input."""
        fresh = self._fresh(last, thread)
        if fresh is not None:
            return bool(last.items) and fresh.time < last.begun
        return not _is_over(last)

    # Captures

    def _begin(
        self,
        items: Sequence[Item],
        thread: Hashable,
        extra: bool,
        derived: bool,
        like: CapturedForward | None = None,
    ) -> Verdict:
        last = self.open
        if last is not None and last in self.waiting:
            dead = not (last.alive or last.trained)
            if dead and not items and like is None and self._is_remade(last, thread):
                like, extra = last, last.extra
            if dead or (last.extra and not last.stepped and not extra):
                self._drop(last)
        if self.steps_unseen:
            for capture in [one for one in self.waiting if one.trained]:
                capture.stepped = True
                self._decide(capture, not capture.extra)
        if not extra:
            self._stepped.clear()
        since = 0 if last is None else last.begun
        capture = CapturedForward(since=since, extra=extra, derived=derived, call=self._call)
        if like is not None and not items:
            capture.items = dict(like.items)
        elif not items:
            fresh = self._fresh(last, thread)
            if fresh is not None:
                items = (fresh, *self._unconsumed.beside(fresh, since, thread))
        self._take(capture, items, thread)
        capture.begun = self._deliveries.tick()
        self.waiting.append(capture)
        self.open = capture
        return Verdict.NEW

    def _take(self, capture: CapturedForward, items: Sequence[Item], thread: Hashable) -> None:
        for item in items:
            capture.items.setdefault(item.source, item.index)
            item.source.consume()
        if items:
            self._unconsumed.consume(items, thread)

    def _merge(self, capture: CapturedForward, first: CapturedForward) -> None:
        """One backward goes through both, and they are not of two items of one loader."""
        self._apart = self._apart and capture.items != first.items
        for source, index in capture.items.items():
            first.items.setdefault(source, index)
        if self.open is capture:
            self.open = first
        self._drop(capture)

    def _drop(self, capture: CapturedForward) -> None:
        self._decide(capture, False)

    @property
    def _call(self) -> int:
        """Which optimizer step runs; 0 for none."""
        return self._running[-1][1] if self._running else 0

    def _leave_step(self, optimizer: Hashable) -> None:
        for place, (one, _) in enumerate(self._running):
            if one == optimizer:
                del self._running[place:]
                return

    def _decide(self, capture: CapturedForward, counts: bool) -> None:
        self.waiting.remove(capture)
        self._settle(capture, self.epochs.place(capture.items, capture.begun) if counts else None)


def _is_over(capture: CapturedForward) -> bool:
    """Whether its loaders were asked for more since, and had no more."""
    return all(source.ended > capture.begun for source in capture.items)


def _may_be_one(one: CapturedForward, other: CapturedForward) -> bool:
    """Whether they can be of one batch: not where they are of different items of a pass."""
    return all(other.items.get(source, index) == index for source, index in one.items.items())


def _is_newer(items: Sequence[Item], capture: CapturedForward) -> bool:
    """Whether one of them was handed out after those of the capture."""
    return any(
        item.index > capture.items[item.source]
        if item.source in capture.items
        else item.time > capture.begun
        for item in items
    )
