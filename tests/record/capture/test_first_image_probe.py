"""The first image, shown to a network that nobody has asked, leaves nothing behind, or is not shown.

Every training here is done twice, with and without the recorder, and ends the same to the bit.
"""

from __future__ import annotations

import random
import sys
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

import replay
from record import Recorder
from record.schedule import cadence
from replay.schema import OptionError

pytestmark = pytest.mark.usefixtures("quick_writers")

CALLS: list[int] = []
STATE = {"calls": 0}
CALLED = 0
NUMBERS = np.random.default_rng(3)
PYTHON = random.Random(4)
OWNER = set[int]()


@pytest.fixture
def every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has no time pass while the image is shown: it is shown at each batch."""
    monkeypatch.setattr(cadence, "now", lambda: 0.0)


def data(count: int = 6, shape: tuple[int, ...] = (4, 3, 8, 8)) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


def train(
    make: Callable[[], nn.Module],
    path: Path | None,
    call: Callable[[nn.Module, torch.Tensor], Any] = lambda model, x: model(x),
    batches: list[torch.Tensor] | None = None,
    probe: Any = "first",
    **options: Any,
) -> tuple[nn.Module, list[Any], Recorder | None]:
    """Trains two epochs; returns the model, all random states behind each step, and the recorder.

    The training draws random numbers itself, so that a draw too many would be seen.
    """
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    recorder = None if path is None else Recorder(model, path, probe=probe, quiet=True, **options)
    states: list[Any] = []
    for _ in range(2):
        loaded = data() if batches is None else batches
        for x in loaded if recorder is None else recorder.track(loaded):
            optimizer.zero_grad()
            x = x + 0.01 * torch.randn(x.shape) if x.is_floating_point() else x
            output = call(model, x)
            output = output[0] if isinstance(output, tuple) else output
            (output.square().mean() * (1 + 0.1 * random.random() + np.random.rand())).backward()
            optimizer.step()
            states.append(
                (random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state())
            )
    if recorder is not None:
        recorder.close()
    return model, states, recorder


def assert_same(one: nn.Module, other: nn.Module, states: list[Any], others: list[Any]) -> None:
    for (name, here), there in zip(
        one.state_dict().items(), other.state_dict().values(), strict=True
    ):
        assert torch.equal(here, there), name
    assert [m.training for m in one.modules()] == [m.training for m in other.modules()]
    for (python, numbers, torchs), expected in zip(states, others, strict=True):
        assert (python, numbers) == expected[:2]
        assert torch.equal(torchs, expected[2])


def both(make: Callable[[], nn.Module], path: Path, **options: Any) -> Recorder:
    """Trains with and without, and returns the recorder once nothing differs."""
    plain, states, _ = train(make, None, **options)
    model, others, recorder = train(make, path, **options)
    assert_same(plain, model, states, others)
    assert recorder is not None
    assert recorder.lost == recorder.dropped == 0
    return recorder


def shown(path: Path) -> list[tuple[int, int]]:
    with replay.open(path) as run:
        return list(run.probe(0)[run.layers[0]].frames) if run.probes else []


class Plain(nn.Module):
    """Batch normalisation, dropout, a counter in a buffer, random numbers of three kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.3)
        self.fc = nn.Linear(4, 2)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        noise = torch.rand(()) + random.random() + np.random.rand()
        x = self.drop(torch.relu(self.bn(self.conv(x))))
        return self.fc(x.mean((2, 3))) + 0 * noise


