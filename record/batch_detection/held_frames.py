"""Frames of one model that wait until it is known which batch they belong to, if any."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from record.batch_detection.candidate import BatchCandidate
from record.batch_detection.detector import BatchDetector
from record.batch_detection.epochs import BatchPosition
from record.capture.phase import BROKEN, DONE, IDLE, INSIDE, OPEN, WAITING, CaptureState
from record.reporting import Problems
from record.session.frame_sender import FrameSender, SealedFrames
from record.session.model_checks import ModelChecks

_MAX_WAITING = 1024  # candidates: more are not trained on together


@dataclass
class HeldFrame:
    """What is kept of a candidate.

    Attributes:
        is_recorded: Whether its frame is recorded.
        is_unseen: Whether nobody saw its forward.
        is_given_up: Whether its frame was given up, as there was no memory to wait in.
        sealed: The frame, once it is out of the capture.
        values: The numbers that are logged with it.
    """

    is_recorded: bool
    is_unseen: bool = False
    is_given_up: bool = False
    sealed: SealedFrames | None = None
    values: dict[str, Any] = field(default_factory=dict)


class HeldFrames:
    """Has the capture take the forwards of candidates, and sends the frames of batches.

    Args:
        capture: The state of the hooks on the model.
        sender: Sends frames to the writer.
        checks: Looks after layers that are silent or were replaced.
        problems: Warns of what goes wrong.

    Attributes:
        detector: Decides what candidates are; to be set before anything begins.
        lost: The number of frames that could not be told apart.
        learning_rate: The learning rate of the last step.
    """

    detector: BatchDetector

    def __init__(
        self,
        capture: CaptureState,
        sender: FrameSender,
        checks: ModelChecks,
        problems: Problems,
    ) -> None:
        self.lost = 0
        self.learning_rate: Any = None
        self._capture = capture
        self._sender = sender
        self._checks = checks
        self._problems = problems
        self._held: dict[BatchCandidate, HeldFrame] = {}
        self._captured: BatchCandidate | None = None  # whose frame the capture holds, or takes
        self._missed = 0  # batches that are to be counted as missed, if others follow

    def begin(self, candidate: BatchCandidate, loaded: Any, length: int | None) -> None:
        """Prepares the capture for the first forward of a candidate.

        Args:
            candidate: The candidate.
            loaded: What its loader handed out, if that is known.
            length: The number of batches in its epoch, if that is known.
        """
        capture = self._capture
        self.put_aside()
        self._checks.follow_changes()
        capture.phase = IDLE
        capture.reset()
        capture.loaded = loaded
        self._make_room()
        is_recorded = self._may_be_recorded(candidate)
        self._held[candidate] = HeldFrame(is_recorded)
        self._count_missed()
        self._sender.batches = length
        if is_recorded and self._sender.prepare():
            capture.phase, capture.several = WAITING, True
            self._captured = candidate

    def _make_room(self) -> None:
        """Has memory for one more frame, as long as there are any that wait.

        What was trained on is a batch before a step says so. Of what may still be trained on the
        frame is given up, and the candidate waits on without it: as a batch it is lost, and those
        behind it keep their numbers.
        """
        waiting = self.detector.waiting
        while len(waiting) > _MAX_WAITING:
            self.detector.decide_oldest()
        while not self._sender.spare and len(waiting) > 1:
            if waiting[0].trained and not waiting[0].for_others:
                self.detector.decide_oldest()
                continue
            holding = (one for one in map(self._held.get, waiting) if one and one.sealed)
            held = next(holding, None)
            if held is None or held.sealed is None:
                return
            self._sender.discard(held.sealed)
            held.sealed, held.is_given_up = None, True

    def join(self, candidate: BatchCandidate) -> None:
        """Prepares the capture for a further forward of a candidate."""
        self._capture.several = candidate is self._captured

    def skip(self) -> None:
        """Prepares the capture for a forward that is not recorded."""
        capture = self._capture
        capture.several = False
        if capture.phase == OPEN:
            capture.phase = DONE
        elif capture.phase in (WAITING, BROKEN):
            capture.phase = IDLE

    def adopt(self, candidate: BatchCandidate) -> None:
        """Takes over what a compiled forward has left in the capture: nobody saw it begin."""
        is_recorded = self._may_be_recorded(candidate)
        self._held[candidate] = HeldFrame(is_recorded)
        self._count_missed()
        if is_recorded and self._sender.prepare():
            self._capture.phase = DONE
            self._captured = candidate

    def miss(self, candidate: BatchCandidate) -> None:
        """Notes that nobody saw the forward of a candidate.

        As a batch it is lost, if others follow: a model may step without ever being called.
        """
        self._held[candidate] = HeldFrame(is_recorded=False, is_unseen=True)

    def log(self, candidate: BatchCandidate, **values: Any) -> None:
        """Keeps numbers with a candidate."""
        held = self._held.get(candidate)
        if held is not None:
            held.values.update(values)

    def put_aside(self) -> None:
        """Takes the frame out of the capture that it has gathered, if there is one."""
        candidate, self._captured = self._captured, None
        held = None if candidate is None else self._held.get(candidate)
        capture = self._capture
        if held is None or not capture.fired:
            return
        if capture.phase not in (IDLE, INSIDE, BROKEN) or capture.traced:
            held.sealed = self._sender.seal()
        capture.phase = IDLE
        capture.loaded = None

    def decide(self, candidate: BatchCandidate, position: BatchPosition | None) -> None:
        """Sends or discards the frame of a candidate.

        Args:
            candidate: The candidate.
            position: The batch that it is; None where it is none.
        """
        held = self._held.pop(candidate, None)
        if held is None:
            return
        keeps = position is not None and not candidate.mixed and self._keeps(position)
        if candidate is self._captured:
            if keeps and position is not None:
                if self._checks.has_probe and self._capture.phase == DONE:
                    ends_epoch = position.batch + 1 == self._sender.batches
                    self._checks.show_probe(position.epoch, position.batch, ends_epoch)
                    held.values.update(self._checks.take_probe_values())
                self._held[candidate] = held
                self.put_aside()
                del self._held[candidate]
            else:
                self._captured = None
                self._capture.phase = IDLE
        if held.is_unseen:
            self._missed += keeps
        elif position is not None and (candidate.mixed or (keeps and not held.is_recorded)):
            self._lose(
                "its first forward was not the one that was trained on"
                if candidate.mixed
                else "which number it has was known too late"
            )
        elif keeps and held.is_given_up:
            self._lose("more forwards waited for their backward pass than there is memory for")
        if held.sealed is None:
            if keeps and held.is_recorded:
                self._sender.note_frameless()
            return
        if keeps and position is not None:
            self._send(held.sealed, position, held.values)
        else:
            self._sender.discard(held.sealed)

    def _send(self, sealed: SealedFrames, position: BatchPosition, values: dict[str, Any]) -> None:
        """Sends a frame to the writer."""
        if self._sender.has_failed(1):
            return
        if self.learning_rate is not None:
            values.setdefault("lr", float(self.learning_rate))
        try:
            self._sender.send(sealed, position, values)
        except Exception as error:  # never into the training
            self._capture.fail("frame", error)
        self._checks.name_silent_layers()

    def _count_missed(self) -> None:
        """Counts the batches as lost that the model was trained on before it was found."""
        missed, self._missed = self._missed, 0
        if missed == 1:
            self._lose("the model was not found before its first step")
        elif missed:
            self._lose("the model was taken for one that is trained on few", missed)

    def _lose(self, why: str, batches: int = 1) -> None:
        """Counts lost frames and says why they are lost."""
        self.lost += batches
        self._sender.count_lost(batches)
        lost = f"{batches:,} batches are" if batches > 1 else "a batch is"
        self._problems.warn(f"{lost} lost, and counted: {why}", why)

    def _may_be_recorded(self, candidate: BatchCandidate) -> bool:
        """Returns whether one of the positions that a candidate may get is recorded."""
        return self._sender.choice.keeps_all or any(
            self._keeps(position) for position in self.detector.possible_positions(candidate)
        )

    def _keeps(self, position: BatchPosition) -> bool:
        """Returns whether a batch is recorded."""
        return self._sender.choice.keeps_all or self._sender.keeps(position)
