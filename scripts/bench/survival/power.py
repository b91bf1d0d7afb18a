"""What a recording survives of a loss of power: crash images made from a log of writes and syncs.

A recording of known content is made with a library between its writer and the system, which logs
every write, truncation, rename and removal, and when each sync began and ended. At a random place
of the log the power goes: what was written before the last sync that had ended is on the disk; of
what was written since, a random part, in pieces of 512 bytes, in any order. Of renames and the
like, what no sync of the folder had confirmed is there up to a random one. The reader is then asked
for everything.

    python power.py [--images N] [--seed N] [--only WORD ...] [--workers N]

Lost: images without a frame that was on the disk when a sync ended, neither for the reader nor
after `repair`. HDF5 writes some of its indices over in place, right after what they lead to: a disk
that does the later first, or a half of it, may leave an index that leads nowhere. No order of ours
can help that; such images are "out of order", and what they lose is counted by itself.
Refused: images of the latter half that cannot be opened. Wrong: a frame that is shown and was not
recorded; likewise wrong values, of what was logged, and of the ranges of maps.
"""

from __future__ import annotations

import argparse
import bisect
import contextlib
import datetime
import hashlib
import itertools
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT), str(HERE)]

import feeder  # noqa: E402
from survive import Change, Feeder, Row, build_shim, read_log  # noqa: E402

import replay  # noqa: E402
from replay import schema  # noqa: E402
from replay.schema import RecordingError  # noqa: E402

SECTOR, PAGE = 512, 4096
EPOCH = 4  # batches
FRAMES = 16
ROUND = 5000  # images of recordings that are made anew for the next
HANG = 20
MEMORY = 1 << 30
SMALL = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())

Cell = tuple[int, int]
# What is done: options of the feeder, then commands of `replay`, of which one may make `out.h5`.
SCENARIOS: dict[str, tuple[list[str], list[list[str]]]] = {
    "plain": ([], []),
    "late": (["--late"], []),
    "thin": (["--thin"], []),
    "resume": ([], [["resume"]]),
    "flush": (["--durability", "flush", "--late"], []),
    "in place": ([], [["-m", "replay.files.in_place", "run.h5"]]),
    "pack": ([], [["-m", "replay", "pack", "run.h5", "-o", "out.h5"]]),
    "repair": (["--late"], [["-m", "replay", "repair", "run.h5", "-o", "out.h5"]]),
}


# What is on the disk


@dataclass
class Inode:
    """A file: what is on the disk for certain, and what was written since."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)
    began: int | None = None  # of the pending ones, those written before the sync that is under way

    def now(self) -> bytearray:
        data = bytearray(self.durable)
        for change in self.pending:
            put(data, change.kind, change.at, change.data)
        return data


def put(data: bytearray, kind: str, at: int, piece: bytes) -> None:
    """Makes a change to a file's content."""
    if kind == "t":
        if len(data) > at:
            del data[at:]
        else:
            data.extend(bytes(at - len(data)))
        return
    if len(data) < at + len(piece):
        data.extend(bytes(at + len(piece) - len(data)))
    data[at : at + len(piece)] = piece


