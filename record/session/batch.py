"""A batch of the training, those that go on, and which of them a forward consumes."""

from __future__ import annotations

from _thread import get_ident
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from record.capture.tensors import Span, common_spans, spans_of, storages_of
from record.formatting import format_count
from record.reporting import Problems
from record.session.frame_sender import Refusal, SealedFrames

_MAX_UNSEEN = 16  # batches that had forwards in evaluation mode, and may still be trained on
_MAX_LATE = 1024  # batches that have ended before their forwards, and are remembered
COLLIDED = (
    "several threads train this model at once: a forward that begins while another one is recorded "
    "is lost, and counted"
)


@dataclass(eq=False)
class Batch:
    """One batch of the training.

    Attributes:
        at: The epoch, the batch's number in it, and the number of batches trained before it.
        keep: Whether the batch is recorded.
        loaded: What the loader handed out.
        ends_epoch: Whether the batch is known to be the last one of its epoch.
        thread: The thread in which the batch began.
        values: What was logged with the batch.
        seen: Whether its forward was seen to begin, recorded or not.
        evaluated: Whether a forward in evaluation mode was.
        has_gradients: Whether its forward is one that can be trained on.
        sealed: The batch's frames, where they were put aside.
        refusal: What was counted for it before its forward was seen.
        storages: The storages of what the loader handed out, once somebody asked for them.
        spans: Where it lies in them, likewise.
        undecided: Whether `keep` is decided when it is sent, as nobody knows yet what a batch is.
    """

    at: tuple[int, int, int]
    keep: bool
    loaded: Any = None
    ends_epoch: bool = False
    thread: int = field(default_factory=get_ident)
    values: dict[str, Any] = field(default_factory=dict)
    seen: bool = False
    evaluated: bool = False
    has_gradients: bool = False
    sealed: SealedFrames | None = None
    refusal: Refusal = field(default_factory=Refusal)
    storages: dict[int, Any] | None = None
    spans: list[Span] = field(default_factory=list)
    undecided: bool = False

    def note_storages(self) -> dict[int, Any]:
        """Returns the storages of what the loader handed out, and keeps them."""
        if self.storages is None:
            self.storages, self.spans = storages_of(self.loaded), spans_of(self.loaded)
        return self.storages

    def overlap(self, spans: Sequence[Span]) -> int:
        """Returns how many of some tensors lie in the memory of what the loader handed out."""
        self.note_storages()
        return len(common_spans(spans, self.spans))


class OpenBatches(dict[object, Batch]):
    """By pass, the batch that goes on.

    Mostly there is one. A pass within a batch of another one ends before that batch does. Passes
    of which neither is within the other are said: which batch a forward is of is then the less
    certain, and their epochs are not those of the training.

    Args:
        problems: Warns of them.
    """

    def __init__(self, problems: Problems) -> None:
        super().__init__()
        self._problems = problems

    def mine(self) -> list[Batch]:
        """Returns those that this thread has begun."""
        return [batch for batch in self.values() if batch.thread == get_ident()]

    def begin(self, source: object, batch: Batch) -> None:
        """Adds the batch of a pass."""
        if any(other.thread != batch.thread for other in self.values()):
            self._problems.warn(
                "several threads go through track() at once: each pass is an epoch of its own, "
                "numbered in the order in which they began",
                "passes in threads",
            )
        self[source] = batch

    def end(self, source: object) -> Batch | None:
        """Removes and returns the batch of a pass; None where it had none."""
        batch = self.pop(source, None)
        if batch is not None and any(other.at[2] > batch.at[2] for other in self.mine()):
            self._problems.warn(
                "two passes over track() go on side by side, as in zip(track(a), track(b)): each "
                "counts epochs of its own, a forward that has none of their memory is the later "
                "one's, and what is logged belongs to the last forward; track(zip(a, b)) is one "
                "batch for each step",
                "passes side by side",
            )
        return batch


class UnrecordedForwards:
    """Counts forwards that are not recorded though they may have been meant to be.

    Attributes:
        since: Whether there was one outside of all batches since the last one ended.
    """

    def __init__(self) -> None:
        self.since = False
        self._evaluated = 0  # batches that had forwards in evaluation mode alone
        self._unseen: list[Batch] = []  # that may be among them: theirs may be still to come
        self._outside = 0  # forwards that could be trained on while no batch of `track` went on

    def end(self, batch: Batch) -> None:
        """Notes that a batch has ended."""
        self.since = False
        if batch.evaluated:
            self.note_end(batch)

    def note_end(self, batch: Batch) -> None:
        """Notes that a batch has ended, that had a forward in evaluation mode."""
        if not batch.seen:
            self._unseen.append(batch)
            if len(self._unseen) > _MAX_UNSEEN:
                self._evaluated += not self._unseen.pop(0).seen

    def note_outside(self) -> None:
        """Notes that a forward in training mode began while no batch went on."""
        if torch.is_grad_enabled():
            self._outside += 1
            self.since = True

    def say(self, problems: Problems) -> None:
        """Says what there was, at the end of a recording."""
        evaluated = self._evaluated + sum(not batch.seen for batch in self._unseen)
        if evaluated:
            problems.warn(
                "not recorded, since the model was in evaluation mode in them: "
                f"{format_count(evaluated, 'batch')} (is model.train() missing?)"
            )
        if self._outside:
            problems.warn(
                "not recorded, since no batch of track() went on: "
                f"{format_count(self._outside, 'forward')} in training mode; each pass over the "
                "batches has to go through track(), also one over a list of them"
            )


