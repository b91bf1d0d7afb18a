"""What a recording survives, as a table: trials, frames lost, wrong frames, hangs.

Lost: a frame that was acknowledged and is not there. Wrong: a frame that is shown and is not what
was recorded, without `replay.verify` saying so. A hang: longer than five seconds (ten for a process
to disappear).
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import errno
import json
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT), str(HERE)]

from feeder import content  # noqa: E402

import replay  # noqa: E402
from replay.schema import RecordingError  # noqa: E402

EXITS = ("return", "exception", "sys.exit", "os._exit", "SIGTERM", "SIGINT", "SIGINT twice")
EXITS += ("SIGINT storm", "fork", "spawn", "SIGKILL")
HANG = 5.0
WORKERS = os.cpu_count() or 2


@dataclass
class Row:
    """One line of the table."""

    what: str
    trials: int = 0
    lost: int = 0
    wrong: int = 0
    hangs: int = 0
    crashes: int = 0
    note: str = ""

    def add(self, other: Row) -> None:
        self.trials += other.trials
        self.lost += other.lost
        self.wrong += other.wrong
        self.hangs += other.hangs
        self.crashes += other.crashes
        self.note = self.note or other.note

    @property
    def good(self) -> bool:
        return not (self.lost or self.wrong or self.hangs or self.crashes)


def check(path: Path, acked: int) -> tuple[int, int]:
    """(acknowledged frames that are not there, wrong frames that nothing reports)."""
    try:
        with replay.open(path) as run:
            if run.committed < acked:
                return acked - run.committed, 0
            there = {int(run.order[at]) for at in run.frames}
            lost = len(set(range(1, acked + 1)) - there)
            return lost, count_wrong(run)
    except RecordingError:
        return acked, 0


def count_wrong(run: replay.Recording) -> int:
    """Frames that are shown as data and are not what was sent."""
    wrong = 0
    for name in run.layers:
        series = run[name]
        for at in series.frames:
            try:
                frame = series[at]
            except RecordingError:
                continue  # reported
            shape = series.layer.shape
            wrong += frame.tobytes() != content(name, shape, *at).tobytes()
    for at in run.frames:
        try:
            image = run.inputs[at]
        except RecordingError:
            continue
        wrong += image.tobytes() != content("input", image.shape, *at).tobytes()
    return wrong


# Processes that end


class Feeder:
    """A feeder process, and what it has said so far."""

    def __init__(self, folder: Path, frames: int, *options: str, **environment: str) -> None:
        self.path = folder / "run.h5"
        command = [sys.executable, str(HERE / "feeder.py"), str(self.path), str(frames), *options]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **environment},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.writer = int(line) if line.strip() else 0
        self.acked = 0
        self.counts: tuple[int, ...] = ()
        self.done = False
        self.first = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("acked"):
                self.acked = int(line.split()[1])
                self.first.set()
            if line.startswith("counts"):
                self.counts = tuple(map(int, line.split()[1:]))
            self.done = self.done or line == "done\n"
        self.process.stdout.close()
        self.first.set()

    def wait(self, seconds: float) -> bool:
        """Whether both processes have ended in time."""
        deadline = time.monotonic() + seconds
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return False
        self._reader.join()
        while alive(self.writer):
            if time.monotonic() > deadline:
                os.kill(self.writer, signal.SIGKILL)
                return False
            time.sleep(0.01)
        return True


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state not in "ZX"


def kill_one(victim: str, seed: int, late: bool) -> Row:
    """A SIGKILL at a random moment."""
    rng = random.Random(seed)
    row = Row("", trials=1)
    with tempfile.TemporaryDirectory() as folder:
        feeder = Feeder(Path(folder), 400, "--pause", "0.003", *(["--late"] if late else []))
        time.sleep(rng.uniform(0.0, 1.6))
        pid = feeder.process.pid if victim == "trainer" else feeder.writer
        if not pid:  # which to the system means everybody here
            return Row("", trials=1, crashes=1, note="a training could not begin")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        if not feeder.wait(15.0):
            row.hangs = 1
        if victim == "writer" and (feeder.process.returncode != 0 or not feeder.done):
            row.crashes = 1  # the training was harmed
        if feeder.acked or feeder.path.exists():
            row.lost, row.wrong = check(feeder.path, feeder.acked) if feeder.acked else (0, 0)
    return row


def exit_one(kind: str) -> Row:
    row = Row("", trials=1)
    with tempfile.TemporaryDirectory() as folder:
        feeder = Feeder(Path(folder), 60, "--end", kind)
        if not feeder.wait(HANG + 10.0):
            row.hangs = 1
        row.lost, row.wrong = check(feeder.path, feeder.acked)
    return row


# A kill at every write


def build_shim(folder: Path, name: str = "fault") -> Path | None:
    """A library that stands between a process and the system; None without a compiler."""
    target = folder / f"{name}.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(target), str(HERE / f"{name}.c"), "-ldl"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return target


@dataclass
class Change:
    kind: str
    at: int
    name: str
    data: bytes


def read_log(path: Path) -> Iterator[Change]:
    raw = path.read_bytes()
    place = 0
    while place < len(raw):
        kind = chr(raw[place])
        at, name_size, size = struct.unpack_from("<QQQ", raw, place + 1)
        place += 25
        name = raw[place : place + name_size].decode()
        place += name_size
        yield Change(kind, at, name, raw[place : place + size])
        place += size


def apply(files: dict[str, bytearray], change: Change, part: float = 1.0) -> None:
    """Makes a change to files in memory; of a write only a part, where that is torn."""
    if change.kind == "w":
        data = change.data[: int(len(change.data) * part)]
        file = files.setdefault(change.name, bytearray())
        if len(file) < change.at + len(data):
            file.extend(bytes(change.at + len(data) - len(file)))
        file[change.at : change.at + len(data)] = data
    elif change.kind == "t":
        file = files.setdefault(change.name, bytearray())
        if len(file) > change.at:
            del file[change.at :]
        else:
            file.extend(bytes(change.at - len(file)))
    elif change.kind == "r":
        files[change.data.decode()] = files.pop(change.name)
    elif change.kind == "u":
        files.pop(change.name, None)


def check_image(image: bytes, acked: int) -> tuple[int, int, float]:
    """(lost, wrong, seconds) of a file as a kill would have left it."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as at:
        path = Path(at) / "run.h5"
        path.write_bytes(image)
        lost, wrong = check(path, acked)
    return lost, wrong, time.monotonic() - started


