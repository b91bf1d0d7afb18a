"""Trainings as sequences of events, made at random, each with the batches that it truly has.

A program is written down as somebody would write a training: epochs over a loader, batches, in
them forwards, backward passes and steps, and all that comes in between. While it is written, the
truth is written beside it: nothing here looks at what `record.batch_detection.detector` makes of the events.

    python tests/training_programs.py --count 100000
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from record.batch_detection.deliveries import Deliveries, LoaderItem, LoaderPass
from record.batch_detection.detector import BatchCandidate, BatchDetector, ForwardRole

LOST = -1
Truth = list[tuple[int, int, int, int]]  # first forward, its backward, epoch, batch


@dataclass
class Program:
    """A training: what happens in it, and the batches that it has.

    Attributes:
        tells: Whether the memory of a forward's inputs tells which item it consumed; it does not
            where everything is copied to a GPU first.
    """

    random: random.Random
    tells: bool
    events: list[tuple[Any, ...]] = field(default_factory=list)
    truth: Truth = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=itertools.count)
    ahead: bool = False  # whether there are items that may be trained on later
    epoch: int = -1
    batch: int = 0

    def say(self, *event: Any) -> None:
        self.events.append(event)

    def next_epoch(self) -> None:
        self.epoch += 1
        self.batch = 0

    def count(self, forward: int, backward: int) -> None:
        self.truth.append((forward, backward, max(0, self.epoch), self.batch))
        self.batch += 1

    # What a script does with a loader

    def begin(self, loader: str, length: int | None, thread: str = "main") -> int:
        number = next(self.numbers)
        self.say("begin", number, loader, length, thread)
        return number

    def fetch(self, source: int) -> tuple[int, int]:
        item = next(self.numbers)
        self.say("fetch", source, item)
        return source, item

    def exhaust(self, source: int) -> None:
        self.say("exhaust", source)

    def die(self, source: int) -> None:
        self.say("die", source)

    # What it does with the model

    def forward(
        self, *items: Any, again: bool = False, made_of: Any = None, attacks: bool = False
    ) -> int:
        number = next(self.numbers)
        seen = [item for item in items if item is not None] if self.tells else []
        self.say("forward", number, seen, again and not seen, made_of, attacks)
        return number

    def backward(self, *forwards: int) -> int:
        number = next(self.numbers)
        self.say("backward", number, forwards)
        return number

    def step(self) -> None:
        if not self.random.randrange(4):
            self.say("step_begins", "optimizer")
        self.say("stepped", "optimizer")

    def drop(self) -> None:
        """The gradients are thrown away."""
        self.say("drop")

    def gone(self, *forwards: int) -> None:
        for forward in forwards:
            self.say("gone", forward)

    # What comes in between

    def validate(self) -> None:
        """A pass over another loader in evaluation mode, whole or left."""
        n = self.random.randint(1, 4)
        source = self.begin("V", n)
        broken = self.random.randrange(3) == 0
        for number in range(n):
            item = self.fetch(source)
            if not self.tells or self.random.randrange(
                8
            ):  # else by another model, an average of the weights
                self.say("look", [item] if self.tells else [])
            if broken and number == n // 2:
                break
        else:
            self.exhaust(source)
        self.die(source)

    def calibrate(self, loader: str, length: int) -> None:
        """Forwards in training mode over a loader, with gradients, that nobody trains on."""
        source = self.begin(loader, length)
        last = None
        for _ in range(length):
            item = self.fetch(source)
            forward = self.forward(item)
            if last is not None:
                self.gone(last)
            last = forward
        self.exhaust(source)
        self.die(source)
        if last is not None and (self.ahead or not self.random.randrange(2)):
            self.gone(last)

    def dry(self) -> None:
        """One forward of something that comes from no loader, kept in a variable or not."""
        forward = self.forward(None)
        if self.ahead or self.random.randrange(3):
            self.gone(forward)

    def between(self, where: str = "middle") -> None:
        kind = self.random.randrange(12)
        if kind < 2:
            self.validate()
        elif kind == 2 and (self.tells or where == "outside"):
            self.dry()
        elif kind == 3 and self.tells:
            self.calibrate("R", self.random.randint(1, 3))
        elif kind == 4 and where == "outside":
            self.calibrate("A", self.random.randint(1, 3))
        elif kind == 5 and where == "outside":  # the mean and deviation of the images, say
            n = self.random.randint(1, 3)
            source = self.begin("A", n)
            for _ in range(n):
                self.fetch(source)
            self.exhaust(source)
            self.die(source)


class Body:
    """What is done with one batch of a loader: `train` is called with each."""

    def __init__(self, program: Program) -> None:
        self.p = program
        self.r = program.random

    def train(self, *items: Any) -> None:
        raise NotImplementedError

    def end(self) -> None:
        """Behind the last batch."""


class Plain(Body):
    def train(self, *items: Any) -> None:
        p = self.p
        forward = p.forward(*items)
        p.count(forward, p.backward(forward))
        p.step()


class Siamese(Body):
    """Several forwards before the backward."""

    def train(self, *items: Any) -> None:
        p = self.p
        forwards = [p.forward(*items) for _ in range(self.r.randint(2, 3))]
        p.count(forwards[0], p.backward(*forwards))
        p.step()


class Sharpness(Body):
    """SAM: the second forward and backward are at other weights."""

    def train(self, *items: Any) -> None:
        p = self.p
        forward = p.forward(*items)
        p.count(forward, p.backward(forward))
        p.backward(p.forward(*items, again=True))
        p.step()


class Closures(Body):
    """LBFGS."""

    def train(self, *items: Any) -> None:
        p = self.p
        p.say("step_begins", "optimizer")
        pairs = []
        for number in range(self.r.randint(1, 4)):
            forward = p.forward(*items, again=number > 0)
            pairs.append((forward, p.backward(forward)))
        p.say("stepped", "optimizer")
        p.count(*pairs[0])


class Cut(Body):
    """One loader's batch cut into several steps."""

    def train(self, *items: Any) -> None:
        p = self.p
        for number in range(self.r.randint(2, 3)):
            forward = p.forward(*items, again=number > 0)
            p.count(forward, p.backward(forward))
            p.step()


