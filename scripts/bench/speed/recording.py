"""What recording every batch costs a training.

One model is trained in blocks of about a second, plain (without any hook of ours), recorded (all
Conv2d layers, every batch), recorded and plain again; the ratio of the two in the middle to the two
around them is taken, which a machine that becomes slower or faster does not touch, and the median
of these. After a block, outside the clock, the recorder's queue is emptied, so that its writer does
not work in the time of a plain one: of the writer's work at most the last tenth of a second is not
in the block's own time. The other ways of looking at feature maps take the recorder's place in the
same manner.
"""

from __future__ import annotations

import gc
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import torch
from floor import ALL_DONE
from rivals import OTHERS, version_of
from table import Line, difference, ratio, run
from torch import nn
from watches import Watch

from record import Recorder
from record.training.models import build


class Training:
    """A model, its optimizer and one batch, which is trained again and again."""

    def __init__(self, model: nn.Module, images: torch.Tensor) -> None:
        self.model = model
        self.images = images
        self.labels = torch.arange(len(images), device=images.device) % 10
        self.optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        self.loss = nn.CrossEntropyLoss()

    def step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(self.model(self.images), self.labels).backward()
        self.optimizer.step()


def block(training: Training, steps: int, watch: Watch | None) -> float:
    """Seconds of a block of steps, with what is done in each to look at the maps."""
    device = training.images.device
    if watch is not None:
        watch.on()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    for _ in range(steps):
        training.step()
        if watch is not None:
            watch.step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    taken = time.perf_counter() - started
    if watch is not None:
        watch.off()
    return taken


class Recorded(Watch):
    OPTIONS: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, model: nn.Module, folder: Path) -> None:
        super().__init__(model, folder)
        self.recorder = Recorder(model, folder / "run.h5", **self.OPTIONS)
        self.recorder._capture.remove()

    def on(self) -> None:
        self.recorder._capture.install(self.recorder._progress)

    def off(self) -> None:
        self.recorder._capture.remove()
        self.recorder.flush()

    def step(self) -> None:
        self.recorder.step()

    def close(self) -> None:
        self.recorder.close()


class RecordedGradients(Recorded):
    """With the gradients with respect to all maps, at every batch."""

    OPTIONS: dict[str, Any] = {"gradients": True}  # noqa: RUF012


class Floor(Watch):
    """The least that could be done: hooks that copy, and a process that write()s what they copied.

    The copies are those of a recording: the first image, and its maps of every convolution, as
    float16 in memory that both processes share. There is no checksum, no range, no HDF5, and
    nobody looks whether the memory is free again.
    """

    SLOTS = 128

    def __init__(self, model: nn.Module, folder: Path) -> None:
        super().__init__(model, folder)
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._memory: SharedMemory | None = None
        self._number = 0

    def on(self) -> None:
        def take(_: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            self.keep("", given[0])

        super().on()
        self._hooks.append(self.model.register_forward_pre_hook(take))

    def keep(self, name: str, output: torch.Tensor) -> None:
        first = output.detach()[0]
        if self._memory is None:
            self._shapes[name] = first.shape
        else:
            self._views[self._number][name].copy_(first)

    def step(self) -> None:
        if self._memory is None:  # now that all shapes are known
            self._start()
        self._child.stdin.write(bytes([self._number]))
        self._number = (self._number + 1) % self.SLOTS

    def _start(self) -> None:
        values = sum(math.prod(shape) for shape in self._shapes.values())
        self._memory = SharedMemory(create=True, size=2 * values * self.SLOTS)
        flat = torch.frombuffer(self._memory.buf, dtype=torch.float16)
        self._views: list[dict[str, torch.Tensor]] = []
        at = 0
        for _ in range(self.SLOTS):
            self._views.append({})
            for name, shape in self._shapes.items():
                self._views[-1][name] = flat[at : at + math.prod(shape)].view(shape)
                at += math.prod(shape)
        arguments = [self._memory.name, str(2 * values), str(self.folder / "floor.bin")]
        self._child = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("floor.py")), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def off(self) -> None:
        super().off()
        self._child.stdin.write(bytes([ALL_DONE]))
        assert self._child.stdout.read(1) == b"."

    def close(self) -> None:
        self._child.stdin.close()
        self._child.wait()
        assert (self.folder / "floor.bin").stat().st_size
        self._views.clear()
        self._memory.unlink()  # it is unmapped at the end: tensors may still look into it


def pairs(
    training: Training,
    make: Callable[[nn.Module, Path], Watch],
    seconds: float,
    least: int = 3,
    each: float = 1.0,
    multiple: int = 1,
) -> tuple[list[float], float]:
    """Ratios of watched blocks to plain ones around them, and the plain step's seconds.

    Args:
        training: What is trained.
        make: The way of looking at its maps.
        seconds: How long to go on.
        least: Ratios, at least.
        each: Seconds of a block, about.
        multiple: Of so many steps a block has some: where something is done at each tenth, say.
    """
    found: list[float] = []
    plain: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        watch = make(training.model, Path(folder))
        block(training, 3, None)
        slowest = max(block(training, 3, turn) / 3 for turn in (None, watch))
        steps = max(1, round(each / slowest / multiple)) * multiple
        gc.collect()
        deadline = time.perf_counter() + seconds
        while len(found) < least or time.perf_counter() < deadline:
            taken = [block(training, steps, turn) for turn in (None, watch, watch, None)]
            found.append((taken[1] + taken[2]) / (taken[0] + taken[3]))
            plain += [taken[0] / steps, taken[3] / steps]
        watch.close()
    return found, statistics.median(plain)


