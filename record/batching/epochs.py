"""Which epoch a trained batch belongs to: what the loader of the trained batches says.

A second loader (validation, unlabelled images, a companion in a `zip`) says nothing of epochs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from record.batching.deliveries import Pass


class Place(NamedTuple):
    """Where a batch stands in the training."""

    epoch: int
    batch: int
    step: int


class Standing(NamedTuple):
    """Where the training stands; `after` a batch it stands somewhere else.

    Attributes:
        leader: The pass whose batches are trained on.
        round: How often its loader was through.
        last: Its last item.
        companions: Passes that are consumed beside it.
        epoch: Of the next batch, if the same epoch goes on.
        batch: Likewise.
        step: Likewise.
    """

    leader: Pass | None = None
    round: int = 0
    last: int = -1
    companions: frozenset[Pass] = frozenset()
    epoch: int = 0
    batch: int = 0
    step: int = 0

    @property
    def is_through(self) -> bool:
        """Whether the last item was an epoch's last."""
        length = None if self.leader is None else self.leader.length
        return bool(length and (self.last + 1) % length == 0)

    def with_place(self, items: Mapping[Pass, int]) -> tuple[Place, Standing]:
        """The next batch's place, and where the training stands behind it."""
        place = Place(self.epoch, self.batch, self.step)
        last = self.last if self.leader is None else items.get(self.leader, self.last)
        return place, self._replace(last=last, batch=self.batch + 1, step=self.step + 1)

    def turned(self, leader: Pass, items: Mapping[Pass, int]) -> Standing:
        """At the begin of an epoch, the first one where no batch has been trained on yet."""
        return self._replace(
            leader=leader,
            round=leader.round_of(items[leader]),
            companions=frozenset(source for source in items if source is not leader),
            epoch=self.epoch + (self.step > 0),
            batch=0,
        )


@dataclass
class Epochs:
    """Numbers batches.

    Attributes:
        doubts: Why the epochs may be others than the script's, in words.
    """

    standing: Standing = field(default_factory=Standing)
    doubts: dict[str, None] = field(default_factory=dict)
    _seen: dict[tuple[Pass, int], int] = field(default_factory=dict)  # epochs of listed items
    _last: tuple[Pass, int] | None = None

    def place(self, items: Mapping[Pass, int], now: int) -> Place:
        """A batch that was trained on: it gets the next number.

        Args:
            items: What of which pass it consumed, the first one first.
            now: When it began, in `Deliveries.clock`.
        """
        standing = self._turn(self.standing, items)
        place, self.standing = standing.with_place(items)
        self._doubt(items)
        for source, index in items.items():
            source.used = now
            if source.listed:
                self._seen[source, index] = place.epoch
        if items:
            self._last = next(iter(items.items()))
        return place

    def foresee(self, ahead: Sequence[Mapping[Pass, int]], items: Mapping[Pass, int]) -> Place:
        """The number that a batch will have behind these others, if all are trained on."""
        standing = self.standing
        for one in ahead:
            _, standing = self._turn(standing, one).with_place(one)
        return self._turn(standing, items).with_place(items)[0]

    def _turn(self, standing: Standing, items: Mapping[Pass, int]) -> Standing:
        """Where the training stands when a batch of these items begins."""
        leader = standing.leader
        if not items:
            return standing
        first = next(iter(items))
        if leader is None:
            return standing.turned(first, items)
        others = frozenset(source for source in items if source is not leader)
        if leader in items:
            index = items[leader]
            standing = standing._replace(companions=standing.companions | others)
            if leader.round_of(index) > standing.round:
                return standing.turned(leader, items)
            again = self._seen.get((leader, index)) == standing.epoch
            if leader.listed and again and self._last != (leader, index):
                return standing.turned(leader, items)
            return standing
        next_pass = next((s for s in others if s.loader == leader.loader), None)
        if next_pass is not None:
            if next_pass.begun < leader.begun:
                return standing
            if leader.is_single and next_pass.is_single:
                return standing._replace(leader=next_pass)
            return standing.turned(next_pass, items)
        if self._accompanies(first, standing):
            return standing._replace(companions=standing.companions | others)
        return standing.turned(first, items)

    @staticmethod
    def _accompanies(source: Pass, standing: Standing) -> bool:
        """Whether a pass of another loader is consumed beside the leader."""
        leader = standing.leader
        assert leader is not None
        if source in standing.companions or (leader.is_single and source.is_single):
            return True
        before = [one for one in standing.companions if one.loader == source.loader]
        if before:  # begun again: beside a leader that went on meanwhile
            return leader.used > min(one.begun for one in before) and leader.goes_on
        return leader.goes_on and not standing.is_through

    def _doubt(self, items: Mapping[Pass, int]) -> None:
        if not items:
            self.doubts["no DataLoader gave them out"] = None
        elif (leader := self.standing.leader) is not None:
            if leader.is_single:
                self.doubts["the DataLoader was begun anew for each of them"] = None
            elif leader.exhausted and not leader.listed and leader in items:
                index = items[leader]
                if self._last is not None and self._last[0] is leader and index < self._last[1]:
                    self.doubts["they were used again after the DataLoader had ended"] = None