class Chunks(Body):
    """One loader's batch cut into pieces whose gradients are added up: one step, one batch."""

    def train(self, *items: Any) -> None:
        p = self.p
        pairs = []
        for number in range(self.r.randint(2, 3)):
            forward = p.forward(*items, again=number > 0)
            pairs.append((forward, p.backward(forward)))
        p.step()
        p.count(*pairs[0])


class Accumulation(Body):
    """A step behind every kth batch."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.every = self.r.randint(2, 4)
        self.done = 0

    def train(self, *items: Any) -> None:
        p = self.p
        forward = p.forward(*items)
        p.count(forward, p.backward(forward))
        self.done += 1
        if self.done % self.every == 0:
            p.step()

    def end(self) -> None:
        if self.r.randrange(2) and self.done % self.every:
            self.p.step()


class Discriminator(Body):
    """Real images, images that another model made, a step; and the other model's turn."""

    def train(self, *items: Any) -> None:
        p = self.p
        forward = p.forward(*items)
        p.count(forward, p.backward(forward))
        p.backward(p.forward(None, made_of=items))
        p.step()
        p.backward(p.forward(None, made_of=items))  # the other optimizer steps


class GeneratorFirst(Body):
    """The other model's turn comes first."""

    def train(self, *items: Any) -> None:
        p = self.p
        first = p.forward(None, made_of=items)
        its = p.backward(first)
        forward = p.forward(*items)
        loss = p.backward(forward)
        p.count(*((forward, loss) if p.tells else (first, its)))
        p.step()


class Attack(Body):
    """A forward whose gradient by the image changes the image; that one is trained on."""

    def train(self, *items: Any) -> None:
        p = self.p
        for _ in range(self.r.randint(1, 2)):
            p.gone(p.forward(*items))
        forward = p.forward(None)
        p.count(forward, p.backward(forward))
        p.step()


class AttackByBackward(Body):
    """The gradient by the image is made by a backward pass, once or in several steps.

    Then the other gradients are thrown away, before the forward that is trained on or behind it; or
    they are not, and the images are trained on, too.
    """

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.adds_up = not self.r.randrange(4)

    def train(self, *items: Any) -> None:
        p = self.p
        early = self.r.randrange(2)
        forward = p.forward(*items, attacks=True)
        first = forward, p.backward(forward)
        for _ in range(self.r.randrange(3)):
            if early and self.r.randrange(2) and not self.adds_up:
                p.drop()
            p.backward(p.forward(None, attacks=True))
        if early and not self.adds_up:
            p.drop()
        forward = p.forward(None, attacks=not self.r.randrange(4))
        if not early and not self.adds_up:
            p.drop()
        second = forward, p.backward(forward)
        p.count(*(first if self.adds_up else second))
        p.step()


