"""How time and memory grow: with frames, layers, channels, epochs and files.

Each command runs as a process of its own on recordings that differ in one number alone. Counted are
the processor's seconds of the process and its children (`ffmpeg`), and the most memory that the
process had; it has one core, so that no processes are started beside it. What a command shows grows
with the number or it does not: where it does, time may grow in proportion; where it does not, time
and memory stay. The exponent is that of the last step, of what is beyond the smallest recording's:
1 is in proportion.

The whole of it is bounded: each axis has a share of `MINUTES` of the processor's time, which is
that of the clock where nothing else runs, and what one leaves goes to the next. A command is not
run on a recording on which it would take longer than what is left, told from the one before; its
line says so, and is a verdict on the sizes that it was run on.
"""

from __future__ import annotations

import argparse
import functools
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from table import ROOT, Line, show

from record.protocol import messages
from record.protocol.layout import BatchLayout
from record.writer.recording_file import RecordingFile
from replay.schema import FORMAT, VERSION, Layer

STEADY = 1.4  # times, of what must not grow, beyond noise
NOISE = 0.25  # seconds
STEEPEST = 1.2  # the exponent of what may grow in proportion
ROOM = 60e6  # bytes by which memory may differ where nothing grows
ONCE = 5  # seconds from which a command is not run a second time
MINUTES = 14.0  # of the processor's time, for everything
BUSY = 8  # times by which the clock may be ahead of the processor before a command is given up
A_FILM = 1.5  # seconds of the processor that are counted for each film of a sweep, rendered twice
STEEP = 1.15  # the exponent that is expected of a command when its time is foretold


