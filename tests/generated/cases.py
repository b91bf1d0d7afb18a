"""Random cases: a model, a loop and what is recorded of it; and whether the recording is right."""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st

from generated.brief import Brief
from generated.comparing import compare
from generated.loops import EXTRAS, KINDS, Loop, Step
from generated.plans import HOLDERS, LEAVES, Part, Plan
from generated.recorded import Outcome, record
from generated.training import Training, to_bytes
from generated.truth import Asked, Truth


@dataclass(frozen=True, repr=False)
class Case(Brief):
    """A training and what is recorded of it; as Python prints it, it can be run again."""

    plan: Plan
    loop: Loop
    asked: Asked
    seed: int = 0
    probes: int = 0
    when_full: str = "wait"


@dataclass
class Trial:
    """A case that was trained twice, once recorded.

    Attributes:
        changed: What recording changed in the training.
        outcomes: What recording left behind: of the model, and of its neighbour.
        truths: What their recordings have to hold.
        paths: Their recordings.
    """

    changed: list[str]
    outcomes: list[Outcome]
    truths: list[Truth]
    paths: list[Path]

    @property
    def differences(self) -> list[str]:
        """What is not as it should be."""
        found = list(self.changed)
        for outcome, truth, path in zip(self.outcomes, self.truths, self.paths, strict=False):
            found += compare(outcome, truth, path)
        return found


def tried(case: Case, path: Path) -> Trial:
    """Trains twice, once recorded.

    Args:
        case: The case.
        path: Where the recording is to be; that of a second model stands beside it.
    """
    paths = [path, path.with_name("beside.h5")]
    for old in paths:
        old.unlink(missing_ok=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")  # of torch, about the training itself
        plain = Training(case.plan, case.loop, case.seed)
        images = plain.images(50, 0, case.probes).detach() if case.probes else None
        with contextlib.ExitStack() as stack:
            truths = [
                stack.enter_context(Truth(one, case.asked, probe))
                for one, probe in ((plain, images), (plain.neighbour, None))
                if one is not None
            ]
            plain.run(*truths)
        random = torch.get_rng_state()
        usual = words(caught)
        caught.clear()
        training = Training(case.plan, case.loop, case.seed)
        outcomes = record(training, case.asked, paths, images, when_full=case.when_full)
        changed = [f"a warning that was not there: {line}" for line in words(caught) - usual]
    if not torch.equal(torch.get_rng_state(), random):
        changed.append("the training was changed: another random state")
    if to_bytes(training.model) != to_bytes(plain.model):
        changed.append("the training was changed: other weights or buffers")
    return Trial(changed, outcomes, truths, paths)


def words(caught: list[warnings.WarningMessage]) -> set[str]:
    """What was warned of."""
    return {f"{entry.category.__name__}: {entry.message}" for entry in caught}


small = st.integers(0, 11)
leaves = st.builds(Part, st.sampled_from(LEAVES), small, small)
parts = st.recursive(
    leaves,
    lambda inner: st.builds(
        Part, st.sampled_from(HOLDERS), small, small, st.lists(inner, max_size=3).map(tuple)
    ),
    max_leaves=6,
)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Models."""
    rank = draw(st.sampled_from((2, 2, 2, 1, 3, 0)))
    batched = draw(st.integers(0, 4)) < 4
    if rank:
        size = draw(st.integers(1, 4)), draw(st.integers(3, {1: 9, 2: 6, 3: 4}[rank]))
    else:
        size = draw(st.integers(6, 9)), draw(st.integers(5, 9))
    styles = ["tensor"] * 4 + ["keyword", "strided", "learning"]
    if rank == 2 and batched:
        styles += ["list", "dict", "bytes"]
    calls = draw(st.sampled_from((0, 0, 0, 0, 1, 2)))
    return Plan(
        rank,
        size,
        batched,
        draw(st.sampled_from(styles)),
        tuple(draw(st.lists(parts, max_size=6))),
        calls,
        calls > 0 and draw(st.booleans()),
        draw(st.sampled_from(("float32",) * 5 + ("float64", "bfloat16"))),
        draw(st.integers(0, 5)) == 5,
    )


extras = st.lists(st.sampled_from(EXTRAS), max_size=2).map(tuple)


@st.composite
def loops(draw: st.DrawFn) -> Loop:
    """Loops: batches of one size and a smaller last one, or of any sizes."""
    marks = draw(st.sampled_from(("track", "track", "epoch", "step", "neither")))
    usual, last = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    epochs = []
    for _ in range(draw(st.integers(1, 3))):
        steps = []
        count = draw(st.integers(1, 4))
        for number in range(count):
            usually = draw(st.integers(0, 2)) < 2
            kind = "train" if usually else draw(st.sampled_from(KINDS))
            beside = draw(st.integers(0, 2)) == 2
            steps.append(
                Step(
                    usual if number + 1 < count else min(usual, last),
                    kind,
                    draw(extras) if beside else (),
                    draw(extras) if beside else (),
                    draw(st.integers(0, 3)) < 3,
                )
            )
        epochs.append(tuple(steps))
    return Loop(
        tuple(epochs),
        marks,
        draw(st.integers(0, 6)) == 6,
        draw(st.integers(0, 4)) == 4,
        draw(st.integers(0, 5)) == 5,
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """All of it."""
    plan = draw(plans())
    loop = draw(loops())
    asked = Asked(
        draw(st.sampled_from(("all", "all", "leaves", "body", "classes", "some"))),
        draw(small),
        draw(st.sampled_from((1, 1, 1, 2))),
        draw(st.sampled_from(("", "", "", "first=2", "epochs=1"))),
        draw(st.integers(0, 3)) == 3,
    )
    probes = 0
    if plan.rank == 2 and plan.batched and plan.style in ("tensor", "strided", "learning"):
        probes = draw(st.sampled_from((0, 0, 0, 1, 2)))
    return Case(plan, loop, asked, draw(st.integers(0, 99)), probes, draw(_full))


_full: Any = st.sampled_from(("wait", "drop"))