class OtherTurns(Body):
    """A discriminator that is trained on one batch; on the next, its gradients are the other's."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.done = self.r.randrange(2)

    def train(self, *items: Any) -> None:
        p = self.p
        self.done += 1
        if self.done % 2:
            p.backward(p.forward(None, made_of=()))
            p.say("other")
            return
        early = self.r.randrange(2)
        if early:
            p.drop()
        forward = p.forward(*items)
        if not early:
            p.drop()
        p.count(forward, p.backward(forward))
        p.step()

    def end(self) -> None:
        self.p.drop()


class LateCompanion(Body):
    """A second loader is asked between the two forwards of a batch."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.source = program.begin("U", None)

    def train(self, *items: Any) -> None:
        p = self.p
        forward = p.forward(*items)
        other = p.forward(p.fetch(self.source))
        p.count(forward, p.backward(forward, other))
        p.step()


BODIES: list[type[Body]] = [
    Plain, Plain, Siamese, Sharpness, Closures, Cut, Chunks, Accumulation, Discriminator,
    GeneratorFirst, Attack, AttackByBackward, OtherTurns, LateCompanion,
]  # fmt: skip


# How a training goes through its loader


def read(p: Program, source: int, n: int, way: str) -> Iterator[tuple[int, int]]:
    """The items of a pass, as they are trained on; some are asked for ahead."""
    if way == "plain":
        for _ in range(n):
            yield p.fetch(source)
        p.exhaust(source)
        return
    ahead = p.random.randint(1, 3)
    queue: list[tuple[int, int]] = []
    left, ended = n, False
    while left or queue:
        while left and len(queue) <= ahead:
            queue.append(p.fetch(source))
            left -= 1
            if way == "thread" and p.random.randrange(2) and queue:
                break
        if not left and not ended and (len(queue) <= ahead or way == "thread"):
            ended = True
            p.exhaust(source)
        yield queue.pop(0)