@dataclass(frozen=True)
class Size:
    """How large a recording is.

    Attributes:
        epochs: The number of epochs.
        batches: The number of batches of each.
        layers: The number of layers.
        channels: The number of channels of each, of 4×4 values.
    """

    epochs: int = 10
    batches: int = 10
    layers: int = 1
    channels: int = 4

    def make(self, path: Path) -> None:
        """Writes such a recording by the real writer."""
        layer = Layer("", "Conv2d(3, 4, kernel_size=(3, 3))", (self.channels, 4, 4))
        layers = tuple(replace(layer, name=f"layer{i}") for i in range(self.layers))
        layout = BatchLayout(((3, 8, 8),), layers)
        attributes = {
            "format": FORMAT, "version": VERSION, "run_id": "0", "created": "", "meta": "{}",
        }  # fmt: skip
        file = RecordingFile(str(path), False, attributes, durability="flush")
        file.set_layout(layout, self.batches)
        rng = np.random.default_rng(0)
        block = max(1, min(self.batches, 256, (8 << 20) // (2 * layout.size)))
        for epoch in range(self.epochs):
            for first in range(0, self.batches, block):
                stop = min(first + block, self.batches)
                headers = [
                    messages.FrameHeader(
                        epoch, batch, epoch * self.batches + batch, 0.0, {"loss": 1.0}, image=0
                    )
                    for batch in range(first, stop)
                ]
                shape = (stop - first, layout.size)
                file.write(headers, rng.standard_normal(shape, np.float32).astype(np.float16))
            file.commit()
        file.close()


@dataclass(frozen=True)
class Axis:
    """What grows.

    Attributes:
        name: Its name.
        sizes: Its numbers, the smallest first.
        steps: Those of which the recorded step is measured.
        size: Gives the size of the recording of each.
        grows: The commands that show more of a larger recording.
        share: Of the time for all axes.
    """

    name: str
    sizes: Sequence[int]
    steps: Sequence[int]
    size: Callable[[int], Size]
    grows: frozenset[str]
    share: float


def spent() -> float:
    """Returns the processor's seconds of all processes that were started here and have ended."""
    found = os.times()
    return found.children_user + found.children_system


class RefusedError(Exception):
    """A command that shows no more of so large a recording than it says, in a line."""


@dataclass
class Clock:
    """How much of the processor's time is left.

    Attributes:
        end: When it ends, of `spent`.
    """

    end: float

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return self.end - spent()


@dataclass
class Course:
    """What a command took on recordings of growing size.

    Attributes:
        grows: Whether it shows more of a larger one.
        sizes: Those that it was measured on.
        costs: The processor's seconds and the peak of memory in bytes on each.
        taken_in_all: The seconds that measuring each took, all repetitions included.
        gap: Why it was not measured on the next one; empty where it was.
    """

    grows: bool
    sizes: list[int]
    costs: list[tuple[float, float]]
    taken_in_all: list[float]
    gap: str = ""

    def foretell(self, size: int) -> float:
        """Returns the seconds that measuring a size will take; 0 where nothing is known."""
        if not self.taken_in_all:
            return 0.0
        if len(self.taken_in_all) == 1 or not self.grows:
            return self.taken_in_all[-1]
        ratio = size / self.sizes[-1]
        return self.taken_in_all[0] + (self.taken_in_all[-1] - self.taken_in_all[0]) * ratio**STEEP

    def go_on(self, size: int, clock: Clock, run: Callable[[float], tuple[float, float]]) -> None:
        """Measures the next size, if there is time for it."""
        if self.gap:
            return
        expected = self.foretell(size)
        if expected > clock.left:
            self.gap = f"{size:,}: not measured, which would take about {expected:.0f} s"
            return
        before = spent()
        try:
            cost = run(BUSY * max(clock.left, 10.0))
        except RefusedError as refused:
            self.gap = f"{size:,}: refused, {refused}"
            return
        if math.isinf(cost[0]):
            self.gap = f"{size:,}: given up after {spent() - before:.0f} s"
            return
        self.taken_in_all.append(spent() - before)
        self.sizes.append(size)
        self.costs.append(cost)


STEP = "1,000 recorded steps, beyond plain ones"
COMMANDS = {
    "info": ["info", "{path}"],
    "animate of ten frames": [
        "animate", "{path}", "-o", "{out}.mp4", "--epochs", "0", "--batches", "0:10",
        "--layer", "layer0", "--channels", "0:4",
    ],
    "page": ["page", "{path}", "-o", "{out}.html"],
    "health": ["health", "{path}"],
    "verify": ["verify", "{path}"],
    "pack": ["pack", "{path}", "-o", "{out}.h5", "--overwrite", "--quiet"],
}  # fmt: skip

TRAINING = """
import resource, sys, time, torch
from record import Recorder
path, (layers, channels, epochs, batches) = sys.argv[1], map(int, sys.argv[2:])
torch.set_num_threads(1)
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Conv2d(3, channels, 3) for _ in range(layers))
    def forward(self, x):
        return sum(layer(x).mean() for layer in self.layers)
net, x = Net(), torch.zeros(1, 3, 6, 6)
def epoch(recorder):
    started = time.process_time()
    for image in [x] * batches if recorder is None else recorder.track([x] * batches):
        net(image)
    return (time.process_time() - started) / batches
plain = min(epoch(None) for _ in range(5))
with Recorder(net, path, layers="*", quiet=True, durability="flush") as recorder:
    taken = [epoch(recorder) for _ in range(epochs)]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(min(taken[-5:]) - plain, peak)
"""

SWEEP = """
import os, sys, time
from pathlib import Path
import replay
from dask.distributed import Client, LocalCluster

def pin(core):
    os.sched_setaffinity(0, {core})  # ffmpeg, a child, stays on it, too

def one(run, out):
    return replay.animate(run, out, overwrite=True).frames

def spent():
    return sum(os.times()[:4])  # of ffmpeg, too

if __name__ == "__main__":
    runs, workers = sorted(Path(sys.argv[1]).glob("*.h5")), int(sys.argv[2])
    cores = sorted(os.sched_getaffinity(0))
    with LocalCluster(workers, threads_per_worker=1, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            for core, name in zip(cores, client.scheduler_info()["workers"]):
                client.run(pin, core, workers=[name])
            outs = [run.with_suffix(f".{workers}.mp4") for run in runs]
            executor = client.get_executor()
            for name in client.scheduler_info()["workers"]:
                client.run(one, runs[0], outs[0], workers=[name])  # imports
            before, started = client.run(spent), time.perf_counter()
            frames = sum(executor.map(one, runs, outs))
            taken, after = time.perf_counter() - started, client.run(spent)
            work = [after[name] - before[name] for name in after]
            print(taken, sum(work), max(work), frames)
"""


def _write(size: Size, path: Path, longest: float) -> tuple[float, float]:
    """Writes a recording in another process: a command inherits the peak of its parent's memory.

    Args:
        size: How large it is.
        path: Where to.
        longest: Seconds by the clock after which it is given up.

    Returns:
        Infinite seconds if it was given up, else none; no memory.
    """
    process = multiprocessing.get_context("fork").Process(target=size.make, args=(path,))
    process.start()
    process.join(longest)
    if process.exitcode is None:
        process.kill()
        process.join()
        return math.inf, 0.0
    if process.exitcode:
        raise RuntimeError(f"{path} was not written")
    return 0.0, 0.0


def axes(quick: bool) -> list[Axis]:
    """The axes, each over as many powers of ten as there is time for."""

    def upto(few: Sequence[int], most: Sequence[int]) -> Sequence[int]:
        return few if quick else most

    shown = frozenset({"page", "health", "verify", "pack"})
    return [
        Axis(
            "frames",
            upto((100, 1_000, 5_000), (100, 10_000, 100_000, 1_000_000)),
            upto((100, 2_000), (100, 1_000, 10_000, 100_000)),
            lambda n: Size(epochs=10, batches=n // 10),
            shown,
            0.4,
        ),
        Axis(
            "epochs",
            upto((10, 100, 1_000), (10, 100, 1_000, 10_000)),
            upto((10, 300), (10, 100, 1_000, 10_000)),
            lambda n: Size(epochs=n, batches=4),
            shown,
            0.15,
        ),
        Axis(
            "layers",
            upto((1, 30, 120), (1, 100, 1_000, 5_000)),
            upto((1, 50), (1, 10, 100, 1_000)),
            lambda n: Size(2, 2, layers=n),
            shown | {"info", STEP},
            0.2,
        ),
        Axis(
            "channels",
            upto((4, 64, 512), (4, 64, 1_024, 4_096)),
            upto((4, 512), (4, 64, 1_024, 4_096)),
            lambda n: Size(channels=n),
            shown | {STEP},
            0.1,
        ),
    ]


def measured(words: Sequence[str], longest: float) -> tuple[float, float]:
    """Runs a command; the processor's seconds and the peak of memory in bytes.

    Args:
        words: The command.
        longest: Seconds by the clock after which it is given up: its time is then infinite.

    Raises:
        RefusedError: It says that the recording is too large for it.
        RuntimeError: It failed.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    limit = threading.Timer(longest, process.kill)
    limit.start()
    said = process.stderr.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    limit.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode == -signal.SIGKILL:
        return math.inf, usage.ru_maxrss * 1024.0
    if process.returncode == 2 and "too many" in said:
        raise RefusedError(
            said.strip().splitlines()[-1].partition(" in ")[0].removeprefix("error: ")
        )
    if process.returncode not in (0, 1):
        raise RuntimeError(f"{' '.join(words)}: {said.strip().splitlines()[-1:]}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024.0


def least(words: Sequence[str], longest: float) -> tuple[float, float]:
    """Returns what `measured` does, of two runs the quicker if they are short."""
    first = measured(words, longest)
    return first if first[0] > ONCE else min(first, measured(words, longest))


def exponent(sizes: Sequence[int], values: Sequence[float], noise: float) -> float:
    """The power of the size with which a value grew in the last step, beyond its first value."""
    before, last = values[-2] - values[0], values[-1] - values[0]
    if last <= noise:
        return 0.0
    if math.isinf(last):
        return math.inf
    return math.log(last / max(before, noise)) / math.log(sizes[-1] / sizes[-2])


def recorded(size: Size, path: Path, longest: float) -> tuple[float, float]:
    """What recording adds to the last steps of a training: the processor's seconds of 1,000 steps.

    Args:
        size: How much is recorded.
        path: Where to; it is deleted again.
        longest: Seconds by the clock after which the training is given up: they are then infinite.

    Returns:
        These, and the trainer's peak of memory in bytes.
    """
    numbers = (size.layers, size.channels, size.epochs, size.batches)
    words = [sys.executable, "-c", TRAINING, str(path), *map(str, numbers)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            words, env=environment, capture_output=True, text=True, timeout=longest
        )
    except subprocess.TimeoutExpired:
        return math.inf, 0.0
    finally:
        path.unlink(missing_ok=True)
    if done.returncode:
        raise RuntimeError(f"the training of {path}: {done.stderr.strip().splitlines()[-1:]}")
    taken, peak = map(float, done.stdout.split())
    return 1000 * max(taken, 0.0), peak


def sweep(folder: Path, runs: int) -> Line:
    """How much quicker two workers of a Dask cluster, each on a core, render a sweep than one.

    It is told from the processor's seconds of both workers and their `ffmpeg`: all of them, in
    units of those of the worker that had most to do. What a clock shows depends on what else the
    machine does, and stands beside it.
    """
    what = f"{runs} films by two workers of a Dask cluster, of the pace of one"
    cores = len(os.sched_getaffinity(0))
    if cores < 2:
        return Line(what, None, note="skipped: one core")
    try:
        import distributed
    except ImportError:
        return Line(what, None, note="skipped: distributed is not installed")
    for number in range(runs):
        _write(Size(4, 25, channels=12), folder / f"{number:04}.h5", 60.0)
    script = folder / "sweep.py"
    script.write_text(SWEEP)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    found = []
    for workers in (1, 2):
        words = [sys.executable, str(script), str(folder), str(workers)]
        done = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
        found.append([float(each) for each in done.stdout.split()])
    (alone, work, _, frames), (together, both, busiest, _) = found
    note = (
        f"{work:.0f} s of one, {both:.0f} s of two, {busiest:.0f} s of the busier; by the clock "
        f"{alone / together:.2f} ({frames / alone:.0f} and {frames / together:.0f} frames/s); "
        f"distributed {distributed.__version__}"
    )
    return Line(what, both / busiest, "", 1.8, "least", note)


def verdict(what: str, axis: Axis, course: Course) -> Line:
    """One line of the table: what a command took at each size."""
    sizes = course.sizes
    seconds = [each for each, _ in course.costs]
    memory = [each for _, each in course.costs]
    note = ", ".join(
        f"{size:,}: {taken:.2f} s {peak / 1e6:.0f} MB"
        for size, (taken, peak) in zip(sizes, course.costs, strict=True)
    )
    note = ", ".join(filter(None, [note, course.gap]))
    kind = "exponent of time" if course.grows else "times"
    if len(sizes) < 2:
        return Line(f"{what}, {axis.name}: {kind}", None, note=note)
    if course.grows:
        value = exponent(sizes, seconds, NOISE)
        return Line(f"{what}, {axis.name}: {kind}", value, "", STEEPEST, note=note)
    value = max(seconds[-1] / (seconds[0] + NOISE), (memory[-1] - memory[0]) / ROOM)
    return Line(f"{what}, {axis.name}: {kind}", value, "", STEADY, note=note)


def grow(axis: Axis, clock: Clock, folder: Path, quick: bool) -> Iterator[Line]:
    """The lines of an axis."""
    courses = {name: Course(name in axis.grows, [], [], []) for name in (*COMMANDS, STEP)}
    path, written = folder / "run.h5", Course(True, [], [], [])
    share = clock.left / 4  # of the recorded step, which comes last
    for number in axis.sizes:
        reading = Clock(clock.end - share)
        written.go_on(number, reading, functools.partial(_write, axis.size(number), path))
        if written.gap:
            for course in courses.values():
                course.gap = course.gap or f"{number:,}: not measured, its file takes too long"
            break
        print(f"<!-- {axis.name} {number}: {path.stat().st_size / 1e6:.0f} MB written in "
              f"{written.taken_in_all[-1]:.0f} s -->", file=sys.stderr)  # fmt: skip
        for name, words in COMMANDS.items():
            out = f"{folder}/out"
            filled = ["-m", "replay", *(word.format(path=path, out=out) for word in words)]
            run = functools.partial(measured if quick else least, filled)
            courses[name].go_on(number, reading, run)
            said = courses[name].gap or "{:.2f} s {:.0f} bytes".format(*courses[name].costs[-1])
            print(f"<!-- {name}: {said} -->", file=sys.stderr)
        path.unlink(missing_ok=True)
    steps = courses[STEP]
    steps.gap = ""
    for number in axis.steps:
        train = functools.partial(recorded, axis.size(number), folder / "t.h5")
        steps.go_on(number, clock, train)
    for name, course in courses.items():
        yield verdict(name, axis, course)


def lines(quick: bool, only: Sequence[str] = ()) -> Iterator[Line]:
    """The lines of the table."""
    cores = os.sched_getaffinity(0)
    chosen = [axis for axis in axes(quick) if not only or axis.name in only]
    started = end = spent()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        os.sched_setaffinity(0, {max(cores)})
        for axis in chosen:
            end += 60 * MINUTES * axis.share
            yield from grow(axis, Clock(end), Path(folder), quick)
        os.sched_setaffinity(0, cores)
        if not only or "files" in only:
            left = Clock(started + 60 * MINUTES).left
            yield sweep(Path(folder), 20 if quick else max(20, min(200, int(left / A_FILM))))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small numbers only: two minutes")
    parser.add_argument("--strict", action="store_true", help="exit code 1 if a target is missed")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="AXIS",
        help="frames, epochs, layers, channels, files",
    )
    options = parser.parse_args()
    command = f"scripts/bench/growth{' --quick' * options.quick}"
    good = show(lines(options.quick, options.only), command)
    return 1 if options.strict and not good else 0


if __name__ == "__main__":
    sys.exit(main())
