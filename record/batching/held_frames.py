"""Frames of one model that wait until it is known which batch they are of, if of any."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from record.batching.epochs import Place
from record.batching.state_machine import Batches, CapturedForward
from record.capture.capture import Capture
from record.capture.phase import BROKEN, DONE, IDLE, INSIDE, OPEN, WAITING
from record.reporting import Problems
from record.session.frame_sender import FrameSender, SealedFrames
from record.session.model_checks import ModelChecks


@dataclass
class Held:
    """What is kept of a capture.

    Attributes:
        kept: Whether its frames are recorded.
        sealed: They themselves, once they are out of the taps.
        values: What is logged with them.
    """

    kept: bool
    sealed: SealedFrames | None = None
    values: dict[str, Any] = field(default_factory=dict)


class Frames:
    """Has the taps take the forwards of a capture, and sends off those that are batches.

    Args:
        taps: The hooks.
        shipping: Where frames go.
        checks: Looks after layers that are silent or were replaced.
        trouble: What goes wrong is said there.

    Attributes:
        batches: What decides; to be set before anything begins.
        counted: Batches that the model was trained on.
        lost: Frames that could not be told apart.
    """

    batches: Batches

    def __init__(
        self,
        taps: Capture,
        shipping: FrameSender,
        checks: ModelChecks,
        trouble: Problems,
    ) -> None:
        self.counted = 0
        self.lost = 0
        self.lr: Any = None
        self._taps = taps.state
        self._shipping = shipping
        self._checks = checks
        self._trouble = trouble
        self._held: dict[CapturedForward, Held] = {}
        self._within: CapturedForward | None = None  # whose frames the taps have, or take

    def begin(self, capture: CapturedForward, loaded: Any, length: int | None) -> None:
        """The first forward of a capture begins.

        Args:
            capture: Which.
            loaded: What its loader handed out, if that is known.
            length: Batches of its epoch, if that is known.
        """
        taps = self._taps
        self.put_aside()
        self._checks.follow_changes()
        taps.phase = IDLE
        taps.reset()
        taps.loaded = loaded
        while not self._shipping.spare and len(self.batches.waiting) > 1:
            self.batches.make_room()
        kept = self._may_keep(capture)
        self._held[capture] = Held(kept)
        self._shipping.batches = length
        if kept and self._shipping.prepare():
            taps.phase, taps.several = WAITING, True
            self._within = capture

    def join(self, capture: CapturedForward) -> None:
        """A further forward of a capture begins."""
        self._taps.several = capture is self._within

    def skip(self) -> None:
        """A forward begins that is not recorded."""
        taps = self._taps
        taps.several = False
        if taps.phase == OPEN:
            taps.phase = DONE
        elif taps.phase in (WAITING, BROKEN):
            taps.phase = IDLE

    def adopt(self, capture: CapturedForward) -> None:
        """A forward has run that nobody saw begin: a compiled one's frames are in the taps."""
        kept = self._may_keep(capture)
        self._held[capture] = Held(kept)
        if kept and self._shipping.prepare():
            self._taps.phase = DONE
            self._within = capture

    def log(self, capture: CapturedForward, **values: Any) -> None:
        """Keeps numbers with a capture."""
        held = self._held.get(capture)
        if held is not None:
            held.values.update(values)

    def put_aside(self) -> None:
        """Takes out of the taps what they have gathered."""
        capture, self._within = self._within, None
        held = None if capture is None else self._held.get(capture)
        taps = self._taps
        if held is None or not taps.fired:
            return
        if taps.phase not in (IDLE, INSIDE, BROKEN) or taps.traced:
            held.sealed = self._shipping.seal()
        taps.phase = IDLE
        taps.loaded = None

    def settle(self, capture: CapturedForward, place: Place | None) -> None:
        """It is known what a capture is."""
        held = self._held.pop(capture, None)
        self.counted += place is not None
        if held is None:
            return
        keeps = place is not None and not capture.mixed and self._keeps(place)
        if capture is self._within:
            if keeps:
                self._held[capture] = held
                self.put_aside()
                del self._held[capture]
            else:
                self._within = None
                self._taps.phase = IDLE
        if place is not None and (capture.mixed or (keeps and not held.kept)):
            self._lose(capture.mixed)
        if held.sealed is None:
            return
        if keeps and place is not None:
            self._send(held.sealed, place, held.values)
        else:
            self._shipping.discard(held.sealed)

    def _send(self, sealed: SealedFrames, place: Place, values: dict[str, Any]) -> None:
        if self._shipping.has_failed(1):
            return
        if self.lr is not None:
            values.setdefault("lr", float(self.lr))
        try:
            self._shipping.send(sealed, place, values)
        except Exception as error:  # never into the training
            self._taps.fail("frame", error)
        self._checks.name_silent_layers()

    def _lose(self, mixed: bool) -> None:
        self.lost += 1
        self._shipping.count_lost(1)
        self._trouble.warn(
            "a batch is lost, and counted: its first forward was not the one that was trained on"
            if mixed
            else "a batch is lost, and counted: which number it has was known too late",
            "mixed" if mixed else "late",
        )

    def _may_keep(self, capture: CapturedForward) -> bool:
        """Whether one of the numbers that it may get is recorded."""
        return self._shipping.choice.keeps_all or any(
            self._keeps(place) for place in self.batches.foresee(capture)
        )

    def _keeps(self, place: Place) -> bool:
        """Whether a batch is recorded; a budget is asked once for each."""
        return self._shipping.choice.keeps_all or self._shipping.keeps(place)