def epochs(p: Program, body: Body, loader: str) -> None:
    """`for epoch: for batch in loader`, plain or read ahead, left early or not."""
    n = p.random.randint(2, 6)
    way = p.random.choice(["plain", "plain", "ahead", "thread"])
    broken = p.random.randrange(4) == 0
    p.ahead = way != "plain"
    if way == "thread" and not p.tells:
        broken = False  # what the other thread had ready is not told from what is trained on
    if not p.tells and way != "plain" and not isinstance(body, (Plain, Siamese)):
        way = "plain"
    for _ in range(p.random.randint(1, 4)):
        p.next_epoch()
        source = p.begin(loader, n, "other" if way == "thread" else "main")
        reader = read(p, source, n, way)
        for number, item in enumerate(reader):
            body.train(item)
            if way == "plain" or p.tells:
                p.between()
            if broken and number == max(1, n // 2):
                break
        p.die(source)
        reader.close()
        p.between("outside")


def again_by_itself(p: Program, body: Body, loader: str) -> None:
    """One iterator for all epochs, which begins again by itself (timm, ultralytics)."""
    n = p.random.randint(2, 5)
    source = p.begin(loader, n)
    for _ in range(p.random.randint(1, 4)):
        p.next_epoch()
        for _ in range(n):
            body.train(p.fetch(source))
            p.between()


def anew_for_each(p: Program, body: Body, loader: str) -> None:
    """`next(iter(loader))` for each step: one epoch, also with another loader from some step on."""
    if not p.kinds[:-1] or not p.kinds[-2].startswith("anew_for_each"):
        p.next_epoch()
    n = p.random.choice([None, p.random.randint(2, 6)])
    for _ in range(p.random.randint(2, 6)):
        source = p.begin(loader, n)
        item = p.fetch(source)
        p.die(source)
        body.train(item)
        p.between()


def cycle(p: Program, body: Body, loader: str) -> None:
    """`itertools.cycle(loader)`: one epoch of as many steps as are asked for."""
    p.next_epoch()
    p.ahead = True
    n = p.random.randint(2, 5)
    source = p.begin(loader, n)
    items: list[Any] = []
    for step in range(p.random.randint(2, 12)):
        if step < n:
            items.append(p.fetch(source))
        elif step == n:
            p.exhaust(source)
        body.train(items[step % n])
        p.between()
    p.die(source)


def listed(p: Program, body: Body, loader: str) -> None:
    """`batches = list(loader)`, gone through again and again."""
    p.ahead = True
    n = p.random.randint(2, 5)
    source = p.begin(loader, n)
    items = [p.fetch(source) for _ in range(n)]
    p.exhaust(source)
    p.die(source)
    for number in range(p.random.randint(1, 3)):
        if p.tells or not number:
            p.next_epoch()
        if p.tells and p.random.randrange(2):
            last = items[-1]
            p.random.shuffle(items)
            if items[0] is last:  # else nobody could tell it from one that is cut into steps
                items.reverse()
        for item in items:
            body.train(item)
            if p.tells:
                p.between()


def no_loader(p: Program, body: Body, loader: str) -> None:
    """Batches that come from nowhere: every step is one, and every micro-step."""
    p.epoch = max(p.epoch, 0)
    for _ in range(p.random.randint(1, 8)):
        body.train(None)


def side_by_side(p: Program, body: Body, loader: str) -> None:
    """`zip(A, B)` or `zip(cycle(A), B)`, one forward for each of the two."""
    p.ahead = True
    n = p.random.randint(2, 6)
    short = p.random.randint(1, n)
    for _ in range(p.random.randint(1, 3)):
        p.next_epoch()
        left, right = p.begin(loader, short), p.begin("B", n)
        items: list[Any] = []
        for step in range(n):
            if step < short:
                items.append(p.fetch(left))
            elif step == short:
                p.exhaust(left)
            other = p.fetch(right)
            if p.random.randrange(4):
                first, second = p.forward(items[step % short]), p.forward(other)
                p.count(first, p.backward(first, second))
            else:  # each with a backward of its own
                first = p.forward(items[step % short])
                p.count(first, p.backward(first))
                p.backward(p.forward(other))
            p.step()
            p.between()
        p.exhaust(right if n > short or p.random.randrange(2) else left)
        p.die(left)
        p.die(right)


def by_turns(p: Program, body: Body, loader: str) -> None:
    """A batch of one loader, then one of another, each with a step of its own."""
    n = p.random.randint(2, 5)
    for _ in range(p.random.randint(1, 3)):
        p.next_epoch()
        left, right = p.begin(loader, n), p.begin("B", n)
        for _ in range(n):
            body.train(p.fetch(left))
            body.train(p.fetch(right))
        p.exhaust(left)
        p.die(left)
        p.die(right)


def fetched_together(p: Program, body: Body, loader: str) -> None:
    """k micro-batches are asked for at once and trained on one by one, with one step."""
    k, n = p.random.randint(2, 3), p.random.randint(1, 3)
    together = p.random.randrange(3) == 0
    for _ in range(p.random.randint(1, 3)):
        p.next_epoch()
        source = p.begin(loader, k * n)
        for _ in range(n):
            items = [p.fetch(source) for _ in range(k)]
            if together and p.tells:  # all forwards first, then all backward passes
                forwards = [p.forward(item) for item in items]
                for forward in forwards:
                    p.count(forward, p.backward(forward))
            else:
                for item in items:
                    forward = p.forward(item)
                    p.count(forward, p.backward(forward))
            p.step()
            p.between()
        p.exhaust(source)
        p.die(source)


Way = Callable[[Program, Body, str], None]
ONLY_TOLD: set[Way] = {cycle, listed, by_turns}  # with other bodies than these, in what tells
WAYS: list[Way] = [
    epochs, epochs, epochs, epochs, again_by_itself, anew_for_each, cycle, listed, no_loader,
    side_by_side, by_turns, fetched_together,
]  # fmt: skip


def write(seed: int) -> Program:
    """A training."""
    r = random.Random(seed)
    p = Program(r, tells=r.randrange(3) > 0)
    ways = r.choices(WAYS, k=r.choice([1, 1, 2]))
    # What was asked of a loader and not trained on looks like what comes from nowhere.
    for _ in range(0 if no_loader in ways else r.randrange(3)):
        p.between("outside")
    for phase, way in enumerate(ways):
        kind = r.choice(BODIES)
        # An epoch that ends with the other's turn is not told from the next, nor what the phase
        # before has left of accumulated gradients from those of the other's turn.
        unclear = kind is OtherTurns and (
            way in (again_by_itself, listed) or "Accumulation" in "".join(p.kinds)
        )
        if way is no_loader:
            kind = r.choice([Plain, Siamese, Sharpness, Closures, Accumulation])
        elif unclear or (
            not p.tells and (way in ONLY_TOLD or kind in (Attack, AttackByBackward) or phase)
        ):
            kind = Plain
        if phase and way is no_loader:
            way = epochs  # what follows a loader's end from nowhere looks like its last item
        p.kinds.append(f"{way.__name__}/{kind.__name__}")
        body = kind(p)
        way(p, body, "AC"[phase])
        body.end()
        if not p.tells:
            break
    return p


# What the state machine makes of it


def run(program: Program) -> Truth:
    """The batches that `record.batch_detection.detector` finds."""
    deliveries = Deliveries()
    found: Truth = []
    first: dict[BatchCandidate, int] = {}
    of: dict[int, BatchCandidate] = {}
    passes: dict[int, tuple[LoaderPass, str]] = {}
    living: set[int] = set()
    items: dict[int, LoaderItem] = {}

    def settle(capture: BatchCandidate, place: Any) -> None:
        if place is not None and capture.mixed:
            found.append((LOST, LOST, place.epoch, place.batch))
        elif place is not None:
            found.append((first[capture], capture.loss, place.epoch, place.batch))

    batches = BatchDetector(deliveries, settle)
    for name, *rest in program.events:
        if name == "begin":
            number, loader, length, thread = rest
            living.add(number)
            made = LoaderPass(loader, length, lambda number=number: number in living)
            passes[number] = deliveries.begin(made), thread
        elif name == "fetch":
            source, thread = passes[rest[0]]
            item = items[rest[1]] = deliveries.hand_out(source, [rest[1]], thread)
            batches.fetched(item)
        elif name == "exhaust":
            deliveries.end(passes[rest[0]][0])
        elif name == "die":
            living.discard(rest[0])
        elif name == "look":
            batches.evaluated([items[item] for _, item in rest[0]], "main")
        elif name == "forward":
            number, seen, again, made_of, attacks = rest
            places = deliveries.find([item for _, item in seen])
            made = None if made_of is None else [items[i[1]] for i in made_of if i is not None]
            if batches.forward(places, "main", again, made) is ForwardRole.NEW:
                assert batches.latest is not None
                batches.latest.attacks = attacks
                first[batches.latest] = number
            of[number] = batches.latest  # type: ignore[assignment]
        elif name == "gone":
            batches.graph_freed(of[rest[0]])
        elif name == "backward":
            through: dict[BatchCandidate, bool] = {}
            for number in rest[1]:
                capture = of[number]
                through[capture] = through.get(capture, False) or first[capture] == number
            batches.backward(rest[0], through)
        elif name == "drop":
            batches.gradients_dropped("main")
        elif name == "other":
            batches.other_stepped("main")
        elif name == "step_begins":
            batches.step_begins(rest[0])
        else:
            batches.stepped(rest[0])
    batches.close()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="print the events of a difference")
    asked = parser.parse_args()
    began, events, batches = time.perf_counter(), 0, 0
    differences: list[str] = []
    lost = 0
    for seed in range(asked.seed, asked.seed + asked.count):
        program = write(seed)
        events, batches = events + len(program.events), batches + len(program.truth)
        found = run(program)
        for place, one in enumerate(found):
            if one[0] == LOST and place < len(program.truth):
                found[place] = (*program.truth[place][:2], *one[2:])
                lost += 1
        if found != program.truth:
            differences.append(f"{seed} {program.tells} {program.kinds}")
            if asked.show and len(differences) == 1:
                print(*program.events, sep="\n")
                print("truth", [one for one in program.truth if one not in found])
                print("found", [one for one in found if one not in program.truth])
    print(*differences[:30], sep="\n")
    seconds = time.perf_counter() - began
    print(
        f"{asked.count:,} programs from seed {asked.seed}, {events:,} events, {batches:,} batches: "
        f"{lost:,} counted as lost, {len(differences)} differences, {seconds:.0f} s"
    )
    return bool(differences)


if __name__ == "__main__":
    sys.exit(main())
