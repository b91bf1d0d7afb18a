"""Numbers the batches of a training: which epoch a batch belongs to.

The loader of the trained batches tells it. A second loader (validation, unlabelled images, a
companion in a `zip`) says nothing of epochs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from record.batch_detection.deliveries import LoaderPass


class BatchPosition(NamedTuple):
    """Where a batch stands in the training; all three numbers count from 0.

    Attributes:
        epoch: The epoch.
        batch: The batch within the epoch.
        step: The batch within the whole training.
    """

    epoch: int
    batch: int
    step: int


class TrainingProgress(NamedTuple):
    """How far the training has come before its next batch.

    Attributes:
        leader: The pass whose batches are trained on.
        round: How often the leader's loader has started over.
        last: The index of the leader's last trained item.
        companions: Passes whose items are consumed together with the leader's.
        epoch: The epoch of the next batch, if the same epoch goes on.
        batch: The number of the next batch in it.
        step: The number of the next batch in the training.
    """

    leader: LoaderPass | None = None
    round: int = 0
    last: int = -1
    companions: frozenset[LoaderPass] = frozenset()
    epoch: int = 0
    batch: int = 0
    step: int = 0

    @property
    def at_epoch_end(self) -> bool:
        """Whether the last item was the last one of an epoch."""
        length = None if self.leader is None else self.leader.length
        return bool(length and (self.last + 1) % length == 0)

    def next_batch(self, items: Mapping[LoaderPass, int]) -> tuple[BatchPosition, TrainingProgress]:
        """Returns the position of the next batch, and the progress after it.

        Args:
            items: The index of the item that the batch consumes, by pass.
        """
        position = BatchPosition(self.epoch, self.batch, self.step)
        last = self.last if self.leader is None else items.get(self.leader, self.last)
        return position, self._replace(last=last, batch=self.batch + 1, step=self.step + 1)

    def next_epoch(self, leader: LoaderPass, items: Mapping[LoaderPass, int]) -> TrainingProgress:
        """Returns the progress at the beginning of an epoch.

        That is the first epoch where no batch has been trained on yet.

        Args:
            leader: The pass whose batches the epoch trains on.
            items: The index of the item that its first batch consumes, by pass.
        """
        return self._replace(
            leader=leader,
            round=leader.round_of(items[leader]),
            companions=frozenset(source for source in items if source is not leader),
            epoch=self.epoch + (self.step > 0),
            batch=0,
        )


@dataclass
class EpochNumbering:
    """Gives each batch that was trained on its epoch and its number.

    Attributes:
        progress: How far the training has come.
        doubts: Why the epochs may differ from the script's, in words, in the order of their
            discovery; the values mean nothing.
    """

    progress: TrainingProgress = field(default_factory=TrainingProgress)
    doubts: dict[str, None] = field(default_factory=dict)
    _listed: set[tuple[LoaderPass, int]] = field(default_factory=set)  # trained in this epoch
    _last: tuple[LoaderPass, int] | None = None

    def assign(self, items: Mapping[LoaderPass, int], now: int) -> BatchPosition:
        """Gives the next position to a batch that was trained on.

        Args:
            items: The index of the item that the batch consumed, by pass, the leading pass first.
            now: When the batch began, in `Deliveries.clock`.

        Returns:
            The batch's position.
        """
        progress = self._advance(self.progress, items)
        if progress.epoch != self.progress.epoch:
            self._listed.clear()  # a script may list its batches anew in each epoch
        position, self.progress = progress.next_batch(items)
        self._note_doubts(items)
        for source, index in items.items():
            source.used = now
            if source.listed:
                self._listed.add((source, index))
        if items:
            self._last = next(iter(items.items()))
        return position

    def predict(
        self, before: Sequence[Mapping[LoaderPass, int]], items: Mapping[LoaderPass, int]
    ) -> BatchPosition:
        """Returns the position that a batch will get if all of those before it are trained on.

        Args:
            before: The items of each batch that comes first, as for `assign`.
            items: The items of the batch itself.
        """
        progress = self.progress
        for earlier in before:
            _, progress = self._advance(progress, earlier).next_batch(earlier)
        return self._advance(progress, items).next_batch(items)[0]

    def _advance(
        self, progress: TrainingProgress, items: Mapping[LoaderPass, int]
    ) -> TrainingProgress:
        """Returns the progress when a batch of these items begins, maybe in a new epoch."""
        leader = progress.leader
        if not items:
            return progress
        first = next(iter(items))
        if leader is None:
            return progress.next_epoch(first, items)
        others = frozenset(source for source in items if source is not leader)
        if leader in items:
            index = items[leader]
            progress = progress._replace(companions=progress.companions | others)
            if leader.round_of(index) > progress.round:
                return progress.next_epoch(leader, items)
            again = progress.epoch == self.progress.epoch and (leader, index) in self._listed
            if leader.listed and again and self._last != (leader, index):
                return progress.next_epoch(leader, items)
            return progress
        next_pass = next((other for other in others if other.loader == leader.loader), None)
        if next_pass is not None:
            if next_pass.begun < leader.begun:
                return progress
            if leader.is_single and next_pass.is_single:
                return progress._replace(leader=next_pass)
            return progress.next_epoch(next_pass, items)
        if self._accompanies(first, progress):
            return progress._replace(companions=progress.companions | others)
        return progress.next_epoch(first, items)

    @staticmethod
    def _accompanies(source: LoaderPass, progress: TrainingProgress) -> bool:
        """Returns whether a pass of another loader is consumed together with the leader."""
        leader = progress.leader
        assert leader is not None
        if source in progress.companions or (leader.is_single and source.is_single):
            return True
        before = [one for one in progress.companions if one.loader == source.loader]
        if before:  # begun again: beside a leader that went on meanwhile
            return leader.used > min(one.begun for one in before) and leader.goes_on
        return leader.goes_on and not progress.at_epoch_end

    def _note_doubts(self, items: Mapping[LoaderPass, int]) -> None:
        """Notes why the epoch of these items may differ from the script's."""
        if not items:
            self.doubts["no DataLoader gave them out"] = None
        elif (leader := self.progress.leader) is not None:
            if leader.is_single:
                self.doubts["the DataLoader was begun anew for each of them"] = None
            elif leader.exhausted and not leader.listed and leader in items:
                index = items[leader]
                if self._last is not None and self._last[0] is leader and index < self._last[1]:
                    self.doubts["they were used again after the DataLoader had ended"] = None