class Disk:
    """The files of one folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.names: dict[str, Inode] = {}
        self.durable_names: dict[str, Inode] = {}
        self.renames: list[dict[str, Inode]] = []  # the names after each pending change of them
        self.began: int | None = None

    def apply(self, change: Change) -> bool:
        """Makes a change; whether it was the end of a sync."""
        name, kind = change.name, change.kind
        if name == self.folder:
            if kind == "s":
                self.began = len(self.renames)
            elif kind == "S" and self.began is not None:
                if self.began:
                    self.durable_names = self.renames[self.began - 1]
                self.renames, self.began = self.renames[self.began :], None
                return True
            return False
        if name.endswith(" (deleted)"):
            return False
        if kind in "wt":
            if name not in self.names:
                self.names = {**self.names, name: Inode()}
                self.renames.append(self.names)
            self.names[name].pending.append(change)
        elif kind == "s":
            if name in self.names:
                self.names[name].began = len(self.names[name].pending)
        elif kind == "S" and name in self.names:
            inode = self.names[name]
            if inode.began is not None:
                for old in inode.pending[: inode.began]:
                    put(inode.durable, old.kind, old.at, old.data)
                inode.pending, inode.began = inode.pending[inode.began :], None
            return True
        elif kind == "r" and name in self.names:
            kept = {other: inode for other, inode in self.names.items() if other != name}
            self.names = {**kept, change.data.decode(): self.names[name]}
            self.renames.append(self.names)
        elif kind == "u" and name in self.names:
            self.names = {n: inode for n, inode in self.names.items() if n != name}
            self.renames.append(self.names)
        return False


def pieces(change: Change, size: int) -> Iterator[tuple[int, bytes]]:
    """A write in pieces that end at multiples of a size."""
    place = 0
    while place < len(change.data):
        end = min(len(change.data), place + size - (change.at + place) % size)
        yield change.at + place, change.data[place:end]
        place = end


@dataclass
class Crash:
    """What may be on the disk of a file.

    Attributes:
        data: Its content.
        way: How that was chosen.
        in_order: Whether no index of HDF5's that lies on the disk was written over before all that
            had been written earlier was there: the one order in which HDF5 writes.
    """

    data: bytes
    way: str
    in_order: bool = True


WAYS = ("nothing", "dropped", "torn", "ordered", "one missing", "one only", "pages", "late first")


def crash(inode: Inode, rng: random.Random) -> Crash:
    """Chooses what of the unsynced writes has reached the disk."""
    data, pending = bytearray(inode.durable), inode.pending
    way = rng.choice(WAYS) if pending else "nothing"
    keep = rng.choice((0.1, 0.5, 0.9))
    holds = rng.random() < 0.5  # whether indices are written over in order only
    chosen = rng.randrange(len(pending)) if pending else 0
    cuts: dict[int, int] = {}  # how many of the changes each page has seen
    complete = in_order = True
    for number, change in enumerate(pending):
        size = PAGE if way == "pages" else SECTOR
        whole = {
            "dropped": rng.random() < keep,
            "ordered": number < chosen,
            "one missing": number != chosen,
            "one only": number == chosen,
            "late first": number >= chosen,
        }.get(way)
        if change.kind == "t":
            if whole or (whole is None and rng.random() < keep):
                put(data, "t", change.at, b"")
            continue
        there, all_there = [], True
        for at, piece in pieces(change, size):
            takes = whole
            if way == "torn" or (way == "ordered" and number == chosen):
                takes = rng.random() < keep
            elif way == "pages":
                takes = number < cuts.setdefault(at // PAGE, rng.randint(0, len(pending)))
            all_there = all_there and bool(takes)
            if takes:
                there.append((at, piece))
        over = is_index(change.data) and any(data[change.at : change.at + len(change.data)])
        if there and over and not (complete and all_there):
            if holds:
                there, all_there = [], False
            else:
                in_order = False
        for at, piece in there:
            put(data, "w", at, piece)
        complete = complete and all_there
    if pending and rng.random() < 0.25:  # the size reaches the disk before what is in it
        data.extend(bytes(max(0, len(inode.now()) - len(data))))
    return Crash(bytes(data), way, in_order)


def is_index(data: bytes) -> bool:
    """Whether HDF5 wrote it to find something else by: such blocks begin with four capitals."""
    return data[:4].isalpha() and data[:4].isupper()


# What the reader makes of it


@dataclass
class Verdict:
    """What was found of one image."""

    readable: set[Cell] = field(default_factory=set)
    refused: bool = False
    wrong: int = 0
    wrong_values: list[str] = field(default_factory=list)
    error: str = ""


TRUTH: dict[tuple[str, int, int], bytes] = {}


def truth(part: str, shape: tuple[int, ...], epoch: int, batch: int) -> bytes:
    key = part, epoch, batch
    if key not in TRUTH:
        TRUTH[key] = feeder.content(part, shape, epoch, batch).tobytes()
    return TRUTH[key]


def judge(path: Path) -> Verdict:
    """Reads everything of a recording."""
    found = Verdict()
    try:
        with replay.open(path) as run:
            damaged: set[Cell] = set()
            for name in run.layers:
                series = run[name]
                for at in series.frames:
                    try:
                        compare(found, damaged, name, at, series[at])
                        if series.layer.kernel is not None:
                            compare(found, damaged, f"{name} kernels", at, series.kernels(*at))
                    except RecordingError:
                        damaged.add(at)
                found.wrong_values += wrong_ranges(series)
                if name != feeder.LATE.name:
                    damaged.update(set(run.frames) - set(series.frames))
            damaged.update(run.frames if len(run.layers) < len(feeder.LAYERS) else ())
            with contextlib.suppress(RecordingError):
                found.wrong_values += wrong_values(run)
            for at in run.frames:
                try:
                    compare(found, damaged, "input", at, run.inputs[at])
                except RecordingError:
                    damaged.add(at)
            found.readable = set(run.frames) - damaged
    except RecordingError as error:
        found.refused, found.error = True, str(error)
    return found


KNOWN: dict[bytes, Verdict] = {}


def judge_once(path: Path, data: bytes) -> Verdict:
    """As `judge`; what two losses of power leave is often the same."""
    key = hashlib.blake2b(data, digest_size=16).digest()
    if key not in KNOWN:
        if len(KNOWN) > 10_000:
            KNOWN.clear()
        KNOWN[key] = judge(path)
    return KNOWN[key]


def compare(found: Verdict, damaged: set[Cell], part: str, at: Cell, array: np.ndarray) -> None:
    """Compares what is shown with what was recorded; all NaN is shown as nothing."""
    if array.tobytes() != truth(part, array.shape, *at):
        if np.isnan(array).all():
            damaged.add(at)
        else:
            found.wrong += 1


def wrong_ranges(series: replay.recording.Series) -> list[str]:
    """Ranges that are shown, and are not those of the frame that was recorded."""
    wrong = []
    with contextlib.suppress(RecordingError):
        ranges = series.ranges()
        for at in series.frames:
            frame = np.frombuffer(truth(series.name, series.layer.shape, *at), np.float16)
            right = schema.summarize(frame.reshape(series.layer.shape)).ranges
            shown = ranges[at]
            if not (np.isnan(shown) | (shown == right)).all():
                wrong.append(f"ranges of {series.name} of {at}: {shown[0]}, not {right[0]}")
    return wrong


def wrong_values(run: replay.Recording) -> list[str]:
    """Losses, times and steps that are shown, and are others than were logged."""
    wrong = []
    fields = {name: run.batches[name] for name in ("loss", "time", "step", feeder.FIELD)
              if name in run.batches}  # fmt: skip
    for epoch, batch in run.frames:
        logged = feeder.loss(epoch, batch)
        right = {"loss": logged, feeder.FIELD: logged, "time": 1.0, "step": epoch * EPOCH + batch}
        for name, values in fields.items():
            value = values[epoch, batch]
            if value == value and value != right[name] and not (name == "step" and value == -1):
                wrong.append(f"{name} of {epoch}, {batch}: {value}, not {right[name]}")
    return wrong


def complete(path: Path) -> set[Cell]:
    """The frames of a file as it is on the disk after a sync; none where it is none yet."""
    return judge(path).readable


# The images of one scenario


@dataclass
class Scenario:
    """A log, and which frames are to be there from where in it on."""

    name: str
    folder: str
    log: list[Change]
    recorded: int  # changes of the log, when the recording was closed for the first time
    safe: list[tuple[int, frozenset[Cell]]]  # from which change on these frames are on the disk

    def safe_at(self, place: int) -> frozenset[Cell]:
        found = bisect.bisect_right([start for start, _ in self.safe], place) - 1
        return self.safe[found][1] if found >= 0 else frozenset()


def record(name: str, shim: Path, folder: Path, pause: float = 0.12) -> Scenario:
    """Makes a recording and keeps its log; `pause` is what a batch takes, in seconds."""
    options, then = SCENARIOS[name]
    folder = folder / name.replace(" ", "-")
    folder.mkdir()
    log = folder.with_name(f"{folder.name}.log")
    environment = {"FAULT_LOG": str(log), "FAULT_MATCH": str(folder)}
    usual = [str(FRAMES), "--epoch", str(EPOCH), "--pause", str(pause), "--preload", str(shim)]
    feed(folder, [*usual, *options], environment)
    recorded = sum(1 for _ in read_log(log))
    for command in then:
        if command == ["resume"]:
            feed(folder, [*usual, "--resume", "2"], environment)
            continue
        command = [str(folder / word) if word.endswith(".h5") else word for word in command]
        subprocess.run(
            [sys.executable, *command],
            check=True,
            capture_output=True,
            cwd=ROOT,
            env={**os.environ, **environment, "LD_PRELOAD": str(shim)},
        )
    changes = list(read_log(log))
    safe = safe_frames(str(folder), changes, name)
    return Scenario(name, str(folder), changes, recorded, safe)


def feed(folder: Path, options: list[str], environment: dict[str, str]) -> None:
    process = Feeder(folder, int(options[0]), *options[1:], **environment)
    if not process.wait(120.0) or not process.done:
        raise RuntimeError(f"the recording {folder.name} did not end")


def safe_frames(folder: str, log: Sequence[Change], name: str) -> list[tuple[int, frozenset[Cell]]]:
    """From which change on which frames are to be found, whatever the power does.

    Those are what is in the file as of the last sync that has ended; of these, only those that the
    recorder has not taken out meanwhile: thinned, or replaced by a resumed run.
    """
    if name == "flush":
        return []
    target = f"{folder}/run.h5"
    disk, safe, found = Disk(folder), frozenset[Cell](), list[tuple[int, frozenset[Cell]]]()
    with tempfile.TemporaryDirectory(dir=SMALL) as at:
        path = Path(at) / "run.h5"

        def read(image: bytes) -> frozenset[Cell]:
            path.write_bytes(image)
            os.utime(path, (0, 0))
            return frozenset(complete(path))

        for number, change in enumerate(log):
            synced = disk.apply(change)
            inode = disk.names.get(target)
            if inode is None:
                continue
            renamed = change.kind == "r" and change.data.decode() == target
            if renamed:
                safe = safe & read(bytes(inode.now()))
            elif synced and change.name in (target, folder):
                safe = safe | read(bytes(inode.durable))
            else:
                continue
            found.append((number + 1, safe))
    return found


@dataclass
class Image:
    """What one job is: the power goes before a change of a log."""

    scenario: int
    place: int
    seed: int


def plan(scenarios: Sequence[Scenario], images: int, seed: int) -> list[Image]:
    rng = random.Random(seed)
    jobs = []
    for number in range(images):
        scenario = number % len(scenarios)
        log, recorded = scenarios[scenario].log, scenarios[scenario].recorded
        place = rng.randint(0, len(log))
        if recorded < len(log) and rng.random() < 0.5:  # what came later is a short part of the log
            place = rng.choice([len(log), rng.randint(recorded, len(log))])
        jobs.append(Image(scenario, place, rng.getrandbits(48)))
    return sorted(jobs, key=lambda job: (job.scenario, job.place))


def try_images(scenarios: Sequence[Scenario], jobs: Sequence[Image], done: Any) -> Counter[str]:
    """Tries some images; `done` counts them, for whoever waits."""
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(dir=SMALL) as name:
        at = Path(name)
        for number, same in itertools.groupby(jobs, lambda job: job.scenario):
            scenario = scenarios[number]
            disk, place = Disk(scenario.folder), 0
            for job in same:
                while place < job.place:
                    disk.apply(scenario.log[place])
                    place += 1
                try_one(scenario, disk, job, at, counts)
                done.value += 1
    return counts


def try_one(scenario: Scenario, disk: Disk, job: Image, at: Path, counts: Counter[str]) -> None:
    """Makes one image, and has it read."""
    rng = random.Random(job.seed)
    signal.alarm(HANG)  # which ends this process, also within HDF5
    there = rng.choice([disk.durable_names, disk.names, rng.choice([disk.names, *disk.renames])])
    safe = scenario.safe_at(job.place)
    key = scenario.name
    counts[f"{key}: images"] += 1
    inode = there.get(f"{scenario.folder}/run.h5")
    verdict, path = Verdict(refused=True, error="no file"), at / "run.h5"
    image = Crash(b"", "no file")
    path.unlink(missing_ok=True)
    if inode is not None:
        image = crash(inode, rng)
        path.write_bytes(image.data)
        os.utime(path, (0, 0))  # no writer is at work on it any more
        verdict = judge_once(path, image.data)
    way = image.way if image.in_order else f"{image.way}, indices"
    if job.place > scenario.recorded // 2:  # by then there are frames
        counts[f"{key}: later"] += 1
        counts[f"{key}: refused"] += verdict.refused
    counts[f"{key}: out of order"] += not image.in_order
    note_wrong(verdict, job, path, key, "image", counts)
    missing = safe - verdict.readable
    if missing:
        counts[f"{key}: less read"] += 1
        repaired = at / "repaired.h5"
        repaired.unlink(missing_ok=True)
        after = Verdict()
        try:
            replay.repair(path, repaired)
            after = judge(repaired)
        except RecordingError as error:
            verdict.error = verdict.error or str(error)
        note_wrong(after, job, repaired, key, "repaired", counts)
        missing = missing - after.readable
        counts[f"{key}: repaired"] += not missing
    if missing:
        counts[f"{key}: {'lost' if image.in_order else 'lost by HDF5'}"] += 1
        counts[f"{key}: lost: {way}"] += 1
        if image.in_order:
            print(f"lost: {key} at {job.place}, {job.seed} ({way}): {len(missing)} of {len(safe)} "
                  f"frames; {verdict.error[-160:]}", file=sys.stderr, flush=True)  # fmt: skip
    other = there.get(f"{scenario.folder}/out.h5")
    if other is not None:  # made by a command: whole, as soon as it has that name
        path.write_bytes(crash(other, rng).data)
        os.utime(path, (0, 0))
        verdict = judge(path)
        note_wrong(verdict, job, path, key, "target", counts)
        counts[f"{key}: targets"] += 1
        counts[f"{key}: half targets"] += len(verdict.readable) != FRAMES
    signal.alarm(0)


def note_wrong(
    verdict: Verdict, job: Image, path: Path, key: str, file: str, counts: Counter[str]
) -> None:
    """Counts an image of which something wrong is shown, says what, and keeps the file.

    What was kept of a crash image stays, also where its repaired copy is as wrong.
    """
    counts[f"{key}: wrong"] += bool(verdict.wrong)
    counts[f"{key}: wrong values"] += bool(verdict.wrong_values)
    if verdict.wrong or verdict.wrong_values:
        name = f"wrong-{key.replace(' ', '-')}-{job.place}-{job.seed}-{file}.h5"
        kept = Path(tempfile.gettempdir()) / name
        shutil.copyfile(path, kept)
        what = "; ".join(verdict.wrong_values[:3]) or f"{verdict.wrong} arrays"
        print(f"wrong {file}: {key} at {job.place}, {job.seed}: {what}; kept as {kept}",
              file=sys.stderr, flush=True)  # fmt: skip


def work(scenarios: Sequence[Scenario], jobs: Sequence[Image], done: Any, answer: Any) -> None:
    """Runs in a process of its own, with little memory."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    pages = int(Path("/proc/self/statm").read_text().split()[0])  # of whoever forked it, too
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    answer.send(try_images(scenarios, jobs, done))


