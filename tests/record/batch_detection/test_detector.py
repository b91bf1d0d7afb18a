"""Which forwards are batches of which epoch: the detector against trainings made at random.

What a training truly has is written down by `training_programs` while it makes the events; the
same with 100,000 of them: `python tests/training_programs.py --count 100000`.
"""

from __future__ import annotations

import functools
import gc
import weakref

import pytest
import training_programs as programs

from record.batch_detection.deliveries import Deliveries, LoaderPass
from record.batch_detection.detector import BatchCandidate, BatchDetector
from record.batch_detection.epochs import BatchPosition, EpochNumbering


@pytest.mark.parametrize("first", range(0, 4000, 500))
def test_trainings_made_at_random(first: int) -> None:
    for seed in range(first, first + 500):
        program = programs.write(seed)
        assert programs.run(program) == program.truth, (seed, program.tells, program.kinds)


def test_every_way_and_every_body_is_among_them() -> None:
    kinds = {kind for seed in range(4000) for kind in programs.write(seed).kinds}
    ways, bodies = zip(*(kind.split("/") for kind in kinds), strict=True)
    assert set(ways) == {way.__name__ for way in programs.WAYS}
    assert set(bodies) == {body.__name__ for body in programs.BODIES}


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (EpochNumbering, "_accompanies"),
        (BatchDetector, "_continues"),
        (BatchDetector, "evaluated"),
        (BatchDetector, "_drop"),
        (BatchDetector, "_end_attack"),
        (BatchDetector, "gradients_dropped"),
        (BatchDetector, "other_stepped"),
    ],
)
def test_a_machine_with_a_part_taken_out_is_found_out(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    monkeypatch.setattr(owner, name, lambda *args: None)
    wrong = 0
    for seed in range(200):
        program = programs.write(seed)
        try:
            wrong += programs.run(program) != program.truth
        except (ValueError, AttributeError, KeyError):
            wrong += 1
    assert wrong


class Told:
    """A model's batches, with what they were settled as."""

    def __init__(self) -> None:
        self.deliveries = Deliveries()
        self.settled: list[tuple[BatchCandidate, BatchPosition | None]] = []
        self.batches = BatchDetector(self.deliveries, lambda *told: self.settled.append(told))

    def train(self, *items: object, loss: object = None, step: bool = True) -> None:
        self.batches.forward(list(items), "main")  # type: ignore[arg-type]
        self.batches.backward(loss, None)
        if step:
            self.batches.stepped("optimizer")

    def fetch(self, source: LoaderPass) -> object:
        item = self.deliveries.hand_out(source, [], "main")
        self.batches.fetched(item)
        return item

    @property
    def places(self) -> list[BatchPosition | None]:
        return [place for _, place in self.settled]


def test_a_number_is_foreseen_for_each_capture_that_waits() -> None:
    told = Told()
    source = told.deliveries.begin(LoaderPass("loader", 3))
    told.train(told.fetch(source), step=False)
    told.batches.forward([told.fetch(source)], "main")  # type: ignore[list-item]
    second = told.batches.waiting[1]
    assert told.batches.possible_positions(second) == [(0, 1, 1)]
    told.batches.backward(1.0, None)
    told.batches.stepped("optimizer")
    assert told.places == [(0, 0, 0), (0, 1, 1)]
    told.batches.forward([told.fetch(source)], "main")  # type: ignore[list-item]
    told.batches.forward([told.fetch(source)], "main")  # type: ignore[list-item]
    # The first may be a dry run: the second is batch 2, or the first of the next epoch.
    assert told.batches.possible_positions(told.batches.waiting[1]) == [(1, 0, 2), (1, 0, 3)]


def test_without_room_what_was_trained_on_counts_and_what_was_not_is_given_up() -> None:
    told = Told()
    source = told.deliveries.begin(LoaderPass("loader", None))
    told.train(told.fetch(source), loss="first", step=False)
    told.batches.decide_oldest()
    assert told.places == [(0, 0, 0)]
    told.batches.forward([told.fetch(source)], "main")  # type: ignore[list-item]
    waiting = told.batches.waiting[0]
    told.batches.decide_oldest()
    assert told.places == [(0, 0, 0), None]
    told.batches.backward("late", {waiting: True})
    assert told.batches.lost == 1


def test_a_backward_is_enough_where_nobody_says_when_an_optimizer_steps() -> None:
    told = Told()
    told.batches.steps_unseen = True
    for number in range(2):
        source = told.deliveries.begin(LoaderPass("loader", 2))
        for _ in range(2):
            told.train(told.fetch(source), loss=number, step=False)
        told.deliveries.end(source)
    told.batches.close()
    assert told.places == [(0, 0, 0), (0, 1, 1), (1, 0, 2), (1, 1, 3)]


def test_nothing_of_earlier_epochs_is_kept_where_each_lists_its_batches_anew() -> None:
    told = Told()
    sources: list[weakref.ref[LoaderPass]] = []
    for epoch in range(4):
        source = told.deliveries.begin(LoaderPass("loader", 3))
        sources.append(weakref.ref(source))
        items = [told.fetch(source) for _ in range(3)]
        told.deliveries.end(source)
        for item in items:
            told.train(item)
        assert told.places == [(epoch, batch, 3 * epoch + batch) for batch in range(3)]
        told.settled.clear()
        del source, items, item
    gc.collect()
    assert [source() is None for source in sources] == [True] * 3 + [False]


def test_what_cannot_be_known_is_told() -> None:
    told = Told()
    for _ in range(3):
        told.train()
    assert list(told.batches.epochs.doubts) == ["no DataLoader gave them out"]
    one_by_one = Told()
    living: set[int] = set()
    for number in range(2):
        living.add(number)
        alive = functools.partial(living.__contains__, number)
        source = one_by_one.deliveries.begin(LoaderPass("loader", 5, alive))
        item = one_by_one.fetch(source)
        living.remove(number)
        one_by_one.train(item)
    assert one_by_one.places == [(0, 0, 0), (0, 1, 1)]
    assert list(one_by_one.batches.epochs.doubts) == [
        "the DataLoader was begun anew for each of them"
    ]