def beside_floor(
    training: Training, rounds: int, each: float
) -> tuple[list[float], list[float], float]:
    """Recorded blocks, the floor's and plain ones in one run, by turns.

    Args:
        training: What is trained.
        rounds: How many times.
        each: Seconds of a block, about.

    Returns:
        Ratios of recorded blocks to the plain ones around them, those of the floor's to the same
        plain ones, and the plain step's seconds.
    """
    recorded, floors, plain = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folders = Path(name) / "recorded", Path(name) / "floor"
        for folder in folders:
            folder.mkdir()
        ours, floor = Recorded(training.model, folders[0]), Floor(training.model, folders[1])
        block(training, 3, None)
        slowest = max(block(training, 5, turn) / 5 for turn in (None, floor, ours))
        steps = max(1, round(each / slowest))
        for turn in (ours, floor):
            block(training, steps, turn)
        gc.collect()
        for number in range(rounds):
            first, second = (ours, floor) if number % 2 else (floor, ours)
            turns = (None, first, second, second, first, None)
            taken = [block(training, steps, turn) for turn in turns]
            around = taken[0] + taken[5]
            outer, inner = (taken[1] + taken[4]) / around, (taken[2] + taken[3]) / around
            recorded.append(outer if first is ours else inner)
            floors.append(inner if first is ours else outer)
            plain += [taken[0] / steps, taken[5] / steps]
        ours.close()
        floor.close()
    return recorded, floors, statistics.median(plain)


def memory(training: Training) -> float:
    """MB by which the trainer's memory grows over 200 recorded steps, beyond its bounded queue."""
    with tempfile.TemporaryDirectory() as folder:
        watch = Recorded(training.model, Path(folder))
        block(training, 60, watch)
        before = resident()
        block(training, 200, watch)
        grown = resident() - before
        watch.close()
    return max(0.0, grown)


def resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def cases(quick: bool) -> Iterator[tuple[str, str, int, int, float]]:
    """(words, model, image size, batch, seconds)."""
    yield "tiny, 128×128, batch 16", "tiny", 128, 16, 5 if quick else 84
    yield "tiny, 128×128, batch 64", "tiny", 128, 64, 5 if quick else 60
    yield "ResNet-18, 64×64, batch 32", "resnet18", 64, 32, 5 if quick else 66
    yield "ResNet-18, 224×224, batch 8", "resnet18", 224, 8, 5 if quick else 60


def lines(quick: bool) -> Iterator[Line]:
    torch.manual_seed(0)
    each = 0.3 if quick else 1.0  # seconds of a block
    for words, name, size, batch, seconds in cases(quick):
        images = torch.rand(batch, 3, size, size)
        training = Training(build(name, 10, size).train(), images)
        if (name, batch) == ("tiny", 16):
            yield from beside_others(training, words, quick)
        else:
            found, step = pairs(training, Recorded, seconds, each=each)
            what = f"recorded / plain step: {words} ({1000 * step:.0f} ms)"
            yield ratio(what, found, target=1.02)
        if batch == 8 or name == "tiny":
            found, _ = pairs(training, RecordedGradients, seconds, each=each)
            yield ratio(f"recorded with gradients / plain step: {words}", found, target=1.05)
    import activating  # which measure with what is above
    import attending

    yield from attending.lines(quick)
    yield from activating.lines(quick)


def beside_others(training: Training, words: str, quick: bool) -> Iterator[Line]:
    """The smallest network: as near to the least as can be, and beside other ways."""
    rounds, each = (30, 0.2) if quick else (60, 0.5)
    found, floors, step = beside_floor(training, rounds, each)
    yield ratio(f"recorded / plain step: {words} ({1000 * step:.0f} ms)", found)
    floor = "hooks that copy, write() in another process"
    yield ratio(f"beside it: {floor}, {words}", floors)
    beyond = [ours - least for ours, least in zip(found, floors, strict=True)]
    yield difference(f"recorded, beyond {floor}: {words}", beyond, target=0.005)
    yield Line("growth of the trainer's memory over 200 recorded steps", memory(training), " MB", 5)
    for other, (watch, package) in OTHERS.items():
        version = version_of(package)
        what = f"beside it: {other}, {package} {version or ''}".rstrip() + f", {words}"
        if version is None:
            yield Line(what, None, note=f"skipped: {package} is not installed")
            continue
        try:
            found, _ = pairs(training, watch, 2 if quick else 10, each=0.3)
        except Exception as error:
            reason = " ".join(str(error).split())[:80]
            yield Line(what, None, note=f"skipped: {type(error).__name__}: {reason}")
            continue
        yield ratio(what, found)


if __name__ == "__main__":
    sys.exit(run(lines, "record", __doc__.splitlines()[0]))