def run_images(scenarios: Sequence[Scenario], jobs: Sequence[Image], workers: int) -> Counter[str]:
    """Tries all images; a process that hangs or dies is counted, and the next goes on behind it."""
    context = multiprocessing.get_context("fork")
    counts: Counter[str] = Counter()
    shares = [list(jobs[number::workers]) for number in range(workers)]
    size = 500
    queues = [[share[at : at + size] for at in range(0, len(share), size)] for share in shares]

    def start(queue: list[list[Image]]) -> list[Any] | None:
        if not queue:
            return None
        part = queue.pop(0)
        ours, theirs = context.Pipe(duplex=False)
        done = context.Value("q", 0, lock=False)
        process = context.Process(target=work, args=(scenarios, part, done, theirs))
        process.start()
        theirs.close()
        return [process, ours, done, part, queue]

    running = [job for queue in queues if (job := start(queue))]
    while running:
        multiprocessing.connection.wait([job[1] for job in running])
        for job in list(running):
            process, ours, done, part, queue = job
            if not ours.poll():
                continue
            try:
                counts.update(ours.recv())
            except EOFError:
                process.join()
                kind = "hangs" if process.exitcode == -signal.SIGALRM else "crashes"
                failed = part[done.value]
                key = scenarios[failed.scenario].name
                counts[f"{key}: {kind}"] += 1
                print(f"{kind}: {key} at {failed.place}, {failed.seed} ({process.exitcode})",
                      file=sys.stderr, flush=True)  # fmt: skip
                # What came before it in this part is tried again, which costs little.
                queue.insert(0, part[: done.value] + part[done.value + 1 :])
            process.join()
            ours.close()
            running.remove(job)
            if (new := start(queue)) is not None:
                running.append(new)
    return counts


