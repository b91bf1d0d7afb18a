"""Which batches a schedule and a budget keep, and what a plan says of it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import replay
from record import Recorder, RecordingWarning
from record.__main__ import main
from record.protocol.layout import BatchLayout
from record.schedule.budget import Budget, parse_bytes
from record.schedule.plan import make_plan
from record.schedule.schedule import Schedule
from replay.schema import Layer, OptionError

pytestmark = pytest.mark.usefixtures("quick_writers")

LAYOUT = BatchLayout(((3, 8, 8),), (Layer("conv1", "Conv2d", (12, 64, 64), (12, 3, 3, 3)),))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (None, [(e, b) for e in range(6) for b in range(5)]),
        ("every=2", [(e, b) for e in range(6) for b in (0, 2, 4)]),
        ("first=2", [(e, b) for e in range(6) for b in (0, 1)]),
        ("epochs=1", [(1, b) for b in range(5)]),
        ("epochs=1:6:3,first=1", [(1, 0), (4, 0)]),
        ("first=1, epochs=0,2-3", [(0, 0), (2, 0), (3, 0)]),
        ("epochs=4:", [(e, b) for e in (4, 5) for b in range(5)]),
    ],
)
def test_schedules(text: str | None, kept: list[tuple[int, int]]) -> None:
    schedule = Schedule.parse(text)
    assert schedule.kept(6, 5) == kept
    assert [(e, b) for e in range(6) for b in range(5) if schedule.keeps(e, b, 5 * e + b)] == kept
    assert Schedule.parse(schedule.to_text()) == schedule


def test_dense_early_thins_by_the_logarithm() -> None:
    kept = Schedule.parse("dense-early=50").kept(1, 100_000)
    numbers = [batch for _, batch in kept]
    assert numbers[:50] == list(range(50))
    gaps = np.diff(numbers)
    assert gaps[-1] > 50 * gaps[60] > 0
    decades = [sum(low <= n < 10 * low for n in numbers) for low in (100, 1_000, 10_000)]
    assert max(decades) - min(decades) <= 3  # as many in each factor of ten
    assert decades[0] == pytest.approx(50 * np.log(10), abs=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("often", "expected every=N, epochs=A:B:C, first=N or dense-early, found 'often'"),
        ("every=0", "expected every=N with N from 1"),
        ("epochs=a", "expected a slice such as 0:10:2"),
        ("epochs=1:2:0", "a step of 0"),
        ("epochs=-1", "expected a slice such as 0:10:2"),
        ("first=", "found 'first='"),
    ],
)
def test_bad_schedules(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Schedule.parse(text)


def test_sizes() -> None:
    assert [parse_bytes(s) for s in ("20MB", "1.5 GB", "7", 9, "3kB", "2T")] == [
        20_000_000, 1_500_000_000, 7, 9, 3_000, 2 * 10**12,
    ]  # fmt: skip
    for size in ("", "big", "-3MB", "0", "3XB"):
        with pytest.raises(OptionError, match="expected bytes such as 500MB"):
            parse_bytes(size)


@pytest.mark.parametrize("limit", ["1MB", "3MB", "10MB", "100MB"])
@pytest.mark.parametrize("schedule", ["every=1", "every=3", "epochs=2:8"])
def test_a_budget_of_a_known_run_covers_both_ends(limit: str, schedule: str) -> None:
    plan = make_plan(LAYOUT, Schedule.parse(schedule), 10, 40, limit)
    everything = Schedule.parse(schedule).kept(10, 40)
    assert plan.cells[0] == everything[0]
    assert plan.cells[-1] == everything[-1]
    assert plan.bytes_run <= parse_bytes(limit)
    if limit == "100MB":
        assert list(plan.cells) == everything
    else:  # spread evenly, behind the first one
        places = [everything.index(cell) for cell in plan.cells[1:]]
        assert max(np.diff(places)) - min(np.diff(places)) <= 1


def test_a_budget_of_an_endless_run_spreads_evenly_at_any_time() -> None:
    budget = Budget(20_000_000, Schedule())
    assert budget.keeps()
    room = 1 + budget.plan(LAYOUT, None)
    kept = [0]
    for number in range(1, 20_000):
        if budget.keeps():
            thinning = budget.take_thinning()
            kept = kept[::thinning]
            kept.append(number)
        if number in (room - 1, 5 * room, 19_999):
            assert room / 2 <= len(kept) <= room
            assert len(set(np.diff(kept))) == 1
            assert number - kept[-1] < kept[1]
            assert kept[0] == 0


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).mean()


def record(path: Path, rounds: int, batches: int, **options: object) -> None:
    torch.manual_seed(0)
    model, image = Tiny(), torch.rand(2, 3, 48, 48)
    with Recorder(model, path, **options) as recorder:
        for _ in range(rounds):
            for images in recorder.track([image] * batches):
                model(images)


@pytest.mark.parametrize("known", [True, False])
def test_the_file_stays_below_its_budget(tmp_path: Path, known: bool) -> None:
    path = tmp_path / "run.h5"
    record(path, 8, 50, budget="2MB", epochs=8 if known else None)
    size = path.stat().st_size
    assert size <= 2_000_000
    with replay.open(path) as run:
        epochs = {epoch for epoch, _ in run.frames}
        assert run.frames[0] == (0, 0)
        assert run.meta["budget"] == 2_000_000
        if known:
            assert epochs == set(range(8))
            assert run.frames[-1] == (7, 49)
            assert size > 1_200_000  # and not far below
        else:  # evenly spread, and checked as `verify` would
            steps = [50 * e + b for e, b in run.frames]
            assert len(set(np.diff(steps))) == 1
            assert max(epochs) == 7
            assert sorted(run.order[run.order > 0]) == list(range(1, len(run.frames) + 1))
            for at in run.frames:
                assert run["conv"][at].tobytes() == run["conv"][0, 0].tobytes()
                assert np.isfinite(run["conv"].ranges()[at]).all()
            assert not list(tmp_path.glob("*thinning"))
        assert [run.batches["step"][at] for at in run.frames] == [50 * e + b for e, b in run.frames]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("why", ["skipped", "failed", "evaluated"])
@pytest.mark.parametrize(("skipped", "limit"), [(1, "3MB"), (3, "3MB"), (120, "2MB")])
def test_a_budget_waits_for_the_first_batch_that_has_frames(
    tmp_path: Path, skipped: int, limit: str, why: str, known: bool
) -> None:
    path, model, first = tmp_path / "run.h5", Tiny(), skipped
    options = {"budget": limit, "epochs": 8 if known else None, "quiet": True}
    with Recorder(model, path, **options) as recorder:  # type: ignore[arg-type]
        for _ in range(8):
            for images in recorder.track([torch.ones(2, 3, 24, 24) for _ in range(50)]):
                if skipped > 0:
                    skipped -= 1
                    model.train(why != "evaluated")
                    if why != "skipped":
                        with contextlib.suppress(RuntimeError):
                            model(images if why == "evaluated" else images[:, :1])
                    continue
                model.train()
                model(images).backward()
    assert path.stat().st_size <= parse_bytes(limit)
    with replay.open(path) as run:
        steps = np.array([run.batches["step"][at] for at in run.frames])
    distances = np.diff(steps[1:])  # behind the first one, from which it is known what one takes
    assert steps[0] == first
    assert steps[-1] + distances[-1] >= 400
    assert distances.max() - distances.min() <= 1
    assert len(steps) > (40 if first < 100 else 15)


@pytest.mark.parametrize("known", [True, False])
def test_a_resumed_run_keeps_to_the_budget_of_the_whole(tmp_path: Path, known: bool) -> None:
    path, epochs = tmp_path / "run.h5", 8 if known else None
    record(path, 5, 50, budget="2MB", epochs=epochs)
    record(path, 3, 50, budget="2MB", epochs=epochs, resume=5)
    assert path.stat().st_size <= 2_000_000
    with replay.open(path) as run:
        steps = [50 * e + b for e, b in run.frames]
        assert [run.batches["step"][at] for at in run.frames] == steps
        assert (steps[0], {step // 50 for step in steps}) == (0, set(range(8)))
        early, late = (np.median(np.diff([s for s in steps if (s >= 250) == half])[1:])
                       for half in (False, True))  # fmt: skip
        assert early / 1.5 <= late <= early * 1.5
        if known:
            assert steps[-1] == 399
            assert path.stat().st_size > 1_200_000


def test_a_budget_without_room_says_so_and_records_what_it_can(tmp_path: Path) -> None:
    with pytest.warns(RecordingWarning, match="has room for one or two batches of 69,768 bytes"):
        record(tmp_path / "run.h5", 2, 4, budget="100kB", epochs=2)
    with replay.open(tmp_path / "run.h5") as run:
        assert run.frames == [(0, 0), (1, 3)]


def test_schedule_in_a_recording(tmp_path: Path) -> None:
    record(tmp_path / "run.h5", 4, 5, schedule="epochs=1:,first=2", every=2)
    with replay.open(tmp_path / "run.h5") as run:
        assert run.frames == [(1, 0), (2, 0), (3, 0)]
        assert run.meta["schedule"] == "every=2,epochs=1:,first=2"
    for wrong in ({"schedule": "no"}, {"budget": "no"}, {"max_map": 0}, {"ranks": "1"}):
        with pytest.raises(OptionError):
            Recorder(Tiny(), tmp_path / "other.h5", **wrong)
    assert not (tmp_path / "other.h5").exists()


SMALL = ["--samples", "40", "--epochs", "3", "--image-size", "32", "--device", "cpu"]


def test_plan_says_what_the_run_then_takes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.h5"
    assert main(["plan", *SMALL, "--json", "-o", str(path)]) == 0
    planned = json.loads(capfd.readouterr().out)
    assert not path.exists()
    assert main(["train", *SMALL, "--quiet", "--probe", "1", "-o", str(path)]) == 0
    capfd.readouterr()
    size = path.stat().st_size
    assert size <= planned["bytes"]["run"] < 1.8 * size
    assert planned["recorded"] == 9
    assert [(la["name"], la["probe"]) for la in planned["layers"]] == [
        (f"conv{n}", probe) for probe in (None, 0) for n in (1, 2, 3)
    ]
    assert main(["train", *SMALL, "--plan", "--budget", "750kB"]) == 0
    table, err = capfd.readouterr()
    assert err == ""
    head = "layer module frame dtype a batch an epoch the run"
    assert table.splitlines()[0].split() == head.split()
    assert "of 9 batches (epochs 0-2), at most" in table


def test_plan_without_data(capfd: pytest.CaptureFixture[str]) -> None:
    command = ["plan", "--model", "resnet18", "--epochs", "90", "--layers", "conv1", "--probe", "0"]
    shape = ["--input", "3x224x224", "--batches", "5000", "--max-map", "64"]
    assert main([*command, *shape, "--json", "--budget", "1GB"]) == 0
    planned = json.loads(capfd.readouterr().out)
    (layer,) = planned["layers"]
    assert (layer["shape"], layer["pooled"]) == ([64, 56, 56], 2)
    assert planned["bytes"]["run"] <= 10**9
    assert (planned["recorded_epochs"][0], planned["recorded_epochs"][-1]) == (0, 89)
    assert main([*command, "--input", "3x224x224"]) == 2
    assert "give both --input CxHxW and --batches N" in capfd.readouterr().err


class Late(Tiny):
    """Has a layer that joins late."""

    def __init__(self) -> None:
        super().__init__()
        self.late = nn.Conv2d(12, 2, 1)
        self.batches = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.batches += 1
        out = self.conv(x)
        return (self.late(out) if self.batches > 46 else out).mean()


@pytest.mark.parametrize("known", [True, False])
def test_a_layer_that_joins_when_the_budget_is_used_up_makes_it_no_small_one(
    tmp_path: Path, known: bool
) -> None:
    model, image = Late(), torch.rand(1, 3, 48, 48)
    with pytest.warns(RecordingWarning) as said:
        options = {"budget": "2MB", "epochs": 5 if known else None}
        with Recorder(model, tmp_path / "run.h5", layers=["conv", "late"], **options) as recorder:
            for _ in range(5):
                for images in recorder.track([image] * 10):
                    model(images)
    assert [str(each.message) for each in said] == ["did not fire in the first batch: late"]
    with replay.open(tmp_path / "run.h5") as run:
        assert len(run.frames) < 50
        assert run["late"].present.any()