@pytest.mark.usefixtures("every_batch")
def test_its_maps_are_those_of_the_first_image_after_each_update(tmp_path: Path) -> None:
    both(Plain, tmp_path / "run.h5", layers=["conv", "bn"])
    expected = []
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    model, first = Plain(), None
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(2):
        for x in data():
            optimizer.zero_grad()
            x = x + 0.01 * torch.randn(x.shape)
            first = x[:1].clone() if first is None else first
            output = model(x)
            (output.square().mean() * (1 + 0.1 * random.random() + np.random.rand())).backward()
            optimizer.step()
            with torch.no_grad():
                conv = nn.functional.conv2d(first, model.conv.weight, model.conv.bias, padding=1)
                norm = nn.functional.batch_norm(
                    conv, model.bn.running_mean, model.bn.running_var, model.bn.weight,
                    model.bn.bias,
                )  # fmt: skip
            expected.append((conv[0].half().numpy(), norm[0].half().numpy()))
    with replay.open(tmp_path / "run.h5") as run:
        fixed = run.probe(0)
        assert fixed["conv"].frames == run.frames
        for place, (epoch, batch) in enumerate(run.frames):
            for name, frame in zip(("conv", "bn"), expected[place], strict=True):
                assert fixed[name][epoch, batch].tobytes() == frame.tobytes()
        assert fixed.inputs[0, 0].tobytes() == run.inputs[0, 0].tobytes()
        assert (run.batches["missing"] == 0).all()


class Remembers(Plain):
    """Keeps what it did, in all ways in which Python can."""

    shared = 0
    kept: ClassVar[list[int]] = []

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.last: Any = None
        self.lines: list[int] = []
        self.table = {"calls": 0, "nested": {"calls": [0]}}
        self.window: deque[int] = deque(maxlen=3)
        self.met: set[int] = set()
        self.array = np.zeros(2)
        self.meter = Meter()
        self.bound = self.remember
        self.generator = np.random.default_rng(1)

    def remember(self) -> None:
        self.count += 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        global CALLED
        CALLED += 1
        CALLS.append(len(x))
        STATE["calls"] += 1
        Remembers.shared += 1
        self.kept.append(1)
        self.bound()
        self.lines.append(len(x))
        self.table["calls"] += 1
        self.table["nested"]["calls"][0] += 1
        self.window.append(self.count)
        self.met.add(self.count)
        self.array[0] += 1
        self.meter.update(len(x))
        x = x + 0.01 * self.generator.random() + 0.01 * NUMBERS.random() + 0.01 * PYTHON.random()
        out = super().forward(x)
        out = out + (0 if self.last is None else 0.1 * self.last.detach().mean())
        self.last = out
        print("called")
        return out


class Meter:
    __slots__ = ("sum", "values")

    def __init__(self) -> None:
        self.sum, self.values = 0, [0]

    def update(self, number: int) -> None:
        self.sum += number
        self.values.append(number)


@pytest.mark.usefixtures("every_batch")
def test_what_a_forward_does_in_python_is_undone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(path: Path | None) -> tuple[Any, ...]:
        global CALLED, NUMBERS, PYTHON
        CALLED, Remembers.shared = 0, 0
        NUMBERS, PYTHON = np.random.default_rng(3), random.Random(4)
        CALLS.clear(), Remembers.kept.clear()
        STATE["calls"] = 0
        seen: list[int] = []

        def make() -> nn.Module:
            model = Remembers()
            model.conv.register_forward_hook(lambda *_: seen.append(1))
            return model

        model, states, _ = train(make, path)
        there = (
            *(CALLED, list(CALLS), dict(STATE), Remembers.shared, list(Remembers.kept), seen),
            *(model.count, model.lines, model.table, list(model.window), model.met),
            *(model.array.tolist(), model.meter.sum, model.meter.values),
            *(NUMBERS.random(), PYTHON.random(), model.generator.random()),
            capsys.readouterr().out,
        )
        return there, model, states

    plain, model, states = run(None)
    recorded, other, others = run(tmp_path / "run.h5")
    assert recorded == plain
    assert plain[-1] == 12 * "called\n"
    assert_same(model, other, states, others)
    assert len(shown(tmp_path / "run.h5")) == 12