def rows_of(counts: Counter[str], names: Sequence[str]) -> list[tuple[str, Row, str]]:
    """A row for each scenario, and what else is worth knowing of it."""
    found = []
    for name in names:

        def of(what: str, name: str = name) -> int:
            return counts[f"{name}: {what}"]

        row = Row(
            f"loss of power: {name}",
            of("images") + of("hangs") + of("crashes"),
            of("lost") + of("half targets"),
            of("wrong"),
            of("hangs"),
            of("crashes"),
        )
        note = (
            f"out of order {of('out of order'):,}, of these lost {of('lost by HDF5'):,}; "
            f"repaired {of('repaired'):,}; refused {of('refused') / max(1, of('later')):.2%}; "
            f"wrong values {of('wrong values'):,}"
        )
        if of("targets"):
            note += f"; targets {of('targets'):,}, half {of('half targets'):,}"
        found.append((name, row, note))
    return found


def measure(
    images: int, seed: int, names: Sequence[str], workers: int
) -> list[tuple[str, Row, str]]:
    """Tries images of some scenarios; nothing where there is no C compiler."""
    counts: Counter[str] = Counter()
    started, done = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shim = build_shim(folder)
        if shim is None:
            return []
        for number, start in enumerate(range(0, images, ROUND)):
            place = folder / str(number)
            place.mkdir()
            scenarios = [record(word, shim, place) for word in names]
            jobs = plan(scenarios, min(ROUND, images - start), seed + number)
            counts += run_images(scenarios, jobs, workers)
            done += len(jobs)
            shutil.rmtree(place)
            if images > ROUND:
                print(f"{done:,} of {images:,} images, {time.monotonic() - started:,.0f} s",
                      file=sys.stderr, flush=True)  # fmt: skip
                print(table(rows_of(counts, names)), file=sys.stderr, flush=True)
    return rows_of(counts, names)


