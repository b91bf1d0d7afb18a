"""Random training loops in words."""

from __future__ import annotations

from dataclasses import dataclass

from generated.brief import Brief

KINDS = (
    "train", "skip", "trip", "retry", "late", "break", "break_after", "abort", "skip_marked",
    "trip_marked",
)  # fmt: skip
EXTRAS = (
    "eval", "copy_call", "dry", "copy_train", "pickle", "copy_keep", "kept", "copy_eval",
    "eval_grad", "switch", "inference", "trace", "func", "fx", "parametrize", "replace",
)  # fmt: skip
STRANGE = ("trace", "func", "fx")


@dataclass(frozen=True, repr=False)
class Step(Brief):
    """What is done with one batch.

    Attributes:
        size: Images in it.
        kind: train; skip, or skip_marked (no forward; `step` is called all the same); trip, or
            trip_marked (the forward breaks off); retry (it does, and is made again); late (an
            error behind the forward); break, break_after, abort (the loop ends here).
        before: What else is done before the forward, see `Training.extra`.
        after: What is done behind it.
        steps: Whether the optimizer steps: else gradients go on to add up.
    """

    size: int = 2
    kind: str = "train"
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    steps: bool = True


@dataclass(frozen=True, repr=False)
class Loop(Brief):
    """A training loop in words.

    Attributes:
        epochs: The batches of each epoch.
        marks: What tells the recorder of batches: track, step, epoch (and step), neither.
        autocast: Whether the forwards run under autocast to bfloat16.
        outer: Whether the model is a part of the one that is called.
        neighbour: Whether another model is trained in the same loop.
    """

    epochs: tuple[tuple[Step, ...], ...] = ((Step(), Step()),)
    marks: str = "track"
    autocast: bool = False
    outer: bool = False
    neighbour: bool = False

    @property
    def sizes(self) -> set[int]:
        """Of the batches."""
        return {step.size for steps in self.epochs for step in steps}