class LateBatches:
    """Batches that ended before a forward began that consumes them.

    Something around `track` reads ahead, or a batch was skipped.

    Args:
        problems: Warns of what looks like either.

    Attributes:
        batches: The batches, the oldest first.
        is_said: Whether it was warned of them.
    """

    def __init__(self, problems: Problems) -> None:
        self.batches: list[Batch] = []
        self.is_said = False
        self._last: Batch | None = None  # the one that was found last
        self._thread = 0  # in which that was
        self._again = self._usual_again = 0  # further forwards of it, and of those before it
        self._problems = problems

    def add(self, batch: Batch) -> None:
        """Adds a batch that has ended, of which no forward was seen to begin."""
        batch.note_storages()
        self.batches = [*self.batches, batch][-_MAX_LATE:]

    def batch_of(self, inputs: tuple[Any, dict[str, Any]], current: list[Batch]) -> Batch | None:
        """Returns the batch that a forward of this thread consumes; None where it belongs to none.

        Args:
            inputs: The positional and the keyword arguments of the forward.
            current: Batches that have not ended.
        """
        thread = get_ident()
        mine = [batch for batch in current if batch.thread == thread]
        usual = mine[-1] if mine else current[-1] if current else None
        alone = len(current) == 1 or (mine and sum(not batch.seen for batch in mine) < 2)
        if usual is not None and not (self.batches or self._last) and alone:
            return usual
        return self._find(inputs, current, usual)

    def _find(
        self, inputs: tuple[Any, dict[str, Any]], current: list[Batch], usual: Batch | None
    ) -> Batch | None:
        """Finds the batch that a forward consumes: its inputs are what the loader handed out.

        Args:
            inputs: The positional and the keyword arguments of the forward.
            current: Batches that have not ended.
            usual: The one of them that goes on in this thread.

        Returns:
            The batch, late or not; else the one that was found last, or the usual one.
        """
        known, spans = storages_of(inputs), spans_of(inputs)
        found = [
            batch
            for batch in [*self.batches, *current]
            if not (batch.seen or batch.note_storages().keys().isdisjoint(known))
        ]
        last, most = self._last, max((batch.overlap(spans) for batch in found), default=0)
        if last is not None and self._thread != get_ident():
            last = None
        again = last is not None and (not found or last.overlap(spans) > most)
        if again and self._goes_on(outstanding=bool(self.batches or current)):
            return last
        if found:
            # Parts of one storage are told apart; memory that is used again is the usual one's.
            best = [batch for batch in found if batch.overlap(spans) == most]
            batch = usual if usual in best and most and last is None else best[0]
            self._last, self._again = (batch if batch in self.batches else None), 0
            self._thread = get_ident()
            self._forget_before(batch)
            return batch
        if self.batches:
            others = usual is None or usual.thread != get_ident()
            unseen = [batch for batch in [*self.batches, *current] if not batch.seen]
            if others and unseen and all(batch.thread != get_ident() for batch in unseen):
                self._say(
                    "another thread reads ahead in track(), and what it hands on are copies: each "
                    "forward is taken for the next batch that it has read, in their order; put "
                    "track() around what reads ahead, so that one that is skipped shifts none"
                )
                self._forget_before(unseen[0])
                return unseen[0]
            epoch, number, _ = self.batches[0].at
            self._say(
                f"batch {number} of epoch {epoch} ended before a forward began: was it skipped, or "
                "does something around track() read ahead? Batches are numbered as they are "
                "handed out; put track() around what reads ahead"
            )
            if usual is not None:
                self.batches.clear()
        return usual

    def _goes_on(self, outstanding: bool) -> bool:
        """Returns whether a forward may be a further one of the batch that was found last.

        Args:
            outstanding: Whether others were handed out meanwhile, whose turn has not come yet.
        """
        self._again += 1
        if outstanding:
            self._usual_again = max(self._usual_again, self._again)
        elif self._again > self._usual_again:  # of what is gone through again
            self._last = None
        return self._last is not None

    def _forget_before(self, batch: Batch) -> None:
        """Forgets a batch whose forward has begun, and those before it, which were skipped."""
        last = self.batches.index(batch) if batch in self.batches else len(self.batches)
        del self.batches[: last + 1]

    def _say(self, text: str) -> None:
        self.is_said = True
        self._problems.warn(text, "late")