class Bank(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.bank = torch.zeros(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = super().forward(x)
        self.bank[:1] += out.detach()[:1]
        return out + 0.1 * self.bank.mean()


class Draws(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + 0.1 * torch.rand((), generator=self.generator)


class Writes(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.log = open(__file__)


class Iterates(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.numbers = iter(range(1000))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + 0.01 * next(self.numbers)


class OnlyTrains(Plain):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            raise ValueError("not in evaluation mode")
        return super().forward(x)


class Normalises(Plain):
    """Counts in evaluation mode, too, into tensors that are no buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.var = torch.zeros(3), torch.ones(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(nn.functional.batch_norm(x, self.mean, self.var, training=True))


class Owned(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.trainer = weakref.proxy(OWNER)


def scripted() -> nn.Module:
    model = Plain()
    model.fc = torch.jit.script(model.fc)
    return model


def compiled() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2))
    model[0].compile(backend="eager")
    return model


REFUSED = [
    (Bank, "changes tensors in place"),
    (Normalises, "changes tensors in place"),
    (Draws, "random generator of its own"),
    (Writes, "TextIOWrapper"),
    (Iterates, "iterator"),
    (Owned, "what it belongs to"),
    (OnlyTrains, "not in evaluation mode"),
    (scripted, "scripted"),
    (compiled, "compiled"),
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("make", "reason"), REFUSED, ids=[make.__name__ for make, _ in REFUSED])
def test_where_that_is_not_safe_it_is_left_out(
    tmp_path: Path, make: Callable[[], nn.Module], reason: str
) -> None:
    recorder = both(make, tmp_path / "run.h5")
    assert reason in recorder._checks.why_no_probe
    with replay.open(tmp_path / "run.h5") as run:
        assert len(run.frames) == 12
        assert run.probes == 0


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 4)

    def forward(
        self, x: torch.Tensor, scale: float, *, mask: torch.Tensor, extra: dict[str, Any]
    ) -> torch.Tensor:
        x = self.conv(x) * scale * extra["weights"].view(-1, 1, 1, 1)
        return (self.fc(x.mean((2, 3))) * mask) + extra["bias"]


@pytest.mark.usefixtures("every_batch")
def test_a_forward_of_several_arguments(tmp_path: Path) -> None:
    def call(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
        extra = {"weights": torch.arange(4.0) + 2, "bias": torch.ones(4)[None]}
        return model(x, 0.5, mask=torch.ones(4, 4), extra=extra)

    both(Several, tmp_path / "run.h5", call=call)
    with replay.open(tmp_path / "run.h5") as run:
        fixed = run.probe(0)
        assert len(fixed["conv"].frames) == 12
        # The same image, the same kernels but for one update.
        there, here = fixed["conv"][0, 0].astype(float), run["conv"][0, 0].astype(float)
        assert np.abs(there - here).max() < 0.2 * np.abs(here).max()


@pytest.mark.usefixtures("every_batch")
def test_tokens_are_shown_without_a_picture(tmp_path: Path) -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(20, 8)
            self.mix = nn.Conv1d(8, 8, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.mix(self.embedding(x).transpose(1, 2))

    batches = [torch.arange(4 * 9).view(4, 9) % 20 for _ in range(3)]
    both(Words, tmp_path / "run.h5", batches=batches)
    assert len(shown(tmp_path / "run.h5")) == 6
    film = replay.animate(tmp_path / "run.h5", tmp_path / "film.gif", probe=0)
    assert film.frames == 6


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda model, x: model(list(x)), "list of images"),
        (lambda model, x: model(x[0]), "which axis"),
        (lambda model, x: model(Holder(x)), "which axis"),
        (lambda model, x: model.conv(x), "called directly"),
    ],
)
def test_inputs_that_do_not_come_apart(
    tmp_path: Path, call: Callable[[nn.Module, torch.Tensor], Any], reason: str
) -> None:
    class Takes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Any) -> torch.Tensor:
            x = torch.stack(x) if isinstance(x, list) else getattr(x, "images", x)
            return self.conv(x)

    recorder = both(Takes, tmp_path / "run.h5", call=call)
    assert reason in recorder._checks.why_no_probe


class Holder:
    def __init__(self, images: torch.Tensor) -> None:
        self.images = images


@pytest.mark.usefixtures("every_batch")
@pytest.mark.parametrize("probe", ["first", torch.rand(1, 3, 8, 8)], ids=["first", "given"])
@pytest.mark.parametrize("marks", ["track", "step", "nothing"])
def test_under_autocast_no_weight_loses_its_gradient(
    tmp_path: Path, probe: Any, marks: str
) -> None:
    """A weight that is converted without a gradient must not stay in autocast's cache."""

    def run(path: Path | None) -> nn.Module:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2))
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        recorder = None if path is None else Recorder(model, path, probe=probe, quiet=True)
        batches = data()
        for x in recorder.track(batches) if recorder and marks == "track" else batches:
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                output = model(x)
            output.float().square().mean().backward()
            optimizer.step()
            if recorder and marks == "step":
                recorder.step()
        if recorder is not None:
            recorder.close()
        return model

    plain, model = run(None), run(tmp_path / "run.h5")
    for here, there in zip(plain.parameters(), model.parameters(), strict=True):
        assert torch.equal(here, there)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_under_autocast_around_the_whole_training(tmp_path: Path, dtype: torch.dtype) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        batches = [x.to(dtype) for x in data()]
        recorder = both(lambda: Plain().to(dtype), tmp_path / "run.h5", batches=batches)
    assert recorder._checks.why_no_probe == ""
    assert shown(tmp_path / "run.h5")


class Passing(TorchFunctionMode):
    """A mode of the script's that changes nothing, as far as anyone knows."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("mode", "reason"),
    [(torch.device("cpu"), ""), (Passing(), "a mode or transformation of torch goes on")],
    ids=["default device", "another"],
)
def test_within_modes_of_torch(tmp_path: Path, mode: Any, reason: str) -> None:
    with mode:
        recorder = both(Plain, tmp_path / "run.h5", gradients=True)
    assert recorder._checks.why_no_probe.startswith(reason)
    assert bool(shown(tmp_path / "run.h5")) != bool(recorder._checks.why_no_probe)


def test_a_collective_is_refused_before_others_wait_for_it(tmp_path: Path) -> None:
    class Gathers(Plain):
        calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = super().forward(x)
            total = out.detach().sum()
            torch.distributed.all_reduce(total)
            return out + 0.01 * total

    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1
    )
    try:
        recorder = both(Gathers, tmp_path / "run.h5")
    finally:
        torch.distributed.destroy_process_group()
    assert "other processes" in recorder._checks.why_no_probe


def test_a_recording_that_is_gone_on_with_has_its_image(tmp_path: Path) -> None:
    train(Plain, tmp_path / "run.h5")
    first = shown(tmp_path / "run.h5")
    _, _, recorder = train(Plain, tmp_path / "run.h5", resume=True)
    assert recorder is not None
    assert "gone on with" in recorder._checks.why_no_probe
    assert shown(tmp_path / "run.h5") == first


def test_another_thread_that_trains_is_left_alone(tmp_path: Path) -> None:
    import threading

    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        recorder = both(Plain, tmp_path / "run.h5")
    finally:
        done.set()
        thread.join()
    assert "other threads" in recorder._checks.why_no_probe


@pytest.mark.parametrize("probe", ["last", 3, "first image"])
def test_what_is_no_probe(tmp_path: Path, probe: object) -> None:
    with pytest.raises(OptionError, match="probe"):
        Recorder(Plain(), tmp_path / "run.h5", probe=probe)  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [0, -1, 2])
def test_a_share_is_a_share(tmp_path: Path, share: float) -> None:
    with pytest.raises(OptionError, match="probe_share"):
        Recorder(Plain(), tmp_path / "run.h5", probe="first", probe_share=share)


class Clock:
    """A clock that tells the times that a training and its probes take."""

    def __init__(self, step: float, cost: Callable[[int], float]) -> None:
        self.time, self.step, self.cost = 0.0, step, cost

    def __call__(self) -> float:
        return self.time

    def run(
        self, cadence: cadence.Cadence, batches: int, length: int = 1 << 30, asks: int = 1
    ) -> Iterator[tuple[int, int]]:
        """Trains so many batches, `length` an epoch, and asks at the last of each `asks`."""
        for number in range(batches):
            self.time += self.step
            epoch, batch = divmod(number, length)
            if (number + 1) % asks == 0 and cadence.is_due(epoch, batch, batch + 1 == length):
                with cadence:
                    self.time += self.cost(number)
                yield epoch, batch


@pytest.mark.parametrize(("step", "cost", "stride"), [(1, 0.01, 1), (1, 0.1, 8), (0.01, 0.0008, 4)])
def test_the_cadence_is_regular_and_cheap(step: float, cost: float, stride: int) -> None:
    clock = Clock(step, lambda batch: cost if batch else 0.9)  # the first one warms up
    due = [batch for _, batch in clock.run(cadence.Cadence(0.02, clock), 512)]
    assert due[:3] == [0, 1, 2]
    assert due[3] in (3, stride, 2 * stride)
    assert due[3:] == list(range(due[3], 512, stride))
    assert cost * len(due) <= 0.0205 * step * 512 + 2 * cost


def test_a_slow_probe_is_not_repeated_to_find_out() -> None:
    clock = Clock(2.0, lambda batch: 4.0)
    due = list(clock.run(cadence.Cadence(0.02, clock), 512))
    assert due == [(0, 0), (0, 128), (0, 256), (0, 384)]


def test_epochs_have_it_at_the_same_batches_and_at_their_ends() -> None:
    clock = Clock(1.0, lambda batch: 0.09)
    due = list(clock.run(cadence.Cadence(0.02, clock), 600, length=60))
    for epoch in range(1, 10):
        batches = [batch for at, batch in due if at == epoch]
        assert {8, 16, 24, 32, 40, 48, 56} <= set(batches) <= {*range(0, 60, 8), 59}
    assert sum(batch == 59 for _, batch in due) >= 7
    assert 0.09 * len(due) <= 0.02 * 600 + 0.1


def test_two_runs_have_it_at_common_batches() -> None:
    found = []
    for cost in (0.05, 0.11):
        clock = Clock(1.0, lambda batch, cost=cost: cost)
        found.append(set(clock.run(cadence.Cadence(0.02, clock), 600, length=60)))
    often, seldom = found
    inside = {(epoch, batch) for epoch, batch in seldom if 0 < batch < 59}
    assert inside <= often


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_short_epochs_do_not_make_it_dear(length: int) -> None:
    clock = Clock(1.0, lambda batch: 0.2)
    due = list(clock.run(cadence.Cadence(0.02, clock), 600, length=length))
    assert 600 * 0.02 / 0.2 / 2 <= len(due) <= 600 * 0.02 / 0.2 + 4


def test_where_batches_are_passed_over_the_next_one_has_it() -> None:
    clock = Clock(1.0, lambda batch: 0.07)
    due = [batch for _, batch in clock.run(cadence.Cadence(0.02, clock), 400, asks=4)]
    assert due[:3] == [3, 7, 11]  # the last of the batches whose gradients are accumulated
    assert 300 * 0.02 / 0.07 <= len(due) <= 400 * 0.02 / 0.07 + 4


def test_a_training_that_slows_down_shows_it_more_often() -> None:
    clock = Clock(0.01, lambda batch: 0.002)
    one = cadence.Cadence(0.02, clock)
    before = len(list(clock.run(one, 200)))
    clock.step = 1.0
    assert len(list(clock.run(one, 200))) > 4 * before


class Aside(nn.Module):
    """Puts out nothing that has values where it is evaluated, and says that it runs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        print("aside", file=sys.stderr)
        return x * 1.0 if self.training else torch.empty(x.shape, device="meta")


class BesideNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.aside = Aside()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.conv(x)
        self.aside(maps)
        return maps


def test_why_a_frame_of_it_is_lost_is_heard_while_the_network_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = BesideNet()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = _show
        layers = ["conv", "aside"]
        with Recorder(model, tmp_path / "run.h5", layers, probe="first", quiet=True) as recorder:
            for images in recorder.track(data(1)):
                model(images).sum().backward()
    said = capsys.readouterr().err
    assert said.count("aside\n") == 1
    assert "cannot record aside: ValueError: its output has a shape but no values" in said


def _show(message: Any, *_: Any, **__: Any) -> None:
    print(message, end="!\n", file=sys.stderr)