def table(found: Sequence[tuple[str, Row, str]]) -> str:
    form = "{:<26} {:>8} {:>6} {:>6} {:>6} {:>8}  {}"
    lines = [form.format("", "images", "lost", "wrong", "hangs", "crashes", "")]
    for _, row, note in found:
        figures = row.trials, row.lost, row.wrong, row.hangs, row.crashes
        lines.append(form.format(row.what, *figures, note))
    return "\n".join(lines)


def power_row(images: int, seed: int = 0, names: Sequence[str] = tuple(SCENARIOS)) -> Row:
    """All scenarios in one line, for the table of `survive`."""
    row = Row("images of a loss of power, unsynced writes dropped, torn, reordered")
    found = measure(images, seed, names, os.cpu_count() or 2)
    if not found:
        row.note = "skipped: no C compiler"
    for _, each, _ in found:
        row.add(each)
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--quick", action="store_true", help="a few hundred images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 2)
    options = parser.parse_args()
    images = 400 if options.quick else options.images
    started = time.monotonic()
    found = measure(images, options.seed, options.only, options.workers)
    if not found:
        print("skipped: no C compiler")
        return 0
    seconds = time.monotonic() - started
    print(f"{datetime.date.today()}: seed {options.seed}, {images:,} images, {seconds:,.0f} s")
    print(table(found))
    return 0 if all(row.good for _, row, _ in found) else 1


if __name__ == "__main__":
    sys.exit(main())