def kills_at_every_write(frames: int, stride: int) -> Row:
    row = Row(f"kill at every write of a {frames}-frame recording, whole and torn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shim = build_shim(folder)
        if shim is None:
            row.note = "skipped: no C compiler"
            return row
        log = folder / "log"
        feeder = Feeder(
            folder, frames, "--late", "--preload", str(shim),
            FAULT_LOG=str(log), FAULT_MATCH="run.h5",
        )  # fmt: skip
        assert feeder.wait(120.0)
        assert feeder.acked == frames, feeder.acked
        files: dict[str, bytearray] = {}
        acked = 0
        target = str(feeder.path)
        pending = []
        with ProcessPoolExecutor(WORKERS) as pool:
            for number, change in enumerate(read_log(log)):
                if change.kind == "a":
                    for line in change.data.decode().splitlines():
                        acked = json.loads(line).get("committed", acked)
                    continue
                if target in files and number % stride == 0:
                    whole = bytes(files[target])
                    pending.append(pool.submit(check_image, whole, acked))
                    if change.kind == "w" and change.name == target and len(change.data) > 1:
                        torn = {target: bytearray(whole)}
                        apply(torn, change, random.Random(number).random())
                        pending.append(pool.submit(check_image, bytes(torn[target]), acked))
                apply(files, change)
                while len(pending) > 64:
                    take(row, pending.pop(0).result())
            for future in pending:
                take(row, future.result())
        row.note = f"{number + 1} changes logged"
    return row


def take(row: Row, result: tuple[int, int, float]) -> None:
    lost, wrong, seconds = result
    row.trials += 1
    row.lost += lost
    row.wrong += wrong
    row.hangs += seconds > HANG


def fault_one(shim: str, at: int, number: int) -> tuple[Row, bool]:
    """A write that fails, and all after it; whether the recording got that far."""
    row = Row("", trials=1)
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        feeder = Feeder(
            Path(folder), 30, "--late", "--preload", shim,
            FAULT_MATCH="run.h5", FAULT_AT=str(at), FAULT_ERRNO=str(number),
        )  # fmt: skip
        if not feeder.writer:  # the file could not be created: refused before the training
            feeder.wait(10.0)
            return row, True
        if not feeder.wait(20.0) or time.monotonic() - started > 15.0:
            row.hangs = 1
        if feeder.process.returncode != 0 or not feeder.done:
            row.crashes = 1
        complete = feeder.acked == 30
        if feeder.acked:
            row.lost, row.wrong = check(feeder.path, feeder.acked)
    return row, not complete


def faults_at_every_write(name: str, number: int, stride: int) -> Row:
    row = Row(f"{name} at every write, training unharmed")
    with tempfile.TemporaryDirectory() as folder:
        shim = build_shim(Path(folder))
        if shim is None:
            row.note = "skipped: no C compiler"
            return row
        at = 1
        with ThreadPoolExecutor(WORKERS) as pool:
            while True:
                places = range(at, at + stride * 16, stride)
                results = list(pool.map(lambda place: fault_one(str(shim), place, number), places))
                for result, _ in results:
                    row.add(result)
                at = places[-1] + stride
                if not any(failed for _, failed in results) or at > 5000:
                    break
    return row


# Damaged files


def damage_many(image: bytes, kind: str, seeds: Iterable[int]) -> Row:
    """In a process of its own with little memory."""
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    row = Row("")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.h5"
        for seed in seeds:
            rng = random.Random(seed)
            damaged = bytearray(image)
            if kind == "truncation":
                del damaged[rng.randrange(len(damaged)) :]
            else:
                damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
            path.write_bytes(damaged)
            os.utime(path, (0, 0))  # no writer is at work on it any more
            started = time.monotonic()
            row.trials += 1
            try:
                with replay.open(path) as run:
                    if count_wrong(run) and replay.verify(run):
                        row.wrong += 1
            except RecordingError:
                pass
            except Exception as error:
                row.crashes += 1
                row.note = f"{type(error).__name__}: {error}"[:80]
            row.hangs += time.monotonic() - started > HANG
    return row


def damaged_files(kind: str, count: int, packed: bool = False) -> Row:
    row = Row(f"{kind}s of {'packed' if packed else 'closed and of killed'} recordings")
    images = []
    for end in ("return", "os._exit"):
        with tempfile.TemporaryDirectory() as folder:
            feeder = Feeder(Path(folder), 60, "--end", end, "--late", "--begun")
            if end == "os._exit":
                feeder.first.wait(10)
                os.kill(feeder.writer, signal.SIGKILL)
            feeder.wait(20)
            if packed:
                small = feeder.path.with_name("small.h5")
                replay.pack(feeder.path, small)
                feeder.path = small
            images.append(feeder.path.read_bytes())
    size = 25
    with ProcessPoolExecutor(WORKERS) as pool:
        jobs = {
            pool.submit(damage_many, images[start // size % 2], kind, range(start, start + size)): 0
            for start in range(0, count, size)
        }
        for job in jobs:
            try:
                row.add(job.result(timeout=size * 2 * HANG + 60))
            except TimeoutError:
                row.hangs += 1
            except Exception as error:  # the process died
                row.crashes += 1
                row.note = f"{type(error).__name__}: {error}"[:80]
    return row


def killed_packing(count: int) -> Row:
    """A packing in place that is killed at a random moment: the recording, or the packed one."""
    row = Row("kill while a recording is packed in its place")
    with tempfile.TemporaryDirectory() as folder:
        feeder = Feeder(Path(folder), 300, "--begun", "--pause", "0")
        feeder.wait(30)
        image, packed = feeder.path.read_bytes(), 0
        command = [sys.executable, "-m", "replay.files.in_place", str(feeder.path)]
        started = time.monotonic()
        subprocess.run(command, cwd=ROOT, check=True)
        whole = time.monotonic() - started
        for seed in range(count):
            feeder.path.write_bytes(image)
            process = subprocess.Popen(command, cwd=ROOT)
            time.sleep(random.Random(seed).uniform(0.1, 1.1) * whole)
            process.kill()
            process.wait()
            row.trials += 1
            lost, wrong = check(feeder.path, 300)
            row.lost, row.wrong = row.lost + lost, row.wrong + wrong
            packed += feeder.path.read_bytes() != image
    row.note = f"{packed} of them packed"
    return row


# Readers beside the writer


def read_live(path: Path, until: Callable[[], bool], row: Row) -> None:
    while not (path.exists() and path.stat().st_size):  # at first it is there, and empty
        time.sleep(0.01)
    run = None
    rng = random.Random(0)
    while not until():
        try:
            run = run or replay.open(path)
            run.refresh()
            frames = run.frames
            for at in [*frames[-3:], *(rng.choice(frames) for _ in range(20) if frames)]:
                for name in run.layers:
                    if not run[name].present[at]:
                        continue
                    row.trials += 1
                    frame = run[name][at]
                    shape = run[name].layer.shape
                    row.wrong += frame.tobytes() != content(name, shape, *at).tobytes()
        except RecordingError as error:
            row.lost += 1
            row.note = str(error)[:100]
            if run is not None:
                run.close()
            run = None
    if run is not None:
        run.close()


def live_one(path: str, stop: str) -> Row:
    row = Row("")
    read_live(Path(path), Path(stop).exists, row)
    return row


def live_readers(checks: int) -> Row:
    row = Row("frames checked by three live readers")
    with ProcessPoolExecutor(3) as pool:
        while row.trials < checks and not row.crashes:
            with tempfile.TemporaryDirectory() as folder:
                stop = Path(folder) / "stop"
                feeder = Feeder(Path(folder), 2500, "--pause", "0.002", "--late")
                jobs = [pool.submit(live_one, str(feeder.path), str(stop)) for _ in range(3)]
                row.hangs += not feeder.wait(120.0)
                stop.touch()
                for job in jobs:
                    row.add(job.result())
                row.lost += feeder.acked != 2500  # a reader has held up the writer
    return row


def many(what: str, one: Callable[..., Row], arguments: list[tuple[object, ...]]) -> Row:
    row = Row(what)
    with ThreadPoolExecutor(WORKERS * 2) as pool:
        for result in pool.map(lambda given: one(*given), arguments):
            row.add(result)
    return row


def rows(quick: bool) -> dict[str, Callable[[], Row]]:
    """What makes each line of the table, by a word."""
    few = 20 if quick else 1
    exits = [(EXITS[number % len(EXITS)],) for number in range(500 // few)]

    def power() -> Row:
        from power import power_row

        return power_row(300, names=("late", "thin")) if quick else power_row(100_000)

    def kills(victim: str) -> Row:
        arguments = [(victim, seed, seed % 2 == 1) for seed in range(200 // few)]
        return many(f"random SIGKILLs of the {victim}", kill_one, arguments)

    return {
        "trainer": lambda: kills("trainer"),
        "writer": lambda: kills("writer"),
        "writes": lambda: kills_at_every_write(60 if quick else 200, 17 if quick else 1),
        "ENOSPC": lambda: faults_at_every_write("ENOSPC", errno.ENOSPC, 40 if quick else 1),
        "EIO": lambda: faults_at_every_write("EIO", errno.EIO, 40 if quick else 1),
        "truncations": lambda: damaged_files("truncation", 1000 // few),
        "flips": lambda: damaged_files("bit flip", 5000 // few),
        "packed truncations": lambda: damaged_files("truncation", 1000 // few, packed=True),
        "packed flips": lambda: damaged_files("bit flip", 5000 // few, packed=True),
        "packing": lambda: killed_packing(200 // few),
        "exits": lambda: many(f"exits: {', '.join(EXITS)}", exit_one, exits),
        "live": lambda: live_readers(100_000 // few),
        "power": power,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the trials")
    parser.add_argument("--only", nargs="+", choices=rows(True), help="some lines of the table")
    options = parser.parse_args()
    form = "{:<62} {:>8} {:>6} {:>6} {:>6} {:>8}  {}"
    print(f"{datetime.date.today()}: scripts/bench/survive{' --quick' * options.quick}")
    print(form.format("", "trials", "lost", "wrong", "hangs", "crashes", ""), flush=True)
    good = True
    for word, make in rows(options.quick).items():
        if options.only and word not in options.only:
            continue
        row = make()
        words = row.what if len(row.what) <= 62 else row.what[:59] + "..."
        print(
            form.format(
                words, row.trials, row.lost, row.wrong, row.hangs, row.crashes, row.note
            ).rstrip(),
            flush=True,
        )
        good = good and row.good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
